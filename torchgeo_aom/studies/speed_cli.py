"""The command ``torchgeo-aom study speed``."""

from __future__ import annotations

import sys
import time

from ..command import say
from ..commands.study import speed_parser
from .cli import finish, said
from .options import common_values
from .speed import SpeedStudy, run_speed
from .speed_report import speed_report

__all__ = ('main',)


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a cell failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = speed_parser().parse_args(arguments)
    given, folder = common_values(options, SpeedStudy)
    if len(given.get('bands') or ()) == 1:
        given['bands'] = given['bands'][0]
    config = SpeedStudy(**given)
    start = time.monotonic()
    found, failures, count = run_speed(config, folder, say)
    report = speed_report(config, found, failures, count, said(arguments, 'speed'))
    results = [
        {
            'dataset': config.dataset, 'bands': point.bands, 'run': 'speed modes',
            'model': f'{point.model}, {point.patch} px, {point.speed}', 'scores': point.scores,
        }
        for point in found
    ]  # fmt: skip
    return finish(report, folder, start, len(failures), results)
