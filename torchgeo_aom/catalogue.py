"""The catalogue of sensors: looks them up by name and reads more of them from TOML files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from torchgeo_aom.errors import BandError, ConfigError, suggest
from torchgeo_aom.sensor_file import parse_document
from torchgeo_aom.sensors import Band, Product, Sensor, Statistics, fold

__all__ = (
    'band_statistics',
    'find_sensor',
    'get_product',
    'get_sensor',
    'list_presets',
    'list_sensors',
    'load_sensors',
    'product_statistics',
)

ENV_VARIABLE = 'TORCHGEO_AOM_SENSORS'

# Water vapor and cirrus bands lie in absorption features: no guide to what lies beside them.
_ABSORPTION = ('B09', 'B10')


class _Catalogue:
    """Sensors, presets and general products by name."""

    def __init__(self) -> None:
        self.sensors: dict[str, Sensor] = {}
        self.presets: dict[str, str] = {}  # 'eurosat' -> 'sentinel2:eurosat'
        self.products: dict[str, Product] = {}
        self.origin: dict[str, str] = {}
        self.lookup: dict[str, tuple[str, str]] = {}  # folded name -> sensor and group

    def add(self, text: str, origin: str) -> tuple[str, ...]:
        """Read a TOML document; nothing is added if any part of it is wrong."""
        new = parse_document(text, origin)
        for name, sensor in new.sensors.items():
            if self.sensors.get(name, sensor) != sensor:
                raise BandError(
                    f'{origin}: sensors.{name}: this sensor is already defined in '
                    f'{self.origin[name]!r} with other facts; choose another name'
                )
        sensors = {**self.sensors, **new.sensors}
        products = {**self.products, **new.products}
        presets = {**self.presets, **new.presets}
        for old, merged in ((self.products, products), (self.presets, presets)):
            changed = [k for k, v in old.items() if merged[k] != v]
            if changed:
                raise BandError(f'{origin}: {changed[0]!r} is already defined with other facts')
        self._check_names(origin, sensors, presets)
        self.sensors, self.products, self.presets = sensors, products, presets
        self.lookup = {
            fold(name): (sensor.name, sensor.default_group)
            for sensor in sensors.values()
            for name in (sensor.name, *sensor.aliases)
        }
        for preset, target in presets.items():
            key, _, group = target.partition(':')
            self.lookup[fold(preset)] = (key, group)
        self.origin = {**dict.fromkeys(new.sensors, origin), **self.origin}
        return tuple(new.sensors)

    def _check_names(
        self, origin: str, sensors: dict[str, Sensor], presets: dict[str, str]
    ) -> None:
        """A name, an alias or a preset may stand for one thing only."""
        owner: dict[str, str] = {}
        for sensor in sensors.values():
            for name in (sensor.name, *sensor.aliases):
                if owner.setdefault(fold(name), sensor.name) != sensor.name:
                    raise BandError(
                        f'{origin}: sensors.{sensor.name}: the name {name!r} already means '
                        f'{owner[fold(name)]!r}'
                    )
        for preset, target in presets.items():
            key, _, group = target.partition(':')
            if key not in sensors or group not in sensors[key].groups:
                raise BandError(f'{origin}: presets.{preset}: there is no {target!r}')
            if fold(preset) in owner:
                raise BandError(f'{origin}: presets.{preset}: the name is taken by a sensor')


_catalogue: _Catalogue | None = None


def _load() -> _Catalogue:
    """Read the catalogue on first use, then the files that the environment names."""
    global _catalogue
    if _catalogue is None:
        catalogue = _Catalogue()
        builtin = resources.files('torchgeo_aom').joinpath('sensors.toml')
        catalogue.add(builtin.read_text(encoding='utf-8'), 'sensors.toml')
        for path in filter(None, os.environ.get(ENV_VARIABLE, '').split(os.pathsep)):
            catalogue.add(_read(path), path)
        _catalogue = catalogue
    return _catalogue


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise BandError(f'sensor file {str(path)!r} cannot be read: {error}') from error


def load_sensors(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Add sensors from a TOML file of the same form as the built-in one.

    Args:
        path: the file. A sensor that exists already must have the same facts.

    Returns:
        Names of the sensors in the file.

    Raises:
        BandError: if the file cannot be read or a key is wrong; nothing is added then.

    .. versionadded:: 0.1
    """
    return _load().add(_read(path), str(path))


def list_sensors() -> tuple[str, ...]:
    """Names of all sensors.

    .. versionadded:: 0.1
    """
    return tuple(_load().sensors)


def list_presets() -> tuple[str, ...]:
    """Everything that names a whole list of bands: sensors, their groups, and presets.

    .. versionadded:: 0.1
    """
    catalogue = _load()
    names: list[str] = []
    for sensor in catalogue.sensors.values():
        names += [sensor.name, *(f'{sensor.name}:{group}' for group in sensor.groups)]
    return (*names, *catalogue.presets)


def find_sensor(name: str) -> tuple[Sensor, str] | None:
    """Look a sensor or preset up.

    Args:
        name: a sensor, an alias of it, or a preset, in any spelling.

    Returns:
        The sensor and the group that the name stands for, or None.
    """
    catalogue = _load()
    found = catalogue.lookup.get(fold(name))
    return None if found is None else (catalogue.sensors[found[0]], found[1])


def get_sensor(name: str) -> Sensor:
    """Return a sensor by name, alias or preset.

    Args:
        name: for example ``'sentinel2'``.

    Returns:
        The sensor.

    Raises:
        BandError: if there is none; the message lists what there is.

    .. versionadded:: 0.1
    """
    found = find_sensor(name) if isinstance(name, str) else None
    if found is None:
        known = list_sensors()
        raise BandError(
            f'unknown sensor {name!r}{suggest(name, [*known, *_load().presets])}. '
            f'Known are {", ".join(known)}; add yours with load_sensors(path)'
        )
    return found[0]


def get_product(name: str, sensor: str | None = None) -> Product:
    """Return a product by name.

    Args:
        name: ``'sentinel2:l2a'``, ``'l2a'`` together with *sensor*, or a general product such as
            ``'reflectance'``.
        sensor: the sensor to look at first.

    Returns:
        The product.

    Raises:
        ConfigError: if there is none; the message lists what there is.

    .. versionadded:: 0.1
    """
    prefix, colon, rest = name.partition(':')
    if colon:
        sensor, name = get_sensor(prefix).name, rest
    general = _load().products
    own = get_sensor(sensor).products if sensor else {}
    product = own.get(name) or general.get(name)
    if product is None:
        where = f'sensor {sensor!r}' if sensor else 'bands without a sensor'
        allowed = [*own, *general]
        raise ConfigError(
            f'unknown product {name!r} for {where}{suggest(name, allowed)}. '
            f'Allowed are {", ".join(allowed)}'
        )
    return product


def band_statistics(
    bands: Sequence[Band], statistics: str | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up mean and standard deviation of each band, in reflectance.

    Args:
        bands: resolved bands.
        statistics: which ones. None takes ``Band.mean`` and ``Band.std``; ``'sensor:name'`` those
            of that name, for example ``'sentinel2:l2a'``. Bands of *other* sensors then get the
            numbers of the Sentinel-2 band with the same channel index.

    Returns:
        Means and standard deviations, one for each band.

    Raises:
        ConfigError: if a band has none.

    .. versionadded:: 0.1
    """
    if statistics is None:
        pairs = [None if b.mean is None or b.std is None else (b.mean, b.std) for b in bands]
    else:
        sensor, table = _find_table(statistics)
        pairs = [_from_table(band, sensor, table) for band in bands]
    return _columns(bands, pairs, f' in {statistics!r}' if statistics else '')


def product_statistics(
    bands: Sequence[Band], product: Product
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Look up mean and standard deviation of each band that fit a product.

    Bands that bring numbers of their own keep them. The others get those of their sensor's table
    that the product names, or else of the quantity that fits it: display values for 8-bit ones, for
    reflectance that of the top of the atmosphere or of the surface.

    Args:
        bands: resolved bands.
        product: how the values are stored, and of which quantity they are.

    Returns:
        Means and standard deviations, one for each band, and a doubt: the text is empty, or says
        that statistics of another quantity would fit as well.

    Raises:
        ConfigError: if a band has none, or none of a quantity that can fit.

    .. versionadded:: 0.1
    """
    pairs = [None if b.mean is None or b.std is None else (b.mean, b.std) for b in bands]
    sensors: dict[str, Sensor] = {}
    looked_up: list[int] = []
    for k, band in enumerate(bands):
        found = find_sensor(band.sensor) if band.sensor else None
        # A band that differs from the catalogue's was given numbers by the caller.
        if band.sensor and found and (band.mean, band.std) == _numbers(band, found[0]):
            sensors[band.sensor] = found[0]
            looked_up.append(k)
    fitting = {
        name: _fitting(
            sensor, product, {bands[k].name for k in looked_up if bands[k].sensor == name}
        )
        for name, sensor in sensors.items()
    }
    quantities = [
        quantity
        for quantity in dict.fromkeys(t.quantity for tables in fitting.values() for t in tables)
        if all(any(t.quantity == quantity for t in tables) for tables in fitting.values())
    ]
    used: list[str] = []
    for k in looked_up:
        pairs[k] = None
        name = str(bands[k].sensor)
        if quantities:
            table = next(t for t in fitting[name] if t.quantity == quantities[0])
            pairs[k] = _from_table(bands[k], sensors[name], table)
            used.append(f'{name}:{table.name}')
    listing = ', '.join(
        f"statistics='{name}:{table.name}' ({table.quantity or 'quantity not stated'})"
        for name, sensor in sensors.items()
        for table in sensor.statistics.values()
    )
    kind = f'product {product.name!r} (unit {product.unit}, {product.quantity or "any quantity"})'
    if listing:
        why = f' that fit {kind}. There are {listing}: choose one only if the quantity is the same'
    columns = _columns(bands, pairs, why if listing else '')
    doubt = (
        f'{kind} does not say which statistics fit: those of {used[0]!r} are used, there are '
        f'{listing}. Choose one, or give mean=[...] and std=[...]'
        if len(quantities) > 1
        else ''
    )
    return *columns, doubt


def _numbers(band: Band, sensor: Sensor) -> tuple[float | None, float | None] | None:
    numbers = {own.name: (own.mean, own.std) for own in sensor.bands}
    return numbers.get(band.name)


def _fitting(sensor: Sensor, product: Product, names: set[str]) -> list[Statistics]:
    """The tables of a sensor that may be used with a product."""
    tables = list(sensor.statistics.values())
    own = sensor.products.get(product.name)
    if own is not None and _same_storage(own, product):
        if own.statistics is not None:
            return [sensor.statistics[own.statistics]]
        if own.quantity is None:  # the file that has both says that they belong together
            return tables[:1]
    if product.quantity is not None:
        allowed: tuple[str, ...] = (product.quantity,)
    else:
        allowed = ('display',) if product.unit == 'uint8' else ('toa', 'surface')
    fit = [table for table in tables if table.quantity in allowed]
    whole = [table for table in fit if names <= table.mean.keys()]
    # Only the surface has just the twelve bands of Sentinel-2 without the cirrus band.
    return [table for table in whole if names == table.mean.keys()] or whole or fit


def _same_storage(one: Product, other: Product) -> bool:
    keys = ('scale', 'offset', 'unit', 'statistics', 'quantity')
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _columns(
    bands: Sequence[Band], pairs: Sequence[tuple[float, float] | None], why: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    missing = [band.label for band, pair in zip(bands, pairs, strict=True) if pair is None]
    if missing:
        raise ConfigError(
            f'no mean and std are known for {", ".join(missing)}{why}. '
            f'Give mean=[...] and std=[...] in '
            f'reflectance, one value for each of the {len(bands)} bands, or, as a stand-in, those '
            f"of the corresponding Sentinel-2 bands: statistics='sentinel2:l1c' or 'sentinel2:l2a'"
        )
    found = [pair for pair in pairs if pair is not None]
    return tuple(m for m, _ in found), tuple(s for _, s in found)


def _find_table(statistics: str) -> tuple[Sensor, Statistics]:
    key, _, name = statistics.partition(':')
    sensor = get_sensor(key)
    name = name or next(iter(sensor.statistics), '')
    if name not in sensor.statistics:
        allowed = [f'{sensor.name}:{table}' for table in sensor.statistics]
        raise ConfigError(
            f'unknown statistics {statistics!r}{suggest(statistics, allowed)}. Sensor '
            f'{sensor.name!r} has {", ".join(allowed) or "none"}'
        )
    return sensor, sensor.statistics[name]


def _from_table(band: Band, sensor: Sensor, table: Statistics) -> tuple[float, float] | None:
    names = {b.index: b.name for b in sensor.bands if b.name in table.mean}
    if band.sensor == sensor.name:
        name = band.name if band.name in table.mean else None
    elif sensor.name != 'sentinel2' or band.index > 12.6:  # thermal bands have no counterpart
        return None
    elif band.index.is_integer():
        name = names.get(band.index)
    else:
        return _between(band.index, names, table)
    return None if name is None else (table.mean[name], table.std[name])


def _between(index: float, names: dict[float, str], table: Statistics) -> tuple[float, float]:
    """Interpolate linearly between the neighbors of a fractional index."""
    known = sorted(i for i, name in names.items() if name not in _ABSORPTION)
    low = max((i for i in known if i <= index), default=known[0])
    high = min((i for i in known if i >= index), default=known[-1])
    share = 0.0 if low == high else min(max((index - low) / (high - low), 0.0), 1.0)
    mean, std = (
        column[names[low]] * (1 - share) + column[names[high]] * share
        for column in (table.mean, table.std)
    )
    return mean, std
