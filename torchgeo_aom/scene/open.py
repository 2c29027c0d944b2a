"""Opens a scene of any kind: files, a product's folder or zip file, a STAC item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchgeo_aom.bands import BandSpec, Product
from torchgeo_aom.errors import ConfigError, DataError

from .geotiff import Declared, read_files
from .landsat import apply_mtl, is_landsat, is_mtl, read_landsat
from .layers import Layer, Scene
from .place import Grid, finest, regrid
from .raster import Rules, check_local, gdal, opened
from .sentinel2 import is_metadata, is_safe, read_safe
from .stac import read_stac

__all__ = ('open_scene',)


def open_scene(
    source: str | Path | Sequence[str | Path],
    bands: BandSpec | None = None,
    *,
    sensor: str | None = None,
    product: str | Product | None = None,
    gsd_m: float | None = None,
    mtl: str | Path | None = None,
    nodata: float | str | None = 'product',
    drivers: Sequence[str] = ('GTiff',),
    max_block_mib: int = 256,
) -> Scene:
    """Open a scene: say what its bands are, on which grid, and how values become reflectance.

    Nothing is guessed. Bands come from descriptions in the file, from the product's metadata, or
    from *bands*; where two of them disagree, it is an error.

    Args:
        source: a GeoTIFF with all bands; several files, one for each band; the folder or zip file
            of a Sentinel-2 product (SAFE); the folder of a Landsat Collection 2 product; or a STAC
            item (JSON) whose assets lie beside it.
        bands: bands wanted, see :func:`~torchgeo_aom.bands.resolve_bands`. Of a file that names
            none: what its channels are, in their order.
        sensor: sensor of the names that have none.
        product: how values are stored (``'l2a'``, ``'sentinel2:l2a'``, ``'uint8'``,
            ``'reflectance'``), where files and metadata do not say it.
        gsd_m: meters a pixel to read at, bilinear; the finest band's where not given.
        mtl: Landsat metadata (``*_MTL.txt``) that belongs to a GeoTIFF of Level-1 numbers.
        nodata: stored value that means "no data"; ``'product'`` is the product's own, None says
            that every value is data. Masks, alpha bands and NaN always count.
        drivers: GDAL's names of formats that may be opened, for files; a ``VRT`` may then name
            other files on this machine.
        max_block_mib: largest block of a file in MiB, uncompressed.

    Returns:
        The scene; nothing is read yet.

    Raises:
        BandError: if bands are not named, unknown, missing or contradictory.
        ConfigError: if something is not said, or an address is given instead of a file.
        DataError: if files are missing, damaged or do not lie on each other.
        UnitError: if it is said in two ways how values are stored.

    .. versionadded:: 0.1
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    paths = [check_local(path) for path in given]
    if not paths:
        raise ConfigError('no file was given')
    first = Path(paths[0])
    if len(paths) == 1 and (is_metadata(first) or is_mtl(first)):
        first = first.parent  # the metadata of a product stand for it
    rules = Rules(tuple(drivers), max_block_mib)
    declared = Declared(bands, sensor, product, nodata)
    notes: list[str] = []
    if len(paths) == 1 and not first.exists():
        raise DataError(f'{first} does not exist; give the path of a file or a folder')
    if len(paths) == 1 and is_safe(first):
        rules = replace(rules, drivers=('JP2OpenJPEG', 'GTiff'))
        layers, chosen, nodata_in = read_safe(first, declared, notes)
    elif len(paths) == 1 and is_landsat(first):
        layers, chosen, nodata_in = read_landsat(first, declared, notes)
    elif len(paths) == 1 and first.suffix.lower() in ('.json', '.geojson'):
        layers, chosen, nodata_in = read_stac(first, declared, notes)
    elif first.is_dir():
        raise DataError(
            f'{first} is a folder, but neither a Sentinel-2 product (MTD_MSIL1C.xml or '
            f'MTD_MSIL2A.xml) nor a Landsat one (*_MTL.txt)'
        )
    elif mtl is not None:
        layers, chosen, nodata_in = apply_mtl(paths, Path(mtl), declared, rules, notes)
    else:
        layers, chosen, nodata_in = read_files(paths, declared, rules)
    if mtl is not None and (is_safe(first) or is_landsat(first)):
        raise ConfigError('mtl= belongs to GeoTIFFs; a product brings its own metadata')
    return _placed(layers, chosen, nodata_in, first.name, rules, gsd_m, notes)


def _placed(
    layers: Sequence[Layer],
    product: Product,
    nodata_in: str,
    name: str,
    rules: Rules,
    gsd_m: float | None,
    notes: list[str],
) -> Scene:
    """Choose the grid that all bands are read on."""
    grids: dict[str, Grid] = {}
    with gdal():
        for path in dict.fromkeys(layer.path for layer in layers):
            with opened(path, rules) as file:
                if not 1 <= max(x.channel for x in layers if x.path == path) <= file.count:
                    raise DataError(f'{path} has {file.count} bands, fewer than it should')
                grids[path] = Grid.of(file, path)
                rows, columns = file.block_shapes[0]
                if columns == file.width and file.width > 20_000 and rows < 256:
                    notes.append(
                        f'{path} is stored in lines of {file.width:,} px, so each window reads '
                        f'whole lines; rewriting it in tiles (gdal_translate -co TILED=YES) is '
                        f'faster'
                    )
    grid = finest(grids)
    if gsd_m is not None:
        grid = regrid(grid, gsd_m)
    resampled = frozenset(path for path, own in grids.items() if not own.same(grid))
    if resampled:
        names = ', '.join(x.band.name for x in layers if x.path in resampled)
        notes.append(
            f'{names}: resampled to {grid.gsd_m:.4g} m (bilinear)'
            if grid.gsd_m
            else f'{names}: resampled (bilinear)'
        )
    return Scene(tuple(layers), grid, product, name, nodata_in, resampled, rules, tuple(notes))
