"""A picture of a scene beside what became of it, however large both are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from torchgeo_aom.bands import Band
from torchgeo_aom.data.folder import FAILURES
from torchgeo_aom.errors import DataError
from torchgeo_aom.files import replacing

from .layers import Scene
from .outputs import writing
from .raster import gdal
from .reader import SceneReader

__all__ = ('plot_quicklook', 'save_quicklook')

_GRAY = '#9a9a9a'
_RGB = (3.0, 2.0, 1.0)


def _composite(scene: Scene, side: int) -> tuple[NDArray[Any], str]:
    """Picture of a scene (H, W, 4), see-through where there is no data, and what it shows."""
    bands = scene.bands
    chosen = _shown(bands)
    reader = SceneReader(scene.select([bands[k] for k in chosen]))
    try:
        values = reader.overview(side)
    finally:
        reader.close()
    valid = np.isfinite(values).all(0)
    picture = np.zeros((*values.shape[1:], 4))
    for channel, plane in enumerate(values[[k % len(values) for k in range(3)]]):
        if valid.any():
            low, high = np.percentile(plane[valid], (2, 98))
            picture[..., channel] = np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
    picture[~valid, :3] = 0
    picture[..., 3] = valid
    return picture, ' '.join(bands[k].name for k in chosen)


def _shown(bands: Sequence[Band]) -> list[int]:
    """Red, green and blue where they are there, else bands far apart."""
    near = [min(range(len(bands)), key=lambda k: abs(bands[k].index - i)) for i in _RGB]
    if all(abs(bands[k].index - i) < 0.5 for k, i in zip(near, _RGB, strict=True)):
        return near
    if len(bands) < 3:
        return [0]
    return [len(bands) - 1, len(bands) // 2, 0]


def plot_quicklook(scene: Scene, path: str | Path, side: int = 1024) -> Figure:
    """Plot a scene and a file that was made of it, both made small.

    Args:
        scene: the scene.
        path: the file: a map, probabilities, values or an embedding.
        side: largest height and width that is read, in px.

    Returns:
        The figure.

    Raises:
        DataError: if a file cannot be read.
    """
    picture, shown = _composite(scene, side)
    try:
        with gdal(), rasterio.open(path, driver='GTiff') as file:
            factor = max(1.0, file.height / side, file.width / side)
            shape = max(1, round(file.height / factor)), max(1, round(file.width / factor))
            values = file.read(out_shape=(file.count, *shape), masked=True)
            scales = np.array(file.scales)[:, None, None]
            colors = file.colormap(1) if file.dtypes[0] in ('uint8', 'uint16') else {}
            tags, names = file.tags(), file.descriptions
            # A last cell may stick out of the scene.
            extent = (0, file.width, file.height, 0)
            cell = file.transform.a / scene.grid.transform.a if scene.grid.transform.a else 1.0
    except FAILURES as error:
        raise DataError(f'{path} cannot be read: {error}') from error
    figure = Figure(figsize=(13, 6.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.imshow(picture, extent=(0, scene.grid.width / cell, scene.grid.height / cell, 0))
    left.set_title(f'{scene.name}: {shown}', fontsize=10)
    if colors:
        _map(right, values[0], colors, tags, extent)
    elif len(values) == 1:
        image = right.imshow(values[0] * scales[0], extent=extent, interpolation='none')
        figure.colorbar(image, ax=right, shrink=0.8, label=names[0] or 'value')
    else:
        right.imshow(_three(values * scales), extent=extent, interpolation='none')
    kind = 'first three components as red, green, blue' if len(values) > 1 else ''
    right.set_title(f'{Path(path).name} {kind}', fontsize=10)
    for axes in (left, right):
        axes.set_facecolor(_GRAY)
        axes.set_xlim(0, extent[1])
        axes.set_ylim(extent[2], 0)
        axes.set_xticks([])
        axes.set_yticks([])
    weights = tags.get('AOM_WEIGHTS', '')
    facts = f'{tags.get("AOM_BANDS", "")}; weights {weights}; no data is gray'
    figure.suptitle(facts[:160], fontsize=9, x=0.01, ha='left')
    return figure


def _map(
    axes: Axes, values: Any, colors: dict[int, Any], tags: dict[str, str], extent: Any
) -> None:
    """Classes in the colors of the file, and a legend of those that occur."""
    names = tags.get('AOM_CLASSES', '').split(', ')
    seen = [int(k) for k in np.unique(values.compressed())]
    most = max(colors) + 1
    table = [np.array(colors.get(k, (0, 0, 0, 255)))[:3] / 255 for k in range(most)]
    axes.imshow(
        values, cmap=ListedColormap(table), vmin=-0.5, vmax=most - 0.5, extent=extent,
        interpolation='none',
    )  # fmt: skip
    handles = [
        Patch(
            facecolor=tuple(table[k]), edgecolor='black',
            label=names[k] if k < len(names) and names[k] else f'class {k}',
        )
        for k in seen[:20]
    ]  # fmt: skip
    axes.legend(handles=handles, loc='upper left', bbox_to_anchor=(1, 1), fontsize=9)


def _three(values: Any) -> NDArray[Any]:
    """Three main components of many bands as a picture (H, W, 4)."""
    data = values.filled(np.nan).astype(np.float64)
    rows = data.reshape(len(data), -1).T
    valid = np.isfinite(rows).all(1)
    picture = np.zeros((rows.shape[0], 4))
    if valid.any():
        centered = rows[valid] - rows[valid].mean(0)
        if centered.shape[1] > 3:
            _, axes = np.linalg.eigh(centered.T @ centered)
            centered = centered @ axes[:, ::-1][:, :3]
        low, high = np.percentile(centered, (2, 98), axis=0)
        shown = np.clip((centered - low) / np.maximum(high - low, 1e-12), 0, 1)
        picture[valid, : shown.shape[1]] = shown
        picture[valid, 3] = 1
    return picture.reshape(*data.shape[1:], 4)


def save_quicklook(scene: Scene, path: str | Path, output: str | Path, side: int = 1024) -> None:
    """Write the picture of :func:`plot_quicklook` as PNG, whole or not at all.

    Args:
        scene: the scene.
        path: the file that was made of it.
        output: the PNG to write.
        side: largest height and width that is read, in px.
    """
    output = Path(output)
    figure = plot_quicklook(scene, path, side)
    with writing(output), replacing(output) as part:
        figure.savefig(part, dpi=130, format='png')
