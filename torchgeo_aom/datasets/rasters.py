"""Images and masks from files: by name of their bands, with errors that say what to do."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from torch import Tensor

from ..bands import Band, Product
from ..data.folder import DRIVERS, FAILURES, GDAL_OPTIONS, MAX_VALUES, FolderDataset
from ..data.source import Source, WindowOf
from ..errors import ConfigError, DataError

__all__ = (
    'Part',
    'cell',
    'descriptions',
    'no_download',
    'open_images',
    'read_image',
    'read_mask',
    'require',
)

#: First row, first column, height and width.
Part = tuple[int, int, int, int]


def require(path: str | os.PathLike[str], what: str, where: str) -> Path:
    """Check that something is there.

    Args:
        path: file or folder.
        what: what it is.
        where: where to get it.

    Returns:
        The path.

    Raises:
        DataError: if it is missing.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f'{what} is missing: there is no {found}. {where}, or correct root=')
    return found


def no_download(download: bool, where: str) -> None:
    """Refuse to download what has to be got by hand.

    Args:
        download: what was asked for.
        where: where to get it.

    Raises:
        ConfigError: if it was asked for.
    """
    if download:
        raise ConfigError(f'this data set cannot be downloaded from here. {where}')


def open_images(
    name: str, files: Sequence[str | os.PathLike[str]], bands: Sequence[Band], product: Product
) -> FolderDataset:
    """Open images of one kind; each is opened anew where it is read, so workers can share this.

    Args:
        name: how messages call them.
        files: the files.
        bands: their bands in file order, where the files name none.
        product: how values are stored.

    Returns:
        The reader.

    Raises:
        BandError: if files name other bands.
        DataError: if there are none, or none can be opened.
    """
    paths = tuple(str(path) for path in files)
    return FolderDataset(Source(name, tuple(bands), product, paths, size=(1, 1)))


def read_image(
    reader: FolderDataset, index: int, channels: Sequence[int], part: Part | None = None
) -> Tensor:
    """Read an image, or a part of it.

    Args:
        reader: the files.
        index: which one.
        channels: bands wanted, by their number among those that the reader was told.
        part: the part to read.

    Returns:
        Stored values (C, H, W), float32, NaN where the file itself says that there are no data.

    Raises:
        BandError: if the file names other bands.
        DataError: if it is missing, damaged or too small.
    """
    window: WindowOf | None = None if part is None else lambda height, width: part
    pixels = reader.read(index, window)
    values = np.array(pixels.values[list(channels)], dtype=np.float32)
    if part is not None and values.shape[1:] != part[2:]:
        raise DataError(f'{reader.name(index)} has no part {part}: it is too small, so damaged')
    if pixels.valid is not None:
        values[~pixels.valid[list(channels)]] = np.nan
    return torch.from_numpy(values)


def _open(path: str | os.PathLike[str]) -> rasterio.DatasetReader:
    driver = DRIVERS.get(Path(path).suffix.lower())
    if driver is None:
        raise DataError(f'{path} does not end in {", ".join(DRIVERS)}; nothing else is read')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        return rasterio.open(path, driver=driver)


def read_mask(path: str | os.PathLike[str], part: Part | None = None) -> NDArray[np.int64]:
    """Read a mask, or a part of it.

    Args:
        path: a file with one band of integers.
        part: the part to read.

    Returns:
        Stored values (H, W).

    Raises:
        DataError: if it is missing or damaged, or holds several bands or fractions.
    """
    window = None if part is None else Window(part[1], part[0], part[3], part[2])
    try:
        with rasterio.Env(**GDAL_OPTIONS), _open(path) as file:
            if file.count != 1:
                raise DataError(f'mask {path} has {file.count} bands: it must have one, of classes')
            if part is None and file.height * file.width > MAX_VALUES:
                raise DataError(f'mask {path} declares {file.height} x {file.width} px: too many')
            stored: NDArray[Any] = file.read(1, window=window)
    except FAILURES as error:
        raise DataError(
            f'mask {path} cannot be read ({error.__cause__ or error}): get it again, or repair it'
        ) from error
    values = stored.astype(np.int64)
    if stored.dtype.kind == 'f' and not np.array_equal(values, stored):
        raise DataError(f'mask {path} holds values that are no integers')
    if part is not None and values.shape != part[2:]:
        raise DataError(f'mask {path} has no part {part}: it is too small, so damaged')
    return values


def descriptions(path: str | os.PathLike[str]) -> list[str]:
    """What a file calls its channels.

    Args:
        path: an image.

    Returns:
        The names, those that are empty left out.

    Raises:
        DataError: if it cannot be opened.
    """
    try:
        with rasterio.Env(**GDAL_OPTIONS), _open(path) as file:
            return [name for name in file.descriptions if name]
    except FAILURES as error:
        raise DataError(f'{path} cannot be opened: {error}') from error


def cell(path: str | os.PathLike[str], side_m: float) -> str:
    """Name the cell of a grid that an image lies in.

    Args:
        path: an image with a projected coordinate system.
        side_m: side of a cell in meters.

    Returns:
        A name that all images of a cell share.

    Raises:
        DataError: if it cannot be opened, or has no projected coordinate system.
    """
    try:
        with rasterio.Env(**GDAL_OPTIONS), _open(path) as file:
            crs, (x, y) = file.crs, file.xy(file.height // 2, file.width // 2)
    except FAILURES as error:
        raise DataError(f'{path} cannot be opened: {error}') from error
    if crs is None or not crs.is_projected or not math.isfinite(x + y):
        raise DataError(
            f'{path} has no projected coordinate system, so its cell is not known: leave '
            f'group_cell_m= out, or give group_pattern= or a table with a group column'
        )
    return f'{crs.to_epsg() or crs.to_wkt()}:{int(x // side_m)}:{int(y // side_m)}'
