"""STAC items on disk: what their assets are, from ``eo:bands`` or ``bands``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgeo_aom.bands import Band, Product, resolve_bands
from torchgeo_aom.catalogue import find_sensor, get_product
from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError
from torchgeo_aom.transforms import Normalize

from .geotiff import Declared
from .layers import Layer, choose
from .raster import check_local

__all__ = ('read_stac',)

_MAX_JSON = 2**24


def read_stac(path: Path, declared: Declared, notes: list[str]) -> tuple[list[Layer], Product, str]:
    """Bands of an item whose files lie in its folder.

    Args:
        path: the JSON file.
        declared: what the user says; it must agree with the item.
        notes: gets a line on what was found.

    Returns:
        The layers, how values are stored, and where "no data" counts.

    Raises:
        BandError: if no asset says which bands it has, or a band is not there.
        ConfigError: if nobody says how values are stored, or an asset is an address.
        DataError: if the item is damaged, or files are not in its folder.
        UnitError: if item and user say it differently.
    """
    item = _load(path)
    properties = item.get('properties') or {}
    platform = str(properties.get('platform') or properties.get('constellation') or '')
    sensor = declared.sensor or _sensor(platform)
    there: dict[Band, Layer] = {}
    for key, asset in sorted((item.get('assets') or {}).items()):
        for layer in _layers(path, key, asset, sensor):
            if layer.band in there:
                raise BandError(
                    f'{path}: two assets hold {layer.band.label}, {there[layer.band].path} and '
                    f'{layer.path}. Leave one of them out of the item'
                )
            there[layer.band] = layer
    if not there:
        raise BandError(
            f'no asset of {path} says which bands it has (eo:bands or bands); give the files '
            f'themselves, with bands= (--bands)'
        )
    layers = choose(there, Declared(declared.bands, sensor).resolved(), str(path))
    notes.append(f'STAC item {item.get("id", path.name)}, platform {platform or "not stated"}')
    return _stored(list(layers), declared, path)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise DataError(f'{path} has more than {_MAX_JSON >> 20} MiB: it is no STAC item')
        item = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f'{path} cannot be read as JSON: {error}') from error
    if not isinstance(item, dict) or item.get('type') != 'Feature' or 'assets' not in item:
        raise DataError(f'{path} is no STAC item: that is a GeoJSON Feature with assets')
    return item


def _sensor(platform: str) -> str | None:
    """Sensor of the catalogue that a platform carries: 'sentinel-2a' is sentinel2."""
    for text in (platform, platform.rstrip('abcdABCD')):
        found = find_sensor(text) if text else None
        if found is not None:
            return found[0].name
    return None


def _layers(path: Path, key: str, asset: Mapping[str, Any], sensor: str | None) -> list[Layer]:
    """Layers of an asset, in file order; none where it names no bands."""
    bands = asset.get('eo:bands') or asset.get('bands') or []
    rasters = asset.get('raster:bands') or asset.get('bands') or []
    roles = asset.get('roles') or []
    if not bands or {'thumbnail', 'overview', 'visual', 'metadata'} & set(roles):
        return []
    if key in ('visual', 'overview', 'preview', 'thumbnail') or 'href' not in asset:
        return []
    file = str(asset['href'])
    found = []
    for channel, facts in enumerate(bands, 1):
        band = _band(facts, sensor)
        if band is None:
            return []
        own = rasters[channel - 1] if channel <= len(rasters) else {}
        scale = own.get('raster:scale', own.get('scale', asset.get('raster:scale')))
        offset = own.get('raster:offset', own.get('offset', asset.get('raster:offset')))
        nodata = own.get('nodata', asset.get('nodata'))
        try:
            numbers = float(1.0 if scale is None else scale), float(offset or 0.0)
            empty = None if nodata in (None, 'nan') else float(nodata)
        except (TypeError, ValueError) as error:
            raise DataError(f'{path}: asset {key!r}: {error}') from error
        found.append(Layer(band, file, channel, *numbers, empty))
    place = _inside(path, file)
    return [Layer(x.band, place, x.channel, x.scale, x.offset, x.nodata) for x in found]


def _inside(item: Path, href: str) -> str:
    """The file that an asset names: only inside the folder of the item."""
    check_local(href)
    folder = item.resolve().parent
    place = (folder / href).resolve()
    if not place.is_relative_to(folder):
        raise ConfigError(
            f'{item} names {href}, outside its folder: move the files beside the item, or give '
            f'them themselves, with bands= (--bands)'
        )
    return str(place)


def _band(facts: Mapping[str, Any], sensor: str | None) -> Band | None:
    common = facts.get('common_name', facts.get('eo:common_name'))
    um = facts.get('center_wavelength', facts.get('eo:center_wavelength'))
    for spec in (facts.get('name'), common, None if um is None else float(um)):
        if spec is None:
            continue
        try:
            found = resolve_bands(spec, sensor)
        except BandError:
            continue
        if len(found) == 1:
            return found[0]
    return None


def _stored(
    layers: list[Layer], declared: Declared, path: Path
) -> tuple[list[Layer], Product, str]:
    own = {(x.scale, x.offset) for x in layers}
    said = own != {(1.0, 0.0)}
    if declared.product is None and not said:
        raise ConfigError(
            f'{path} does not say how values are stored (scale, offset): give product= (--product)'
        )
    nodata_in = 'each'
    if declared.product is None:
        product = _by_scale(layers)
    else:
        chosen = Normalize([x.band for x in layers], declared.product, mean=0.0, std=1.0)
        product, nodata_in = chosen.product, chosen.nodata_in
        for scale, offset in own if said else ():
            if abs(scale - product.scale) > 1e-9 or abs(offset - product.offset) > 1e-9:
                raise UnitError(
                    f'{path} says reflectance = value * {scale:g} + {offset:g}, but product '
                    f'{product.name!r} is value * {product.scale:g} + {product.offset:g}. Name the '
                    f'product that fits, or leave it out to follow the item'
                )
        layers = [
            Layer(
                x.band, x.path, x.channel, product.scale, product.offset,
                x.nodata if x.nodata is not None else chosen.nodata,
            )
            for x in layers
        ]  # fmt: skip
    if not isinstance(declared.nodata, str):
        nodata_in = 'each'
        layers = [
            Layer(x.band, x.path, x.channel, x.scale, x.offset, declared.nodata) for x in layers
        ]
    return layers, product, nodata_in


def _by_scale(layers: list[Layer]) -> Product:
    """The only product of the sensor that is stored like that, or one that states no quantity."""
    found = find_sensor(str(layers[0].band.sensor)) if layers[0].band.sensor else None
    known = found[0].products.values() if found else ()
    alike = [
        product
        for product in known
        if all(
            x.band.sensor == layers[0].band.sensor
            and abs(product.scale - x.scale) < 1e-9
            and abs(product.offset - x.offset) < 1e-9
            for x in layers
        )
    ]
    return alike[0] if len(alike) == 1 else get_product('reflectance')
