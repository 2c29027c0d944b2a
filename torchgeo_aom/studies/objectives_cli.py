"""The command ``torchgeo-aom study objectives``, and its report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from ..command import output_folder, say
from ..commands.study import objectives_parser
from ..errors import ConfigError
from ..plot import plot_scores
from .cli import finish, said
from .objectives import RUNS, ObjectiveResult, ObjectiveStudy, run_objectives
from .report import Report, points, spread_of

__all__ = ('main', 'objectives_report')

#: Tables 4 and 5: accuracy in percent. The paper has one InfoNCE, which may mean either of ours.
FULL = {'EuroSAT200': 97.87, 'UCMerced': 93.57}
PAPER = {
    ('MSE', 'index'): {'EuroSAT200': 96.45, 'UCMerced': 91.28},
    ('MSE + InfoNCE, as printed', 'index'): FULL,
    ('MSE + InfoNCE, batch negatives', 'index'): FULL,
    ('MSE + InfoNCE, batch negatives', 'wavelength'): {'EuroSAT200': 97.72, 'UCMerced': 92.81},
}


def objectives_report(
    config: ObjectiveStudy,
    results: Sequence[ObjectiveResult],
    failures: Sequence[tuple[str, str]],
    count: str,
    command: str,
) -> Report:
    """Make the report.

    Args:
        config: what was asked for.
        results: what was measured.
        failures: what failed, and why.
        count: what was done.
        command: what made it.

    Returns:
        The report.
    """
    report = Report('Objectives and encodings in small')
    report.text(
        f'aom_vitt with {_blocks(config)}, {config.steps} steps of {config.batch_size} images '
        f'each, the same images, masks and budget for every run; {config.seeds} seeds, ± is the '
        f'standard deviation over them. Linear probe of frozen features, {config.folds} folds of '
        'whole groups, accuracy in percent. The paper trains ViT-B for 220 epochs on 1.26 million '
        'images and probes all of EuroSAT and UC Merced with its splits: its columns are of '
        'another scale, only the order of rows can be compared. It has one InfoNCE, so its value '
        'stands beside both readings of Eq. 7: as printed, without other images, and with '
        'those of the batch as negatives.'
    )
    report.text(f'Made by: {command}')
    report.text(f'Work: {count}.')
    tests = list(dict.fromkeys(r.test for r in results))
    ways = list(dict.fromkeys((r.objective, r.encoding) for r in results))
    by = {(r.objective, r.encoding, r.test): r.scores for r in results}
    rows = []
    for objective, encoding in ways:
        cells = []
        for test in tests:
            said_by_paper = PAPER.get((objective, encoding), {}).get(test)
            cells.append('-' if said_by_paper is None else f'{said_by_paper:.2f}')
            scores = by[objective, encoding, test]
            cells.append(points(float(np.mean(scores)), spread_of(scores)))
        rows.append((objective, encoding, *cells))
    heads = [text for test in tests for text in (f'{test}: paper said', f'{test}: we got')]
    report.table(('Objective', 'Channel encoding', *heads), rows)
    series = {
        test: [
            (float(np.mean(by[o, e, test])), float(np.nan_to_num(spread_of(by[o, e, test]))))
            for o, e in ways
        ]
        for test in tests
    }
    figure = plot_scores(
        [f'{o}\n{e}'.replace(', ', ',\n').replace(' + ', '\n+ ') for o, e in ways], series,
        title='Linear probe after small pretraining runs', ylabel='accuracy (%)',
        xlabel='objective of pretraining, with channel encoding by index or wavelength',
        note='bars: standard deviation over seeds',
    )  # fmt: skip
    figure.set_size_inches(10, 5.5)  # type: ignore[attr-defined]
    report.figure(
        'objectives', figure, 'Objectives and encodings, and the encoder before training.'
    )
    if failures:
        report.heading('Failed')
        report.table(('What', 'Why'), failures)
    return report


def _blocks(config: ObjectiveStudy) -> str:
    return '1 block' if config.depth == 1 else f'{config.depth} blocks'


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where a run failed.

    Raises:
        ConfigError: if an option is wrong.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = objectives_parser().parse_args(arguments)
    runs = [run for run in RUNS if run[1] in options.encodings]
    if not runs or set(options.encodings) - {'index', 'wavelength'}:
        raise ConfigError(f'--encodings are index and wavelength, got {options.encodings}')
    config = ObjectiveStudy(
        options.sources, options.tests, runs, options.steps, options.batch_size, options.depth,
        options.seeds, options.folds, options.every,
    )  # fmt: skip
    folder = output_folder(options.output)
    start = time.monotonic()
    results, failures, count = run_objectives(config, folder, say)
    report = objectives_report(config, results, failures, count, said(arguments, 'objectives'))
    kept = [
        {
            'dataset': r.test, 'bands': 'all', 'run': f'{r.objective} {r.encoding}',
            'model': f'aom_vitt, {_blocks(config)}, {config.steps} steps', 'scores': r.scores,
        }
        for r in results
    ]  # fmt: skip
    return finish(report, folder, start, len(failures), kept)
