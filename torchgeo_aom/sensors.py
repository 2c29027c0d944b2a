"""What a band, a product and a sensor are, and how a sensor spells its bands."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from torchgeo_aom.errors import BandError, suggest
from torchgeo_aom.spectrum import wavelength_to_index

__all__ = ('Band', 'Product', 'Sensor', 'Statistics', 'band_from_mapping', 'fold')

MAX_INDEX = 99
UNITS = ('dn', 'reflectance', 'uint8')
# Reflectance at the top of the atmosphere, the same not divided by the sine of the sun's elevation,
# reflectance of the surface, display values.
QUANTITIES = ('toa', 'toa_uncorrected', 'surface', 'display')


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float (a bool is neither)."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True)
class Band:
    """One band: what a channel *is*.

    Attributes:
        name: the band's name within its sensor, or what was given where there is no sensor.
        index: channel index that the encoder sees (Sentinel-2 is 0 to 12, may be fractional).
        sensor: name of the sensor, or None.
        wavelength_um: center wavelength in micrometers.
        bandwidth_um: full width at half maximum in micrometers.
        gsd_m: ground sampling distance in meters.
        common_name: STAC ``eo:common_name``.
        mean: typical mean in reflectance.
        std: typical standard deviation in reflectance.

    .. versionadded:: 0.1
    """

    name: str
    index: float
    sensor: str | None = None
    wavelength_um: float | None = None
    bandwidth_um: float | None = None
    gsd_m: float | None = None
    common_name: str | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        """Check the facts once, so that nobody has to do it again.

        Raises:
            BandError: if a field is of the wrong type or outside its range.
        """
        for key in ('name', 'sensor', 'common_name'):
            value = getattr(self, key)
            optional = value is None and key != 'name'
            if not (optional or (isinstance(value, str) and value.strip())):
                raise BandError(f'band field {key!r} must be a non-empty string, got {value!r}')
        limits = {
            'index': (-1.0, float(MAX_INDEX)),
            'wavelength_um': (0.3, 15.0),
            'bandwidth_um': (0.0, 15.0),
            'gsd_m': (0.0, math.inf),
            'mean': (-math.inf, math.inf),
            'std': (0.0, math.inf),
        }
        for key, (low, high) in limits.items():
            value = getattr(self, key)
            if value is None and key != 'index':
                continue
            if not (is_number(value) and low <= value <= high):
                raise BandError(
                    f'band {self.name!r}: {key} must be a number from {low:g} to {high:g}, '
                    f'got {value!r}'
                )
            object.__setattr__(self, key, float(value))

    @property
    def label(self) -> str:
        """Short text that names the band without doubt, such as ``sentinel2:B8A``."""
        return self.name if self.sensor is None else f'{self.sensor}:{self.name}'


@dataclass(frozen=True)
class Product:
    """How a product stores its values: ``reflectance = value * scale + offset``.

    Attributes:
        name: name within its sensor.
        scale: factor from the stored value to reflectance.
        offset: added after scaling.
        unit: ``'dn'``, ``'reflectance'`` or ``'uint8'``.
        description: one sentence.
        dtype: data type of the files, if it is fixed.
        statistics: name of the sensor's statistics that fit this product, if not the default ones.
        quantity: what the reflectance is, see `QUANTITIES`; None where it is not stated.
        nodata: stored value that means "no data", None if there is none.
        nodata_in: ``'each'`` where the value says so in every band by itself, ``'all'`` where a
            pixel has no data only if all bands hold the value, as one band may measure it.

    .. versionadded:: 0.1
    """

    name: str
    scale: float
    offset: float
    unit: str
    description: str = ''
    dtype: str | None = None
    statistics: str | None = None
    quantity: str | None = None
    nodata: float | None = None
    nodata_in: str = 'each'


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per band, where they come from and of which quantity.

    .. versionadded:: 0.1
    """

    name: str
    source: str
    mean: dict[str, float]
    std: dict[str, float]
    quantity: str | None = None


@dataclass(frozen=True)
class Sensor:
    """A sensor: its bands, their groups and spellings, and its products.

    Attributes:
        name: the catalogue's key.
        title: name for people.
        bands: all bands, in the sensor's own order.
        groups: group name to band names; the order is the order of the channels.
        aliases: other names of the sensor.
        products: product name to `Product`.
        default_group: the group that the bare sensor name stands for.
        prefixes: what may stand in front of a band name, such as ``SR_``.
        band_aliases: other spellings of a band.
        statistics: statistics name to `Statistics`; the first one fills ``Band.mean`` and ``std``.

    .. versionadded:: 0.1
    """

    name: str
    title: str
    bands: tuple[Band, ...]
    groups: dict[str, tuple[str, ...]]
    aliases: tuple[str, ...] = ()
    products: dict[str, Product] = field(default_factory=dict)
    default_group: str = 'all'
    prefixes: tuple[str, ...] = ()
    band_aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of all bands."""
        return tuple(band.name for band in self.bands)

    def find(self, name: str) -> Band | None:
        """Look a band up by name, alias or STAC common name.

        Args:
            name: any spelling that belongs to this sensor.

        Returns:
            The band, or None if there is none.

        Raises:
            BandError: if several bands of the sensor share the common name.
        """
        keys = _band_keys(name, self.prefixes)
        for band in self.bands:
            if keys & self.spellings(band.name):
                return band
        low = name.strip().lower()
        found = [b for b in self.bands if b.common_name and _is_common(low, b.common_name)]
        if len(found) > 1:
            names = ', '.join(f"'{self.name}:{b.name}'" for b in found)
            raise BandError(f'{name!r} is ambiguous for sensor {self.name!r}: choose from {names}')
        return found[0] if found else None

    def spellings(self, band: str) -> set[str]:
        """All accepted spellings of a band, normalized, without prefixes."""
        return {_key(text) for text in (band, *self.band_aliases.get(band, ()))}

    def group(self, name: str) -> tuple[Band, ...] | None:
        """Look a band group up, None if there is no such group."""
        names = self.groups.get(name.strip().lower())
        by_name = {band.name: band for band in self.bands}
        return None if names is None else tuple(by_name[n] for n in names)


def _is_common(name: str, common: str) -> bool:
    """The generic names ('rededge', 'lwir') match their numbered kin."""
    return name == common or (name in ('rededge', 'lwir') and common.startswith(name))


def _key(name: str) -> str:
    """One spelling for 'B4', 'b04' and 'B04'."""
    upper = name.strip().upper()
    match = re.fullmatch(r'B0*(\d+)(A?)', upper)
    return f'B{match[1]}{match[2]}' if match else upper


def _band_keys(name: str, prefixes: Iterable[str]) -> set[str]:
    upper = name.strip().upper()
    bare = (upper.removeprefix(p.upper()) for p in prefixes if upper.startswith(p.upper()))
    return {_key(text) for text in (upper, *bare)}


def fold(name: str) -> str:
    """'Sentinel-2', 'sentinel_2' and 'sentinel2' are the same sensor."""
    return re.sub(r'[\s_-]', '', name).lower()


def band_from_mapping(facts: Mapping[str, Any], base: Band | None = None) -> Band:
    """Build a band from named facts; those left out come from *base* or the wavelength."""
    allowed = tuple(f.name for f in fields(Band))
    for key in facts:
        if key not in allowed:
            raise BandError(
                f'unknown band field {key!r}{suggest(key, allowed)}. '
                f'Allowed are {", ".join(allowed)}'
            )
    given = {k: v for k, v in facts.items() if v is not None}
    if base is not None:
        return replace(base, **{k: v for k, v in given.items() if k not in ('name', 'sensor')})
    um = given.get('wavelength_um')
    if um is None and 'index' not in given:
        raise BandError(
            f'band {dict(facts)!r} says too little: give wavelength_um (micrometers) or index, '
            f'or the name of a catalogue sensor'
        )
    if um is not None and not (is_number(um) and 0.3 <= um <= 15):
        raise BandError(f'wavelength_um must be 0.3 to 15 micrometers, got {um!r}')
    given.setdefault('name', f'{um:.6g}um' if um is not None else f'index {given["index"]:g}')
    if 'index' not in given:
        given['index'] = wavelength_to_index(float(given['wavelength_um']))
    return Band(**given)
