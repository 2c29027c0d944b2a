"""Whether maps are wrong where patch sizes disagree, on scenes whose truth is known.

    python examples/scenes/agreement.py CKPT --root data/hls_water --every 4

CKPT is a checkpoint of a segmentation of water that was trained on HLS, with bands by common name
(the command is in docs/scenes.md). Each chip of the test sites is run like ``torchgeo-aom scene
predict --agree --probabilities``; cells are sorted by agreement, and by the probability of the
predicted class, which costs nothing. Pixels without data do not count.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.datasets import HLSWater
from torchgeo_aom.scene import RunOptions, Scene, open_scene, predict_scene

Floats = NDArray[np.float64]
BANDS = ['coastal', 'blue', 'green', 'red', 'nir08', 'swir16', 'swir22']
CELL = 32
WRONG = 0.25  # share of wrong pixels above which a cell counts as wrong


def read(path: Path) -> NDArray[np.float32]:
    """All bands."""
    with rasterio.open(path) as file:
        return file.read().astype(np.float32)


def cells(values: NDArray[np.float32]) -> Floats:
    """Means of cells (H / 32 * W / 32,) over what is not NaN; NaN where all is."""
    height, width = values.shape
    split = values.reshape(height // CELL, CELL, width // CELL, CELL)
    known = np.isfinite(split).sum((1, 3))
    with np.errstate(invalid='ignore'):
        return (np.nansum(split, (1, 3), dtype=np.float64) / known).ravel()


def run(scene: Scene, checkpoint: str, truth: NDArray[np.bool_]) -> list[Floats]:
    """Wrong pixels, agreement and probability of each cell, and counts for the IoU."""
    known = resolve_bands('hls:common7')
    with tempfile.TemporaryDirectory() as name:
        out, chances, agree = (Path(name) / f'{x}.tif' for x in 'opa')
        predict_scene(
            scene, out, weights=checkpoint, mean=[float(b.mean or 0) for b in known],
            std=[float(b.std or 1) for b in known], probabilities=chances, agree=agree,
            agree_sizes=(16, CELL),
            options=RunOptions(chip=128, overlap=0, progress=False, readers=0),
        )  # fmt: skip
        water = read(out)[0] == 1
        highest = read(chances).max(0)
        known = np.isfinite(highest)
        wrong = cells(np.where(known, water != truth, np.nan).astype(np.float32))
        best = cells(highest)
        same = read(agree)[0].ravel().astype(np.float64)
    has = np.isfinite(wrong)
    water, truth = water[known], truth[known]
    both, either = (water & truth).sum(), (water | truth).sum()
    dry, not_both = (~water & ~truth).sum(), (~water | ~truth).sum()
    counts = np.array([both, either, dry, not_both, known.sum()], np.float64)
    return [wrong[has], same[has], best[has], counts]


def describe(label: str, trust: Floats, wrong: Floats) -> None:
    """Print how wrong pixels go with a measure of trust."""
    ordered = wrong[np.argsort(trust)]
    count = len(ordered)
    low, high = ordered[: count // 10].mean(), ordered[count // 2 :].mean()
    area = roc_auc_score(wrong > WRONG, -trust)
    print(
        f'{label}: {low:.1%} of the pixels are wrong in the lowest tenth of the cells, {high:.1%} '
        f'in the upper half; ROC AUC for cells with more than a quarter wrong {area:.3f}'
    )


def main() -> None:
    """Run over the test chips."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='of a segmentation of HLS water')
    parser.add_argument('--root', type=Path, required=True, help='folder of HLSWater')
    parser.add_argument('--every', type=int, default=1, help='take every n-th chip')
    options = parser.parse_args()
    data = HLSWater(options.root, split='test')
    found = []
    for k in range(0, len(data), options.every):
        image = options.root / 'images' / f'{data.rows[k]["id"]}.tif'
        scene = open_scene(image, BANDS, product='hls:v2')
        found.append(run(scene, options.checkpoint, data[k]['mask'].numpy() == 1))
    wrong, same, best = (np.concatenate([parts[j] for parts in found]) for j in range(3))
    counts = np.sum([parts[3] for parts in found], axis=0)
    iou = (counts[0] / counts[1] + counts[2] / counts[3]) / 2
    right = (counts[0] + counts[2]) / counts[4]
    print(
        f'{len(found)} chips, {len(wrong)} cells of {CELL} px: mean IoU {iou:.1%}, '
        f'{right:.1%} of the pixels right, {(wrong > WRONG).mean():.1%} of the cells '
        f'with more than a quarter wrong'
    )
    describe('agreement of 16 and 32 px', same, wrong)
    describe('probability of the class', best, wrong)


if __name__ == '__main__':
    main()
