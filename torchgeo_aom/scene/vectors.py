"""One vector a window as GeoParquet: written piece by piece, read back for searches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.files import replacing

from .grid import Plan
from .outputs import Store, writing
from .pipeline import Collector
from .place import Grid, scale

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ('VectorSink', 'read_vectors', 'write_frame')

_FACTS = 3  # row, column and share of valid cells stand before each vector


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "GeoParquet needs the package pyarrow: pip install 'torchgeo_aom[scene]'"
        ) from error
    return pyarrow


class VectorSink(Collector):
    """One vector a window.

    Args:
        name: short name of its pieces.
        path: the GeoParquet file.
        dimensions: length of a vector.
        scene: name of the scene, a column.
        size: height and width of the scene in px, which windows may stick out of.
    """

    def __init__(
        self, name: str, path: Path, dimensions: int, scene: str, size: tuple[int, int]
    ) -> None:
        """Check that the package is there, before anything is computed."""
        super().__init__(name, path)
        _pyarrow()
        self.dimensions, self.scene, self.size = dimensions, scene, size

    def keep(
        self, rows: Sequence[NDArray[np.float32]], store: Store, unit: tuple[int, int]
    ) -> None:
        """Keep the vectors of a unit, with the numbers of their windows."""
        empty = np.zeros((0, _FACTS + self.dimensions), np.float32)
        store.put(self.name, unit, np.stack(rows) if rows else empty)

    def write(self, store: Store, plan: Plan, grid: Grid, tags: Mapping[str, str]) -> None:
        """Write the file, one group of rows for each unit with vectors."""
        arrow = _pyarrow()
        schema = self._schema(arrow, grid, tags, plan)
        pixels = replace(grid, transform=scale(grid.transform, 1 / plan.cell))
        with writing(self.path), replacing(self.path) as part:
            with arrow.parquet.ParquetWriter(part, schema, compression='zstd') as file:
                for unit in plan.units():
                    rows = store.get(self.name, unit)
                    if len(rows):
                        file.write_table(self._table(arrow, schema, rows, plan, pixels))

    def _table(
        self, arrow: Any, schema: Any, rows: NDArray[np.float32], plan: Plan, pixels: Grid
    ) -> Any:
        import shapely

        numbers = rows[:, :2].astype(int)
        boxes = [self._outline(plan, pixels, row, column) for row, column in numbers]
        wkb = shapely.to_wkb(shapely.polygons(np.array(boxes)))
        flat = arrow.array(np.ascontiguousarray(rows[:, _FACTS:]).reshape(-1))
        columns = {
            'scene': [self.scene] * len(rows),
            'row': numbers[:, 0],
            'column': numbers[:, 1],
            'valid_share': rows[:, 2],
            'vector': arrow.FixedSizeListArray.from_arrays(flat, self.dimensions),
            'geometry': list(wkb),
        }
        return arrow.table(columns, schema=schema)

    def _outline(
        self, plan: Plan, pixels: Grid, row: int, column: int
    ) -> list[tuple[float, float]]:
        """Corners of a window, cut to the scene, in the coordinates of the scene."""
        top, left = plan.rows.starts[row] * plan.cell, plan.columns.starts[column] * plan.cell
        bottom = min(top + plan.chip[0], self.size[0])
        right = min(left + plan.chip[1], self.size[1])
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return [pixels.at(*corner) for corner in corners]

    def _schema(self, arrow: Any, grid: Grid, tags: Mapping[str, str], plan: Plan) -> Any:
        column: dict[str, Any] = {'encoding': 'WKB', 'geometry_types': ['Polygon']}
        column['crs'] = None
        if grid.crs is not None:
            import pyproj

            column['crs'] = pyproj.CRS.from_user_input(grid.crs.to_wkt()).to_json_dict()
        geo = {'version': '1.0.0', 'primary_column': 'geometry', 'columns': {'geometry': column}}
        fields = [
            ('scene', arrow.string()),
            ('row', arrow.int64()),
            ('column', arrow.int64()),
            ('valid_share', arrow.float32()),
            ('vector', arrow.list_(arrow.float32(), self.dimensions)),
            ('geometry', arrow.binary()),
        ]
        facts = {**tags, 'geo': json.dumps(geo)}
        return arrow.schema(fields, metadata=facts)


def read_vectors(path: str | Path) -> tuple[GeoDataFrame, NDArray[np.float32], dict[str, str]]:
    """Read vectors that :class:`VectorSink` wrote.

    Args:
        path: the GeoParquet file.

    Returns:
        A GeoDataFrame without the vectors, the vectors (N, D), and the tags of the file.

    Raises:
        ConfigError: if pyarrow is missing.
        DataError: if it cannot be read, or holds no vectors.

    .. versionadded:: 0.1
    """
    arrow = _pyarrow()
    import geopandas

    try:
        meta = arrow.parquet.read_schema(path).metadata or {}
        frame = geopandas.read_parquet(path)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise DataError(f'{path} cannot be read as GeoParquet: {error}') from error
    if 'vector' not in frame or not len(frame):
        raise DataError(
            f'{path} has no vectors: give a file that scene embed --vectors has written'
        )
    tags = {k.decode(): v.decode() for k, v in meta.items() if k.startswith(b'AOM_')}
    vectors = np.stack(frame.pop('vector').to_numpy()).astype(np.float32)
    return frame, vectors, tags


def write_frame(frame: GeoDataFrame, path: Path) -> None:
    """Write a GeoDataFrame as GeoParquet, whole or not at all.

    Raises:
        DataError: if it cannot be written.
    """
    _pyarrow()
    with writing(path), replacing(path) as part:
        frame.to_parquet(part)
