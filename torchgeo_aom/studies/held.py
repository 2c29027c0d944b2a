"""Labelled images of a study, read once and held in memory where they are not too many."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..bands import Band, resolve_bands
from ..tasks.feature_cache import content, dataset_digest
from ..tasks.probe_data import ProbeData

__all__ = ('Held', 'StudyData', 'hold')

BUDGET = 1 << 30


class _Box:
    """Keeps tensors out of sight of those who look through attributes for what a set depends on."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels


class Held(Dataset[dict[str, Any]]):
    """Images and labels in memory, known by their content."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """Take the hash of images (N, C, H, W) and labels."""
        self._box = _Box(images, labels)
        digest = hashlib.sha256(content(images))
        digest.update(content(labels))
        self.digest = digest.hexdigest()

    def fingerprint(self) -> str:
        """Hash of all images and labels."""
        return self.digest

    def __len__(self) -> int:
        """Number of images."""
        return len(self._box.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image with its label."""
        return {'image': self._box.images[index], 'label': self._box.labels[index]}


@dataclass(frozen=True)
class StudyData:
    """What the cells of a study share.

    Attributes:
        probe: names, groups, splits and normalization.
        dataset: the samples, in stored values.
        bands: what the channels are.
        labels: classes of shape (N,), or zeros and ones (N, K).
        digest: hash of all images and labels.
    """

    probe: ProbeData
    dataset: Dataset[dict[str, Any]]
    bands: tuple[Band, ...]
    labels: NDArray[np.int64]
    digest: str

    def scale(self, device: str = 'cpu') -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band in reflectance, (C, 1, 1)."""
        normalize = self.probe.normalize
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
            for values in (normalize.mean, normalize.std)
        )
        return mean, std.masked_fill(std == 0, 1.0)


def hold(data: ProbeData) -> StudyData:
    """Read all samples once.

    Args:
        data: the samples.

    Returns:
        The data.
    """
    count = len(data.dataset)  # type: ignore[arg-type]
    height, width = data.size
    fits = count * len(data.bands) * height * width * 4 <= BUDGET
    images, labels = [], []
    digest = hashlib.sha256()
    for k in tqdm(range(count), desc='reading', unit='image', disable=None):
        sample = data.dataset[k]
        labels.append(torch.as_tensor(sample['label']))
        if fits:
            images.append(sample['image'])
        else:
            digest.update(content(sample['image']))
    stacked = torch.stack(labels)
    bands = resolve_bands(list(data.bands))
    classes = stacked.numpy().astype(np.int64)
    if fits and len({image.shape for image in images}) == 1:
        held = Held(torch.stack(images), stacked)
        return StudyData(replace(data, dataset=held), held, bands, classes, held.digest)
    for image in images:
        digest.update(content(image))
    known = dataset_digest(data.dataset)
    return StudyData(
        data, data.dataset, bands, classes, known.hex() if known else digest.hexdigest()
    )
