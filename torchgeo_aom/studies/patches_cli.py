"""The command ``torchgeo-aom study patches``."""

from __future__ import annotations

import sys
import time

from ..command import say
from ..commands.study import patches_parser
from .cli import finish, said
from .options import common_values
from .patches import PatchStudy, run_patches
from .patches_report import patches_report

__all__ = ('main',)


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a cell failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = patches_parser().parse_args(arguments)
    given, folder = common_values(options, PatchStudy)
    config = PatchStudy(**given)
    start = time.monotonic()
    found, failures, count = run_patches(config, folder, say)
    report = patches_report(config, found, failures, count, said(arguments, 'patches'))
    results = [
        {
            'dataset': config.dataset, 'bands': point.bands, 'run': 'patch sizes',
            'model': f'{point.model}, {point.patch} px', 'scores': point.scores,
        }
        for point in found
    ]  # fmt: skip
    return finish(report, folder, start, len(failures), results)
