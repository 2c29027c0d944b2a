"""Features without training, which a model has to beat: band statistics, random convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchgeo.datasets import NonGeoDataset
from torchgeo.models import RCF

from ..errors import ConfigError, InputError
from .feature_cache import module_digest
from .features import Features, Reading, extract

__all__ = ('band_statistics', 'convolve', 'rcf_features', 'statistics_features')

PERCENTILES = (5, 25, 50, 75, 95)
RCF_VALUES = 1 << 26
KERNEL_SIZE = 3  # px
MODES = ('gaussian', 'empirical')


def band_statistics(images: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Features without a model: mean, standard deviation and five percentiles of each band.

    Args:
        images: images of shape (N, C, H, W).

    Returns:
        Features of shape (N, 7 * C).

    Raises:
        InputError: if the shape is another.
    """
    values = np.asarray(images, dtype=np.float64)
    if values.ndim != 4 or values.size == 0:
        raise InputError(f'Images must be (N, C, H, W) and not empty, got shape {values.shape}.')
    pixels = values.reshape(*values.shape[:2], -1)
    parts = [pixels.mean(-1), pixels.std(-1), *np.percentile(pixels, PERCENTILES, axis=-1)]
    return np.concatenate(parts, axis=1)


def statistics_features(
    dataset: Dataset[dict[str, Any]], reading: Reading, label: str = 'statistics'
) -> Features:
    """Take :func:`band_statistics` of a data set.

    Args:
        dataset: samples with an ``image`` and a ``label``.
        reading: how to load, normalize and keep.
        label: what the progress bar says.

    Returns:
        Features and labels, in the order of the data set.

    .. versionadded:: 0.1
    """
    facts = [f'band_statistics {PERCENTILES}'.encode()]
    return extract(
        lambda image: torch.from_numpy(band_statistics(image.cpu())),
        facts, dataset, reading, label,
    )  # fmt: skip


class _Prepared(NonGeoDataset):
    """Some samples of a data set, normalized: RCF draws its patches from them."""

    def __init__(
        self, dataset: Dataset[dict[str, Any]], places: Sequence[int], reading: Reading
    ) -> None:
        self.dataset, self.places, self.reading = dataset, places, reading

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.dataset[int(self.places[index])]['image']
        return {'image': self.reading.prepare(image[None])[0].cpu()}


def convolve(model: RCF, images: Tensor, features: int) -> Tensor:
    """Take random convolutional features of a batch.

    All features of every pixel are in memory at once, so a few images at a time.

    Args:
        model: the kernels.
        images: normalized images of shape (B, C, H, W).
        features: number of features.

    Returns:
        Features of shape (B, features).
    """
    few = max(RCF_VALUES // (features * images.shape[-2] * images.shape[-1]), 1)
    return torch.cat([model(part) for part in images.split(few)])


def rcf_features(
    dataset: Dataset[dict[str, Any]],
    reading: Reading,
    *,
    features: int = 512,
    seed: int = 0,
    mode: str = 'gaussian',
    train: ArrayLike | None = None,
    label: str = 'RCF',
) -> Features:
    """Take TorchGeo's random convolutional features of a data set.

    Args:
        dataset: samples with an ``image`` and a ``label``.
        reading: how to load, normalize and keep.
        features: number of features, even.
        seed: another seed draws other kernels.
        mode: ``'gaussian'`` for random kernels, ``'empirical'`` for whitened patches of images.
        train: samples that patches are drawn from: those to train on, never others.
        label: what the progress bar says.

    Returns:
        Features and labels, in the order of the data set.

    Raises:
        ConfigError: if an argument is impossible.
    """
    if mode not in MODES:
        raise ConfigError(f'mode must be {" or ".join(map(repr, MODES))}, got {mode!r}')
    if mode == 'empirical' and train is None:
        raise ConfigError('patches come from the samples to train on: give train=')
    if features < 2 or features % 2 or seed < 0:
        raise ConfigError(
            f'RCF needs an even number of features and a seed from 0, got {features} and {seed}'
        )
    source = None if train is None else _Prepared(dataset, np.asarray(train).tolist(), reading)
    first = reading.prepare(dataset[0]['image'][None])
    if min(first.shape[-2:]) <= KERNEL_SIZE:
        raise ConfigError(
            f'a kernel of {KERNEL_SIZE} px does not fit into images of '
            f'{first.shape[-2]} x {first.shape[-1]} px'
        )
    # TorchGeo takes the seed 0 for none at all.
    model = RCF(
        first.shape[1], features, KERNEL_SIZE, seed=seed + 1, mode=mode,
        dataset=source if mode == 'empirical' else None,
    )  # fmt: skip
    model = model.to(reading.device)
    return extract(
        lambda image: convolve(model, image, features),
        [b'rcf', module_digest(model)], dataset, reading, label,
    )  # fmt: skip
