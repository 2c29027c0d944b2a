"""Reads windows of a scene as reflectance: each thread and process has open files of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from torchgeo_aom.data.folder import FAILURES, stored_mask
from torchgeo_aom.errors import DataError

from .layers import Layer, Scene
from .raster import gdal, open_raster

__all__ = ('SceneReader',)

Part = tuple[int, int, int, int]


class SceneReader:
    """Windows of a scene.

    Safe to use from several threads, and to send to other processes: files are opened where they
    are read.

    Args:
        scene: the scene.

    .. versionadded:: 0.1
    """

    def __init__(self, scene: Scene) -> None:
        """Open nothing yet."""
        self.scene = scene
        self._groups = [
            (path, [k for k, layer in enumerate(scene.layers) if layer.path == path])
            for path in scene.files
        ]
        self._reset()

    def _reset(self) -> None:
        self._local = threading.local()
        self._stacks: list[ExitStack] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets the scene, and opens its files itself."""
        return {'scene': self.scene}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start anew."""
        self.__init__(state['scene'])  # type: ignore[misc]

    def close(self) -> None:
        """Close all files; nothing may be reading."""
        with self._lock:
            for stack in self._stacks:
                stack.close()
        self._reset()

    def _file(self, path: str, nearest: bool = False) -> Any:
        """An open file of this thread, on the scene's grid; nearest neighbors on demand."""
        if self._process != os.getpid():
            self._reset()  # after a fork: handles of the other process are not touched
        files: dict[tuple[str, bool | None], Any] | None = getattr(self._local, 'files', None)
        if files is None:
            files = self._local.files = {}
            self._local.stack = ExitStack()
            with self._lock:
                self._stacks.append(self._local.stack)
        if (path, nearest) not in files:
            enter = self._local.stack.enter_context
            if (path, None) not in files:
                files[path, None] = enter(open_raster(path, self.scene.rules))
            file = files[path, None]
            if path in self.scene.resampled:
                file = enter(self._warped(file, path, nearest))
            files[path, nearest] = file
        return files[path, nearest]

    def _empty(self, path: str) -> float | None:
        """Stored value of a file that means "no data"."""
        return next(layer.nodata for layer in self.scene.layers if layer.path == path)

    def _warped(self, file: rasterio.DatasetReader, path: str, nearest: bool) -> WarpedVRT:
        scene = self.scene
        # So that it is not mixed with its neighbors.
        empty = self._empty(path) if file.nodata is None else file.nodata
        if nearest:
            empty = None
        return WarpedVRT(
            file,
            crs=scene.grid.crs,
            src_crs=file.crs,
            transform=scene.grid.transform,
            height=scene.grid.height,
            width=scene.grid.width,
            resampling=Resampling.nearest if nearest else Resampling.bilinear,
            src_nodata=empty,
            nodata=empty,
            add_alpha=empty is None,
            warp_mem_limit=32,
        )

    def read(self, part: Part) -> NDArray[np.float32]:
        """Read a window.

        Args:
            part: first row, first column, height and width in px; it may stick out of the scene.

        Returns:
            Reflectance (C, height, width), NaN where a band has no data.

        Raises:
            DataError: if a file is damaged or gone.
        """
        row, column, height, width = part
        out = np.full((len(self.scene.layers), height, width), np.nan, dtype=np.float32)
        top, left = max(row, 0), max(column, 0)
        bottom = min(row + height, self.scene.grid.height)
        right = min(column + width, self.scene.grid.width)
        if bottom > top and right > left:
            inside = Window(left, top, right - left, bottom - top)
            into = out[:, top - row : bottom - row, left - column : right - column]
            self._fill(into, inside, None)
        return out

    def overview(self, side: int = 1024) -> NDArray[np.float32]:
        """The whole scene, made small, for pictures and statistics.

        Args:
            side: largest height and width in px.

        Returns:
            Reflectance (C, H, W) of pixels taken at even distances, NaN where there is no data.
        """
        grid = self.scene.grid
        factor = max(1.0, grid.height / side, grid.width / side)
        shape = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
        out = np.full((len(self.scene.layers), *shape), np.nan, dtype=np.float32)
        self._fill(out, Window(0, 0, grid.width, grid.height), shape)
        return out

    def _fill(
        self, out: NDArray[np.float32], window: Window, shape: tuple[int, int] | None
    ) -> None:
        """Read all bands of a window that lies inside, into *out*."""
        layers = self.scene.layers
        filled = np.zeros(out.shape, bool)
        with gdal():
            for path, numbers in self._groups:
                own = [layers[k] for k in numbers]
                values, valid = self._values(path, own, window, shape)
                for k, layer, value in zip(numbers, own, values, strict=True):
                    if layer.nodata is not None:
                        filled[k] = value == layer.nodata
                    out[k] = value.astype(np.float64) * layer.scale + layer.offset
                if valid is not None:
                    for k, good in zip(numbers, valid, strict=True):
                        out[k][~good] = np.nan
        if self.scene.nodata_in == 'all':
            filled &= filled.all(0)
        out[filled] = np.nan
        out[~np.isfinite(out)] = np.nan

    def _all_decide(self, path: str) -> bool:
        """Whether a file on another grid has a fill value that may be a measured one, too."""
        known = self._empty(path) is not None and self._local.files[path, None].nodata is None
        return known and path in self.scene.resampled and self.scene.nodata_in == 'all'

    def _values(
        self, path: str, layers: Sequence[Layer], window: Window, shape: tuple[int, int] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        channels = [layer.channel for layer in layers]
        size = None if shape is None else (len(channels), *shape)
        try:
            file = self._file(path)
            values = file.read(channels, window=window, out_shape=size)
            if self._all_decide(path):
                # A 0 that was measured stays one, and none goes into its neighbors.
                near = self._file(path, nearest=True)
                stored = near.read(channels, window=window, out_shape=size)
                values = np.where(stored == self._empty(path), stored, values)
                return values, near.read_masks(channels, window=window, out_shape=size) != 0
            if shape is not None:
                masks = file.read_masks(channels, window=window, out_shape=size)
                return values, masks != 0
            if path in self.scene.resampled:
                return values, file.read_masks(channels, window=window) != 0
            return values, stored_mask(file, channels, window, values)
        except FAILURES as error:
            raise DataError(
                f'{path}: rows {window.row_off} to {window.row_off + window.height}, columns '
                f'{window.col_off} to {window.col_off + window.width} cannot be read '
                f'({error.__cause__ or error}): the file is damaged or gone; get it again'
            ) from error
