"""The windows most like a given place, among those of any number of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.files import replacing

from .outputs import check_output, writing
from .vectors import read_vectors, write_frame

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ('plot_similar', 'similar_places', 'similarities')

# What must be the same for vectors to be comparable.
_SAME = {'AOM_WEIGHTS_SHA256': '', 'AOM_PATCH_SIZE': '', 'AOM_SPEED': 'exact'}  # where not said


def similarities(
    vectors: NDArray[np.float32],
    query: int,
    scenes: Sequence[str | int] | None = None,
    center: bool = True,
) -> NDArray[np.float32]:
    """Cosine similarity of vectors with one of them.

    Args:
        vectors: vectors (N, D).
        query: number of the one.
        scenes: scene of each vector, a name or a number, where there are several.
        center: whether the mean of each scene is taken away before; else what a scene has in common
            (the season, the light, the sensor) makes all of its windows alike.

    Returns:
        Similarities (N,), from -1 to 1.
    """
    rows = vectors.astype(np.float64)
    if center:
        groups = np.zeros(len(rows)) if scenes is None else np.asarray(scenes)
        alone = rows.mean(0)
        for group in np.unique(groups):
            own = groups == group
            rows[own] -= rows[own].mean(0) if own.sum() > 1 else alone
    norms = np.linalg.norm(rows, axis=1)
    return (rows @ rows[query] / np.maximum(norms * norms[query], 1e-12)).astype(np.float32)


def similar_places(
    paths: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    at: tuple[float, float],
    lonlat: bool = False,
    count: int = 20,
    center: bool = True,
    figure: str | Path | None = None,
    overwrite: bool = False,
) -> GeoDataFrame:
    """Find the windows most like the one at a place.

    Args:
        paths: GeoParquet files of ``embed_scene(..., vectors=...)``, the place in the first.
        output: GeoParquet file to write: geometry, scene, similarity.
        at: coordinates of the place.
        lonlat: whether these are longitude and latitude; else they are those of the first file.
        count: number of windows wanted.
        center: see :func:`similarities`.
        figure: PNG to write.
        overwrite: whether existing files are replaced.

    Returns:
        The windows, the most similar first; the first is the one at the place.

    Raises:
        ConfigError: if the place lies in no window, or files were made with different models.
        DataError: if a file cannot be read, or holds no vectors.

    .. versionadded:: 0.1
    """
    import geopandas
    import pandas

    files = [str(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    out = check_output(output, tuple(files), overwrite)
    picture = None if figure is None else check_output(figure, tuple(files), overwrite)
    if count < 1:
        raise ConfigError(f'count must be at least 1, got {count}')
    read = [read_vectors(path) for path in files]
    frames, vectors = _joined(files, read)
    query = _window_at(frames[0], at, lonlat)
    everything = geopandas.GeoDataFrame(pandas.concat(frames, ignore_index=True))
    # By file: two dates of a place may be called the same.
    numbers = [k for k, frame in enumerate(frames) for _ in range(len(frame))]
    everything['similarity'] = similarities(vectors, query, numbers, center)
    order = everything.sort_values('similarity', ascending=False, kind='stable').index
    best = [query, *[k for k in order if k != query]][: count + 1]
    found = everything.loc[best].reset_index(drop=True)
    if picture is not None:
        plotted = plot_similar(everything, found, f'most like the window at {at[0]:g}, {at[1]:g}')
        with writing(picture), replacing(picture) as part:
            plotted.savefig(part, dpi=130, format='png')
    write_frame(found, out)
    return found


def _joined(files: Sequence[str], read: Sequence[Any]) -> tuple[list[Any], NDArray[np.float32]]:
    """Windows of all files, in the coordinate system of the first."""
    first, vectors, tags = read[0]
    frames, arrays = [first], [vectors]
    for path, (frame, more, own) in zip(files[1:], read[1:], strict=True):
        for key, unsaid in _SAME.items():
            one, other = own.get(key, unsaid), tags.get(key, unsaid)
            if one != other:
                raise ConfigError(
                    f'{path} and {files[0]} cannot be compared: {key} is {one} and {other}. Embed '
                    'both with the same weights, patch size and speed'
                )
        if more.shape[1] != vectors.shape[1]:
            raise DataError(f'{path} has vectors of {more.shape[1]}, {files[0]} of another length')
        if frame.crs != first.crs:
            if frame.crs is None or first.crs is None:
                raise ConfigError(f'{path} and {files[0]}: only one has a coordinate system')
            frame = frame.to_crs(first.crs)
        frames.append(frame)
        arrays.append(more)
    return frames, np.concatenate(arrays)


def _window_at(frame: GeoDataFrame, at: tuple[float, float], lonlat: bool) -> int:
    """Number of the window of the first file whose center is nearest, of those at the place."""
    import geopandas

    points = geopandas.GeoSeries.from_xy([at[0]], [at[1]], crs='EPSG:4326' if lonlat else frame.crs)
    if lonlat:
        if frame.crs is None:
            raise ConfigError('the first file has no coordinate system, so degrees mean nothing')
        points = points.to_crs(frame.crs)
    point = points.iloc[0]
    inside = np.flatnonzero(frame.intersects(point))
    if not len(inside):
        box = ', '.join(f'{value:.9g}' for value in frame.total_bounds)
        raise ConfigError(
            f'there is no window at {point.x:.9g}, {point.y:.9g}: the first file covers ({box})'
        )
    boxes = frame.bounds.to_numpy()[inside]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return int(inside[np.linalg.norm(centers - (point.x, point.y), axis=1).argmin()])


def plot_similar(everything: GeoDataFrame, found: GeoDataFrame, title: str) -> Figure:
    """Plot the similarity of all windows, one panel a scene, and outline those found.

    Args:
        everything: all windows, with ``similarity`` and ``scene``.
        found: the most similar ones, the place itself first.
        title: what was searched for.

    Returns:
        The figure.
    """
    scenes = list(dict.fromkeys(everything['scene']))[:12]
    columns = min(len(scenes), 4)
    rows = -(-len(scenes) // columns)
    figure = Figure(figsize=(4.2 * columns + 1.2, 4 * rows + 0.6), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = np.percentile(everything['similarity'], (2, 99))
    marks = None
    for axes, scene in zip(panels, scenes, strict=False):
        part = everything[everything['scene'] == scene].sort_values('similarity')
        outlines = [np.array(shape.exterior.coords) for shape in part.geometry]
        # Overlapping windows: the middle of each is shown, the most similar on top.
        shown = [box.mean(0) + (box - box.mean(0)) * 0.75 for box in outlines]
        marks = PolyCollection(shown, array=part['similarity'], cmap='viridis', clim=(low, high))
        axes.add_collection(marks)
        own = found[found['scene'] == scene]
        boxes = [np.array(shape.exterior.coords) for shape in own.geometry]
        edges = PolyCollection(boxes, facecolors='none', edgecolors='#D55E00', linewidths=1.5)
        axes.add_collection(edges)
        if found['scene'].iloc[0] == scene:
            center = found.geometry.iloc[0].centroid
            axes.plot(center.x, center.y, '*', color='white', markeredgecolor='black', ms=14)
        axes.autoscale_view()
        axes.set_aspect('equal')
        axes.set_title(str(scene)[:44], fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in panels[len(scenes) :]:
        axes.set_axis_off()
    if marks is not None:
        figure.colorbar(marks, ax=list(panels), label='cosine similarity', shrink=0.8)
    figure.suptitle(f'{title} (star); outlined: the {len(found) - 1} most similar', fontsize=11)
    return figure
