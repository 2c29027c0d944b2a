"""Sentinel-2 products as ESA delivers them: a SAFE folder, or its zip file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from torchgeo_aom.bands import Product, get_sensor
from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError

from .geotiff import Declared
from .layers import Layer, choose

__all__ = ('is_metadata', 'is_safe', 'read_safe')

_METADATA = re.compile(r'(^|/)MTD_MSIL(1C|2A)\.xml$')
_IMAGE = re.compile(r'/IMG_DATA/(?:.*/)?[^/]*_(B\d[\dA])(?:_(10|20|60)m)?\.(jp2|tif)$', re.I)
_GRANULE = re.compile(r'(?:^|/)GRANULE/([^/]+)/IMG_DATA/')
# Numbers of bands in the metadata, as the format defines them.
_IDS = ('B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B09', 'B10', 'B11', 'B12')
_MAX_XML = 2**26


def is_metadata(path: Path) -> bool:
    """Whether a path is the metadata file of a product, which stands for its folder."""
    return path.is_file() and _METADATA.search(path.name) is not None


def is_safe(path: Path) -> bool:
    """Whether a path is a Sentinel-2 product."""
    if path.is_dir():
        return any(_METADATA.search(child.name) for child in path.iterdir())
    if path.suffix.lower() != '.zip' or not path.is_file():
        return False
    if not zipfile.is_zipfile(path):
        raise DataError(f'{path} is no zip file, or it is damaged: get it again')
    return any(_METADATA.search(name) for name in _names(path))


def _names(path: Path) -> list[str]:
    if path.is_dir():
        return [p.relative_to(path).as_posix() for p in sorted(path.rglob('*')) if p.is_file()]
    with zipfile.ZipFile(path) as archive:
        return sorted(archive.namelist())


def read_safe(path: Path, declared: Declared, notes: list[str]) -> tuple[list[Layer], Product, str]:
    """Bands of a product, each at its own resolution, with scale and offset of the metadata.

    Args:
        path: the folder or the zip file.
        declared: what the user says; it must agree with the metadata.
        notes: gets a line on what was found.

    Returns:
        The layers, how values are stored, and where "no data" counts.

    Raises:
        BandError: if a band is not there.
        DataError: if files are missing or the metadata are damaged.
        UnitError: if the user declares another product.
    """
    if declared.sensor is not None and get_sensor(declared.sensor).name != 'sentinel2':
        raise BandError(f'{path} is a Sentinel-2 product, not one of {declared.sensor!r}')
    names = _names(path)
    found = [match for name in names if (match := _METADATA.search(name))]
    if len(found) != 1:
        raise DataError(f'{path} has {len(found)} MTD_MSIL*.xml, so it is not one product')
    level = f'l{found[0][2].lower()}'
    root = _parse(_read(path, found[0].string), found[0].string)
    scale, offsets = _radiometry(root, level, found[0].string)
    sensor = get_sensor('sentinel2')
    images = _images(names)
    if not images:
        raise DataError(f'{path} has no images (GRANULE/*/IMG_DATA/*.jp2): it is not complete')
    if len(granules := _granules(names)) > 1:
        raise DataError(
            f'{path} holds {len(granules)} granules, {", ".join(granules)}: each is a scene of its '
            f'own. Keep one of them, or give its files with bands= (--bands)'
        )
    prefix = f'/vsizip/{path.resolve()}/' if path.is_file() else f'{path}/'
    nodata = 0.0 if isinstance(declared.nodata, str) else declared.nodata
    there = {}
    for band in sensor.bands:
        if band.name in images:
            offset = offsets.get(_IDS.index(band.name), 0.0) / scale
            there[band] = Layer(band, prefix + images[band.name], 1, 1 / scale, offset, nodata)
    offset = next(iter(there.values())).offset
    name = f'{level}_2022' if offset else level
    product = sensor.products[name]
    _compare(declared, there.values(), path)
    baseline = (root.findtext('.//PROCESSING_BASELINE') or '?').strip()
    notes.append(
        f'Sentinel-2 {level.upper()}, processing baseline {baseline}: reflectance = value / '
        f'{scale:g}{f" {offset:+g}" if offset else ""}'
    )
    wanted = Declared(declared.bands, 'sentinel2').resolved()
    layers = list(choose(there, wanted, str(path)))
    # Where an image of few bands is 0, water may have measured it; all bands decide.
    return layers, product, 'all' if isinstance(declared.nodata, str) else 'each'


def _granules(names: Iterable[str]) -> list[str]:
    """Folders of granules that hold images."""
    found = {match[1] for n in names if _IMAGE.search('/' + n) and (match := _GRANULE.search(n))}
    return sorted(found)


def _images(names: Iterable[str]) -> dict[str, str]:
    """The file of each band at its own resolution, or the finest that there is."""
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        match = _IMAGE.search('/' + name)
        if match is None:
            continue
        band, rank = match[1].upper(), int(match[2] or 0)
        if band in _IDS and (band not in found or rank < found[band][0]):
            found[band] = rank, name
    return {band: name for band, (_, name) in found.items()}


def _read(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            with (path / name).open('rb') as file:
                data = file.read(_MAX_XML + 1)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(name) as member:
                data = member.read(_MAX_XML + 1)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f'{name} in {path} cannot be read: {error}') from error
    if len(data) > _MAX_XML:
        raise DataError(f'{name} in {path} has more than {_MAX_XML >> 20} MiB: it is no metadata')
    return data


def _parse(data: bytes, name: str) -> ElementTree.Element:
    if b'<!ENTITY' in data:
        raise DataError(f'{name} defines entities, which Sentinel-2 metadata never do')
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f'{name} is damaged: {error}') from error


def _radiometry(root: ElementTree.Element, level: str, name: str) -> tuple[float, dict[int, float]]:
    """Quantification value, and the offset that is added to numbers before dividing by it."""
    tag = 'QUANTIFICATION_VALUE' if level == 'l1c' else 'BOA_QUANTIFICATION_VALUE'
    add = 'RADIO_ADD_OFFSET' if level == 'l1c' else 'BOA_ADD_OFFSET'
    try:
        scale = float(root.findtext(f'.//{tag}') or 'missing')
        offsets = {
            int(element.get('band_id', 'missing')): float(element.text or 'missing')
            for element in root.iter(add)
        }
    except ValueError as error:
        raise DataError(f'{name} does not say {tag} or {add} in numbers: {error}') from error
    if scale <= 0:
        raise DataError(f'{name} says {tag} = {scale:g}, which is impossible')
    return scale, offsets


def _compare(declared: Declared, layers: Iterable[Layer], path: Path) -> None:
    """A product that the user names must be what the metadata say."""
    if declared.product is None:
        return
    product = declared.product
    if isinstance(product, str):
        text = product.partition(':')[2] or product
        products = get_sensor('sentinel2').products
        if text not in products:
            raise ConfigError(f'{path} brings its own metadata: leave product={product!r} out')
        product = products[text]
    layer = next(iter(layers))
    if abs(product.scale - layer.scale) > 1e-9 or abs(product.offset - layer.offset) > 1e-9:
        raise UnitError(
            f'{path} says reflectance = value * {layer.scale:g} + {layer.offset:g}, but product '
            f'{product.name!r} is value * {product.scale:g} + {product.offset:g}. Leave product= '
            f'(--product) out to follow the metadata'
        )
