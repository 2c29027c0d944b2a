"""Water in HLS chips by a linear map of frozen features, tested at all places, five folds of them.

Nothing but a logistic regression is trained: on features of the last block, enlarged bilinearly, at
pixels drawn evenly from the chips. Its strength is chosen on a quarter of the places to train on.
Single pixels, with the same regression on their seven bands, are what features have to beat.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from heldout import HeldOutWater
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

__all__ = ('linear_water',)

FOLDS = 5
PIXELS = 200  # of each chip to train on
EMPTY = 255  # pixels without data
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)

Floats = NDArray[np.float32]


@torch.inference_mode()
def features(model: Any, images: Tensor, bands: Sequence[Any], patch: int) -> Tensor:
    """Last map of an encoder, (N, D, Nh, Nw)."""
    rows = []
    for part in images.split(8):
        maps = model.forward_features(part, bands=list(bands), patch_size=patch)[:, 1:]
        side = images.shape[-1] // patch
        rows.append(maps.transpose(1, 2).unflatten(2, (side, side)).float())
    return torch.cat(rows)


def enlarged(maps: Tensor, side: int) -> Tensor:
    """Maps at the size of the image."""
    return F.interpolate(maps, (side, side), mode='bilinear', align_corners=False)


def fit(rows: Floats, classes: NDArray[Any], strength: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a logistic regression on standardized rows."""
    scaler = StandardScaler().fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        found = LogisticRegression(C=strength, max_iter=200).fit(scaler.transform(rows), classes)
    weight = found.coef_[0] / scaler.scale_
    bias = found.intercept_[0] - weight @ scaler.mean_
    return torch.tensor(weight, dtype=torch.float32), torch.tensor(float(bias))


def predict(maps: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    """Where water is; a linear map and a bilinear one may change places."""
    logits = torch.einsum('ndhw,d->nhw', maps, weight) + bias
    return enlarged(logits[:, None], side)[:, 0] > 0


def mean_iou(predicted: Tensor, wanted: Tensor) -> float:
    """Mean of the IoU of water and land over all pixels that say which, in percent."""
    known = wanted != EMPTY
    predicted, water = predicted[known], wanted[known] == 1
    scores = []
    for one, two in ((predicted, water), (~predicted, ~water)):
        scores.append(float((one & two).sum() / (one | two).sum().clamp(min=1)))
    return 100 * sum(scores) / 2


def folded(maps: Tensor, masks: Tensor, places: NDArray[Any], seed: int) -> float:
    """Mean IoU over all chips, each predicted by what was trained on other places."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(sorted(set(places)))
    fold_of = {name: k % FOLDS for k, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in places])
    side = masks.shape[-1]
    drawn = [rng.choice(np.flatnonzero(mask.numpy() != EMPTY), PIXELS) for mask in masks]
    rows = np.stack(
        [
            enlarged(maps[k : k + 1], side)[0].flatten(1)[:, pixels].T.numpy()
            for k, pixels in enumerate(drawn)
        ]
    )
    classes = np.stack([masks[k].flatten()[pixels].numpy() for k, pixels in enumerate(drawn)])
    predicted = torch.zeros_like(masks, dtype=torch.bool)
    for fold in range(FOLDS):
        test = folds == fold
        inner = np.isin(places, [name for k, name in enumerate(names) if k % 4 == fold % 4])
        train, check = ~test & ~inner, ~test & inner
        scores = {}
        for strength in STRENGTHS:
            if len(set(classes[train].ravel().tolist())) < 2 or not check.any():
                scores[strength] = 0.0
                continue
            line = fit(np.concatenate(rows[train]), classes[train].ravel(), strength)
            found = predict(maps[torch.from_numpy(check)], *line, side)
            scores[strength] = mean_iou(found, masks[torch.from_numpy(check)])
        best = max(scores, key=lambda strength: scores[strength])
        line = fit(np.concatenate(rows[~test]), classes[~test].ravel(), best)
        predicted[torch.from_numpy(test)] = predict(maps[torch.from_numpy(test)], *line, side)
    return mean_iou(predicted, masks)


def linear_water(
    root: str, models: dict[str, Any], patches: Sequence[int], seeds: int
) -> dict[str, dict[str, list[float]]]:
    """Mean IoU of water, mean and spread over seeds, which give other folds and other pixels.

    Args:
        root: folder of the HLS water chips.
        models: encoders by name.
        patches: patch sizes in px.
        seeds: number of seeds.

    Returns:
        For each patch size, by model; ``'pixels'`` is the regression of single pixels.
    """
    data = HeldOutWater(root, 'all')
    normalize = data.normalize(nodata_fill=True)
    samples = [data[k] for k in range(len(data))]
    images = torch.stack([normalize(one['image']) for one in samples])
    masks = torch.stack([one['mask'] for one in samples]).squeeze()
    places = np.array(data.groups)

    def scores(maps: Tensor) -> list[float]:
        values = [folded(maps, masks, places, seed) for seed in range(seeds)]
        spread = float(np.std(values, ddof=1)) if seeds > 1 else float('nan')
        return [round(float(np.mean(values)), 2), round(spread, 2)]

    pixels = scores(images)
    found = {}
    for patch in patches:
        row = {
            name: scores(features(model, images, data.bands, patch))
            for name, model in models.items()
        }
        found[str(patch)] = {**row, 'pixels': pixels}
    return found
