"""A scene: bands in files, the grid they are read on, and how stored values become reflectance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torchgeo_aom.bands import Band, Product, product_statistics, resolve_bands
from torchgeo_aom.data.source import match_bands
from torchgeo_aom.errors import BandError, ConfigError
from torchgeo_aom.transforms import Normalize

from .place import Grid
from .raster import Rules

__all__ = ('Layer', 'Scene', 'choose', 'match', 'match_bands')


@dataclass(frozen=True)
class Layer:
    """One band of a scene.

    Attributes:
        band: what it is.
        path: the file.
        channel: number of its channel in the file, from 1.
        scale: reflectance = value * scale + offset.
        offset: see *scale*.
        nodata: stored value that means "no data", besides what the file says itself.
    """

    band: Band
    path: str
    channel: int = 1
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None


@dataclass(frozen=True)
class Scene:
    """Bands of one place at one time, on one grid.

    Attributes:
        layers: the bands, in the order of the channels.
        grid: the grid that they are read on.
        product: how values are stored, with the quantity that statistics are chosen by.
        name: what messages and outputs call it.
        nodata_in: whether the layers' *nodata* counts in ``'each'`` band or only in ``'all'``.
        resampled: files that lie on another grid.
        rules: what may be opened.
        notes: what was found out and decided, for the first lines of a run.

    .. versionadded:: 0.1
    """

    layers: tuple[Layer, ...]
    grid: Grid
    product: Product
    name: str
    nodata_in: str = 'each'
    resampled: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    notes: tuple[str, ...] = ()

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands, in the order of the channels."""
        return tuple(layer.band for layer in self.layers)

    @property
    def files(self) -> tuple[str, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(layer.path for layer in self.layers))

    def select(self, bands: Sequence[Band]) -> Scene:
        """The same scene with some of its bands, in another order.

        Raises:
            BandError: if a band is not there.
        """
        return replace(self, layers=choose({b.band: b for b in self.layers}, bands, self.name))

    def normalize(
        self,
        statistics: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        bands: Sequence[Band] | None = None,
    ) -> Normalize:
        """Reflectance, as the reader gives it, to what the model reads.

        Args:
            statistics: of the catalogue, see :class:`~torchgeo_aom.transforms.Normalize`; those
                that fit the product where not given.
            mean: mean of each band in reflectance, instead.
            std: standard deviation of each band, together with *mean*.
            bands: other bands of the same product, where not those of the scene.

        Returns:
            The transform; pixels without data (NaN) become 0, the mean of the band.

        Raises:
            ConfigError: if there are no statistics that fit, or too many were given.
        """
        chosen = self.bands if bands is None else tuple(bands)
        reflectance = Product(
            self.product.name, 1.0, 0.0, 'reflectance', quantity=self.product.quantity
        )
        if statistics is None and mean is None and std is None:
            mean, std, doubt = product_statistics(chosen, self.product)
            if doubt:
                raise ConfigError(f'{doubt} (statistics=, --statistics)')
        return Normalize(
            chosen, reflectance, statistics=statistics, mean=mean, std=std, nodata=None,
            nodata_fill=True,
        )  # fmt: skip

    def identity(self) -> list[object]:
        """Facts that the pixels depend on, as plain values; it changes when a file does."""
        files = []
        for path in self.files:
            inner = path.removeprefix('/vsizip/')
            while not os.path.exists(inner) and os.path.dirname(inner) not in ('', inner):
                inner = os.path.dirname(inner)
            facts = os.stat(inner)
            files.append([path, facts.st_size, facts.st_mtime_ns])
        layers = [
            [x.band.label, x.band.index, x.path, x.channel, x.scale, x.offset, x.nodata]
            for x in self.layers
        ]
        grid = [*self.grid.transform, self.grid.height, self.grid.width, str(self.grid.crs)]
        return [files, layers, grid, self.nodata_in]


def match(band: Band, there: Iterable[Band]) -> Band | None:
    """The band among some that another one means.

    Args:
        band: the band wanted; without a sensor, its common name or channel index decides.
        there: bands that are there.

    Returns:
        The band, or None.
    """
    for other in there:
        if (other.sensor, other.name) == (band.sensor, band.name):
            return other
    for other in there if band.sensor is None else ():
        same = band.common_name is not None and band.common_name == other.common_name
        if same or (band.common_name is None and band.index == other.index):
            return other
    return None


def choose(
    there: Mapping[Band, Layer], wanted: Sequence[Band] | None, name: str
) -> tuple[Layer, ...]:
    """Take bands by name from those that are there.

    Args:
        there: the layer of each band.
        wanted: bands wanted, in order; all where None.
        name: the scene, for the message.

    Returns:
        The layers.

    Raises:
        BandError: if a band is missing.
    """
    if wanted is None:
        return tuple(there.values())
    found, missing = [], []
    for band in wanted:
        own = match(band, there)
        if own is None:
            missing.append(band.label)
        else:
            found.append(there[own])
    if missing:
        raise BandError(
            f'{name} has no {", ".join(missing)}; it has '
            f'{", ".join(band.label for band in there)}. Correct bands= (--bands)'
        )
    resolve_bands([layer.band for layer in found])  # refuses one that is named twice
    return tuple(found)
