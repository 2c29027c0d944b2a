"""The command ``torchgeo-aom study bands``."""

from __future__ import annotations

import sys
import time

from ..command import say
from ..commands.study import bands_parser
from .bands import BandStudy, run_bands
from .bands_report import bands_report
from .cells import Cell
from .cli import finish, said
from .options import common_values

__all__ = ('main',)


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a cell failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = bands_parser().parse_args(arguments)
    values, folder = common_values(options, BandStudy)
    start = time.monotonic()
    outcome = run_bands(BandStudy(**values), folder, say)
    report = bands_report(outcome, said(arguments, 'bands'))
    results = [
        {
            'dataset': outcome.config.dataset, 'bands': subset.name, 'run': '', 'model': model,
            'scores': scores[Cell(subset.columns)],
        }
        for model, scores in (outcome.scores if outcome.probes else {}).items()
        for subset in outcome.subsets
        if subset.kind in ('all', 'preset') and Cell(subset.columns) in scores
    ]  # fmt: skip
    return finish(report, folder, start, len(outcome.failures), results)
