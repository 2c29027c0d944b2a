"""The command ``torchgeo-aom study speed``."""

from __future__ import annotations

import sys
import time

from ..command import say
from .cli import finish, said
from .options import add_common, common_values, study_parser
from .speed import SPEEDS, SpeedStudy, run_speed
from .speed_report import speed_report

__all__ = ('main',)

EPILOG = """\
examples:
  torchgeo-aom study speed
  torchgeo-aom study speed --speeds exact 0:6 0:4 0:4,6:2 --patch-sizes 8 --preset '4=[B02, B04, B08, B11]'
  torchgeo-aom study speed --dataset WorldCoverPatches --root DIR --bands hls:common7
"""  # noqa: E501


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a cell failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = study_parser(
        'speed', 'Score against time over speed modes, sets of bands and patch sizes.', EPILOG,
        'rows and the report',
    )  # fmt: skip
    add = parser.add_argument
    add_common(add, SpeedStudy, speed=False)
    add('--bands', nargs='+', metavar='SPEC', help='bands of the study (default: all of the data)')
    add(
        '--speeds', nargs='+', metavar='MODE',
        help=f'exact, then other modes and schedules (default: {" ".join(SPEEDS)})',
    )  # fmt: skip
    add('--patch-sizes', nargs='+', type=int, metavar='PX', help='patch sizes (default: 8 16)')
    add(
        '--preset', action='append', metavar='NAME=[B1, B2]',
        help='a set of bands beside all of them; may be repeated (default: RGB)',
    )  # fmt: skip
    options = parser.parse_args(arguments)
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
