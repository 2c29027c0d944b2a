"""How well a pretrained model predicts a missing band, next to the mean of its neighbors.

Each band of real Sentinel-2 images that has a neighbor on both sides is left out in turn, predicted
from all others, and compared with what was measured: root mean square error in reflectance.

    torchgeo-aom fit --config examples/pretrain/small.yaml
    python examples/pretrain/completion.py runs/pretrain_small/checkpoints/last.ckpt
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from torchgeo_aom.bands import Band
from torchgeo_aom.data.samples import EuroSAT200, SentinelPairs
from torchgeo_aom.tasks import PretrainTask
from torchgeo_aom.transforms import Normalize

Row = dict[str, float | str]


def held_out() -> dict[str, tuple[Normalize, Tensor]]:
    """Images that ``small.yaml`` has not seen, normalized: chips as L1C and places as L2A."""
    found = {}
    for name, data in {
        'EuroSAT, L1C': EuroSAT200(split='test', fold=0),
        'places, L2A': SentinelPairs('l2a', half='east'),
    }.items():
        statistics = 'sentinel2:l2a' if data.product == 'reflectance' else None
        normalize = Normalize(data.bands, product=data.product, statistics=statistics)
        images = torch.stack([normalize(data[k]['image']) for k in range(len(data))])
        found[name] = normalize, images
    return found


def neighbors(bands: Sequence[Band]) -> list[tuple[int, int, int]]:
    """Each band with one on both sides: its channel, and those of the next by wavelength."""
    order = sorted(range(len(bands)), key=lambda k: bands[k].wavelength_um or 0)
    return [(order[j], order[j - 1], order[j + 1]) for j in range(1, len(order) - 1)]


def completion(
    task: PretrainTask, normalize: Normalize, images: Tensor, patch_size: int | None = None
) -> list[Row]:
    """Error of each band, predicted and interpolated.

    Args:
        task: a pretrained task.
        normalize: how the images were normalized.
        images: normalized images of shape (N, C, H, W).
        patch_size: whose decoder predicts; the smallest trained where not given.

    Returns:
        A row for each band: name, error of the model, error of the mean of its neighbors.
    """
    mean, std = (np.array(x)[:, None, None] for x in (normalize.mean, normalize.std))
    reflectance = images.numpy() * std + mean
    names = [band.label for band in normalize.bands]
    rows: list[Row] = []
    for k, left, right in neighbors(normalize.bands):
        keep = [i for i in range(len(names)) if i != k]
        known = [names[i] for i in keep]
        parts = [
            task.reconstruct(part[:, keep], known, [names[k]], patch_size)[:, 0]
            for part in images.split(10)
        ]
        predicted = torch.cat(parts).numpy() * std[k] + mean[k]
        between = (reflectance[:, left] + reflectance[:, right]) / 2
        errors = [
            float(np.sqrt(np.mean((x - reflectance[:, k]) ** 2))) for x in (predicted, between)
        ]
        rows.append({'band': normalize.bands[k].name, 'model': errors[0], 'neighbors': errors[1]})
    return rows


def mean_of(rows: Sequence[Row], key: str) -> float:
    """Mean error over bands."""
    return float(np.mean([row[key] for row in rows]))


def plot(tables: dict[str, list[Row]]) -> Figure:
    """Errors of both ways, band by band."""
    figure = Figure(figsize=(9, 3.2 * len(tables)), layout='constrained')
    panels = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
    for axes, (name, rows) in zip(panels, tables.items(), strict=True):
        x = np.arange(len(rows))
        keys = {'model': '#0072B2', 'neighbors': '#E69F00'}
        for shift, (key, color) in zip((-0.2, 0.2), keys.items(), strict=True):
            axes.bar(x + shift, [row[key] for row in rows], 0.4, label=key, color=color)
        axes.set_xticks(x, [str(row['band']) for row in rows])
        axes.set_ylabel('RMSE (reflectance)')
        axes.set_title(f'{name}: band left out, predicted or mean of its neighbors')
        axes.legend()
    return figure


def main() -> None:
    """Print a table for each set of images."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='checkpoint of PretrainTask')
    parser.add_argument('--patch', type=int, help='patch size of the decoder, px')
    parser.add_argument('--out', type=Path, help='folder for completion.json and completion.png')
    arguments = parser.parse_args()
    task = PretrainTask.load_from_checkpoint(arguments.checkpoint, map_location='cpu').eval()
    tables = {}
    for name, (normalize, images) in held_out().items():
        rows = tables[name] = completion(task, normalize, images, arguments.patch)
        print(f'{name}: RMSE in reflectance\n{"band":6} {"model":>8} {"neighbors":>10}')
        for row in rows:
            better = '*' if row['model'] < row['neighbors'] else ''
            print(f'{row["band"]:6} {row["model"]:8.4f} {row["neighbors"]:10.4f} {better}')
        print(f'{"mean":6} {mean_of(rows, "model"):8.4f} {mean_of(rows, "neighbors"):10.4f}\n')
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / 'completion.json').write_text(json.dumps(tables, indent=1))
        plot(tables).savefig(arguments.out / 'completion.png', dpi=120)


if __name__ == '__main__':
    main()
