"""Report of a study of patch sizes: curves as in Figure 5, and what each choice costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..plot import MARKERS, PALETTE
from .patches import PatchPoint, PatchStudy, best_points, is_dense
from .plots import style, tidy
from .report import Report, points, spread_of

__all__ = ('patches_report', 'plot_pareto', 'plot_patches')


def patches_report(
    config: PatchStudy,
    found: Sequence[PatchPoint],
    failures: Sequence[tuple[str, str]],
    count: str,
    command: str,
) -> Report:
    """Make the report.

    Args:
        config: what was asked for.
        found: what was measured.
        failures: what failed, and why.
        count: what was done.
        command: what made it.

    Returns:
        The report.
    """
    dense = is_dense(config)
    metric = 'mean IoU' if dense else 'accuracy'
    how = (
        f'UPerNet on the frozen encoder, {config.steps} steps' if dense
        else f'{config.probes[0]} probe of frozen features'
    )  # fmt: skip
    report = Report(f'Patch sizes on {config.dataset}')
    report.text(
        f'{how}, {config.seeds} seeds; {metric} in percent, ± is the deviation over seeds. '
        'The paper shows curves for UC Merced and SPARCS without printing their values (Figure 5). '
        'Time and memory are those of the encoder.'
    )
    report.text(f'Made by: {command}')
    report.text(f'Work: {count}.')
    rows = [
        (
            p.model, f'{p.bands} ({p.count})', p.patch, p.tokens,
            points(float(np.mean(p.scores)), spread_of(p.scores)), _number(p.ms), _number(p.mib),
        )
        for p in found
    ]  # fmt: skip
    report.table(
        ('Model', 'Bands', 'Patch, px', 'Tokens', metric, 'ms an image', 'MiB, batch of 8'), rows
    )
    figure = plot_patches(found, f'{config.dataset}: score by patch size', f'{metric} (%)')
    report.figure('patches', figure, 'Score against patch size (as Figure 5 of the paper).')
    best = best_points(found)
    if best:
        report.heading('What is worth its time')
        report.text(
            'Of all bands and patch sizes, those that no other choice beats in both score and '
            'time, the fastest first. Times are of this machine, as it was busy.'
        )
        chosen = [
            (p.model, f'{p.bands} ({p.count})', p.patch, points(float(np.mean(p.scores))),
             _number(p.ms), _number(p.mib))
            for p in best
        ]  # fmt: skip
        report.table(('Model', 'Bands', 'Patch, px', metric, 'ms an image', 'MiB'), chosen)
        figure = plot_pareto(found, f'{config.dataset}: bands and patch sizes', f'{metric} (%)')
        report.figure(
            'pareto', figure, 'Score against time; the line joins what is worth its time.'
        )
    if failures:
        report.heading('Failed')
        report.table(('What', 'Why'), failures)
    return report


def _number(value: float) -> str:
    return 'not measured' if value != value else f'{value:.3g}'


def _series(found: Sequence[PatchPoint]) -> dict[str, list[PatchPoint]]:
    series: dict[str, list[PatchPoint]] = {}
    for point in found:
        series.setdefault(f'{point.model}, {point.bands} ({point.count} bands)', []).append(point)
    return series


def plot_patches(found: Sequence[PatchPoint], title: str, ylabel: str) -> Figure:
    """Plot scores against patch sizes, one line for each model and set of bands.

    Args:
        found: what was measured.
        title: what it is of.
        ylabel: the score and its unit.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()
    for k, (name, own) in enumerate(_series(found).items()):
        own = sorted(own, key=lambda p: p.patch)
        means = [100 * float(np.mean(p.scores)) for p in own]
        errors = [100 * np.nan_to_num(spread_of(p.scores)) for p in own]
        axes.errorbar(
            [p.patch for p in own], means, yerr=errors, label=name, capsize=3,
            **style(k, '(random)' in name),
        )  # fmt: skip
    sizes = sorted({p.patch for p in found})
    axes.set_xscale('log', base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    tidy(axes, title, 'patch size (px)', ylabel)
    figure.legend(
        loc='outside lower left', fontsize=9, title='bars: standard deviation over seeds',
        alignment='left',
    )  # fmt: skip
    return figure


def plot_pareto(found: Sequence[PatchPoint], title: str, ylabel: str) -> Figure:
    """Plot scores against time, each point with its patch size.

    Args:
        found: what was measured.
        title: what it is of.
        ylabel: the score and its unit.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()
    for k, (name, own) in enumerate(_series(found).items()):
        color = PALETTE[k % len(PALETTE)]
        scores = [100 * float(np.mean(p.scores)) for p in own]
        axes.scatter(
            [p.ms for p in own], scores, label=name, marker=MARKERS[k % len(MARKERS)], s=45,
            facecolors='white' if '(random)' in name else color, edgecolors=color, zorder=3,
        )  # fmt: skip
        for point, score in zip(own, scores, strict=True):
            axes.annotate(
                f'{point.patch} px', (point.ms, score), (6, -4), textcoords='offset points',
                fontsize=8, va='top', zorder=4,
                path_effects=[withStroke(linewidth=2, foreground='white')],
            )  # fmt: skip
    best = best_points(found)
    axes.plot(
        [p.ms for p in best], [100 * float(np.mean(p.scores)) for p in best], color='black',
        linewidth=1, linestyle=':', label='nothing is both faster and better',
    )  # fmt: skip
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    axes.margins(x=0.1, y=0.1)
    tidy(axes, title, 'time (ms an image)', ylabel)
    axes.grid(axis='x', color='0.9')
    figure.legend(
        loc='outside lower left', fontsize=9, title='beside each point: its patch size',
        alignment='left',
    )  # fmt: skip
    return figure
