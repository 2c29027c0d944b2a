"""Report of a study of speed: what each mode loses and saves, and what else would save as much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from ..plot import MARKERS, PALETTE
from .plots import tidy
from .report import Report, points, spread_of
from .speed import SpeedPoint, SpeedStudy

__all__ = ('losses', 'plot_speed', 'speed_report', 'worth')


def _mean(point: SpeedPoint) -> float:
    return float(np.mean(point.scores))


def worth(found: Sequence[SpeedPoint]) -> list[SpeedPoint]:
    """Points that no other one beats in both score and time, the fastest first.

    Args:
        found: what was measured.

    Returns:
        The Pareto front.
    """
    known = [p for p in found if np.isfinite(p.scores).all() and p.ms == p.ms]
    best: list[SpeedPoint] = []
    for point in sorted(known, key=lambda p: (p.ms, -_mean(p))):
        if not best or _mean(point) > _mean(best[-1]):
            best.append(point)
    return best


def losses(found: Sequence[SpeedPoint], point: SpeedPoint) -> tuple[float, float, float]:
    """What a mode loses against exact on the same bands and patch size.

    Args:
        found: what was measured.
        point: one of them.

    Returns:
        Points lost, the standard error of that over seeds (NaN with one), and the time saved as a
        factor.
    """
    same = ('model', 'bands', 'patch')
    exact = next(
        p for p in found
        if p.speed == 'exact' and all(getattr(p, key) == getattr(point, key) for key in same)
    )  # fmt: skip
    lost = 100 * (np.asarray(exact.scores) - np.asarray(point.scores))
    error = float(np.std(lost, ddof=1) / np.sqrt(len(lost))) if len(lost) > 1 else float('nan')
    return float(np.mean(lost)), error, exact.ms / point.ms


def speed_report(
    config: SpeedStudy,
    found: Sequence[SpeedPoint],
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
    report = Report(f'Speed modes on {config.dataset}')
    report.text(
        f'{config.probes[0]} probe of frozen features, {config.seeds} seeds; accuracy in percent, '
        '± is the deviation over seeds. A schedule k:g merges neighboring bands into g groups '
        'after k blocks. Lost is what exact has more on the same bands, patches and folds, with '
        'its standard error over seeds, which leaves out that other images would give other '
        'numbers. A mode that merges none of a set of bands is exact, and not listed. Times are of '
        'the encoder on this machine, as it was busy; only ratios count.'
    )
    report.text(f'Made by: {command}')
    report.text(f'Work: {count}.')
    rows = []
    for p in found:
        lost, error, factor = losses(found, p)
        unsure = '' if error != error else f' ± {error:.1f}'
        rows.append(
            (
                p.model, f'{p.bands} ({p.count})', p.patch, p.speed, p.schedule, p.tokens,
                points(_mean(p), spread_of(p.scores)),
                '-' if p.speed == 'exact' else f'{lost:+.1f}{unsure}', f'{p.ms:.3g}',
                f'{factor:.2f}',
            )
        )  # fmt: skip
    head = (
        'Model', 'Bands', 'Patch, px', 'Mode', 'Schedule', 'Tokens, mean', 'Accuracy', 'Lost',
        'ms an image', 'Times faster',
    )  # fmt: skip
    report.table(head, rows)
    if worth(found):
        figure = plot_speed(found, f'{config.dataset}: what time buys')
        report.figure(
            'speed', figure,
            'Accuracy against time: speed modes, fewer bands, larger patches. The line joins what '
            'nothing else beats in both.',
        )  # fmt: skip
        report.heading('What is worth its time')
        report.table(
            ('Model', 'Bands', 'Patch, px', 'Mode', 'Accuracy', 'ms an image'),
            [
                (p.model, f'{p.bands} ({p.count})', p.patch, p.speed, points(_mean(p)),
                 f'{p.ms:.3g}')
                for p in worth(found)
            ],
        )  # fmt: skip
    if failures:
        report.heading('Failed')
        report.table(('What', 'Why'), failures)
    return report


def plot_speed(found: Sequence[SpeedPoint], title: str) -> Figure:
    """Plot scores against time: colors are sets of bands and patch sizes, labels are modes.

    Args:
        found: what was measured.
        title: what it is of.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9, 5.5), layout='constrained')
    axes = figure.subplots()
    series: dict[str, list[SpeedPoint]] = {}
    for point in found:
        name = f'{point.model}, {point.bands} ({point.count} bands), {point.patch} px'
        series.setdefault(name, []).append(point)
    best = worth(found)
    for k, (name, own) in enumerate(series.items()):
        color = PALETTE[k % len(PALETTE)]
        axes.scatter(
            [p.ms for p in own], [100 * _mean(p) for p in own], label=name,
            marker=MARKERS[k % len(MARKERS)], s=[70 if p.speed == 'exact' else 35 for p in own],
            facecolors=[color if p.speed == 'exact' else 'white' for p in own],
            edgecolors=color, linewidths=1.4, zorder=3,
        )  # fmt: skip
        for point in own:
            if point in best or point.speed in ('exact', 'balanced', 'fast'):
                axes.annotate(
                    point.speed, (point.ms, 100 * _mean(point)), (6, 3),
                    textcoords='offset points', fontsize=8, zorder=4,
                    path_effects=[withStroke(linewidth=2, foreground='white')],
                )  # fmt: skip
    axes.plot(
        [p.ms for p in best], [100 * _mean(p) for p in best], color='black', linewidth=1,
        linestyle=':', label='nothing is both faster and better',
    )  # fmt: skip
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.1)
    tidy(axes, title, 'time (ms an image)', 'accuracy (%)')
    axes.grid(axis='x', color='0.9')
    figure.legend(
        loc='outside lower left', fontsize=9, title='filled: exact; open: bands merged',
        alignment='left', ncols=2,
    )  # fmt: skip
    return figure
