"""The command ``torchgeo-aom study bands``."""

from __future__ import annotations

import sys
import time

from ..command import say
from .bands import IMPORTANCE, BandStudy, run_bands
from .bands_report import bands_report
from .cells import Cell
from .cli import finish, said
from .encoder import model_names
from .options import add_common, common_values, study_parser

__all__ = ('main',)

EPILOG = f"""\
models: {', '.join(model_names())}
importance: {', '.join(IMPORTANCE)}

examples:
  torchgeo-aom study bands --models statistics rcf aom_vitt dofa_small_patch16_224
  torchgeo-aom study bands --dataset WorldCoverPatches --root DIR --every 4 --subsets 200
  torchgeo-aom study bands --models aom_vitt --weights FILE --importance-models aom_vitt
  torchgeo-aom study bands --config examples/studies/bands.yaml
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
        'bands', 'Scores by bands: how many, which of them, and what if some are missing.', EPILOG,
        'rows.csv and the report',
    )  # fmt: skip
    add = parser.add_argument
    add_common(add, BandStudy)
    add('--bands', nargs='+', metavar='SPEC', help='bands of the study (default: all of the data)')
    add(
        '--preset', action='append', metavar='NAME=[B1, B2]',
        help='another set of bands by name; may be repeated',
    )  # fmt: skip
    add('--subsets', type=int, metavar='N', help='sets of each size at most (default: 3)')
    add(
        '--fill-subsets', type=int, metavar='N',
        help='how many of each size are also filled with zeros and means (default: 0)',
    )  # fmt: skip
    add('--importance', nargs='*', metavar='HOW', 
        help='kinds of importance, see below (default: all of them)')  # fmt: skip
    add(
        '--importance-models', nargs='+', metavar='MODEL',
        help='models whose importance is measured (default: statistics)',
    )  # fmt: skip
    add('--orders', type=int, metavar='N', help='random orders for Shapley values (default: 8)')
    add('--within', type=float, metavar='SHARE',
        help='difference from all bands that counts as none (default: 0.01)')  # fmt: skip
    options = parser.parse_args(arguments)
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
