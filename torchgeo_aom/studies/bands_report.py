"""Report of a study of bands: tables and figures from what it found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import comb, sqrt

import numpy as np

from ..bands import Band
from ..plot import plot_scores
from ..tasks.scikit_learn import scikit_learn
from .bands import EXACT, Outcome
from .cells import Cell
from .importance import Shares, leave_one_out, smallest_enough
from .plots import plot_greedy, plot_missing, plot_shares, plot_sizes
from .report import Report, points, spread_of

__all__ = ('band_label', 'bands_report', 'interval')

WAYS = {
    ('none', 'same'): 'trained with the bands there are',
    ('zero', 'same'): 'trained with zeros for the others',
    ('mean', 'same'): 'trained with means for the others',
    ('none', 'all'): 'missing at test only: left out',
    ('zero', 'all'): 'missing at test only: zeros',
    ('mean', 'all'): 'missing at test only: means',
}


def band_label(band: Band) -> str:
    """Name of a band with its wavelength, for figures."""
    if band.wavelength_um is None:
        return band.name
    return f'{band.name} ({1000 * band.wavelength_um:.0f} nm)'


def interval(values: Sequence[float], total: int) -> float:
    """Half of a 95 % confidence interval of the mean over all sets of a size.

    Args:
        values: scores of some of the sets, drawn without replacement.
        total: number of all sets.

    Returns:
        Student's interval with the correction for a finite number of sets: 0 where all were looked
        at, NaN where only one of several was.
    """
    count = len(values)
    if count >= total:
        return 0.0
    if count < 2:
        return float('nan')
    quantile = float(scikit_learn('scipy.stats').t.ppf(0.975, count - 1))
    return quantile * float(np.std(values, ddof=1)) * sqrt((1 - count / total) / count)


def _means(
    outcome: Outcome, model: str, fill: str = 'none', trained: str = 'same'
) -> dict[tuple[int, ...], float]:
    """Mean over seeds of each set of bands."""
    scores = outcome.scores[model]
    every = tuple(range(len(outcome.data.bands)))
    found = {}
    for subset in outcome.subsets:
        full = subset.columns == every
        cell = Cell(subset.columns) if full else Cell(subset.columns, fill, trained)
        if cell in scores:
            found[subset.columns] = float(np.mean(scores[cell]))
    return found


def _sizes(outcome: Outcome, model: str) -> dict[int, tuple[float, float, float, float]]:
    """Mean, half the interval, lowest and highest score by number of bands, of random sets."""
    count = len(outcome.data.bands)
    wanted = {s.columns for s in outcome.subsets if s.kind in ('random', 'all')}
    by_size: dict[int, list[float]] = {}
    for columns, score in _means(outcome, model).items():
        if columns in wanted and score == score:
            by_size.setdefault(len(columns), []).append(score)
    return {
        size: (
            float(np.mean(values)), interval(values, comb(count, size)), min(values), max(values)
        )
        for size, values in sorted(by_size.items())
    }  # fmt: skip


def _ordered(outcome: Outcome) -> list[str]:
    """Models: the floor, then trained ones, then those that nobody has trained."""

    def rank(name: str) -> int:
        return 2 if name.endswith('(random)') else int('(' in name)

    return sorted(outcome.scores, key=rank)


def bands_report(outcome: Outcome, command: str) -> Report:
    """Make the report of a study of bands.

    Args:
        outcome: what the study found.
        command: what made it, for the reader.

    Returns:
        The report.
    """
    data, config = outcome.data, outcome.config
    report = Report(f'Bands of {data.probe.name}')
    classes = len(data.probe.classes)
    where = f'{config.folds} folds of whole places' if config.folds else 'the splits of the data'
    report.text(
        f'{len(data.labels)} images of {data.probe.size[0]} x {data.probe.size[1]} px, '
        f'{len(data.bands)} bands, {classes} classes; {config.probes[0]} probe of frozen features, '
        f'{where}, {config.seeds} seeds (of folds, random weights and kernels). '
        f'Scores are {outcome.metric} in percent. The most frequent class of the training samples '
        f'has {points(outcome.chance)}.'
    )
    report.text(f'Made by: {command}')
    report.text(f'Work: {outcome.count}.')
    _models(report, outcome)
    if not outcome.probes:
        return report
    _curve(report, outcome)
    _presets(report, outcome)
    _missing(report, outcome)
    _importance(report, outcome)
    _smallest(report, outcome)
    if outcome.failures:
        report.heading('Failed')
        report.table(('What', 'Why'), outcome.failures)
    return report


def _models(report: Report, outcome: Outcome) -> None:
    report.heading('Models')
    report.text(
        'Rows with "random" are architectures that nobody has trained: they say what the '
        'architecture does by itself, and are not to be compared with trained models. Band '
        'statistics and random convolutions (rcf) are the floor that training has to beat.'
    )
    every = Cell(tuple(range(len(outcome.data.bands))))
    rows = []
    for name in _ordered(outcome) if outcome.probes else ():
        cells = [
            f'{points(float(np.mean(s)), spread_of(s))}'
            for probe in outcome.probes
            if (s := outcome.probes[probe][name].get(every))
        ]
        rows.append((name, outcome.encoders[name], *cells))
    header = ('Model (weights)', 'Bands are given', *(f'All bands, {p}' for p in outcome.probes))
    report.table(header, rows)


def _curve(report: Report, outcome: Outcome) -> None:
    report.heading('How many bands')
    report.text(
        'Sets of each size: every one where there are few, else a random sample in which each band '
        'occurs about equally often. The interval is a 95 % confidence interval of the mean over '
        'all sets of the size, cut at 0 and 100; after ± is the standard deviation over seeds.'
    )
    models = _ordered(outcome)
    count = len(outcome.data.bands)
    curves = {model: _sizes(outcome, model) for model in models}
    random = {s.columns for s in outcome.subsets if s.kind == 'random'}
    drawn = {size: sum(len(columns) == size for columns in random) for size in range(1, count)}
    rows = []
    for size in range(1, count + 1):
        some = drawn.get(size, 1)
        cells = []
        for model in models:
            if size not in curves[model]:
                cells.append('failed')
                continue
            mean, half, low, high = curves[model][size]
            text = points(mean, _size_spread(outcome, model, size))
            if half > 0:
                low_end, high_end = max(0.0, mean - half), min(1.0, mean + half)
                text += f' [{points(low_end)}, {points(high_end)}]'
            cells.append(f'{text} ({points(low)} to {points(high)})' if some > 1 else text)
        rows.append((size, f'{some} of {comb(count, size)}', *cells))
    report.table(('Bands', 'Sets', *models), rows)
    figure = plot_sizes(
        curves,
        title=f'{outcome.data.probe.name}: {outcome.config.probes[0]} probe by number of bands',
        ylabel=f'{outcome.metric} (%)',
        note='lines: mean over sets; bands of color: 95 % interval of it',
        chance=outcome.chance,
    )
    report.figure(
        'bands_curve', figure, 'Score against the number of bands (as Figure 3 of the paper).'
    )


def _size_spread(outcome: Outcome, model: str, size: int) -> float:
    """Standard deviation over seeds of the mean over sets of a size."""
    wanted = {
        s.columns for s in outcome.subsets if s.kind in ('random', 'all') and len(s.columns) == size
    }
    scores = [outcome.scores[model].get(Cell(columns)) for columns in wanted]
    known = [score for score in scores if score and np.isfinite(score).all()]
    return spread_of(np.mean(known, axis=0).tolist()) if known else float('nan')


def _known_mean(values: Sequence[float]) -> float:
    """Mean of what did not fail."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float('nan')


def _presets(report: Report, outcome: Outcome) -> None:
    chosen = [s for s in outcome.subsets if s.kind in ('all', 'preset')]
    models = _ordered(outcome)
    report.heading('Known sets of bands')
    rows = []
    series: dict[str, list[tuple[float, float]]] = {model: [] for model in models}
    for subset in chosen:
        cells = []
        for model in models:
            scores = outcome.scores[model].get(Cell(subset.columns), [float('nan')])
            mean, spread = float(np.mean(scores)), spread_of(scores)
            cells.append(points(mean, spread))
            series[model].append((mean, 0.0 if spread != spread else spread))
        names = ' '.join(outcome.data.bands[k].name for k in subset.columns)
        rows.append((subset.name, names, *cells))
    report.table(('Set', 'Bands', *models), rows)
    figure = plot_scores(
        [f'{s.name}\n({len(s.columns)})' for s in chosen], series,
        title=f'{outcome.data.probe.name}: known sets of bands',
        ylabel=f'{outcome.metric} (%)', xlabel='set of bands (number of bands)',
        note='bars: standard deviation over seeds',
    )  # fmt: skip
    report.figure('bands_presets', figure, 'Scores of known sets of bands (number of bands).')


def _missing(report: Report, outcome: Outcome) -> None:
    report.heading('Missing bands')
    report.text(
        'The same sets of bands in six ways: the probe is trained with these bands, or with all '
        'and bands are missing at test time only; missing bands are left out, or filled with zero '
        'reflectance, or with the mean of the band. Models that take a fixed number of bands fill '
        'the rest with zeros by themselves where bands are "left out". Statistics and random '
        'convolutions have other features with fewer bands, so they cannot leave any out at test '
        'time only.'
    )
    every = tuple(range(len(outcome.data.bands)))
    filled = {
        cell.columns for cells in outcome.scores.values() for cell in cells if cell.fill != 'none'
    }
    models = _ordered(outcome)
    panels: dict[str, dict[str, dict[int, float]]] = {}
    rows = []
    for model in models:
        panels[model] = {}
        for (fill, trained), way in WAYS.items():
            means = {
                columns: score
                for columns, score in _means(outcome, model, fill, trained).items()
                if columns in filled or columns == every
            }
            by_size: dict[int, list[float]] = {}
            for columns, score in means.items():
                by_size.setdefault(len(columns), []).append(score)
            if len(by_size) > 1:
                panels[model][way] = {k: _known_mean(v) for k, v in sorted(by_size.items())}
        names = [s for s in outcome.subsets if s.kind == 'preset']
        for subset in names:
            cells = []
            for fill, trained in WAYS:
                scores = outcome.scores[model].get(Cell(subset.columns, fill, trained))
                cells.append(points(float(np.mean(scores)), spread_of(scores)) if scores else '-')
            rows.append((model, subset.name, *cells))
    report.table(('Model', 'Set', *WAYS.values()), rows)
    figure = plot_missing(
        panels, title=f'{outcome.data.probe.name}: what becomes of missing bands',
        ylabel=f'{outcome.metric} (%)',
    )  # fmt: skip
    report.figure(
        'bands_missing', figure,
        'Score where bands are missing; mean over known sets and some random ones of each size.',
    )  # fmt: skip


def _score(outcome: Outcome, model: str, columns: tuple[int, ...]) -> Sequence[float]:
    return outcome.scores[model].get(Cell(columns), [float('nan')])


def _importance(report: Report, outcome: Outcome) -> None:
    bands = [band_label(band) for band in outcome.data.bands]
    count = len(bands)
    report.heading('Importance of bands')
    lost: dict[str, Shares] = {}
    for model in _ordered(outcome):
        lost[model] = leave_one_out(partial(_score, outcome, model), count)
    report.text(
        'Leave-one-out: points lost without the band, where all others stay; ± is the standard '
        'deviation over seeds. A band that others can replace loses nothing.'
    )
    rows = [
        (name, *(points(float(s.mean[k]), float(s.error[k])) for s in lost.values()))
        for k, name in enumerate(bands)
    ]
    report.table(('Band', *lost), rows)
    figure = plot_shares(
        bands, {model: (s.mean, s.error) for model, s in lost.items()},
        title=f'{outcome.data.probe.name}: lost without the band',
        xlabel=f'{outcome.metric} with all bands minus without this one (points)',
        note='bars: standard deviation over seeds',
    )  # fmt: skip
    report.figure('bands_one_out', figure, 'What is lost without each band.')
    shapley = {m: s['Shapley'] for m, s in outcome.shares.items() if 'Shapley' in s}
    if shapley:
        exact = count <= EXACT
        how = (
            f'from all {2**count - 1} sets of bands; ± is the standard deviation over seeds'
            if exact
            else f'from {outcome.config.orders} random orders of the bands, each second one the '
            'reverse of the one before; ± is the standard error'
        )
        report.text(
            f'Shapley values: the mean gain of a band over all orders in which bands may come, '
            f'{how}. They add up to the score with all bands minus that of the most frequent class.'
        )
        rows = [
            (name, *(points(float(s.mean[k]), float(s.error[k])) for s in shapley.values()))
            for k, name in enumerate(bands)
        ]
        report.table(('Band', *shapley), rows)
        figure = plot_shares(
            bands, {model: (s.mean, s.error) for model, s in shapley.items()},
            title=f'{outcome.data.probe.name}: Shapley value of each band',
            xlabel=f'share of the {outcome.metric} (points)',
            note='bars: standard deviation over seeds' if exact else 'bars: standard error',
        )  # fmt: skip
        report.figure('bands_shapley', figure, 'Shapley values of the bands.')
    greedy = {model: steps for model, steps in outcome.greedy.items() if steps}
    if greedy:
        names = [band.name for band in outcome.data.bands]
        report.text(
            'Greedy orders: bands are added or dropped by the score that is shown, so the curves '
            'are what a lucky choice would give, not what it will give on other data.'
        )
        rows = [
            (model, way, ' '.join(f'{names[k]} {points(score)}' for k, score in steps))
            for model, ways in greedy.items()
            for way, steps in ways.items()
        ]
        report.table(('Model', 'Order', 'Band and score after each step'), rows)
        every = tuple(range(count))
        full = {model: float(np.mean(outcome.scores[model][Cell(every)])) for model in greedy}
        figure = plot_greedy(
            {m: {w: [(names[k], s) for k, s in steps] for w, steps in ways.items()}
             for m, ways in greedy.items()},
            full, title=f'{outcome.data.probe.name}: greedy orders of the bands',
            ylabel=f'{outcome.metric} (%)', within=outcome.config.within,
        )  # fmt: skip
        report.figure('bands_greedy', figure, 'Bands added or dropped one by one.')


def _smallest(report: Report, outcome: Outcome) -> None:
    report.heading('The smallest set that is enough')
    within = outcome.config.within
    report.text(
        f'Of all sets that were looked at for a model, the smallest within {points(within)} points '
        'of all bands. It is chosen by the score that is shown.'
    )
    rows = []
    names = [band.name for band in outcome.data.bands]
    for model in _ordered(outcome):
        means = {
            cell.columns: float(np.mean(scores))
            for cell, scores in outcome.scores[model].items()
            if cell.fill == 'none' and cell.trained == 'same' and np.isfinite(scores).all()
        }
        best = smallest_enough(means, within)
        if best is not None:
            full = means[max(means, key=len)]
            chosen = ' '.join(names[k] for k in best[0])
            rows.append((model, len(best[0]), chosen, points(best[1]), points(full), len(means)))
    report.table(('Model', 'Bands', 'Which', 'Score', 'All bands', 'Sets looked at'), rows)
