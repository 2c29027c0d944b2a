"""The command ``torchgeo-aom study sensors``, and its report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from ..command import say
from ..commands.study import sensors_parser
from ..plot import plot_scores
from .cli import finish, said
from .options import common_values
from .report import Report, points, spread_of
from .sensor_cases import Case
from .sensors import SensorResult, SensorStudy, run_sensors

__all__ = ('main', 'sensors_report')


def sensors_report(
    config: SensorStudy,
    cases: Sequence[Case],
    results: Sequence[SensorResult],
    failures: Sequence[tuple[str, str]],
    count: str,
    command: str,
) -> Report:
    """Make the report.

    Args:
        config: what was asked for.
        cases: pairs of sensors.
        results: what was measured.
        failures: what failed, and why.
        count: what was done.
        command: what made it.

    Returns:
        The report.
    """
    report = Report('Across sensors')
    report.text(
        f'{config.probes[0]} probe of frozen features, {config.folds} folds of whole places, '
        f'{config.seeds} seeds; accuracy in percent, ± is the standard deviation over seeds. '
        'Training and test never share a place. "Counterpart": bands of the second sensor have the '
        'channel index of the band of Sentinel-2 that corresponds to them. "Fractional": the index '
        'of their own wavelength. Models whose features differ in number with the number of bands '
        'cannot be tested on fewer.'
    )
    report.text(f'Made by: {command}')
    report.text(f'Work: {count}.')
    for k, case in enumerate(cases):
        report.heading(case.name)
        report.text(f'{case.about[0].upper()}{case.about[1:]}.')
        own = [r for r in results if r.case == case.name]
        rows = [
            (r.model, r.trained, r.tested, r.index,
             points(float(np.mean(r.scores)), spread_of(r.scores)))
            for r in own
        ]  # fmt: skip
        report.table(('Model', 'Trained on', 'Tested on', 'Channel index', 'Accuracy'), rows)
        ways = list(dict.fromkeys((r.trained, r.tested, r.index) for r in own))
        by = {(r.model, (r.trained, r.tested, r.index)): r.scores for r in own}
        series = {
            model: [_point(by.get((model, way))) for way in ways]
            for model in dict.fromkeys(r.model for r in own)
        }
        names = [f'{a}\nto {b}' + (f'\n{i} index' if i == 'fractional' else '') for a, b, i in ways]
        figure = plot_scores(
            names, series, title=f'{case.name}: trained on one sensor, tested on another',
            ylabel='accuracy (%)', xlabel='sensor of training, and of test',
            note='bars: standard deviation over seeds; no point: a model cannot be tested so',
        )  # fmt: skip
        report.figure(
            f'sensors_{k}', figure, f'{case.name}: accuracy by sensor of training and test.'
        )
    if failures:
        report.heading('Failed')
        report.table(('What', 'Why'), failures)
    return report


def _point(scores: Sequence[float] | None) -> tuple[float, float]:
    if scores is None:
        return float('nan'), 0.0
    return float(np.mean(scores)), float(np.nan_to_num(spread_of(scores)))


def main(argv: list[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code: 1 where something failed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    given, folder = common_values(sensors_parser().parse_args(arguments), SensorStudy)
    config = SensorStudy(**given)
    start = time.monotonic()
    cases, results, failures, count = run_sensors(config, folder, say)
    command = said(arguments, 'sensors')
    report = sensors_report(config, cases, results, failures, count, command)
    return finish(report, folder, start, len(failures))
