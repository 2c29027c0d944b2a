"""Options of ``torchgeo-aom study``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command import add_speed_option
from ..models.names import SIZES
from .choices import CASES, IMPORTANCE, OBJECTIVES, READOUT_PRECISIONS, STUDY_MODELS, STUDY_SPEEDS

__all__ = (
    'bands_parser',
    'cards_parser',
    'figures_parser',
    'objectives_parser',
    'patches_parser',
    'sensors_parser',
    'speed_parser',
)

MODELS = ('statistics', 'rcf', 'aom_vitt')
BANDS_EPILOG = f"""\
models: {', '.join(STUDY_MODELS)}
importance: {', '.join(IMPORTANCE)}

examples:
  torchgeo-aom study bands --models statistics rcf aom_vitt dofa_small_patch16_224
  torchgeo-aom study bands --dataset WorldCoverPatches --root DIR --every 4 --subsets 200
  torchgeo-aom study bands --models aom_vitt --weights FILE --importance-models aom_vitt
  torchgeo-aom study bands --config examples/studies/bands.yaml
"""
PATCHES_EPILOG = """\
examples:
  torchgeo-aom study patches --patch-sizes 8 16 32 64 --preset 'no red edge=[B02, B03, B04, B08]'
  torchgeo-aom study patches --dataset UCMerced --root DIR --dataset-arg split_rule=hash --folds 0
  torchgeo-aom study patches --dataset HLSWater --root DIR --steps 200      (mean IoU)
"""
SPEED_EPILOG = """\
examples:
  torchgeo-aom study speed
  torchgeo-aom study speed --speeds exact 0:6 0:4 0:4,6:2 --patch-sizes 8 --preset '4=[B02, B08]'
  torchgeo-aom study speed --dataset WorldCoverPatches --root DIR --bands hls:common7
"""
SENSORS_EPILOG = f"""\
cases: {', '.join(CASES)}; hls needs --root

examples:
  torchgeo-aom study sensors --models statistics rcf aom_vitt
  torchgeo-aom study sensors --cases hls --root DIR --every 4 --models statistics rcf aom_vitt
"""
FIGURES_EPILOG = """\
examples:
  torchgeo-aom study figures --weights default
  torchgeo-aom study figures --model aom_vits --weights encoder.safetensors --place 2
"""
OBJECTIVES_EPILOG = f"""\
objectives: {'; '.join(OBJECTIVES)}

examples:
  torchgeo-aom study objectives --sources examples/pretrain/objectives.yaml
  torchgeo-aom study objectives --sources FILE --tests EuroSAT200 UCMerced=DIR --every 2
"""
CARDS_EPILOG = """\
examples:
  torchgeo-aom study cards
  torchgeo-aom study cards --results output/study_bands output/probe output/segment
"""


def _parser(
    study: str, description: str, epilog: str, argument_default: str | None = None
) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        f'torchgeo-aom study {study}',
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argument_default,
    )


def _study(study: str, description: str, epilog: str, what: str) -> argparse.ArgumentParser:
    """Make the parser of a study, with ``--output``; an option that is not given has no value.

    Args:
        study: its name.
        description: what it is about, a sentence.
        epilog: examples.
        what: what its folder holds.
    """
    parser = _parser(study, description, epilog, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        '--output', type=Path, default=Path(f'output/study_{study}'), metavar='DIR',
        help=f'folder of {what} (default: %(default)s)',
    )  # fmt: skip
    return parser


def _common(
    add: Any, models: Sequence[str] = MODELS, data: bool = True, speed: bool = True
) -> None:
    """Add the options that studies of frozen features share.

    Args:
        add: ``add_argument`` of a parser whose defaults are suppressed.
        models: what is compared where nobody says.
        data: whether the study is of any data set.
        speed: whether the study has one speed mode.
    """
    add('--config', type=Path, metavar='FILE', help='YAML with these options; flags come after it')
    if data:
        add('--dataset', help='name in torchgeo_aom.datasets, import path, or EuroSAT200 (default)')
        add('--root', metavar='DIR', help='folder of the data')
        add(
            '--dataset-arg', action='append', metavar='KEY=VALUE',
            help='another argument of the data set; may be repeated',
        )  # fmt: skip
    add(
        '--models',
        nargs='+',
        metavar='MODEL[=WEIGHTS]',
        help=f'models (default: {" ".join(models)})',
    )
    add(
        '--weights', metavar='FILE|NAME',
        help="of AOMs that name none: a file, a name, or 'default', the shipped ones "
        '(default: random)',
    )  # fmt: skip
    add('--peer-weights', action='store_true', help="download and load the peers' own weights")
    add(
        '--peer-size',
        type=int,
        metavar='PX',
        help='image side that peers see (default: near that of the images)',
    )
    add('--patch-size', metavar='PX', help="patch size of AOMs in pixels, or 'auto' (default)")
    add('--probes', nargs='+', metavar='PROBE', help='linear (default), knn5, knn20 ...')
    add('--folds', type=int, metavar='N', help='folds of groups; 0 for the splits (default: 5)')
    add('--seeds', type=int, metavar='N', help='number of seeds (default: 3)')
    add('--normalization', help='catalogue (default) or statistics such as sentinel2:l2a')
    add('--every', type=int, metavar='N', help='take only every n-th sample (default: 1)')
    add('--batch-size', type=int, metavar='N', help='images a batch (default: 50)')
    add('--device', help='cpu (default), cuda')
    add(
        '--precision', choices=READOUT_PRECISIONS,
        help='number format of the products of networks (default: float32)',
    )  # fmt: skip
    if speed:
        add_speed_option(add)
    add('--cache-dir', metavar='DIR', help="folder of features (default: in the user's cache)")


def bands_parser() -> argparse.ArgumentParser:
    """Options of a study of bands."""
    parser = _study(
        'bands',
        'Scores by bands: how many, which of them, and what if some are missing.',
        BANDS_EPILOG,
        'rows.csv and the report',
    )
    add = parser.add_argument
    _common(add)
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
    return parser


def patches_parser() -> argparse.ArgumentParser:
    """Options of a study of patch sizes."""
    parser = _study(
        'patches', 'Scores, time and memory by patch size and bands.', PATCHES_EPILOG,
        'rows and the report',
    )  # fmt: skip
    add = parser.add_argument
    _common(add, ('aom_vitt',))
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
    return parser


def speed_parser() -> argparse.ArgumentParser:
    """Options of a study of speed modes."""
    parser = _study(
        'speed', 'Score against time over speed modes, sets of bands and patch sizes.',
        SPEED_EPILOG, 'rows and the report',
    )  # fmt: skip
    add = parser.add_argument
    _common(add, ('aom_vitt',), speed=False)
    add('--bands', nargs='+', metavar='SPEC', help='bands of the study (default: all of the data)')
    add(
        '--speeds', nargs='+', metavar='MODE',
        help=f'exact, then other modes and schedules (default: {" ".join(STUDY_SPEEDS)})',
    )  # fmt: skip
    add('--patch-sizes', nargs='+', type=int, metavar='PX', help='patch sizes (default: 8 16)')
    add(
        '--preset', action='append', metavar='NAME=[B1, B2]',
        help='a set of bands beside all of them; may be repeated (default: RGB)',
    )  # fmt: skip
    return parser


def sensors_parser() -> argparse.ArgumentParser:
    """Options of a study across sensors."""
    parser = _study(
        'sensors', 'Train on one sensor, test on another.', SENSORS_EPILOG,
        'rows and the report',
    )  # fmt: skip
    add = parser.add_argument
    _common(add, data=False)
    add(
        '--cases', nargs='+', metavar='CASE', help='cases, see below (default: landsat-like levels)'
    )
    add('--root', metavar='DIR', help='folder of the HLS chips, for the case hls')
    return parser


def figures_parser() -> argparse.ArgumentParser:
    """Options of figures."""
    parser = _parser(
        'figures', 'Figures 4 and 6 of the paper, attention, and band tokens.', FIGURES_EPILOG
    )
    add = parser.add_argument
    add('--model', default='aom_vitt', choices=SIZES, help='model (default: %(default)s)')
    add('--weights', metavar='FILE|NAME', help="a file, a name or 'default' (default: random)")
    add(
        '--place',
        type=int,
        default=1,
        metavar='N',
        help='number of the sample place, from 0 (default: %(default)s)',
    )
    add(
        '--patch-size',
        type=int,
        default=8,
        metavar='PX',
        help='patch size of token maps (default: 8)',
    )
    add('--scales', type=int, nargs='+', default=[16, 24, 32, 48], metavar='PX',
        help='of key regions; attention takes the last (default: 16 24 32 48)')  # fmt: skip
    add('--chips', type=int, default=100, help='chips for band tokens (default: %(default)s)')
    add('--output', type=Path, default=Path('output/study_figures'), metavar='DIR',
        help='folder of the report (default: %(default)s)')  # fmt: skip
    return parser


def objectives_parser() -> argparse.ArgumentParser:
    """Options of small pretraining runs."""
    parser = _parser('objectives', 'Tables 4 and 5 as small pretraining runs.', OBJECTIVES_EPILOG)
    add = parser.add_argument
    add('--sources', required=True, metavar='FILE', help='YAML list of sources of pretraining')
    add('--tests', nargs='+', default=['EuroSAT200'], metavar='NAME[=DIR]',
        help='data sets to probe (default: EuroSAT200)')  # fmt: skip
    add(
        '--encodings',
        nargs='+',
        default=['index', 'wavelength'],
        metavar='NAME',
        help='channel encodings, index or wavelength (default: both)',
    )
    add(
        '--steps',
        type=int,
        default=200,
        metavar='N',
        help='steps of each run (default: %(default)s)',
    )
    add(
        '--batch-size',
        type=int,
        default=32,
        metavar='N',
        help='images a step (default: %(default)s)',
    )
    add(
        '--depth',
        type=int,
        default=4,
        metavar='N',
        help='blocks of the encoder (default: %(default)s)',
    )
    add('--seeds', type=int, default=3, metavar='N', help='number of seeds (default: %(default)s)')
    add('--folds', type=int, default=5, metavar='N',
        help='folds of whole places of tests (default: %(default)s)')  # fmt: skip
    add('--every', type=int, default=1, metavar='N',
        help='take only every n-th sample of tests (default: %(default)s)')  # fmt: skip
    add('--output', type=Path, default=Path('output/study_objectives'), metavar='DIR',
        help='folder of rows and the report (default: %(default)s)')  # fmt: skip
    return parser


def cards_parser() -> argparse.ArgumentParser:
    """Options of reproduction cards."""
    parser = _parser('cards', 'What the paper says and we got, table by table.', CARDS_EPILOG)
    parser.add_argument(
        '--results', nargs='*', type=Path, default=[], metavar='DIR',
        help='folders that probe, segment and study wrote',
    )  # fmt: skip
    parser.add_argument(
        '--output', type=Path, default=Path('output/study_cards'), metavar='DIR',
        help='folder of the cards (default: %(default)s)',
    )  # fmt: skip
    return parser
