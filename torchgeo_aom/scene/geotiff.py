"""Scenes from raster files: one with many bands, or one for each band, on whatever grids."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.enums import ColorInterp

from torchgeo_aom.bands import Band, BandSpec, Product, get_product, resolve_bands
from torchgeo_aom.catalogue import find_sensor, get_sensor
from torchgeo_aom.data.source import Source
from torchgeo_aom.errors import BandError, ConfigError, UnitError
from torchgeo_aom.transforms import Normalize

from .layers import Layer, match_bands
from .raster import Rules, gdal, opened

__all__ = ('Declared', 'read_files')

_HINT = 'Name them in file order: bands= (--bands), for example --bands sentinel2:10m'


@dataclass(frozen=True)
class Declared:
    """What the user says about a scene; each may be left to its files where they say it.

    Attributes:
        bands: bands; of a file that names none, in its order.
        sensor: sensor of the names that have none.
        product: how values are stored, see :class:`~torchgeo_aom.transforms.Normalize`.
        nodata: stored value that means "no data", None for "every value is data", ``'product'`` for
            the product's own.
    """

    bands: BandSpec | None = None
    sensor: str | None = None
    product: str | Product | None = None
    nodata: float | str | None = 'product'

    def __post_init__(self) -> None:
        """Check what all kinds of scenes read in the same way.

        Raises:
            ConfigError: if *nodata* is another word.
        """
        if isinstance(self.nodata, str) and self.nodata != 'product':
            raise ConfigError(f"nodata must be a number, None or 'product', got {self.nodata!r}")

    def resolved(self) -> tuple[Band, ...] | None:
        """The bands, where some were named."""
        return None if self.bands is None else resolve_bands(self.bands, self.sensor)


def read_files(
    paths: Sequence[str], declared: Declared, rules: Rules
) -> tuple[list[Layer], Product, str]:
    """Find out what the channels of files are.

    Args:
        paths: one file with all bands, or one for each band.
        declared: what the user says.
        rules: what may be opened.

    Returns:
        The layers, how values are stored, and whether "no data" counts in each band or in all.

    Raises:
        BandError: if bands are not named, or names contradict each other.
        ConfigError: if nobody says how values are stored.
        UnitError: if a file and the user say it differently.
    """
    places: list[tuple[Band, str, int]] = []
    stored: set[tuple[float, float]] = set()
    with gdal():
        for number, path in enumerate(paths):
            with opened(path, rules) as file:
                if len(paths) == 1:
                    found = _bands_of(file, path, declared)
                else:
                    found = [(_band_of(file, path, number, len(paths), declared), 1)]
                places += [(band, path, channel) for band, channel in found]
                stored |= {(file.scales[c - 1], file.offsets[c - 1]) for _, c in found}
    bands = resolve_bands([band for band, _, _ in places])
    product, nodata, nodata_in = _stored_as(bands, stored, declared, paths[0])
    layers = [
        Layer(band, path, channel, product.scale, product.offset, nodata)
        for band, path, channel in places
    ]
    return layers, product, nodata_in


def _channels(file: rasterio.DatasetReader, count: int | None) -> list[int]:
    """Channels that are images: alpha is none, unless it is needed to have as many as named."""
    if file.count == count:
        return list(range(1, file.count + 1))
    return [k for k, kind in enumerate(file.colorinterp, 1) if kind != ColorInterp.alpha]


def _bands_of(
    file: rasterio.DatasetReader, path: str, declared: Declared
) -> list[tuple[Band, int]]:
    """Bands of a file with several, and their channels."""
    wanted = declared.resolved()
    texts = list(file.descriptions)
    if wanted is not None:
        product = get_product('reflectance')
        order = match_bands(Source(path, wanted, product, (path,)), texts, path)
        if order is not None:
            return [(band, k + 1) for band, k in zip(wanted, order, strict=True)]
        channels = _channels(file, len(wanted))
        if len(channels) != len(wanted):
            raise BandError(
                f'{path} has {len(channels)} bands and names none of them, but {len(wanted)} are '
                f'named ({", ".join(b.label for b in wanted[:20])}). Name exactly one for each '
                f'channel, in file order'
            )
        return list(zip(wanted, channels, strict=True))
    named = [(k, text) for k, text in enumerate(texts, 1) if text]
    channels = _channels(file, len(named) or None)
    if len(named) < len(channels):
        raise BandError(
            f'{path} has {len(channels)} bands and names {len(named)} of them: {texts[:20]}. '
            f'{_HINT}'
        )
    try:
        bands = resolve_bands([text for _, text in named], declared.sensor)
    except BandError as error:
        sensor = ' (with sensor=, --sensor)' if declared.sensor is None else ''
        raise BandError(
            f'what {path} calls its bands cannot be understood{sensor}: {error}. {_HINT}'
        ) from error
    return [(band, k) for band, (k, _) in zip(bands, named, strict=True)]


def _band_of(
    file: rasterio.DatasetReader, path: str, number: int, count: int, declared: Declared
) -> Band:
    """Band of a file with one: what was declared, what it says itself, or what its name says."""
    if file.count != 1:
        raise BandError(
            f'{path} has {file.count} bands: where a scene is several files, each has one band'
        )
    named = {'its description': file.descriptions[0], 'its name': _from_name(path, declared.sensor)}
    found: dict[str, Band] = {}
    for where, text in named.items():
        try:
            if text:
                (found[where],) = resolve_bands(text, declared.sensor)
        except (BandError, ValueError):
            continue  # a description that is no band's name says nothing
    wanted = declared.resolved()
    if wanted is not None:
        if len(wanted) != count:
            raise BandError(
                f'{count} files, but {len(wanted)} bands are named. Name one for each file, in '
                f'their order'
            )
        found['what was named'] = wanted[number]
    if not found:
        raise BandError(
            f'nothing says which band {path} is: name one for each file, in their order (bands=, '
            f'--bands), or give the sensor (sensor=, --sensor) where file names end in the band'
        )
    if len({(band.sensor, band.index) for band in found.values()}) > 1:
        listed = ', '.join(f'{where} says {band.label}' for where, band in found.items())
        raise BandError(f'{path}: {listed}. Correct what is wrong')
    return list(found.values())[-1]


def _from_name(path: str, sensor: str | None) -> str | None:
    """Band that the end of a file's name says, such as ``..._B8A.tif``; only with a sensor."""
    found = None if sensor is None else find_sensor(sensor)
    if found is None:
        return None
    stem = re.sub(r'_(10|20|60)m$', '', Path(path).stem)
    for start in [m.end() for m in re.finditer('_', stem)] + [0]:
        try:
            band = found[0].find(stem[start:])
        except BandError:  # a common name of several bands, such as rededge: says nothing
            continue
        if band is not None:
            return band.label
    return None


def _stored_as(
    bands: tuple[Band, ...], stored: set[tuple[float, float]], declared: Declared, path: str
) -> tuple[Product, float | None, str]:
    """How values are stored: as the user says, or as the files do; both must agree."""
    own = {pair for pair in stored if pair != (1.0, 0.0)}
    if declared.product is None:
        if len(own) != 1 or own != stored:
            names = sorted({str(b.sensor) for b in bands if b.sensor and find_sensor(b.sensor)})
            known = ', '.join(p for name in names for p in get_sensor(name).products)
            raise ConfigError(
                f'{path} does not say how its values are stored (scale and offset): give product= '
                f'(--product): {known}{", " if known else ""}reflectance or uint8'
            )
        ((scale, offset),) = own
        product, nodata, nodata_in = Product('file', scale, offset, 'dn'), None, 'each'
    else:
        text = declared.product
        chosen = Normalize(bands, text, mean=0.0, std=1.0)
        nodata, nodata_in = chosen.nodata, chosen.nodata_in
        product = chosen.product
        for scale, offset in own:
            if not (
                math.isclose(scale, product.scale, rel_tol=1e-4)
                and math.isclose(offset, product.offset, rel_tol=1e-4, abs_tol=1e-9)
            ):
                raise UnitError(
                    f'{path} says reflectance = value * {scale:g} + {offset:g}, but product '
                    f'{product.name!r} is value * {product.scale:g} + {product.offset:g}. Name the '
                    f'product that fits, or leave it out to follow the file'
                )
    if not isinstance(declared.nodata, str):
        nodata, nodata_in = declared.nodata, 'each'
    return product, nodata, nodata_in
