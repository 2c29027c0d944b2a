"""Reads and checks a TOML file of sensors; every complaint names the file and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from torchgeo_aom.errors import BandError, suggest
from torchgeo_aom.sensors import (
    QUANTITIES,
    UNITS,
    Band,
    Product,
    Sensor,
    Statistics,
    band_from_mapping,
    is_number,
)

__all__ = ('Document', 'parse_document')

SENSOR_KEYS = (
    'title',
    'aliases',
    'prefixes',
    'default_group',
    'bands',
    'groups',
    'products',
    'statistics',
)
PRODUCT_KEYS = (
    'scale',
    'offset',
    'unit',
    'description',
    'dtype',
    'statistics',
    'quantity',
    'nodata',
    'nodata_in',
)


@dataclass(frozen=True)
class Document:
    """What one file says."""

    sensors: dict[str, Sensor]
    presets: dict[str, str]
    products: dict[str, Product]


class _Reader:
    """Typed access to a parsed file, with the place in every message."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def fail(self, key: str, message: str) -> NoReturn:
        raise BandError(f'{self.origin}: {key}: {message}')

    def table(self, value: object, key: str, allowed: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(key, f'must be a table, got {value!r}')
        for name in value:
            if allowed and name not in allowed:
                hint = suggest(name, allowed)
                self.fail(f'{key}.{name}', f'unknown key{hint}. Allowed are {", ".join(allowed)}')
        return value

    def text(self, value: object, key: str) -> str:
        if not (isinstance(value, str) and value.strip()):
            self.fail(key, f'must be a non-empty string, got {value!r}')
        return value

    def texts(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.fail(key, f'must be a list of strings, got {value!r}')
        return tuple(self.text(v, f'{key}[{i}]') for i, v in enumerate(value))

    def number(self, value: object, key: str) -> float:
        if not is_number(value):
            self.fail(key, f'must be a finite number, got {value!r}')
        return float(value)  # type: ignore[arg-type]

    def choice(self, value: object, key: str, allowed: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in allowed:
            self.fail(key, f'must be one of {", ".join(allowed)}, got {value!r}')
        return value

    def name(self, value: str, key: str) -> str:
        if not re.fullmatch(r'[a-z0-9][a-z0-9_]*', value):
            self.fail(key, f'the name {value!r} must be of a-z, 0-9 and _ only')
        return value


def parse_document(text: str, origin: str) -> Document:
    """Read a TOML document of sensors, presets and general products.

    Args:
        text: the TOML text.
        origin: file name for messages.

    Returns:
        The checked contents.

    Raises:
        BandError: if anything is wrong.
    """
    read = _Reader(origin)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BandError(f'{origin}: not a valid TOML file: {error}') from error
    read.table(raw, 'file', ('sensors', 'presets', 'products'))
    tables = read.table(raw.get('sensors', {}), 'sensors')
    presets = read.table(raw.get('presets', {}), 'presets')
    if not (tables or presets or raw.get('products')):
        read.fail('sensors', "the file defines nothing: write a table '[sensors.NAME]'")
    return Document(
        sensors={name: _sensor(read, name, table) for name, table in tables.items()},
        presets={read.name(k, 'presets'): read.text(v, f'presets.{k}') for k, v in presets.items()},
        products=_products(read, raw.get('products', {}), 'products', ()),
    )


def _sensor(read: _Reader, name: str, value: object) -> Sensor:
    key = f'sensors.{read.name(name, "sensors")}'
    table = read.table(value, key, SENSOR_KEYS)
    statistics = _statistics(read, table.get('statistics', {}), f'{key}.statistics')
    default = next(iter(statistics.values()), Statistics('', '', {}, {}))
    bands: list[Band] = []
    aliases: dict[str, tuple[str, ...]] = {}
    entries = table.get('bands')
    if not (isinstance(entries, list) and entries):
        read.fail(f'{key}.bands', 'must be a non-empty list of band tables')
    for i, entry in enumerate(entries):
        facts = dict(read.table(entry, f'{key}.bands[{i}]'))
        spellings = read.texts(facts.pop('aliases', []), f'{key}.bands[{i}].aliases')
        band = _band(read, name, facts, f'{key}.bands[{i}]')
        if band.name in default.mean:
            band = replace(band, mean=default.mean[band.name], std=default.std[band.name])
        bands.append(band)
        if spellings:
            aliases[band.name] = spellings
    names = tuple(band.name for band in bands)
    groups = {
        read.name(group, f'{key}.groups'): read.texts(members, f'{key}.groups.{group}')
        for group, members in read.table(table.get('groups', {}), f'{key}.groups').items()
    }
    if 'default_group' not in table:
        groups = {'all': names, **groups}
    sensor = Sensor(
        name=name,
        title=read.text(table.get('title', name), f'{key}.title'),
        bands=tuple(bands),
        groups=groups,
        aliases=read.texts(table.get('aliases', []), f'{key}.aliases'),
        products=_products(read, table.get('products', {}), f'{key}.products', tuple(statistics)),
        default_group=read.text(table.get('default_group', 'all'), f'{key}.default_group'),
        prefixes=read.texts(table.get('prefixes', []), f'{key}.prefixes'),
        band_aliases=aliases,
        statistics=statistics,
    )
    _check(read, sensor, key)
    return sensor


def _band(read: _Reader, sensor: str, facts: Mapping[str, Any], key: str) -> Band:
    read.text(facts.get('name'), f'{key}.name')
    if 'sensor' in facts:
        read.fail(f'{key}.sensor', 'is given by the table and must not be repeated')
    try:
        return band_from_mapping({**facts, 'sensor': sensor})
    except BandError as error:
        read.fail(key, str(error))


def _products(
    read: _Reader, value: object, key: str, statistics: tuple[str, ...]
) -> dict[str, Product]:
    products: dict[str, Product] = {}
    for name, entry in read.table(value, key).items():
        here = f'{key}.{read.name(name, key)}'
        facts = read.table(entry, here, PRODUCT_KEYS)
        scale = read.number(facts.get('scale', 1.0), f'{here}.scale')
        if scale <= 0:
            read.fail(f'{here}.scale', f'must be positive, got {scale:g}')
        chosen = facts.get('statistics')
        if chosen is not None and chosen not in statistics:
            hint = suggest(chosen, statistics)
            read.fail(f'{here}.statistics', f'there is no table {chosen!r}{hint}')
        products[name] = Product(
            name=name,
            scale=scale,
            offset=read.number(facts.get('offset', 0.0), f'{here}.offset'),
            unit=read.choice(facts.get('unit'), f'{here}.unit', UNITS),
            description=read.text(facts.get('description', name), f'{here}.description'),
            dtype=facts.get('dtype'),
            statistics=chosen,
            quantity=_quantity(read, facts, here),
            nodata=read.number(facts['nodata'], f'{here}.nodata') if 'nodata' in facts else None,
            nodata_in=read.choice(
                facts.get('nodata_in', 'each'), f'{here}.nodata_in', ('each', 'all')
            ),
        )
    return products


def _quantity(read: _Reader, facts: Mapping[str, Any], key: str) -> str | None:
    given = facts.get('quantity')
    return None if given is None else read.choice(given, f'{key}.quantity', QUANTITIES)


def _statistics(read: _Reader, value: object, key: str) -> dict[str, Statistics]:
    statistics: dict[str, Statistics] = {}
    for name, entry in read.table(value, key).items():
        here = f'{key}.{read.name(name, key)}'
        facts = read.table(entry, here, ('source', 'mean', 'std', 'quantity'))
        columns = {
            column: {
                band: read.number(number, f'{here}.{column}.{band}')
                for band, number in read.table(facts.get(column), f'{here}.{column}').items()
            }
            for column in ('mean', 'std')
        }
        if columns['mean'].keys() != columns['std'].keys():
            read.fail(here, 'mean and std must name the same bands')
        source = read.text(facts.get('source'), f'{here}.source')
        quantity = _quantity(read, facts, here)
        statistics[name] = Statistics(name, source, columns['mean'], columns['std'], quantity)
    return statistics


def _check(read: _Reader, sensor: Sensor, key: str) -> None:
    """Names inside one sensor must be unique and known."""
    seen: dict[str, str] = {}
    for band in sensor.bands:
        for spelling in sensor.spellings(band.name):
            if spelling in seen:
                read.fail(f'{key}.bands', f'{spelling!r}: {seen[spelling]!r} or {band.name!r}?')
            seen[spelling] = band.name
    names = sensor.band_names
    for group, members in sensor.groups.items():
        where = f'{key}.groups.{group}'
        for member in members:
            if member not in names:
                read.fail(where, f'no band {member!r}{suggest(member, names)}')
        if len(set(members)) != len(members) or not members:
            read.fail(where, 'must name at least one band, and each only once')
        if group.upper() in seen:
            read.fail(where, f'{group!r} is also a band name')
    if sensor.default_group not in sensor.groups:
        hint = suggest(sensor.default_group, sensor.groups)
        read.fail(f'{key}.default_group', f'no group {sensor.default_group!r}{hint}')
    for table in sensor.statistics.values():
        for band_name in table.mean:
            if band_name not in names:
                read.fail(
                    f'{key}.statistics.{table.name}',
                    f'no band {band_name!r}{suggest(band_name, names)}',
                )
