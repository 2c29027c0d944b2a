"""Segmentation by bands and seeds: a head on a frozen encoder, beside baselines without one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..command import add_speed_option, output_folder
from ..data.samples import composite
from ..datasets.pictures import class_colors
from ..errors import ConfigError, suggest
from ..models.patch_rule import read_patch_size
from ..models.precision import best_precision
from ..plot import plot_maps, plot_scores
from .heads import HEADS
from .rows import FAILED
from .segment_run import (
    HYPERCOLUMN,
    METHODS,
    NAMES,
    PLACES,
    Protocol,
    maps_file,
    run_segmentation,
    samples,
)

__all__ = ('METHODS', 'Protocol', 'main', 'run_segmentation')


def _scores(
    rows: list[dict[str, Any]], methods: Sequence[str], names: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Mean and standard deviation over seeds, by method and set of bands; NaN if all failed."""
    found = {}
    for method in methods:
        cells = [
            [r['mean IoU'] for r in rows if (r['method'], r['bands']) == (method, name)]
            for name in names
        ]
        found[method] = [_score(cell) for cell in cells]
    return found


def _score(values: list[float]) -> tuple[float, float]:
    if not values:
        return float('nan'), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _draw(
    protocol: Protocol,
    rows: list[dict[str, Any]],
    bands: dict[str, Any],
    methods: Sequence[str],
    folder: Path,
) -> None:
    label = f'frozen {protocol.model} ({protocol.weights or "random"})'
    titles = {'hypercolumn': f'hypercolumn on {label}', 'upernet': f'UPerNet on {label}', **NAMES}
    scores = _scores([row for row in rows if FAILED not in row], methods, list(bands))
    seeds = len({row['seed'] for row in rows})
    figure: Any = plot_scores(
        list(bands),
        {titles[method]: values for method, values in scores.items()},
        title=f'{protocol.dataset}: mean IoU on the test split',
        ylabel='mean IoU (%)',
        note=f'mean and standard deviation of {seeds} seeds',
    )
    figure.savefig(folder / 'scores.png', dpi=120)
    module = protocol.data(None)
    images, masks = samples(module, 'test')
    count = min(PLACES, len(images))
    dataset: Any = module.test_dataset
    columns: dict[str, Any] = {
        'image': [composite(image, dataset.band_objects) for image in images[:count]],
        'truth': [mask.numpy() for mask in masks[:count]],
    }
    for row in (row for row in rows if FAILED not in row):
        path = maps_file(folder, row)
        if path.is_file():  # there is one of the first seed
            with np.load(path, allow_pickle=False) as file:
                if file['maps'].ndim == 3:
                    method = NAMES.get(row['method'], row['method'])
                    columns[f'{method},\n{row["bands"]}'] = list(file['maps'])
    shades = class_colors(module.num_classes, dataset.colors)
    title = f'{protocol.dataset}: {label}'
    maps: Any = plot_maps(
        [f'test {k}' for k in range(count)], columns, module.classes, shades, title=title
    )
    maps.savefig(folder / 'maps.png', dpi=120)


def _table(
    rows: list[dict[str, Any]], methods: Sequence[str], bands: Sequence[str], model: str
) -> str:
    done = [row for row in rows if FAILED not in row]
    scores = _scores(done, methods, bands)
    width = max(len(name) for name in bands) + 2
    names = {'hypercolumn': f'hypercolumn, {model}', 'upernet': f'UPerNet, {model}', **NAMES}
    lines = ['bands'.ljust(width) + '  '.join(names[m].rjust(22) for m in methods)]
    for k, name in enumerate(bands):
        cells = (_cell(*scores[method][k]) for method in methods)
        lines.append(name.ljust(width) + '  '.join(cell.rjust(22) for cell in cells))
    return '\n'.join(lines)


def _class_table(rows: list[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """IoU of each class, with its number of pixels, of the first set of bands and seed."""
    first = [r for r in rows if FAILED not in r and (r['bands'], r['seed']) ==
             (rows[0]['bands'], rows[0]['seed']) and 'pixels' in r]  # fmt: skip
    if not first:
        return []
    lines = [f'IoU by class in %, {first[0]["bands"]}, seed {first[0]["seed"]} (pixels of truth)']
    for name, count in first[0]['pixels'].items():
        cells = [f'{r["method"]} {100 * r["IoU"][name]:.1f}' for r in first if name in r['IoU']]
        lines.append(f'  {name} ({count:,}): {", ".join(cells)}')
    return lines


def _verdict(rows: list[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """A line for each set of bands where the model does not beat baselines without one."""
    lines = []
    for name in names:
        means: dict[str, float] = {}
        for method in METHODS:
            cell = [r['mean IoU'] for r in rows
                    if FAILED not in r and (r['method'], r['bands']) == (method, name)]  # fmt: skip
            if cell:
                means[method] = float(np.mean(cell))
        plain = {m: v for m, v in means.items() if m in ('windows', 'pixels', 'boosting')}
        for method in ('hypercolumn', 'upernet'):
            if method in means and plain and means[method] < max(plain.values()):
                best = max(plain, key=plain.__getitem__)
                lines.append(
                    f'{name}: {method} ({100 * means[method]:.1f}) is below {NAMES[best]} '
                    f'({100 * plain[best]:.1f}), which needs no encoder'
                )
    return lines


def _cell(mean: float, spread: float) -> str:
    return 'failed' if mean != mean else f'{100 * mean:.1f} +- {100 * spread:.1f}'


def _pair(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``, the value as JSON where it is JSON, else as text."""
    name, sign, value = text.partition('=')
    if not (name and sign):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _bands(entries: Sequence[str]) -> dict[str, Any]:
    """``all``, ``rgb``, ``nir08`` or ``red,nir08``, each perhaps after ``NAME=``."""
    chosen: dict[str, Any] = {}
    for entry in entries:
        name, _, spec = entry.rpartition('=')
        listed = spec.split(',') if ',' in spec else spec
        chosen[(name or spec).replace('/', '-')] = None if spec == 'all' else listed
    return chosen


EPILOG = """\
examples:
  torchgeo-aom segment --dataset HLSWater --data root=DIR --bands all --bands rgb --bands nir08 \\
      --model aom_vitt --weights AOMTiny_Weights.OPTICAL --output output/hls_water
"""


def main(argv: list[str] | None = None) -> int:
    """Run the protocol on a data set.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.

    Raises:
        ConfigError: if an option is wrong.
    """
    parser = argparse.ArgumentParser(
        'torchgeo-aom segment',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--dataset', required=True, help='class in torchgeo_aom.datasets, or an import path')
    add('--data', type=_pair, action='append', default=[], metavar='NAME=VALUE',
        help='an argument of the data set, such as root=DIR; may be repeated')  # fmt: skip
    add('--bands', action='append', default=[], metavar='[NAME=]BANDS',
        help="a set of bands: all, rgb, or red,nir08; may be repeated (default: all)")  # fmt: skip
    add('--seeds', type=int, nargs='+', default=[0, 1, 2], metavar='N',
        help='seeds of head and order; one run each (default: 0 1 2)')  # fmt: skip
    known = ', '.join(METHODS)
    add('--methods', nargs='+', metavar='METHOD',
        help=f'some of {known} (default: hypercolumn, also on random weights, and the baselines '
        'windows, pixels, boosting; `upernet random pixels rcf`: as in the paper)')  # fmt: skip
    add('--model', default='aom_vitb', help='model name (default: %(default)s)')
    add('--weights', help='name or path of weights (default: random)')
    add('--patch', metavar='PX',
        help="patch size in px, or 'auto' (default: 8 with the hypercolumn head, as maps want "
        'small patches; 16, as in the paper, with UPerNet alone)')  # fmt: skip
    add_speed_option(parser.add_argument)
    add('--image-size', type=int, metavar='PX',
        help='image size, for --patch auto; that of --crop where given')  # fmt: skip
    add('--epochs', type=int, default=20, metavar='N',
        help='passes of UPerNet over the training split (default: %(default)s)')  # fmt: skip
    add('--steps', type=int, metavar='N',
        help='steps: of UPerNet, not epochs; of the hypercolumn head (450)')  # fmt: skip
    add('--batch', type=int, default=8, metavar='N', help='images a batch (default: %(default)s)')
    add('--crop', type=int, metavar='PX', help='side of crops in training (default: whole images)')
    add('--lr', type=float, default=1e-3, help='learning rate of the head (default: %(default)s)')
    add('--normalization', default='catalogue', help='as of BandDataModule (default: %(default)s)')
    add('--decoder', default='smp', choices=HEADS, help='which UPerNet (default: %(default)s)')
    add('--decoder-channels', type=int, metavar='N',
        help='width of the head (default: that of --decoder)')  # fmt: skip
    add('--aux-weight', type=float, default=0.0, help='of no use on a frozen encoder (default: 0)')
    add('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
        help="of the encoder of the hypercolumn head; 'auto' takes bfloat16 where this machine "
        'computes it faster (default: %(default)s)')  # fmt: skip
    add('--balance', type=float, default=0.0, metavar='POWER',
        help='weight classes by their inverse frequency to this power, for rare ones: 0.5 or 1 '
        '(default: 0, none)')  # fmt: skip
    add('--ignored-classes', type=int, nargs='*', default=[], metavar='N',
        help='numbers of classes that are left out of the mean IoU (default: none)')  # fmt: skip
    add('--band-dropout', type=float, default=0.0, metavar='SHARE',
        help='share of the training pixels of the hypercolumn head that lose some bands, for a '
        'head that is to run on fewer bands than it is trained on (default: 0)')  # fmt: skip
    add('--output', type=Path, default=Path('output/segment'), help='folder (default: %(default)s)')
    options = parser.parse_args(argv)
    for method in options.methods or ():
        if method not in METHODS:
            raise ConfigError(
                f'--methods must be of {", ".join(METHODS)}, got {method!r}'
                f'{suggest(method, METHODS)}.'
            )
    dense = not options.methods or any(method in HYPERCOLUMN for method in options.methods)
    patch = read_patch_size(options.patch or ('8' if dense else '16'))
    precision = options.precision
    if precision == 'auto':
        precision = best_precision(torch.device('cpu'))[0]
    folder = output_folder(options.output)
    protocol = Protocol(
        options.dataset, dict(options.data), options.model, options.weights, patch,
        options.image_size or options.crop, options.steps, options.epochs, options.batch,
        options.crop, options.lr, options.normalization, options.decoder, options.decoder_channels,
        options.aux_weight, tuple(options.ignored_classes), precision,
        options.balance, options.band_dropout, options.speed or 'exact',
    )  # fmt: skip
    bands = _bands(options.bands or ['all'])
    methods = options.methods or protocol.methods
    rows = run_segmentation(protocol, bands, options.seeds, folder, methods)
    failed = [row for row in rows if FAILED in row]
    if len(failed) < len(rows):
        _draw(protocol, rows, bands, methods, folder)
        print(f'Mean IoU in % on the test split, mean and deviation of {len(options.seeds)} seeds')
        if protocol.ignored_classes:
            left_out = next(row for row in rows if FAILED not in row)['left out of the mean']
            print(f'Left out of the mean: {", ".join(left_out)}')
        print(_table(rows, methods, list(bands), options.model))
        print('\n'.join(_class_table(rows, methods)))
        print(folder / 'scores.png', folder / 'maps.png', sep='\n')
    for row in failed:
        facts = f'{row["bands"]}, {NAMES.get(row["method"], row["method"])}, seed {row["seed"]}'
        print(f'Failed, and tried again next time: {facts}: {row[FAILED]}', file=sys.stderr)
    for line in _verdict(rows, list(bands)):
        print(line)
    return 1 if failed else 0
