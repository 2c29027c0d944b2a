"""Measures weights on images that they were not trained on, beside what they have to beat.

    python examples/weights/evaluate.py --ucmerced data/ucmerced --hls data/hls_water \
        --weights AOMTiny_Weights.OPTICAL --out runs/evaluate

Every number comes with its baselines from the same run and the same splits: statistics of the
bands, random convolutional features (RCF), and the model with random weights. Finished measures are
kept in the folder, so a run that is stopped goes on. Afterwards ``table.md`` and ``results.json``
hold all of them.

The encoder sees patches of 16 px. Chips of 32 and 64 px are enlarged to 64 and 128 px for it, the
sizes that it was trained at; UC Merced stays as it is, at 256 px. Baselines see all images as they
are. Features of an encoder are the mean of its last tokens, and in rows that say `pyramid` the
richer ones of `--readout pyramid`. Probes take encoders in bfloat16, which CPUs with matrix
units do faster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from heldout import HeldOutPatches, HeldOutWater
from water import linear_water

from torchgeo_aom.data.samples import SentinelPairs
from torchgeo_aom.models.weights import load_backbone
from torchgeo_aom.tasks.probe_run import ProbeConfig, run
from torchgeo_aom.tasks.readout import READOUTS
from torchgeo_aom.transforms import Normalize

PATCH_SIZES = {128: (8, 16, 24, 32, 48, 64), 256: (16, 24, 32, 48, 64)}  # by size of the image
TILE = 56  # px of the places that L1C and L2A show: 16 tiles each
SEEDS = 3
WATER_PATCHES = (16, 8)
MERGED = '1:1'  # one group of bands after the first block
METHODS = ('statistics', 'rcf', 'random')

Result = dict[str, Any]


def say(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def accuracies(
    config: ProbeConfig, size: int | None, readouts: Sequence[str] = ('mean',)
) -> dict[str, dict[str, list[float]]]:
    """Accuracy in percent, by set of bands and method: mean and spread over seeds.

    Args:
        config: what to probe.
        size: size at which the encoder sees images; baselines see them as they are.
        readouts: of encoders, see `torchgeo_aom.tasks.readout`.
    """
    plain = [name for name in config.methods if name != 'random']
    encoders = [name for name in config.methods if name == 'random']
    parts = [replace(config, methods=plain, weights=())] if plain else []
    parts += [
        replace(config, methods=encoders, size=size, readout=one, precision='bfloat16')
        for one in readouts
    ]
    found: dict[str, dict[str, list[float]]] = {}
    for part in parts:
        for row in run(part, say):
            name = 'weights' if row.method in config.weights else row.method
            scores = [100 * row.mean('accuracy'), 100 * row.spread('accuracy')]
            bands = row.bands if part.readout == 'mean' else f'{row.bands}, {part.readout}'
            found.setdefault(bands, {})[name] = [round(value, 2) for value in scores]
    return found


def probe_ucmerced(root: str, weights: str, seeds: int) -> Result:
    """UC Merced, RGB, 21 classes: tested on the fifth of it that `rules.ucmerced_split` names."""
    config = ProbeConfig(
        'UCMerced', {'root': root, 'split_rule': 'hash'}, {'RGB': None}, weights=[weights],
        methods=METHODS, probes=['linear'], patch_size=16, rcf_features=1024, seeds=seeds,
    )  # fmt: skip
    return accuracies(config, None, READOUTS)


def probe_hls(root: str, weights: str) -> Result:
    """WorldCover classes of HLS patches, 5 classes: places not trained on, five folds of them."""
    config = ProbeConfig(
        HeldOutPatches, {'root': root},
        {'7 bands': None, 'RGB': ['red', 'green', 'blue']}, weights=[weights], methods=METHODS,
        probes=['linear'], patch_size=16, folds=5, seeds=SEEDS,
    )  # fmt: skip
    return accuracies(config, 64)


def probe_eurosat(weights: str) -> Result:
    """The 200 chips of EuroSAT that ship with the package, 10 classes: five folds by place."""
    config = ProbeConfig(
        'EuroSAT200', {}, {'13 bands': None, 'RGB': 'sentinel2:rgb'}, weights=[weights],
        methods=METHODS, probes=['linear'], patch_size=16, folds=5, seeds=SEEDS,
    )  # fmt: skip
    return accuracies(config, 128)


def patches_ucmerced(root: str, weights: str, size: int) -> Result:
    """UC Merced, RGB, at a size in px: linear probe at each patch size, accuracy in percent."""
    found = {}
    for patch in PATCH_SIZES[size]:
        config = ProbeConfig(
            'UCMerced', {'root': root, 'split_rule': 'hash'}, {'RGB': None}, weights=[weights],
            methods=[], probes=['linear'], patch_size=patch, size=size, precision='bfloat16',
        )  # fmt: skip
        found[str(patch)] = round(100 * run(config, say)[0].mean('accuracy'), 2)
    return found


def merged_eurosat(weights: str) -> Result:
    """EuroSAT-200, 13 bands, where all bands of a place are merged after the first block."""
    config = ProbeConfig(
        'EuroSAT200', {}, {'13 bands': None}, weights=[weights], methods=[], probes=['linear'],
        patch_size=16, folds=5, seeds=SEEDS, speed=MERGED,
    )  # fmt: skip
    return accuracies(config, 128)


def speeds_eurosat(weights: str) -> Result:
    """EuroSAT-200, 13 bands, in each speed mode."""
    found = {}
    for speed in ('balanced', 'fast'):
        config = ProbeConfig(
            'EuroSAT200', {}, {'13 bands': None}, weights=[weights], methods=[], probes=['linear'],
            patch_size=16, folds=5, seeds=SEEDS, speed=speed,
        )  # fmt: skip
        found[f'13 bands, {speed}'] = accuracies(config, 128)['13 bands']
    return found


def speeds_hls(root: str, weights: str) -> Result:
    """WorldCover classes of HLS patches, 7 bands, in each speed mode."""
    found = {}
    for speed in ('balanced', 'fast'):
        config = ProbeConfig(
            HeldOutPatches, {'root': root}, {'7 bands': None}, weights=[weights], methods=[],
            probes=['linear'], patch_size=16, folds=5, seeds=SEEDS, speed=speed,
        )  # fmt: skip
        found[f'7 bands, {speed}'] = accuracies(config, 64)['7 bands']
    return found


def water(root: str, weights: str) -> Result:
    """Water in HLS chips, places not trained on, five folds: linear on frozen maps."""
    models = {'weights': backbone(weights), 'random': backbone(None)}
    return linear_water(root, models, WATER_PATCHES, SEEDS)


@torch.inference_mode()
def features(model: Any, images: torch.Tensor, bands: Sequence[Any], size: int) -> np.ndarray:
    """Image features of normalized images, at the size that the encoder sees."""
    images = F.interpolate(images, (size, size), mode='bilinear', antialias=True)
    rows = [model(part, bands=list(bands), patch_size=16) for part in images.split(32)]
    return torch.cat(rows).numpy()


def hits(query: np.ndarray, gallery: np.ndarray, own: Callable[[int, int], bool]) -> list[Any]:
    """Percent of queries whose nearest neighbor is of their place, and their number."""
    rows = [x - x.mean(0) for x in (query, gallery)]
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]
    nearest = (rows[0] @ rows[1].T).argmax(1)
    good = [own(k, int(n)) for k, n in enumerate(nearest)]
    return [round(100 * float(np.mean(good)), 2), len(good)]


def retrieve_levels(weights: str) -> Result:
    """Find the L2A tile of the same ground for each L1C tile, among all tiles of five places."""
    found = {}
    for name, source in (('weights', weights), ('random', None)):
        model = backbone(source)
        rows = []
        for product in ('l1c', 'l2a'):
            data = SentinelPairs(product)
            statistics = f'sentinel2:{product}'
            normalize = Normalize(data.bands, unit='reflectance', statistics=statistics)
            images = normalize(torch.stack([data[k]['image'] for k in range(len(data))]))
            tiles = images.unfold(2, TILE, TILE).unfold(3, TILE, TILE).permute(0, 2, 3, 1, 4, 5)
            rows.append(features(model, tiles.flatten(0, 2), data.bands, 64))
        found[name] = hits(rows[0], rows[1], lambda k, n: k == n)
    return found


def retrieve_sensors(root: str, weights: str) -> Result:
    """Find an L30 chip of the same place for each S30 chip, where there is one."""
    data = HeldOutWater(root, 'all')
    sensors = np.array([row['hls_product_guess'] for row in data.rows])
    places = np.array(data.groups)
    both = set(places[sensors == 'S30']) & set(places[sensors == 'L30'])
    query = np.flatnonzero((sensors == 'S30') & np.isin(places, sorted(both)))
    gallery = np.flatnonzero(sensors == 'L30')
    normalize = data.normalize(nodata_fill=True)
    found = {}
    for name, source in (('weights', weights), ('random', None)):
        model = backbone(source)
        rows = [
            features(model, normalize(torch.stack([data[int(k)]['image'] for k in part])),
                     [f'hls_{sensor}:{band}' for band in names], 64)
            for part, sensor, names in (
                (query, 's30', ('B01', 'B02', 'B03', 'B04', 'B8A', 'B11', 'B12')),
                (gallery, 'l30', ('B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07')),
            )
        ]  # fmt: skip
        found[name] = hits(*rows, lambda k, n: places[query[k]] == places[gallery[n]])
    return found


def backbone(source: str | None) -> Any:
    """The encoder, or one with random weights."""
    if source is not None:
        return load_backbone(source)
    import timm

    torch.manual_seed(0)
    return timm.create_model('aom_vitt', bands='rgb').eval()


def table(results: dict[str, Result]) -> str:
    """All results as Markdown, one row each, in percent."""
    lines = [
        '| Measure | Weights | Random | Statistics | RCF | Others |',
        '|---|---|---|---|---|---|',
    ]

    def cell(value: Any) -> str:
        if value is None:
            return '-'
        mean, spread = value
        return f'{mean:.1f}' if np.isnan(spread) else f'{mean:.1f} ± {spread:.1f}'

    for measure in ('ucmerced', 'hls', 'speeds_hls', 'eurosat', 'speeds', 'merged'):
        for bands, row in results.get(measure, {}).items():
            cells = [cell(row.get(name)) for name in ('weights', 'random', 'statistics', 'rcf')]
            lines.append(f'| {TITLES[measure]}, {bands} | {" | ".join(cells)} | |')
    for patch, row in results.get('water', {}).items():
        cells = [cell(row[name]) for name in ('weights', 'random')]
        title = f'{TITLES["water"]}, patches of {patch} px'
        lines.append(f'| {title} | {" | ".join(cells)} | - | - | pixels {cell(row["pixels"])} |')
    for measure in ('levels', 'sensors'):
        if row := results.get(measure):
            cells = [f'{row[name][0]:.1f}' for name in ('weights', 'random')]
            count = row['weights'][1]
            lines.append(f'| {TITLES[measure]}, {count} queries | {" | ".join(cells)} | - | - | |')
    for measure in ('patches', 'patches_256'):
        if row := results.get(measure):
            listed = ', '.join(f'{patch} px {value:.1f}' for patch, value in row.items())
            spread = max(row.values()) - min(row.values())
            lines.append(f'| {TITLES[measure]} | spread {spread:.1f} | - | - | - | {listed} |')
    return '\n'.join(lines) + '\n'


TITLES = {
    'ucmerced': 'UC Merced, linear probe, accuracy',
    'hls': 'HLS WorldCover patches, linear probe, accuracy',
    'eurosat': 'EuroSAT-200, linear probe, accuracy',
    'speeds_hls': 'HLS WorldCover patches, linear probe, accuracy',
    'speeds': 'EuroSAT-200, linear probe, accuracy',
    'merged': 'EuroSAT-200, one group of bands after block 1, linear probe, accuracy',
    'water': 'HLS water, linear on frozen maps, five folds of places, mean IoU, 7 bands',
    'levels': 'L1C tile finds its L2A tile',
    'sensors': 'S30 chip finds an L30 chip of its place',
    'patches': 'UC Merced at 128 px, by patch size',
    'patches_256': 'UC Merced at 256 px, by patch size',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--ucmerced', help='folder that TorchGeo reads UC Merced from')
    parser.add_argument('--hls', help='folder of the HLS water chips')
    parser.add_argument('--weights', default='AOMTiny_Weights.OPTICAL', help='name or file')
    parser.add_argument('--only', nargs='+', choices=TITLES, help='these measures')
    parser.add_argument(
        '--ucmerced-seeds', type=int, default=SEEDS, help='RCF takes 7 minutes a seed there'
    )
    parser.add_argument('--out', type=Path, default=Path('runs/evaluate'))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / 'results.json'
    results: dict[str, Result] = json.loads(path.read_text()) if path.is_file() else {}
    if results.setdefault('about', {'weights': args.weights}) != {'weights': args.weights}:
        raise SystemExit(
            f'{path} holds results of {results["about"]["weights"]}: give another --out.'
        )
    weights = args.weights
    measures: dict[str, Callable[[], Result] | None] = {
        'eurosat': lambda: probe_eurosat(weights),
        'speeds': lambda: speeds_eurosat(weights),
        'merged': lambda: merged_eurosat(weights),
        'levels': lambda: retrieve_levels(weights),
        'hls': (lambda: probe_hls(args.hls, weights)) if args.hls else None,
        'speeds_hls': (lambda: speeds_hls(args.hls, weights)) if args.hls else None,
        'sensors': (lambda: retrieve_sensors(args.hls, weights)) if args.hls else None,
        'ucmerced': (lambda: probe_ucmerced(args.ucmerced, weights, args.ucmerced_seeds))
        if args.ucmerced
        else None,
        'patches': (lambda: patches_ucmerced(args.ucmerced, weights, 128))
        if args.ucmerced
        else None,
        'patches_256': (lambda: patches_ucmerced(args.ucmerced, weights, 256))
        if args.ucmerced
        else None,
        'water': (lambda: water(args.hls, weights)) if args.hls else None,
    }
    for name, measure in measures.items():
        if name in results or (args.only and name not in args.only):
            continue
        if measure is None:
            say(f'{TITLES[name]}: left out, its folder is not given')
            continue
        say(TITLES[name])
        results[name] = measure()
        part = path.with_suffix('.part')
        part.write_text(json.dumps(results, indent=1))
        os.replace(part, path)
    text = table(results)
    (args.out / 'table.md').write_text(text)
    print(text)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
