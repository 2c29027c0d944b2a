"""STAC items on disk: what their assets are, from ``eo:bands`` or ``bands``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchgeo_aom.bands import Band, Product, resolve_bands
from torchgeo_aom.catalogue import find_sensor, get_product
from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError
from torchgeo_aom.transforms import Normalize

from .catalogue_rules import Rule, find_rule, sentinel2_product
from .geotiff import Declared
from .layers import Layer, choose, match
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
    rule = find_rule(item)
    sensor = declared.sensor or (rule and rule.sensor) or _sensor(platform)
    wanted = Declared(declared.bands, sensor).resolved()
    offers: dict[Band, list[Offer]] = {}
    for key, asset in sorted((item.get('assets') or {}).items()):
        for offer in _offers(path, key, asset, sensor):
            offers.setdefault(offer.layer.band, []).append(offer)
    if not offers:
        raise BandError(
            f'no asset of {path} says which bands it has (eo:bands or bands); give the files '
            f'themselves, with bands= (--bands)'
        )
    notes.append(f'STAC item {item.get("id", path.name)}, platform {platform or "not stated"}')
    there, absent = _resolved(offers, wanted is None, path, notes)
    for band in wanted or ():
        if match(band, there) is None and (own := match(band, absent)) is not None:
            raise ConfigError(absent[own])
    if not there:
        raise DataError(f'{path}: none of its bands can be read: {"; ".join(absent.values())}')
    if absent:
        names = ', '.join(sorted(band.name for band in absent))
        notes.append(f'{names}: left out, no file beside the item')
    layers = choose(there, wanted, str(path))
    return _stored(list(layers), declared, item, rule, path, notes)


@dataclass(frozen=True)
class Offer:
    """A band as one asset offers it.

    Attributes:
        layer: the band; its path is where the asset says.
        key: name of the asset.
        gsd_m: its ground sampling distance in meters, 0 where not stated.
        problem: why it cannot be read; None where it can.
    """

    layer: Layer
    key: str
    gsd_m: float
    problem: str | None


def _resolved(
    offers: Mapping[Band, Sequence[Offer]], optical_only: bool, path: Path, notes: list[str]
) -> tuple[dict[Band, Layer], dict[Band, str]]:
    """One layer for each band: of twins, what is here, as GeoTIFF, and finest.

    Returns:
        The layers, and why other bands cannot be read.
    """
    there: dict[Band, Layer] = {}
    absent: dict[Band, str] = {}
    for band, some in offers.items():
        if optical_only and (band.wavelength_um or 0) > 3:
            notes.append(f'{band.name}: thermal, left out unless it is named')
            continue
        here = [one for one in some if one.problem is None]
        if not here:
            absent[band] = next(one.problem for one in some if one.problem is not None)
            continue
        here.sort(key=lambda one: (one.layer.path.lower().endswith('.jp2'), one.gsd_m))
        first = here[0]
        for other in here[1:]:
            same = other.gsd_m == first.gsd_m and other.layer.path[-4:] == first.layer.path[-4:]
            if same and other.layer.path != first.layer.path:
                raise BandError(
                    f'{path}: two assets hold {band.label}, {first.layer.path} and '
                    f'{other.layer.path}. Leave one of them out of the item'
                )
        twins = [one.key for one in some if one is not first]
        if twins:
            notes.append(f'{band.name}: asset {first.key!r}, not its twin {", ".join(twins)}')
        there[band] = first.layer
    return there, absent


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


def _offers(path: Path, key: str, asset: Mapping[str, Any], sensor: str | None) -> list[Offer]:
    """What an asset offers, in file order; nothing where it names no bands."""
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
        gsd = asset.get('gsd', own.get('spatial_resolution', facts.get('gsd')))
        try:
            numbers = float(1.0 if scale is None else scale), float(offset or 0.0)
            empty = None if nodata in (None, 'nan') else float(nodata)
            size = float(gsd or 0)
        except (TypeError, ValueError) as error:
            raise DataError(f'{path}: asset {key!r}: {error}') from error
        found.append((Layer(band, file, channel, *numbers, empty), size))
    problem = None
    try:
        place = _inside(path, file)
        if not Path(place).exists():
            problem = f'{path} names {file}, which is not there: download it beside the item'
    except ConfigError as error:
        place, problem = file, str(error)
    return [Offer(replace(layer, path=place), key, size, problem) for layer, size in found]


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
    layers: list[Layer],
    declared: Declared,
    item: Mapping[str, Any],
    rule: Rule | None,
    path: Path,
    notes: list[str],
) -> tuple[list[Layer], Product, str]:
    """How values become reflectance: the user's word, the catalogue's rule, the assets'."""
    own = {(x.scale, x.offset) for x in layers}
    said = own != {(1.0, 0.0)}
    ruled = None
    try:
        ruled = _ruled(layers, item, rule, said, path)
    except (ConfigError, UnitError):
        if declared.product is None:
            raise
        said = False  # the item contradicts itself, and the user says which statement is right
    if declared.product is None and ruled is None and not said:
        raise ConfigError(
            f'{path} does not say how values are stored (scale, offset): give product= (--product)'
        )
    nodata_in = 'each'
    if declared.product is None and ruled is None:
        product = _by_scale(layers)
    else:
        bands = [x.band for x in layers]
        name = ruled if declared.product is None else declared.product
        chosen = Normalize(bands, name, mean=0.0, std=1.0)
        product, nodata_in = chosen.product, chosen.nodata_in
        if declared.product is None:
            notes.append(
                f'stored as {product.name}: reflectance = value * {product.scale:g}'
                + (f' {product.offset:+g}' if product.offset else '')
            )
        elif ruled is not None:
            right = Normalize(bands, ruled, mean=0.0, std=1.0).product
            own = {(right.scale, right.offset)}
        for scale, offset in own if said and declared.product is not None else ():
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


def _ruled(
    layers: Sequence[Layer], item: Mapping[str, Any], rule: Rule | None, said: bool, path: Path
) -> str | None:
    """Product that the rules of catalogues give; None where there is no rule."""
    if {x.band.sensor for x in layers} == {'sentinel2'}:
        offsets = {x.offset for x in layers} if said else set()
        return sentinel2_product(item, offsets, str(path))
    if rule is None or rule.product is None or any(x.band.sensor is None for x in layers):
        return None
    if said:
        product = Normalize([x.band for x in layers], rule.product, mean=0.0, std=1.0).product
        for x in layers:
            if abs(x.scale - product.scale) > 1e-9 or abs(x.offset - product.offset) > 1e-9:
                raise UnitError(
                    f'{path} says reflectance = value * {x.scale:g} + {x.offset:g} for '
                    f'{x.band.name}, but {rule.source} is value * {product.scale:g} + '
                    f'{product.offset:g}. Name the product that is right (--product)'
                )
    return rule.product


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
