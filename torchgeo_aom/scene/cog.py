"""Writes Cloud-Optimized GeoTIFFs piece by piece: whole or not at all, whatever their size."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window

from torchgeo_aom.data.folder import FAILURES
from torchgeo_aom.errors import DataError
from torchgeo_aom.files import part_of, replacing

from .outputs import writing
from .place import Grid
from .raster import gdal

__all__ = ('CogFile', 'write_cog')

#: what all bands of a block may take while it is written
_BLOCK_BYTES = 2**24
Piece = tuple[int, int, NDArray[Any]]


@dataclass(frozen=True)
class CogFile:
    """What a GeoTIFF looks like.

    Attributes:
        count: number of bands.
        dtype: ``'uint8'``, ``'uint16'``, ``'int8'``, ``'float16'`` or ``'float32'``.
        nodata: value of cells without data.
        descriptions: name of each band.
        colors: red, green and blue of each class, for a color table.
        scales: of each band, where value = stored * scale.
        averaged: whether overviews are means; else the commonest value.
    """

    count: int
    dtype: str
    nodata: float
    descriptions: Sequence[str] = ()
    colors: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    scales: Sequence[float] = ()
    averaged: bool = True


def write_cog(
    path: Path, form: CogFile, grid: Grid, pieces: Iterable[Piece], tags: Mapping[str, str]
) -> None:
    """Write a file.

    Pieces go into a plain tiled file first; GDAL's COG driver copies it with overviews. Both lie in
    the folder of the result, and only the complete and checked file gets its name.

    Args:
        path: the final file.
        form: what it looks like.
        grid: where it lies.
        pieces: first row, first column and values (count, h, w) of each piece; cells that no piece
            covers have no data.
        tags: facts to keep in the file.

    Raises:
        DataError: if it cannot be written.
    """
    half = form.dtype == 'float16'
    stored = 'float32' if half else form.dtype
    side = 512
    while side > 64 and side * side * form.count * np.dtype(stored).itemsize > _BLOCK_BYTES:
        side //= 2
    plain: dict[str, Any] = {
        'driver': 'GTiff', 'dtype': stored, 'nodata': form.nodata, 'count': form.count,
        'height': grid.height, 'width': grid.width, 'crs': grid.crs, 'transform': grid.transform,
        'tiled': True, 'blockxsize': side, 'blockysize': side, 'bigtiff': 'IF_SAFER',
        'interleave': 'pixel', 'sparse_ok': True,
    }  # fmt: skip
    final = {
        'blocksize': str(max(side, 128)), 'compress': 'DEFLATE', 'bigtiff': 'IF_SAFER',
        'overviews': 'AUTO', 'sparse_ok': 'TRUE',
        'overview_resampling': 'AVERAGE' if form.averaged else 'MODE',
        'predictor': 'YES',
    }  # fmt: skip
    if half:  # the one form of half precision that all versions of GDAL know
        plain['nbits'], final['predictor'] = '16', 'NO'
        if tuple(map(int, rasterio.__gdal_version__.split('.')[:2])) < (3, 11):
            final['nbits'] = '16'  # later ones have a type of their own for it
    raw = part_of(path, '.raw.tif')
    written: list[tuple[Window, int]] = []
    try:
        with writing(path), gdal(), replacing(path) as part:
            with rasterio.open(raw, 'w', **plain) as file:
                _describe(file, form, tags)
                for row, column, piece in pieces:
                    values = piece.astype(form.dtype)
                    window = Window(column, row, values.shape[2], values.shape[1])
                    file.write(values.astype(stored, copy=False), window=window)
                    written.append((window, _sum(values, form)))
            rasterio.shutil.copy(raw, part, driver='COG', **final)
            _check(part, form, grid, written)
    except FAILURES as error:
        raise DataError(
            f'{path} cannot be written: {error.__cause__ or error}. What is computed is kept: free '
            f'some space, or correct that, and run the same again to go on'
        ) from error
    finally:
        raw.unlink(missing_ok=True)


def _describe(file: Any, form: CogFile, tags: Mapping[str, str]) -> None:
    file.update_tags(**tags)
    for number, text in enumerate(form.descriptions, 1):
        file.set_band_description(number, text)
    if form.scales:
        file.scales = list(form.scales)
    if form.colors:
        file.write_colormap(1, {k: (*rgb, 255) for k, rgb in form.colors.items()})


def _sum(values: NDArray[Any], form: CogFile) -> int:
    """Checksum of values as the file keeps them."""
    kept = np.ascontiguousarray(values, form.dtype)
    if kept.dtype.kind == 'f':
        kept = np.where(np.isnan(kept), kept.dtype.type(np.nan), kept)  # NaN has many forms
    return zlib.crc32(kept.tobytes())


def _check(path: Path, form: CogFile, grid: Grid, written: Sequence[tuple[Window, int]]) -> None:
    """Read all of a file once: after a full disk GDAL may leave one that opens, with gaps."""
    with rasterio.open(path, driver='GTiff') as file:
        same = Grid(file.height, file.width, file.transform, file.crs).same(grid)
        gaps = [w for w, number in written if _sum(file.read(window=w), form) != number]
        if file.count != form.count or not same or gaps:
            raise DataError(
                f'{path.name} is not what was written: the disk may be full. What is computed is '
                f'kept: free some space, and run the same again to go on'
            )
