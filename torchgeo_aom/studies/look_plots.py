"""Figures of what an AOM sees (Figures 4 and 6 of the paper, attention, band tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .plots import tidy

__all__ = ('plot_attention', 'plot_band_maps', 'plot_components', 'plot_regions')

Picture = NDArray[Any]


def _bare(axes: Any, title: str = '') -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9)


def _extent(shape: tuple[int, ...], patch_size: int) -> tuple[float, float, float, float]:
    """Where a map of patches lies on its image, in px."""
    return -0.5, shape[1] * patch_size - 0.5, shape[0] * patch_size - 0.5, -0.5


def _crop(axes: Any, picture: Picture) -> None:
    """Show what lies on the image only."""
    height, width = picture.shape[:2]
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def plot_band_maps(
    image: Picture, maps: Picture, bands: Sequence[str], *, title: str, patch_size: int
) -> Figure:
    """Plot each band beside its token map (Figure 4).

    Args:
        image: the bands, (C, H, W).
        maps: their token maps, (C, Nh, Nw).
        bands: names of the bands.
        title: title of the figure.
        patch_size: in px.

    Returns:
        The figure.
    """
    across = 4
    rows = -(-len(bands) // across)
    figure = Figure(figsize=(3.3 * across, 1.9 * rows + 1), layout='constrained')
    figure.suptitle(title, x=0.01, ha='left')
    grid = figure.subplots(rows, 2 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    shown: Any = None
    for k, name in enumerate(bands):
        left, right = grid[k // across, 2 * (k % across) : 2 * (k % across) + 2]
        low, high = np.percentile(image[k], (2, 98))
        left.imshow(image[k], cmap='gray', vmin=low, vmax=high)
        scaled = (maps[k] - maps[k].min()) / max(float(np.ptp(maps[k])), 1e-9)
        shown = right.imshow(scaled, cmap='viridis', vmin=0, vmax=1)
        for axes, text in ((left, name), (right, 'tokens')):
            axes.set_axis_on()
            _bare(axes, text)
    label = f'length of the token of {patch_size} px (each band from its least to its most)'
    figure.colorbar(shown, ax=grid, location='bottom', shrink=0.4, aspect=40, label=label)
    return figure


def plot_regions(
    picture: Picture, maps: Mapping[str, Mapping[int, Picture]], *, title: str
) -> Figure:
    """Plot key regions of the final map at several patch sizes (Figure 6).

    Args:
        picture: the image for people, (H, W, 3).
        maps: for each model, maps (Nh, Nw) by patch size.
        title: title of the figure.

    Returns:
        The figure.
    """
    sizes = list(next(iter(maps.values())))
    figure = Figure(figsize=(2.4 * (len(sizes) + 1), 2.6 * len(maps) + 1), layout='constrained')
    figure.suptitle(title, x=0.01, ha='left')
    grid = figure.subplots(len(maps), len(sizes) + 1, squeeze=False)
    shown: Any = None
    for row, (model, own) in zip(grid, maps.items(), strict=True):
        row[0].imshow(picture)
        _bare(row[0], 'image')
        row[0].set_ylabel(model, fontsize=8)
        for axes, (size, values) in zip(row[1:], own.items(), strict=True):
            scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
            axes.imshow(picture)
            shown = axes.imshow(
                scaled, cmap='magma', alpha=0.65, vmin=0, vmax=1, interpolation='nearest',
                extent=_extent(values.shape, size),
            )  # fmt: skip
            _crop(axes, picture)
            _bare(axes, f'patches of {size} px')
    label = 'distance of the place from the mean of all places (from least to most)'
    figure.colorbar(shown, ax=grid, location='bottom', shrink=0.4, aspect=40, label=label)
    return figure


def plot_attention(
    weights: Picture, grid_size: tuple[int, int], picture: Picture, bands: Sequence[str], *,
    title: str, patch_size: int,
) -> Figure:  # fmt: skip
    """Plot attention over bands and over places.

    Args:
        weights: (C, N, C, N), see :func:`~torchgeo_aom.studies.look.attention`.
        grid_size: rows and columns of places, Nh and Nw.
        picture: the image for people, (H, W, 3).
        bands: names of the bands.
        title: title of the figure.
        patch_size: in px; places at the right and bottom may reach beyond the image.

    Returns:
        The figure.
    """
    between = weights.sum(3).mean(1)  # (C, C): sums to 1 over the second axis
    received = weights.mean((0, 1)).sum(0).reshape(grid_size)  # of each place
    figure = Figure(figsize=(13, 5.4), layout='constrained')
    figure.suptitle(title, x=0.01, ha='left')
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
    shown = left.imshow(100 * between, cmap='viridis')
    left.set_xticks(range(len(bands)), bands, rotation=90, fontsize=8)
    left.set_yticks(range(len(bands)), bands, fontsize=8)
    left.set_xlabel('to band')
    left.set_ylabel('from band')
    even = 100 / len(bands)
    figure.colorbar(shown, ax=left, shrink=0.8, label=f'attention (%; evenly: {even:.1f})')
    middle.imshow(picture)
    _bare(middle, 'image')
    shown = right.imshow(
        received * received.size, cmap='magma', extent=_extent(received.shape, patch_size)
    )
    for axes in (middle, right):
        _crop(axes, picture)
    _bare(right, 'places that attention goes to')
    figure.colorbar(shown, ax=right, shrink=0.8, label='attention (times an even share)')
    return figure


def plot_components(
    components: Picture, share: Picture, bands: Sequence[str], wavelengths: Sequence[float], *,
    title: str,
) -> Figure:  # fmt: skip
    """Plot band tokens of many images by two principal components.

    Args:
        components: (N, C, 2).
        share: share of the variance of each component, (2,).
        bands: names of the bands.
        wavelengths: of the bands in nm, for their color.
        title: title of the figure.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 6), layout='constrained')
    axes = figure.subplots()
    order = np.argsort(np.argsort(wavelengths))
    shown: Any = None
    for k in range(len(bands)):
        shown = axes.scatter(
            components[:, k, 0], components[:, k, 1], s=8, alpha=0.5,
            c=np.full(len(components), order[k]), cmap='turbo', vmin=0, vmax=len(bands) - 1,
        )  # fmt: skip
    bar = figure.colorbar(shown, ax=axes, label='band, by wavelength')
    bar.solids.set_alpha(1)  # type: ignore[union-attr]
    bar.set_ticks(sorted(order.tolist()), labels=[bands[k] for k in np.argsort(wavelengths)])
    tidy(
        axes, title, f'first component ({100 * share[0]:.0f} % of the variance)',
        f'second component ({100 * share[1]:.0f} %)',
    )  # fmt: skip
    return figure
