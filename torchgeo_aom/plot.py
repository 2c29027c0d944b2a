"""Figures: scores against bands, and maps beside their labels; each returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from torchgeo_aom.errors import InputError

__all__ = ('PALETTE', 'plot_demo', 'plot_maps', 'plot_scores')

#: Okabe and Ito's colors, which color-blind readers can tell apart.
PALETTE = ('#E69F00', '#0072B2', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#000000', '#F0E442')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
IGNORED = '#7F7F7F'
TOP = 108  # of an axis of percents: room for the label of 100

Score = tuple[float, float]


def plot_scores(
    groups: Sequence[str],
    series: Mapping[str, Sequence[Score]],
    *,
    title: str,
    ylabel: str,
    xlabel: str = 'set of bands',
    levels: Mapping[str, float] | None = None,
    note: str = '',
    figure: FigureBase | None = None,
) -> FigureBase:
    """Plot scores of several methods, one group of points for each set of bands.

    What nobody has trained, ``random`` or with ``(random)`` in its name, is drawn hollow. A score
    that is NaN leaves its place empty.

    Args:
        groups: names of the groups, for example of the sets of bands.
        series: for each method its (score, spread) in each group, from 0 to 1.
        title: what was measured.
        ylabel: the score and its unit; values are shown in percent.
        xlabel: what the groups are.
        levels: horizontal lines to compare with, for example chance.
        note: text under the legend, such as what the bars mean.
        figure: figure or part of one to draw in; a new one where not given.

    Returns:
        The figure.

    Raises:
        InputError: if a method has not one score for each group.

    .. versionadded:: 0.1
    """
    for name, scores in series.items():
        if len(scores) != len(groups):
            raise InputError(
                f'{name!r} has {len(scores)} scores for {len(groups)} groups of bands.'
            )
    if figure is None:
        # Room for a label of three digits beside the next one.
        width = max(7, 1.2 + 0.25 * len(groups) * (len(series) + 1))
        figure = Figure(figsize=(width, 4.5), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(groups))
    step = min(0.16, 0.85 / max(len(series), 1))
    for k, (name, scores) in enumerate(series.items()):
        shift = step * (k - (len(series) - 1) / 2)
        values, spread = 100 * np.asarray(scores, dtype=float).reshape(-1, 2).T
        color = PALETTE[k % len(PALETTE)]
        hollow = name == 'random' or '(random)' in name
        axes.errorbar(
            places + shift, values, yerr=np.where(spread > 0, spread, np.nan), label=name,
            linestyle='none', color=color, marker=MARKERS[k % len(MARKERS)], markersize=8,
            markerfacecolor='white' if hollow else color,
            markeredgecolor=color if hollow else 'black', capsize=3,
        )  # fmt: skip
        _label_values(axes, places + shift, values, spread)
    for (name, level), dash in zip((levels or {}).items(), ('--', ':', '-.') * 3, strict=False):
        axes.axhline(100 * level, color='black', linewidth=1, linestyle=dash, label=name)
    axes.set_xticks(places, groups)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(0, TOP)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, loc='left')
    axes.grid(axis='y', color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower left', ncols=2, fontsize=9, title=note, alignment='left')
    return figure


def _label_values(
    axes: Axes, places: NDArray[Any], values: NDArray[Any], spread: NDArray[Any]
) -> None:
    """Write values above their error bars, where no marker beside them can hide them."""
    for place, value, half in zip(places, values, spread, strict=True):
        if np.isfinite(value):
            height = min(value + np.nan_to_num(half), 100)
            axes.annotate(
                f'{value:.0f}', (place, height), (0, 5 if half > 0 else 7), va='bottom',
                ha='center', textcoords='offset points', fontsize=8, zorder=5,
                path_effects=[withStroke(linewidth=2, foreground='white')],
            )  # fmt: skip


def plot_maps(
    rows: Sequence[str],
    columns: Mapping[str, Sequence[ArrayLike]],
    classes: Sequence[str],
    colors: Sequence[str],
    *,
    title: str,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Plot pictures and class maps of several places side by side.

    Args:
        rows: names of the places.
        columns: for each column one array a place: a picture (H, W, 3), or a map (H, W) of class
            numbers, where numbers that are no class are shown gray.
        classes: names of the classes.
        colors: colors of the classes.
        title: what the columns show.
        figure: figure or part of one to draw in; a new one where not given.

    Returns:
        The figure.

    Raises:
        InputError: if a column has not one array for each place.

    .. versionadded:: 0.1
    """
    for name, arrays in columns.items():
        if len(arrays) != len(rows):
            raise InputError(f'Column {name!r} has {len(arrays)} arrays for {len(rows)} places.')
    if figure is None:
        size = (1.6 * len(columns) + 1, 2.0 * len(rows) + 1)
        figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    seen: set[int] = set()
    for column, (name, arrays) in enumerate(columns.items()):
        panels[0, column].set_title(name, fontsize=10)
        for row, array in enumerate(arrays):
            values = np.asarray(array)
            if values.ndim == 2:
                seen |= set(np.unique(values).tolist())
            _show(panels[row, column], values, colors)
    for row, name in enumerate(rows):
        panels[row, 0].set_ylabel(name, fontsize=9)
    handles = [
        Patch(facecolor=colors[k], edgecolor='black', label=classes[k])
        for k in sorted(seen)
        if 0 <= k < len(classes)
    ]
    if len(handles) < len(seen):
        handles.append(Patch(facecolor=IGNORED, edgecolor='black', label='no label'))
    figure.suptitle(title, x=0.01, ha='left')
    figure.legend(handles=handles, loc='outside lower left', ncols=4, fontsize=9)
    return figure


def _show(axes: Axes, values: np.ndarray[Any, Any], colors: Sequence[str]) -> None:
    if values.ndim == 2:
        known = (values >= 0) & (values < len(colors))
        axes.imshow(
            np.ma.masked_where(~known, values),
            cmap=ListedColormap(list(colors)).with_extremes(bad=IGNORED),
            vmin=-0.5,
            vmax=len(colors) - 0.5,
            interpolation='none',
        )
    else:
        axes.imshow(values)
    axes.set_xticks([])
    axes.set_yticks([])


def plot_demo(
    probe: Mapping[str, Any], dense: Mapping[str, Any], maps: Mapping[str, Any], title: str
) -> Figure:
    """Plot the result of the demo: scores on the left, maps on the right.

    Args:
        probe: arguments of :func:`plot_scores` for the linear probe.
        dense: arguments of :func:`plot_scores` for the segmentation.
        maps: arguments of :func:`plot_maps`.
        title: title of the figure.

    Returns:
        The figure.

    .. versionadded:: 0.1
    """
    figure = Figure(figsize=(16, 11), layout='constrained')
    figure.suptitle(title, fontsize=14)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.15, 1), wspace=0.03)[0]
    (top,), (bottom,) = left.subfigures(2, 1, squeeze=False, hspace=0.05)
    plot_scores(**probe, figure=top)
    plot_scores(**dense, figure=bottom)
    plot_maps(**maps, figure=right)
    return figure
