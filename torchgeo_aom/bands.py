"""Says what each channel of an image is: from whatever names a band to its channel index."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import Any, TypeAlias

from torchgeo_aom.catalogue import (
    band_statistics,
    find_sensor,
    get_product,
    get_sensor,
    list_presets,
    list_sensors,
    load_sensors,
    product_statistics,
)
from torchgeo_aom.errors import BandError, listing, suggest
from torchgeo_aom.sensors import (
    MAX_INDEX,
    Band,
    Product,
    Sensor,
    Statistics,
    band_from_mapping,
)
from torchgeo_aom.spectrum import (
    AMBIGUOUS_COMMON_NAMES,
    COMMON_NAMES,
    MAX_UM,
    index_to_wavelength,
    nearest_sentinel2,
    wavelength_to_index,
)
from torchgeo_aom.text import aligned

__all__ = (
    'Band',
    'BandSpec',
    'Product',
    'Sensor',
    'Statistics',
    'band_rows',
    'band_statistics',
    'describe_bands',
    'get_product',
    'get_sensor',
    'index_to_wavelength',
    'list_presets',
    'list_sensors',
    'load_sensors',
    'plain_band',
    'preset_tags',
    'product_statistics',
    'resolve_bands',
    'wavelength_to_index',
)

OneBand: TypeAlias = str | int | float | Band | Mapping[str, Any]
#: what names the bands of an image, see :func:`resolve_bands`
BandSpec: TypeAlias = OneBand | Sequence[OneBand] | Iterable[OneBand]

_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)', re.IGNORECASE)


def resolve_bands(
    spec: BandSpec,
    sensor: str | None = None,
    *,
    channels: int | None = None,
    allow_duplicates: bool = False,
) -> tuple[Band, ...]:
    """Say what the channels of an image are.

    An entry is a preset (``'sentinel2'``, ``'sentinel2:rgb'``, expanded in place), a band with its
    sensor (``'sentinel2:B8A'``, or ``'B8A'`` together with *sensor*), a STAC common name
    (``'nir08'``), a center wavelength (a float from 0.3 to 15 is micrometers, a number from 300 to
    15000 nanometers), a channel index (an int from 0 to 99), a `Band`, or a mapping with the
    band's fields. Strings that look like numbers are numbers. The sensor is never guessed.

    Args:
        spec: one entry or an ordered collection of them.
        sensor: the sensor that names without one belong to.
        channels: number of channels of the image, checked if given.
        allow_duplicates: whether a band may occur twice.

    Returns:
        One `Band` for each channel, in the order given.

    Raises:
        BandError: if an entry is unknown, ambiguous or duplicated, or the count does not fit.

    .. versionadded:: 0.1
    """
    default = None if sensor is None else get_sensor(sensor)
    bands = tuple(_expand(spec, default))
    if not bands:
        raise BandError(f'no bands given: {spec!r}. Name at least one, for example {_EXAMPLES}')
    if not allow_duplicates:
        _refuse_duplicates(bands)
    if channels is not None and len(bands) != channels:
        raise BandError(
            f'{len(bands)} bands were named but the image has {channels} channels: '
            f'{listing([band.label for band in bands])}. Name exactly one band for each channel, '
            'in their order'
        )
    return bands


_EXAMPLES = "'sentinel2:rgb', 'landsat8:B5', 'nir08', 0.865 (um), 865 (nm) or 3 (channel index)"


def _expand(spec: object, default: Sensor | None) -> Iterator[Band]:
    if isinstance(spec, (AbstractSet, bytes, bytearray)) or spec is None:
        why = 'has no order' if isinstance(spec, AbstractSet) else 'does not name bands'
        raise BandError(f'bands of type {type(spec).__name__} cannot be used, it {why}: {spec!r}')
    single = isinstance(spec, (str, Band, Mapping, Real))
    entries = (spec,) if single or not isinstance(spec, Iterable) else spec
    for entry in entries:
        if isinstance(entry, Band):
            yield entry
        elif isinstance(entry, Mapping):
            yield _from_mapping(entry, default)
        elif isinstance(entry, str):
            yield from _from_text(entry, default)
        else:
            yield _from_number(entry)


def _from_text(text: str, default: Sensor | None) -> tuple[Band, ...]:
    name = text.strip()
    if not name:
        raise BandError(f'an empty string names no band; give for example {_EXAMPLES}')
    prefix, colon, rest = name.partition(':')
    if colon:
        return _of_sensor(rest, get_sensor(prefix), text)
    if default is not None:
        band = default.find(name)
        found = (band,) if band is not None else default.group(name)
        if found is not None:
            return found
    if _NUMBER.fullmatch(name):
        return (_from_number(int(name) if re.fullmatch(r'[+-]?\d+', name) else float(name)),)
    preset = find_sensor(name)
    if preset is not None:
        own, group = preset
        return own.group(group) or ()
    if default is not None:
        return _of_sensor(name, default, text)
    return (_from_common_name(name),)


def _of_sensor(name: str, sensor: Sensor, text: str) -> tuple[Band, ...]:
    band = sensor.find(name)
    found = (band,) if band is not None else sensor.group(name)
    if found is None:
        raise _unknown(name, sensor, text)
    return found


def _unknown(name: str, sensor: Sensor, text: str) -> BandError:
    return BandError(
        f'unknown band {text!r} for sensor {sensor.name!r}'
        f'{suggest(name, [*sensor.band_names, *sensor.groups])}. '
        f'Its bands are {", ".join(sensor.band_names)}; its groups are {", ".join(sensor.groups)}'
        f'{_elsewhere(name, sensor)}'
    )


def _owners(name: str) -> list[Band]:
    """The band of this name in every sensor that has one."""
    bands = []
    for key in list_sensors():
        try:
            band = get_sensor(key).find(name)
        except BandError:  # ambiguous there
            continue
        if band is not None:
            bands.append(band)
    return bands


def _elsewhere(name: str, sensor: Sensor) -> str:
    labels = [repr(b.label) for b in _owners(name) if b.sensor != sensor.name]
    return f'. Other sensors have one: {", ".join(labels)}' if labels else ''


def _from_common_name(name: str) -> Band:
    common = name.lower()
    if common in COMMON_NAMES:
        index, um = COMMON_NAMES[common]
        return Band(
            name=common,
            index=wavelength_to_index(um) if index is None else index,
            wavelength_um=um,
            common_name=common,
        )
    if common in AMBIGUOUS_COMMON_NAMES:
        choices = ', '.join(repr(c) for c in AMBIGUOUS_COMMON_NAMES[common])
        raise BandError(f'{name!r} is ambiguous: choose from {choices}, or name the sensor')
    owners = _owners(name)
    if owners:
        labels = ', '.join(repr(band.label) for band in owners)
        raise BandError(
            f'band {name!r} belongs to a sensor and none was named (it is never guessed): write '
            f'{"one of " if len(owners) > 1 else ""}{labels}, or give sensor={owners[0].sensor!r}'
        )
    allowed = [*list_presets(), *COMMON_NAMES]
    hint = ' Give several bands as a list.' if re.search(r'[,;\s]', name) else ''
    raise BandError(
        f'unknown band or preset {name!r}{suggest(name, allowed)}.{hint} Sensors are '
        f'{", ".join(list_sensors())}; common names are {", ".join(COMMON_NAMES)}; '
        f'or give {_EXAMPLES}'
    )


def _from_number(value: object) -> Band:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BandError(
            f'a band cannot be a {type(value).__name__}: {value!r}. Give for example {_EXAMPLES}'
        )
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise BandError(f'a band cannot be {value!r}: give a finite positive number')
    if isinstance(value, Integral) and number <= MAX_INDEX:
        return Band(name=f'index {int(value)}', index=number)
    if not (0.3 <= number <= 15 or 300 <= number <= 15000):
        raise BandError(
            f'the number {value!r} is neither a wavelength in micrometers (0.3 to 15) or '
            f'nanometers (300 to 15000) nor a channel index (an int from 0 to {MAX_INDEX})'
        )
    um = round(number if number <= 15 else number / 1000, 6)
    try:
        index = wavelength_to_index(um)
    except BandError as error:
        hint = f'. For channel index {number:.0f} write an integer' if number % 1 == 0 else ''
        raise BandError(f'band {value!r} was read as a wavelength: {error}{hint}') from None
    return Band(name=f'{um:.7g}um', index=index, wavelength_um=um)


def _from_mapping(facts: Mapping[str, Any], default: Sensor | None) -> Band:
    """Facts given win over the catalogue's; a sensor that is not in it may be named freely."""
    given = {key: value for key, value in facts.items() if value is not None}
    explicit = 'index' in given or 'wavelength_um' in given
    name, owner = given.get('name'), given.get('sensor')
    sensor = default if owner is None and not explicit else None
    if isinstance(owner, str):
        found = find_sensor(owner)
        if found is None and not explicit:
            get_sensor(owner)  # raises with the list of sensors
        sensor = None if found is None else found[0]
    if sensor is None or not isinstance(name, str):
        return band_from_mapping(facts)
    base = sensor.find(name)
    if base is None:
        raise _unknown(name, sensor, name)
    return band_from_mapping(facts, base)


def _refuse_duplicates(bands: tuple[Band, ...]) -> None:
    names: dict[tuple[str | None, str], int] = {}
    indices: dict[float, list[int]] = {}
    for k, band in enumerate(bands):
        first = names.setdefault((band.sensor, band.name), k)
        if first == k:
            rivals = indices.setdefault(band.index, [])
            clash = [i for i in rivals if band.sensor is None or bands[i].sensor is None]
            rivals.append(k)
            if not clash:
                continue
            first = clash[0]
        other = bands[first]
        raise BandError(
            f'band {band.label!r} (channel {k}) is the same as {other.label!r} (channel {first}), '
            f'channel index {band.index:g}. Name each band once, or pass allow_duplicates=True'
        )


def preset_tags() -> dict[str, str]:
    """Presets by what they are called in names of models: ``{'sentinel2_rgb': 'sentinel2:rgb'}``.

    .. versionadded:: 0.1
    """
    return {preset.replace(':', '_'): preset for preset in list_presets()}


# What a band is to a model and to people; statistics belong to a product and are kept elsewhere.
_IDENTITY = ('name', 'sensor', 'index', 'wavelength_um', 'bandwidth_um', 'gsd_m')


def plain_band(band: Band) -> str | dict[str, Any]:
    """Write a band as plain data that `resolve_bands` reads back as the same band.

    Args:
        band: a resolved band.

    Returns:
        A text where one leads back to it, such as ``'sentinel2:B8A'``; else all of its facts: a
        band of a sensor that is not in the catalogue, or one with an index of its own.

    .. versionadded:: 0.1
    """
    um = band.wavelength_um
    facts = {key: getattr(band, key) for key in _IDENTITY}
    for text in (band.label, '' if um is None else f'{um:.7g}', f'{band.index:.0f}'):
        try:
            found = resolve_bands(text)
        except BandError:
            continue
        if [{key: getattr(other, key) for key in _IDENTITY} for other in found] == [facts]:
            return text
    return {key: value for key, value in facts.items() if value is not None}


def band_rows(bands: Iterable[Band]) -> list[dict[str, Any]]:
    """Return the facts about each channel as plain data.

    Args:
        bands: resolved bands.

    Returns:
        One dict a channel, ready for JSON.

    .. versionadded:: 0.1
    """
    rows = []
    for k, band in enumerate(bands):
        um = band.wavelength_um
        if um is None:
            um = index_to_wavelength(band.index)
        near, distance = nearest_sentinel2(um) if um is not None and um <= MAX_UM else (None, None)
        rows.append(
            {
                'channel': k,
                'name': band.name,
                'sensor': band.sensor,
                'wavelength_um': band.wavelength_um,
                'bandwidth_um': band.bandwidth_um,
                'gsd_m': band.gsd_m,
                'common_name': band.common_name,
                'index': band.index,
                'nearest_sentinel2': near,
                'distance_nm': None if distance is None else round(distance, 3),
                'mean': band.mean,
                'std': band.std,
            }
        )
    return rows


def describe_bands(bands: Iterable[Band]) -> str:
    """Lay the channels out as a table in plain text.

    Args:
        bands: resolved bands.

    Returns:
        A table with one line a channel: name, sensor, wavelength, channel index, nearest
        Sentinel-2 band and the distance to it.

    .. versionadded:: 0.1
    """
    header = ('channel', 'band', 'sensor', 'um', 'index', 'nearest S2', 'distance nm')

    def text(value: object, form: str = '') -> str:
        return '-' if value is None else format(value, form)

    table = [header] + [
        (
            str(row['channel']),
            row['name'],
            text(row['sensor']),
            text(row['wavelength_um'], '.7g'),
            text(row['index'], '.4g'),
            text(row['nearest_sentinel2']),
            text(row['distance_nm'], '+.0f'),
        )
        for row in band_rows(bands)
    ]
    return '\n'.join(aligned(table, right=(0, 3, 4, 6)))
