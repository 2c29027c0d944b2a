"""What becomes of blended values: maps, probabilities, embeddings; staged, then written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb
from numpy.typing import NDArray

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.plot import PALETTE

from .cog import CogFile, Piece, write_cog
from .grid import Plan
from .outputs import Store
from .place import Grid

__all__ = ('ClassSink', 'EmbeddingSink', 'Sink', 'ValueSink', 'class_colors')

Floats = NDArray[np.float32]


def class_colors(count: int) -> dict[int, tuple[int, int, int]]:
    """A color for each class: those that color-blind readers can tell apart first.

    Args:
        count: number of classes.

    Returns:
        Red, green and blue, 0 to 255.
    """
    colors: list[Sequence[float]] = [to_rgb(color) for color in PALETTE[:count]]
    for k in range(len(colors), count):  # steps of the golden angle are never close
        colors.append(hsv_to_rgb(((k * 0.618) % 1, 0.65, 0.55 + 0.4 * (k % 2))).tolist())
    return {k: tuple(round(255 * x) for x in rgb) for k, rgb in enumerate(colors)}  # type: ignore[misc]


class Sink:
    """One file that a run writes.

    Args:
        name: short name of its pieces.
        path: the file.
    """

    def __init__(self, name: str, path: Path) -> None:
        """Keep both."""
        self.name, self.path = name, path

    def facts(self) -> list[Any]:
        """What its pieces depend on, besides the values."""
        return [type(self).__name__, self.name]

    def stage(self, values: Floats, valid: NDArray[np.bool_]) -> NDArray[Any]:
        """Blended values (K, h, w) and where there are data (h, w), as a piece keeps them."""
        raise NotImplementedError

    def form(self) -> CogFile:
        """What the file looks like."""
        raise NotImplementedError

    def final(self, piece: NDArray[Any]) -> NDArray[Any]:
        """What a piece becomes in the file (count, h, w)."""
        return piece

    def prepare(self, store: Store, plan: Plan) -> None:
        """Look at all pieces before the first is written."""

    def write(self, store: Store, plan: Plan, grid: Grid, tags: Mapping[str, str]) -> None:
        """Make the file of the pieces, all of which are there.

        Raises:
            DataError: if a piece is damaged, or the file cannot be written.
        """
        self.prepare(store, plan)
        write_cog(self.path, self.form(), grid, self._pieces(store, plan), tags)

    def _pieces(self, store: Store, plan: Plan) -> Iterator[Piece]:
        for strip, row in plan.units():
            piece = self.final(store.get(self.name, (strip, row)))
            first, last = plan.span(strip)
            top, bottom = plan.rows.starts[row], plan.rows.end(row)
            if piece.shape[1:] != (bottom - top, last - first):
                store.path(self.name, (strip, row)).unlink(missing_ok=True)
                raise DataError(f'a piece of {self.path} is damaged; run the same again')
            yield top, first, piece


class ClassSink(Sink):
    """The most probable class of each pixel, in the smallest type that holds all classes.

    Args:
        name: short name of its pieces.
        path: the file.
        classes: number of classes.
        names: names of the classes.
        binary: whether the one value is the probability of class 1.
    """

    def __init__(
        self, name: str, path: Path, classes: int, names: Sequence[str] = (), binary: bool = False
    ) -> None:
        """Choose the type."""
        super().__init__(name, path)
        if classes > 65535:
            raise ConfigError(f'{classes} classes do not fit into a map: at most 65,535 do')
        if names and len(names) != classes:
            raise ConfigError(f'{len(names)} names for {classes} classes: give one for each')
        self.classes, self.names, self.binary = classes, tuple(names), binary
        self.dtype = 'uint8' if classes <= 255 else 'uint16'
        self.nodata = 255 if self.dtype == 'uint8' else 65535

    def stage(self, values: Floats, valid: NDArray[np.bool_]) -> NDArray[Any]:
        """The class of each cell (1, h, w)."""
        best = (values >= 0.5) if self.binary else values.argmax(0, keepdims=True)
        return np.where(valid, best, self.nodata).astype(self.dtype)

    def form(self) -> CogFile:
        """One band with a color table."""
        colors = class_colors(self.classes) if self.dtype == 'uint8' else {}
        return CogFile(1, self.dtype, self.nodata, ('class',), colors, averaged=False)


class ValueSink(Sink):
    """Values as they are, float32: probabilities, heights, agreement.

    Args:
        name: short name of its pieces.
        path: the file.
        descriptions: name of each band.
    """

    def __init__(self, name: str, path: Path, descriptions: Sequence[str]) -> None:
        """Keep the names."""
        super().__init__(name, path)
        self.descriptions = tuple(descriptions)

    def stage(self, values: Floats, valid: NDArray[np.bool_]) -> NDArray[Any]:
        """The values, NaN where there are no data."""
        return np.where(valid, values, np.float32(np.nan)).astype(np.float32)

    def form(self) -> CogFile:
        """One band a value."""
        return CogFile(len(self.descriptions), 'float32', np.nan, self.descriptions)


class EmbeddingSink(Sink):
    """Embeddings, kept in half precision; in the file all dimensions, or their main components.

    Args:
        name: short name of its pieces.
        path: the file.
        dimensions: number of dimensions.
        dtype: ``'float16'``, ``'float32'``, or ``'int8'`` with a scale for each band.
        components: number of principal components to write instead of all dimensions.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        dimensions: int,
        dtype: str = 'float16',
        components: int | None = None,
    ) -> None:
        """Check the options."""
        super().__init__(name, path)
        if dtype not in ('float16', 'float32', 'int8'):
            raise ConfigError(f"dtype must be 'float16', 'float32' or 'int8', got {dtype!r}")
        if components is not None and not 1 <= components <= dimensions:
            raise ConfigError(
                f'components must be from 1 to {dimensions}, the dimensions, got {components!r}'
            )
        self.dimensions, self.dtype, self.components = dimensions, dtype, components
        self._mean: Floats = np.zeros(dimensions, np.float32)
        self._axes: Floats | None = None
        self._scales: Floats | None = None

    def stage(self, values: Floats, valid: NDArray[np.bool_]) -> NDArray[Any]:
        """The values, NaN where there are no data."""
        kind = np.float32 if self.dtype == 'float32' else np.float16
        return np.where(valid, values, np.float32(np.nan)).astype(kind)

    def facts(self) -> list[Any]:
        """Type and components do not change pieces, but the precision does."""
        return [*super().facts(), self.dtype == 'float32']

    def prepare(self, store: Store, plan: Plan) -> None:
        """Find the main components, and the scale of each band."""
        if self.components is not None:
            self._find_axes(store, plan)
        if self.dtype == 'int8':
            most = np.zeros(self.count, np.float32)
            for unit in plan.units():
                rows = self._rows(store.get(self.name, unit))
                if len(rows):
                    most = np.maximum(most, np.abs(self._turned(rows)).max(0))
            self._scales = np.where(most > 0, most / 127, 1).astype(np.float32)

    @property
    def count(self) -> int:
        """Number of bands."""
        return self.components or self.dimensions

    def _rows(self, piece: NDArray[Any]) -> Floats:
        """Cells with data (N, D)."""
        rows = piece.reshape(len(piece), -1).T
        return rows[np.isfinite(rows[:, 0])].astype(np.float32)

    def _turned(self, rows: Floats) -> Floats:
        if self._axes is None:
            return rows
        turned: Floats = ((rows - self._mean) @ self._axes).astype(np.float32)
        return turned

    def _find_axes(self, store: Store, plan: Plan) -> None:
        count, total = 0, np.zeros(self.dimensions)
        square = np.zeros((self.dimensions, self.dimensions))
        for unit in plan.units():
            rows = self._rows(store.get(self.name, unit)).astype(np.float64)
            count, total, square = count + len(rows), total + rows.sum(0), square + rows.T @ rows
        mean = total / max(count, 1)
        values, vectors = np.linalg.eigh(square / max(count, 1) - np.outer(mean, mean))
        axes = vectors[:, np.argsort(values)[::-1][: self.components]]
        # An eigenvector's sign is arbitrary: the largest entry is positive.
        axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        self._mean, self._axes = mean.astype(np.float32), axes.astype(np.float32)

    def final(self, piece: NDArray[Any]) -> NDArray[Any]:
        """All dimensions or the components, in the type of the file."""
        _, height, width = piece.shape
        rows = piece.reshape(self.dimensions, -1).T.astype(np.float32)
        empty = ~np.isfinite(rows[:, 0])
        rows = self._turned(rows)
        if self._scales is not None:
            levels: NDArray[Any] = np.where(empty[:, None], -128, np.rint(rows / self._scales))
            return levels.astype(np.int8).T.reshape(self.count, height, width)
        shaped: NDArray[Any] = rows.T.reshape(self.count, height, width)
        return shaped

    def form(self) -> CogFile:
        """One band a dimension."""
        text = 'dimension' if self.components is None else 'component'
        scales = () if self._scales is None else [float(x) for x in self._scales]
        nodata = -128 if self.dtype == 'int8' else np.nan
        names = [f'{text} {k}' for k in range(self.count)]
        return CogFile(self.count, self.dtype, nodata, names, {}, scales)
