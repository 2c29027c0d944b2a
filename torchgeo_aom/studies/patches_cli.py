"""The command ``torchgeo-aom study patches``."""

from __future__ import annotations

import sys
import time

from ..command import say
from .cli import finish, said
from .options import add_common, common_values, study_parser
from .patches import PatchStudy, run_patches
from .patches_report import patches_report

__all__ = ('main',)

EPILOG = """\
examples:
  torchgeo-aom study patches --patch-sizes 8 16 32 64 --preset 'no red edge=[B02, B03, B04, B08]'
  torchgeo-aom study patches --dataset UCMerced --root DIR --dataset-arg split_rule=hash --folds 0
  torchgeo-aom study patches --dataset HLSWater --root DIR --steps 200      (mean IoU)
"""


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a cell failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = study_parser(
        'patches', 'Scores, time and memory by patch size and bands.', EPILOG,
        'rows and the report',
    )  # fmt: skip
    add = parser.add_argument
    add_common(add, PatchStudy)
    add(
        '--patch-sizes',
        nargs='+',
        type=int,
        metavar='PX',
        help='patch sizes (default: 8 16 24 32 48 64)',
    )
    add(
        '--preset', action='append', metavar='NAME=[B1, B2]',
        help='a set of bands beside all of them; may be repeated (default: RGB)',
    )  # fmt: skip
    add('--steps', type=int, help='steps of the head where samples have masks (default: 200)')
    add('--crop', type=int, metavar='PX', help='crop that the head is trained with')
    options = parser.parse_args(arguments)
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
