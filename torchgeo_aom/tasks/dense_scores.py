"""How good class maps are, and what single pixels say without any model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from .probe import fit_linear
from .scikit_learn import scikit_learn

__all__ = ('fit_boosting', 'fit_pixels', 'iou_report', 'random_features')

SIDE = 5  # of random kernels, in px


def iou_report(
    masks: Sequence[ArrayLike],
    predictions: Sequence[ArrayLike],
    classes: Sequence[str],
    ignore_index: int | None = None,
    ignored: Sequence[int] = (),
    min_pixels: int = 1,
) -> dict[str, Any]:
    """Mean IoU over classes that occur, pixel accuracy, and the IoU of each class.

    Args:
        masks: the truth, one array an image.
        predictions: class of each pixel.
        classes: names of the classes.
        ignore_index: value of a mask that counts nowhere.
        ignored: classes whose IoU is left out of the mean.
        min_pixels: classes with fewer pixels of truth are left out.

    Returns:
        ``'mean IoU'``, ``'pixel accuracy'``, ``'IoU'`` and ``'pixels'`` of truth by class, and
        ``'confusion'``: pixels of each class of truth (rows) by what was said (columns).

    .. versionadded:: 0.1
    """
    confusion = np.zeros((len(classes), len(classes)))
    for mask, prediction in zip(masks, predictions, strict=True):
        truth, said = np.ravel(np.asarray(mask)), np.ravel(np.asarray(prediction))
        labelled = np.ones(truth.shape, bool) if ignore_index is None else truth != ignore_index
        np.add.at(confusion, (truth[labelled], said[labelled]), 1)
    right, pixels = np.diag(confusion), confusion.sum(1)
    iou = right / np.maximum(pixels + confusion.sum(0) - right, 1)
    occurring = pixels >= min_pixels
    counted = occurring & ~np.isin(np.arange(len(classes)), list(ignored))
    return {
        'mean IoU': float(iou[counted].mean()),
        'pixel accuracy': float(right.sum() / pixels.sum()),
        'IoU': {c: float(v) for c, v, n in zip(classes, iou, occurring, strict=True) if n},
        'pixels': {c: int(v) for c, v, n in zip(classes, pixels, occurring, strict=True) if n},
        'confusion': confusion.astype(int).tolist(),
    }


def fit_pixels(
    images: Iterable[Tensor],
    masks: Sequence[Tensor],
    count: int,
    seed: int,
    ignore_index: int | None = None,
) -> Callable[[Tensor], NDArray[Any]]:
    """Fit the baseline: logistic regression of single pixels.

    Args:
        images: normalized images, or maps of features, of shape (C, H, W); one at a time is used,
            so they may come from a generator.
        masks: class of each pixel.
        count: how many pixels to fit to, all images together.
        seed: chooses them.
        ignore_index: value of a mask that counts nowhere.

    Returns:
        Function from an image to the class of each pixel.

    Raises:
        ConfigError: if the pixels have fewer than two classes.
    """
    values, labels = _drawn(images, masks, count, seed, ignore_index)
    classify = fit_linear(values, labels)
    return lambda image: classify(image.flatten(1).T.numpy()).reshape(image.shape[1:])


def _drawn(
    images: Iterable[Tensor],
    masks: Sequence[Tensor],
    count: int,
    seed: int,
    ignore_index: int | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values and classes of labelled pixels drawn from all images together."""
    labels = torch.cat([mask.flatten() for mask in masks]).numpy()
    known = np.arange(len(labels)) if ignore_index is None else labels != ignore_index
    known = np.flatnonzero(known) if known.dtype == bool else known
    draw = np.random.default_rng(seed).choice(known, min(count, len(known)), replace=False)
    some = np.sort(draw)
    if len(np.unique(labels[some])) < 2:
        raise ConfigError(
            f'{len(some)} training pixels have fewer than two classes, so there is nothing to fit; '
            'use another split or more images.'
        )
    values, end = [], 0
    for image in images:
        start, end = end, end + image[0].numel()
        own = some[(some >= start) & (some < end)] - start
        values.append(image.flatten(1)[:, own].T.numpy())
    return np.concatenate(values), labels[some]


def fit_boosting(
    images: Iterable[Tensor],
    masks: Sequence[Tensor],
    count: int,
    seed: int,
    ignore_index: int | None = None,
) -> Callable[[Tensor], NDArray[Any]]:
    """Fit the baseline: gradient boosting of single pixels (scikit-learn's, by histograms).

    Args:
        images: as of :func:`fit_pixels`.
        masks: class of each pixel.
        count: how many pixels to fit to, all images together.
        seed: chooses them.
        ignore_index: value of a mask that counts nowhere.

    Returns:
        Function from an image to the class of each pixel.

    Raises:
        ConfigError: if the pixels have fewer than two classes.

    .. versionadded:: 0.2
    """
    values, labels = _drawn(images, masks, count, seed, ignore_index)
    ensemble = scikit_learn('sklearn.ensemble')
    judge = ensemble.HistGradientBoostingClassifier(random_state=seed).fit(values, labels)
    return lambda image: judge.predict(image.flatten(1).T.numpy()).reshape(image.shape[1:])


def random_features(images: Sequence[Tensor], count: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Make a map of random convolutional features (RCF) of an image, beside its bands.

    The kernels are patches of training images, made mean 0 and norm 1; each gives two features, the
    positive and the negative part of its response, averaged over a window of their size.

    Args:
        images: normalized training images of shape (C, H, W).
        count: number of kernels.
        seed: chooses the patches.

    Returns:
        Function from an image (C, H, W) to features (C + 2 * count, H, W).
    """
    random = np.random.default_rng(seed)
    kernels = []
    for _ in range(count):
        image = images[int(random.integers(len(images)))]
        row, column = (int(random.integers(size - SIDE + 1)) for size in image.shape[1:])
        kernels.append(image[:, row : row + SIDE, column : column + SIDE])
    bank = torch.stack(kernels)
    bank = bank - bank.mean((1, 2, 3), keepdim=True)
    bank = bank / bank.flatten(1).norm(dim=1).clamp(min=1e-6)[:, None, None, None]

    def features(image: Tensor) -> Tensor:
        padding = SIDE // 2
        padded = F.pad(image[None], (padding,) * 4, mode='reflect')
        response = F.conv2d(padded, bank)
        parts = torch.cat([response.relu(), (-response).relu()], 1)
        smooth = F.avg_pool2d(parts, SIDE, 1, padding, count_include_pad=False)
        return torch.cat([image, smooth[0]])

    return features
