"""Landsat Collection 2 products: a folder of one file a band with its MTL metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchgeo_aom.bands import Band, Product, Sensor, get_sensor
from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError

from .geotiff import Declared, read_files
from .layers import Layer, choose
from .raster import Rules

__all__ = ('apply_mtl', 'is_landsat', 'is_mtl', 'read_landsat')

_PAIR = re.compile(r'^\s*(\w+)\s*=\s*"?(.*?)"?\s*$')
_MAX_TEXT = 2**22
# Where the coefficients of surface reflectance stand; Level-2 metadata hold those of Level 1 too.
_SURFACE = 'LEVEL2_SURFACE_REFLECTANCE_PARAMETERS'
_LEVEL1 = ('LEVEL1_RADIOMETRIC_RESCALING', 'RADIOMETRIC_RESCALING')
_DIVIDED = Product(
    'toa', 1.0, 0.0, 'dn', 'top-of-atmosphere reflectance, by the metadata', quantity='toa'
)

Facts = dict[tuple[str, str], str]


def is_landsat(path: Path) -> bool:
    """Whether a path is the folder of a Landsat product."""
    return path.is_dir() and bool(_mtl_files(path))


def is_mtl(path: Path) -> bool:
    """Whether a path is the metadata file of a Landsat product, which stands for its folder."""
    return path.is_file() and path.name.upper().endswith('_MTL.TXT')


def _mtl_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.upper().endswith('_MTL.TXT'))


def read_mtl(path: Path) -> Facts:
    """Facts of an MTL file, by group and key.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with path.open(encoding='utf-8', errors='replace') as file:
            text = file.read(_MAX_TEXT)
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error.strerror}') from error
    facts: Facts = {}
    groups: list[str] = ['']
    for line in text.splitlines():
        match = _PAIR.match(line)
        if match is None:
            continue
        key, value = match.groups()
        if key == 'GROUP':
            groups.append(value)
        elif key == 'END_GROUP':
            groups.pop() if len(groups) > 1 else None
        else:
            facts[groups[-1], key] = value
    if not facts:
        raise DataError(f'{path} holds no Landsat metadata')
    return facts


def _find(facts: Facts, key: str, path: Path) -> str:
    for (_, own), value in facts.items():
        if own == key:
            return value
    raise DataError(f'{path} has no {key}: it is damaged, or no Landsat metadata')


def _sensor(facts: Facts, path: Path, declared: Declared) -> Sensor:
    spacecraft = _find(facts, 'SPACECRAFT_ID', path)
    name = spacecraft.lower().replace('_', '')
    try:
        sensor = get_sensor(name)
    except BandError as error:
        raise DataError(f'{path} is of {spacecraft}, which is not in the catalogue') from error
    if declared.sensor is not None and get_sensor(declared.sensor).name != sensor.name:
        raise BandError(
            f'{path} says {spacecraft}, but sensor={declared.sensor!r}: correct one of them'
        )
    return sensor


def _pair(facts: Facts, groups: Sequence[str], band: Band, path: Path) -> tuple[float, float]:
    number = band.name.removeprefix('B')
    for group in groups:
        keys = [(group, f'REFLECTANCE_{kind}_BAND_{number}') for kind in ('MULT', 'ADD')]
        if all(key in facts for key in keys):
            try:
                scale, offset = (float(facts[key]) for key in keys)
            except ValueError as error:
                raise DataError(f'{path}: coefficients of {band.name}: {error}') from error
            return scale, offset
    raise ConfigError(
        f'{path} has no reflectance coefficients of {band.label}: it is a thermal band, or the '
        f'metadata are damaged. Leave the band out'
    )


def _sine(facts: Facts, path: Path) -> float:
    try:
        sine = math.sin(math.radians(float(_find(facts, 'SUN_ELEVATION', path))))
    except ValueError as error:
        raise DataError(f'{path} says no sun elevation in numbers') from error
    if sine <= 0.02:
        raise DataError(f'{path} says that the sun was below the horizon: no reflectance')
    return sine


def read_landsat(
    folder: Path, declared: Declared, notes: list[str]
) -> tuple[list[Layer], Product, str]:
    """Bands of a product, with the coefficients of its metadata.

    Args:
        folder: the folder.
        declared: what the user says; it must agree with the metadata.
        notes: gets a line on what was found.

    Returns:
        The layers, how values are stored, and where "no data" counts.

    Raises:
        BandError: if a band is not there.
        ConfigError: if a band has no reflectance.
        DataError: if files are missing or the metadata are damaged.
        UnitError: if the user declares another product.
    """
    files = _mtl_files(folder)
    if len(files) != 1:
        raise DataError(f'{folder} has {len(files)} *_MTL.txt, so it is not one product')
    facts = read_mtl(files[0])
    sensor = _sensor(facts, files[0], declared)
    surface = any(group == _SURFACE for group, _ in facts)
    there: dict[Band, Path] = {}
    for band in sensor.bands:
        ending = f'_SR_{band.name}.TIF' if surface else f'_{band.name}.TIF'
        found = [p for p in sorted(folder.iterdir()) if p.name.upper().endswith(ending)]
        if len(found) > 1:
            raise DataError(f'{folder} has {len(found)} files of {band.name}: {found[:3]}')
        if found:
            there[band] = found[0]
    wanted = Declared(declared.bands, sensor.name).resolved()
    if wanted is None:
        wanted = sensor.group('sr') or sensor.bands
    paths = {band: Layer(band, str(path)) for band, path in there.items()}
    layers = choose(paths, wanted, str(folder))
    return _calibrated(layers, facts, files[0], surface, declared, notes, sensor)


def apply_mtl(
    paths: Sequence[str], mtl: Path, declared: Declared, rules: Rules, notes: list[str]
) -> tuple[list[Layer], Product, str]:
    """Bands of GeoTIFFs of Level-1 numbers, with the coefficients of a file apart.

    Args:
        paths: the files.
        mtl: the metadata.
        declared: what the user says; it must agree with the metadata.
        rules: what may be opened.
        notes: gets a line on what was found.

    Returns:
        The layers, how values are stored, and where "no data" counts.

    Raises:
        BandError: if bands are not named, or of another sensor.
        ConfigError: if a band has no reflectance.
        DataError: if the metadata are damaged.
    """
    facts = read_mtl(mtl)
    sensor = _sensor(facts, mtl, declared)
    bands = declared.bands
    named = replace(declared, sensor=sensor.name, product='reflectance', bands=bands)
    layers, _, _ = read_files(paths, named, rules)
    for layer in layers:
        if layer.band.sensor != sensor.name:
            raise BandError(f'{layer.band.label} is no band of {sensor.name}, which {mtl} is of')
    if bands is None:
        optical = [x for x in layers if x.band.index < 12.6 and x.band.common_name != 'pan']
        left = [x.band.name for x in layers if x not in optical]
        if left:
            notes.append(f'{", ".join(left)}: no reflectance, left out')
        layers = optical
    surface = any(group == _SURFACE for group, _ in facts)
    return _calibrated(layers, facts, mtl, surface, declared, notes, sensor)


def _calibrated(
    layers: Sequence[Layer],
    facts: Facts,
    path: Path,
    surface: bool,
    declared: Declared,
    notes: list[str],
    sensor: Sensor,
) -> tuple[list[Layer], Product, str]:
    nodata = 0.0 if isinstance(declared.nodata, str) else declared.nodata
    groups = (_SURFACE,) if surface else _LEVEL1
    sine = 1.0 if surface else _sine(facts, path)
    ready = []
    for layer in layers:
        scale, offset = _pair(facts, groups, layer.band, path)
        ready.append(replace(layer, scale=scale / sine, offset=offset / sine, nodata=nodata))
    product = sensor.products['c2l2'] if surface else _DIVIDED
    if declared.product is not None:
        text = str(getattr(declared.product, 'name', declared.product)).rpartition(':')[2]
        if text != product.name:
            raise UnitError(
                f'{path} says that these are {"surface" if surface else "top-of-atmosphere"} '
                f'values ({product.name}), but product={text!r}. Leave product= (--product) out'
            )
    what = 'surface reflectance' if surface else f'reflectance / {sine:.4f} (sine of the sun)'
    notes.append(f'{sensor.title}: {what}, coefficients of {path.name}')
    return ready, product, 'each'
