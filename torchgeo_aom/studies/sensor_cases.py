"""Pairs of sensors with labelled images: what a cross-sensor study trains on and tests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..bands import Band, resolve_bands, wavelength_to_index
from ..data.samples import EuroSAT200, SentinelPairs
from ..datasets.hls_water import WorldCoverPatches
from ..errors import DataError
from ..transforms import Normalize

__all__ = ('CASES', 'Case', 'Domain', 'fractional')

WINDOW = 32
PURITY = 0.6
LEAST = 8  # windows of a class


@dataclass(frozen=True)
class Domain:
    """Images of one sensor.

    Attributes:
        name: the sensor.
        images: normalized, (N, C, H, W).
        bands: what the channels are.
        member: which of the N samples this sensor took.
        mean: mean of each band in reflectance, for models that read reflectance; empty where the
            images are in reflectance themselves.
        std: standard deviation of each band, likewise.
    """

    name: str
    images: Tensor
    bands: tuple[Band, ...]
    member: NDArray[np.bool_]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def scale(self, device: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band in reflectance, (C, 1, 1)."""
        count = len(self.bands)
        mean, std = (
            torch.tensor(values or (default,) * count, device=device)[:, None, None]
            for values, default in ((self.mean, 0.0), (self.std, 1.0))
        )
        return mean, std.masked_fill(std == 0, 1.0)


@dataclass(frozen=True)
class Case:
    """Two sensors, and samples with classes and places.

    Attributes:
        name: name of the pair.
        about: what it is, for the report.
        first: what is trained on.
        second: what is tested on.
        labels: class of each sample, (N,).
        groups: place of each sample, which training and test never share.
    """

    name: str
    about: str
    first: Domain
    second: Domain
    labels: NDArray[np.int64]
    groups: NDArray[Any]


def fractional(bands: tuple[Band, ...]) -> tuple[Band, ...]:
    """The same bands at the channel index of their own wavelength.

    Args:
        bands: bands of a sensor.

    Returns:
        Bands whose index is that of their wavelength between the bands of Sentinel-2; the index
        that the sensor has otherwise is that of its counterpart there.
    """
    return tuple(
        band if band.wavelength_um is None
        else replace(band, index=wavelength_to_index(band.wavelength_um))
        for band in bands
    )  # fmt: skip


def _all(count: int) -> NDArray[np.bool_]:
    return np.ones(count, dtype=bool)


def hls(root: Path, every: int) -> Case:
    """WorldCover patches of HLS, trained on Sentinel-2 (S30) and tested on Landsat (L30)."""
    data = WorldCoverPatches(root, split='all')
    places = range(0, len(data), every)
    sensors = np.array([str(data.rows[k].get('hls_product_guess')) for k in places])
    for name in ('S30', 'L30'):
        if not (sensors == name).any():
            raise DataError(
                f'{root} does not say which patches are from {name}: the table '
                f'{WorldCoverPatches.table} needs the column hls_product_guess (S30 or L30)'
            )
    normalize = data.normalize(nodata_fill=True)
    scale = normalize.mean, normalize.std
    images = normalize(torch.stack([data.load(k)['image'] for k in places]))
    labels = np.array([data.labels[k] for k in places])
    return Case(
        'HLS S30 to L30',
        f'{len(labels)} patches of 32 x 32 px at 30 m with a class of WorldCover, by site; '
        f'{int((sensors == "S30").sum())} from Sentinel-2, {int((sensors == "L30").sum())} from '
        'Landsat, normalized by the same statistics',
        Domain('S30', images, resolve_bands('hls_s30:common7'), sensors == 'S30', *scale),
        Domain('L30', images, resolve_bands('hls_l30:common7'), sensors == 'L30', *scale),
        labels.astype(np.int64),
        np.array([data.groups[k] for k in places]),  # type: ignore[index]
    )


def _of_level(level: str) -> Normalize:
    return Normalize('sentinel2:l2a', 'reflectance', statistics=f'sentinel2:{level}')


def _windows(level: str) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """Windows of all places of one level, with the class that most of it has; -1 without one."""
    data = SentinelPairs(level, 'sentinel2:l2a')
    normalize = _of_level(level)
    images, labels, halves = [], [], []
    for index in range(len(data)):
        sample = data[index]
        image = normalize(sample['image'])
        for row in range(0, data.size, WINDOW):
            for column in range(0, data.size, WINDOW):
                area = (slice(row, row + WINDOW), slice(column, column + WINDOW))
                values, counts = np.unique(sample['mask'][area], return_counts=True)
                best = int(counts.argmax())
                pure = counts[best] >= PURITY * WINDOW**2 and values[best] != data.ignore_index
                images.append(image[:, area[0], area[1]])
                labels.append(int(values[best]) if pure else -1)
                # Strips of a window beside each other share a fold.
                halves.append(index * 100 + column // WINDOW // 2)
    return torch.stack(images), np.array(labels), np.array(halves)


def levels(root: Path, every: int) -> Case:
    """Land cover of windows of the sample places, trained on L1C and tested on L2A."""
    (top, labels, groups), (surface, _, _) = _windows('l1c'), _windows('l2a')
    counts = np.bincount(labels[labels >= 0], minlength=1)
    enough = np.flatnonzero(counts >= LEAST)
    keep = np.flatnonzero(np.isin(labels, enough))[::every]
    bands = resolve_bands('sentinel2:l2a')
    both = {level: _of_level(level) for level in ('l1c', 'l2a')}
    scale = {level: (one.mean, one.std) for level, one in both.items()}
    return Case(
        'L1C to L2A',
        f'{len(keep)} windows of {WINDOW} x {WINDOW} px at 10 m of {len(np.unique(groups // 100))} '
        f'places that ship with the package, {len(enough)} classes of land cover, by strips of the '
        'places; the same windows before and after atmospheric correction, without B10, each '
        'normalized by the statistics of its level',
        Domain('L1C', top[keep], bands, _all(len(keep)), *scale['l1c']),
        Domain('L2A', surface[keep], bands, _all(len(keep)), *scale['l2a']),
        labels[keep],
        groups[keep],
    )


def landsat_like(root: Path, every: int) -> Case:
    """EuroSAT chips, trained on 13 bands and tested on those like Landsat-8's."""
    data = EuroSAT200()
    keep = np.arange(0, len(data), every)
    normalize = Normalize(data.bands, data.product)
    images = torch.stack([normalize(data[int(k)]['image']) for k in keep])
    bands = resolve_bands(list(data.bands))
    landsat = resolve_bands('landsat8:sr')
    place = {band.index: k for k, band in enumerate(bands)}
    columns = [place[band.index] for band in landsat]
    return Case(
        'Sentinel-2 to Landsat-like',
        f'{len(keep)} chips of EuroSAT of 64 x 64 px at 10 m, 10 classes, by place; tested on the '
        'seven bands that Landsat-8 has too, under its names and wavelengths',
        Domain('Sentinel-2', images, bands, _all(len(keep)), normalize.mean, normalize.std),
        Domain(
            'Landsat-like', images[:, columns], landsat, _all(len(keep)),
            tuple(normalize.mean[k] for k in columns), tuple(normalize.std[k] for k in columns),
        ),
        np.asarray(data.labels)[keep].astype(np.int64),
        np.asarray(data.cells)[keep],
    )  # fmt: skip


#: by name, what makes a case from a folder of data and "every n-th sample"
CASES: Mapping[str, Callable[[Path, int], Case]] = {
    'landsat-like': landsat_like,
    'levels': levels,
    'hls': hls,
}
