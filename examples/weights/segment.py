"""Measures weights in segmentation: water on five folds of sites, land cover with several bands.

    python examples/weights/segment.py --hls data/hls_water --weights AOMTiny_Weights.OPTICAL \
        --out runs/segment

Water: HLS chips of the places that weights were not trained on (``rules.py``), five folds of whole
sites: one to test, one to choose how much of the encoder the head sees, three to train. Land cover:
the head is trained once on 12 bands in the western halves of five places and run on the eastern
halves with 12 bands, RGB, and all of L1C, at each strength of context. Beside it stands a
regression of single pixels that is fitted on 12 bands and gets missing ones as their mean (`mean
filled`), and one that is fitted anew on the bands (`fitted anew`). Finished cells are kept, so a
run that is stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from evaluate import backbone

from torchgeo_aom.models.feature_memory import FeatureMemory
from torchgeo_aom.models.hypercolumn import STRENGTHS
from torchgeo_aom.models.precision import best_precision
from torchgeo_aom.tasks import SemanticSegmentationTask
from torchgeo_aom.tasks.landcover import (
    HeadSettings,
    load_half,
    pixel_regression,
    predict,
    rate,
    train_head,
)
from torchgeo_aom.tasks.segment import Protocol, run_segmentation

FOLDS = 5
WATER = ('hypercolumn', 'hypercolumn-random', 'windows', 'pixels', 'boosting')
SETS = {'12 bands': ('l2a', 'sentinel2:l2a'), 'RGB': ('l2a', 'sentinel2:rgb'),
        'L1C': ('l1c', 'sentinel2:l1c')}  # fmt: skip


def water(root: str, weights: str, out: Path, seeds: Sequence[int], methods: Sequence[str]) -> str:
    """Mean IoU of water by method: mean over folds, and each fold."""
    memories: dict[Any, FeatureMemory] = {}
    scores: dict[str, list[float]] = {method: [] for method in methods}
    for fold in range(FOLDS):
        protocol = Protocol(
            'heldout.HeldOutWater', {'root': root, 'fold': fold, 'folds': FOLDS}, 'aom_vitt',
            weights, 8, precision=best_precision(torch.device('cpu'))[0],
        )  # fmt: skip
        folder = out / f'water{fold}'
        folder.mkdir(parents=True, exist_ok=True)
        rows = run_segmentation(protocol, {'all': None}, seeds, folder, methods, memories)
        for method in methods:
            cell = [row['mean IoU'] for row in rows if row['method'] == method]
            scores[method].append(100 * float(np.mean(cell)))
    lines = ['| Water, mean IoU | mean of folds | folds |', '|---|---|---|']
    for method, values in scores.items():
        listed = ', '.join(f'{value:.1f}' for value in values)
        lines.append(f'| {method} | {np.mean(values):.1f} | {listed} |')
    return '\n'.join(lines)


def land_cover(weights: str, out: Path, seeds: Sequence[int]) -> str:
    """Mean IoU of land cover by method and set of bands: mean over seeds."""
    folder = out / 'heads'
    folder.mkdir(parents=True, exist_ok=True)
    path = out / 'land_cover.json'
    found: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    models = {'weights': backbone(weights), 'random': backbone(None)}
    halves = {name: load_half(*chosen, 'east') for name, chosen in SETS.items()}
    for seed in seeds:
        for who, model in models.items():
            for strength in STRENGTHS if who == 'weights' else ('weak',):
                settings = HeadSettings(seed, context=strength)
                head, _ = train_head(model, 'aom_vitt', settings, folder)
                for name, east in halves.items():
                    key = f'{strength}, {who} | {name} | {seed}'
                    if key not in found:
                        task = SemanticSegmentationTask.load_from_checkpoint(
                            head, bands=SETS[name][1]
                        ).eval()
                        said = [predict(task, p['image'], settings.window) for p in east]
                        found[key] = rate([p['mask'].numpy() for p in east], said)['mean IoU']
                        path.write_text(json.dumps(found, indent=1))
        everything = pixel_regression('l2a', 'sentinel2:l2a', seed)
        for name, east in halves.items():
            masks = [p['mask'].numpy() for p in east]
            anew = pixel_regression(*SETS[name], seed)
            found[f'pixels, fitted anew | {name} | {seed}'] = rate(
                masks, [anew(p['image']) for p in east]
            )['mean IoU']
        filled = []
        for place in halves['RGB']:
            image = torch.zeros(12, *place['image'].shape[1:])
            image[[3, 2, 1]] = place['image']
            filled.append(everything(image))
        masks = [p['mask'].numpy() for p in halves['RGB']]
        found[f'pixels, mean filled | RGB | {seed}'] = rate(masks, filled)['mean IoU']
    path.write_text(json.dumps(found, indent=1))
    names = list(dict.fromkeys(key.split(' | ')[0] for key in found))
    lines = [f'| Land cover, mean IoU | {" | ".join(SETS)} |', '|---|---|---|---|']
    for name in names:
        cells = []
        for bands in SETS:
            own = [v for k, v in found.items() if k.startswith(f'{name} | {bands} | ')]
            cells.append(f'{100 * np.mean(own):.1f}' if own else '-')
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--hls', help='folder of the HLS water chips')
    parser.add_argument('--weights', default='AOMTiny_Weights.OPTICAL', help='name or file')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--methods', nargs='+', default=WATER, help='of water')
    parser.add_argument('--out', type=Path, default=Path('runs/segment'))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    text = land_cover(args.weights, args.out, args.seeds)
    if args.hls:
        text += '\n\n' + water(args.hls, args.weights, args.out, args.seeds, args.methods)
    (args.out / 'table.md').write_text(text + '\n')
    print(text)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
