"""Options that the commands of several studies share."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..command import add_speed_option, key_values, output_folder
from ..models.patch_rule import read_patch_size
from ..tasks.readout import READOUT_PRECISIONS
from .cli import values_of

__all__ = ('add_common', 'common_values', 'study_parser')


def study_parser(study: str, description: str, epilog: str, what: str) -> argparse.ArgumentParser:
    """Make the parser of a study, with ``--output``; an option that is not given has no value.

    Args:
        study: its name.
        description: what it is about, a sentence.
        epilog: examples.
        what: what its folder holds.
    """
    parser = argparse.ArgumentParser(
        f'torchgeo-aom study {study}', description=description, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    parser.add_argument(
        '--output', type=Path, default=Path(f'output/study_{study}'), metavar='DIR',
        help=f'folder of {what} (default: %(default)s)',
    )  # fmt: skip
    return parser


def add_common(add: Any, kind: type[Any], data: bool = True, speed: bool = True) -> None:
    """Add the options that studies of frozen features share.

    Args:
        add: ``add_argument`` of a parser whose defaults are suppressed.
        kind: dataclass of the study, which has the defaults.
        data: whether the study is of any data set.
        speed: whether the study has one speed mode.
    """
    models = ' '.join(kind.models)
    add('--config', type=Path, metavar='FILE', help='YAML with these options; flags come after it')
    if data:
        add('--dataset', help='name in torchgeo_aom.datasets, import path, or EuroSAT200 (default)')
        add('--root', metavar='DIR', help='folder of the data')
        add(
            '--dataset-arg', action='append', metavar='KEY=VALUE',
            help='another argument of the data set; may be repeated',
        )  # fmt: skip
    add('--models', nargs='+', metavar='MODEL[=WEIGHTS]', help=f'models (default: {models})')
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


def common_values(options: argparse.Namespace, kind: type[Any]) -> tuple[dict[str, Any], Path]:
    """Values of a study from the command line and its file.

    Args:
        options: what was parsed.
        kind: dataclass of the study.

    Returns:
        Arguments of the dataclass, and the folder for results.

    Raises:
        ConfigError: if an option is unknown or cannot be used.
    """
    given = dict(vars(options))
    config, output = given.pop('config', None), given.pop('output')
    arguments = key_values(given.pop('dataset_arg', []), '--dataset-arg')
    if 'root' in given and 'root' not in (field.name for field in fields(kind)):
        arguments['root'] = given.pop('root')
    if arguments:
        given['dataset_args'] = arguments
    if 'preset' in given:
        given['presets'] = key_values(given.pop('preset'), '--preset')
    if 'patch_size' in given:
        given['patch_size'] = read_patch_size(given['patch_size'])
    return values_of(config, given, kind), output_folder(output)
