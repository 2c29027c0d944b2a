"""Figures of studies of bands; each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..plot import MARKERS, PALETTE

__all__ = ('plot_greedy', 'plot_missing', 'plot_shares', 'plot_sizes', 'style', 'tidy')

#: number of bands -> (mean, half the interval, lowest, highest), from 0 to 1
Curve = Mapping[int, tuple[float, float, float, float]]


def tidy(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Name the axes and leave out what is not needed."""
    axes.set_title(title, loc='left', fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(axis='y', color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


def style(k: int, hollow: bool) -> dict[str, Any]:
    """Color and marker of the k-th line; hollow and dashed for what nobody has trained."""
    color = PALETTE[k % len(PALETTE)]
    return {
        'color': color, 'marker': MARKERS[k % len(MARKERS)], 'markeredgecolor': color,
        'markerfacecolor': 'white' if hollow else color, 'linestyle': '--' if hollow else '-',
    }  # fmt: skip


def plot_sizes(
    curves: Mapping[str, Curve], *, title: str, ylabel: str, note: str = '', chance: float = 0.0
) -> Figure:
    """Plot the score against the number of bands (Figure 3 of the paper).

    Args:
        curves: for each model, by number of bands: mean, half the interval, lowest and highest
            score. Models with ``(random)`` in their name are drawn hollow and dashed.
        title: what was measured.
        ylabel: the score and its unit; values are shown in percent.
        note: title of the legend.
        chance: score without any band.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 5.2), layout='constrained')
    axes = figure.subplots()
    for k, (name, curve) in enumerate(curves.items()):
        sizes = sorted(curve)
        values = 100 * np.array([curve[size] for size in sizes], dtype=float)
        look = style(k, '(random)' in name)
        axes.plot(sizes, values[:, 0], label=name, markersize=6, **look)
        low, high = values[:, 0] - values[:, 1], values[:, 0] + values[:, 1]
        axes.fill_between(sizes, low, high, color=look['color'], alpha=0.2, linewidth=0)
    axes.axhline(
        100 * chance, color='black', linewidth=1, linestyle=':', label='most frequent class'
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 100)
    tidy(axes, title, 'number of bands', ylabel)
    figure.legend(loc='outside lower left', ncols=2, fontsize=9, title=note, alignment='left')
    return figure


def plot_missing(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], *, title: str, ylabel: str
) -> Figure:
    """Plot what becomes of the score where bands are missing, one panel a model.

    Args:
        panels: for each model and each way, the score by number of bands; ways that begin with
            ``missing at test`` are dashed.
        title: what was measured.
        ylabel: the score and its unit.

    Returns:
        The figure.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows + 1.2), layout='constrained')
    figure.suptitle(title, x=0.01, ha='left')
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    names = list(dict.fromkeys(way for ways in panels.values() for way in ways))
    handles: dict[str, Any] = {}
    for axes, (model, ways) in zip(grid.flat, panels.items(), strict=False):
        for way, curve in ways.items():
            look = style(names.index(way), way.startswith('missing at test'))
            sizes = sorted(curve)
            scores = [100 * curve[size] for size in sizes]
            handles[way] = axes.plot(sizes, scores, label=way, markersize=5, **look)[0]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, 100)
        first = axes in grid[:, 0]
        tidy(axes, model, 'number of bands that there are', ylabel if first else '')
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc='outside lower left', ncols=2, fontsize=9)
    return figure


def plot_shares(
    bands: Sequence[str],
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str,
    xlabel: str,
    note: str,
) -> Figure:
    """Plot what each band adds, as bars with error bars.

    Args:
        bands: names of the bands.
        series: for each model the shares (C,) and half the width of their error bars (C,), from 0
            to 1.
        title: what was measured.
        xlabel: the share and its unit; values are shown in percentage points.
        note: what the error bars mean.

    Returns:
        The figure.
    """
    height = 0.28 * len(bands) * max(len(series), 1) + 2
    figure = Figure(figsize=(8, min(max(height, 3.5), 14)), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(bands))
    width = 0.8 / max(len(series), 1)
    for k, (name, (mean, error)) in enumerate(series.items()):
        shift = width * (k - (len(series) - 1) / 2)
        hatch = '//' if '(random)' in name else ''
        axes.barh(
            places + shift, 100 * np.asarray(mean), width, label=name, hatch=hatch,
            xerr=100 * np.nan_to_num(np.asarray(error, dtype=float)), capsize=2,
            color=PALETTE[k % len(PALETTE)], edgecolor='white',
            error_kw={'linewidth': 1, 'ecolor': 'black'},
        )  # fmt: skip
        # A bar of no length has no color: the point says whose error bar it is.
        axes.plot(
            100 * np.asarray(mean), places + shift, color=PALETTE[k % len(PALETTE)], marker='o',
            markersize=4, markeredgecolor='black', markeredgewidth=0.7, linestyle='none',
        )  # fmt: skip
    axes.axvline(0, color='black', linewidth=1)
    axes.set_yticks(places, bands)
    axes.invert_yaxis()
    tidy(axes, title, xlabel, 'band')
    axes.grid(axis='y', visible=False)
    axes.grid(axis='x', color='0.9')
    figure.legend(loc='outside lower left', ncols=2, fontsize=9, title=note, alignment='left')
    return figure


def plot_greedy(
    panels: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]],
    full: Mapping[str, float],
    *,
    title: str,
    ylabel: str,
    within: float = 0.01,
) -> Figure:
    """Plot the score while bands are added or dropped one by one, one panel a model.

    Args:
        panels: for each model, ``'forward'`` and ``'backward'``: band and score of each step, the
            score being that with the bands chosen so far.
        full: score of each model with all bands.
        title: what was measured.
        ylabel: the score and its unit.
        within: how much less than with all bands is about as good; shown as a line.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(11, 3.8 * len(panels) + 0.8), layout='constrained')
    figure.suptitle(title, x=0.01, ha='left')
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey='row')
    titles = {'forward': 'bands added one by one', 'backward': 'bands dropped one by one'}
    for row, (model, ways) in zip(grid, panels.items(), strict=True):
        level = 100 * (full[model] - within)
        for axes, (way, text) in zip(row, titles.items(), strict=True):
            steps = ways.get(way, ())
            tidy(axes, f'{model}: {text}', 'number of bands', ylabel)
            axes.set_visible(bool(steps))
            sizes = np.arange(len(steps)) + 1
            sizes = sizes if way == 'forward' else sizes[::-1]
            scores = [100 * score for _, score in steps]
            axes.plot(sizes, scores, markersize=5, **style(1, False))
            for size, score, (band, _) in zip(sizes, scores, steps, strict=True):
                sign = '+' if way == 'forward' else '\N{MINUS SIGN}'
                axes.annotate(
                    f'{sign}{band}', (size, score), (2, 7), textcoords='offset points',
                    ha='left', fontsize=8, rotation=60, rotation_mode='anchor', va='center',
                    path_effects=[withStroke(linewidth=2, foreground='white')],
                )  # fmt: skip
            label = f'{100 * within:g} point below all bands'
            axes.axhline(level, color='black', linewidth=1, linestyle=':', label=label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(y=0.2)
            axes.legend(loc='lower right', fontsize=9, frameon=False)
    return figure
