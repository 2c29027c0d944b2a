"""The command ``torchgeo-aom probe``: linear probe and nearest neighbors beside baselines."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from .. import __version__
from ..command import key_values, output_folder, read_options, say
from ..commands.choices import METHODS
from ..commands.probe import probe_parser
from ..errors import ConfigError, suggest
from ..files import write_whole
from ..models.patch_rule import read_patch_size
from ..plot import plot_scores
from ..text import ruled
from . import feature_speed
from .probe_run import ProbeConfig, Row, run

__all__ = ('config_from', 'draw', 'main', 'table')

NOTE = 'bars: standard deviation over seeds'


def config_from(values: Mapping[str, Any], origin: str = 'the configuration') -> ProbeConfig:
    """Make a configuration of plain values.

    Args:
        values: keys are attributes of :class:`~torchgeo_aom.tasks.probe_run.ProbeConfig`; ``bands``
            may also be one set, or a list of sets.
        origin: where they come from, for messages.

    Returns:
        The configuration.

    Raises:
        ConfigError: if a key is unknown or a value has the wrong type.
    """
    known = {field.name: field for field in fields(ProbeConfig)}
    for key in values:
        if key not in known:
            raise ConfigError(
                f'{origin} has no option {key!r}{suggest(str(key), known)}. Known: '
                f'{", ".join(known)}'
            )
    checked = dict(values)
    if 'bands' in checked:
        checked['bands'] = _named_bands(checked['bands'])
    default = ProbeConfig()
    for key, value in checked.items():
        wanted = getattr(default, key)
        kinds = {bool: bool, int: int, str: str, tuple: (list, tuple), dict: Mapping}
        kind: Any = kinds.get(type(wanted), object)
        kind = (int, str) if key == 'patch_size' else kind
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            if wanted is not None or not (value is None or isinstance(value, int | float | str)):
                raise ConfigError(
                    f'{origin}: {key} must be like {wanted!r}, got {value!r} '
                    f'({type(value).__name__})'
                )
    return ProbeConfig(**checked)


def _named_bands(value: Any) -> dict[str, Any]:
    if value is None:
        return {'all bands': None}
    if isinstance(value, Mapping):
        return {str(name): spec for name, spec in value.items()}
    listed = value if isinstance(value, list | tuple) else [value]
    return {str(spec): spec for spec in listed}


def table(rows: Sequence[Row]) -> str:
    """All rows in plain text, one line for each set of bands and method.

    Args:
        rows: what was measured.

    Returns:
        The table; one below the other where there are several metrics.
    """
    probes = list(dict.fromkeys(row.probe for row in rows))
    parts = []
    for metric in _metrics(rows):
        lines = [('bands', 'features', 'number', 'patch', *(f'{p} {metric}, %' for p in probes))]
        for key in dict.fromkeys((row.bands, row.method) for row in rows):
            own = {row.probe: row for row in rows if (row.bands, row.method) == key}
            first = next(iter(own.values()))
            patch = '-' if first.patch_size is None else f'{first.patch_size} px'
            cells = (_cell(own[probe], metric) if probe in own else '-' for probe in probes)
            lines.append((first.bands, _short(first.method), str(first.dims), patch, *cells))
        parts.append('\n'.join(ruled(lines)))
    return '\n\n'.join(parts)


def _metrics(rows: Sequence[Row]) -> list[str]:
    return list(next((row.scores for row in rows if row.failed is None), {}))


def _cell(row: Row, metric: str) -> str:
    if row.failed is not None:
        return 'failed'
    spread = row.spread(metric)
    more = f' +- {100 * spread:.1f}' if spread == spread else ''
    return f'{100 * row.mean(metric):.1f}{more}'


def _short(method: str) -> str:
    return Path(method).name if method not in METHODS else method


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Plot the first metric against sets of bands, a panel for each probe.

    Args:
        rows: what was measured.
        title: title of the figure.

    Returns:
        The figure.
    """
    probes = list(dict.fromkeys(row.probe for row in rows))
    bands = list(dict.fromkeys(row.bands for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    metric = _metrics(rows)[0]
    figure = Figure(figsize=(7 * len(probes), 5.5), layout='constrained')
    figure.suptitle(title)
    panels = figure.subfigures(1, len(probes), squeeze=False)[0]
    for panel, probe in zip(panels, probes, strict=True):
        found = {(row.bands, row.method): row for row in rows if row.probe == probe}
        series = {
            _short(method): [_point(found.get((band, method)), metric) for band in bands]
            for method in methods
        }
        plot_scores(bands, series, title=probe, ylabel=f'{metric}, %', note=NOTE, figure=panel)
    return figure


def _point(row: Row | None, metric: str) -> tuple[float, float]:
    if row is None or row.failed is not None:
        return float('nan'), 0.0
    spread = row.spread(metric)
    return row.mean(metric), spread if spread == spread else 0.0


def _results(config: ProbeConfig, rows: Sequence[Row]) -> bytes:
    listed = [
        {
            **asdict(row),
            'mean': {name: row.mean(name) for name in row.scores},
            'spread': {name: None if (s := row.spread(name)) != s else s for name in row.scores},
        }
        for row in rows
    ]
    facts = {'version': __version__, 'torch': torch.__version__, 'config': asdict(config)}
    return (json.dumps({**facts, 'rows': listed}, indent=2, default=str) + '\n').encode()


def _values(options: argparse.Namespace) -> dict[str, Any]:
    """Options of the file, and those of the command line over them."""
    given = dict(vars(options))
    path = given.pop('config', None)
    values = {} if path is None else read_options(path)
    root, more = given.pop('root', None), given.pop('dataset_arg', [])
    for key in ('output', 'json'):
        given.pop(key)
    arguments = dict(values.get('dataset_args') or {})
    if root is not None:
        arguments['root'] = root
    arguments |= key_values(more, '--dataset-arg')
    if 'bands' in given:
        pairs = [text.rpartition('=') for text in given['bands']]
        specs = {spec: spec.split(',') if ',' in spec else spec for _, _, spec in pairs}
        given['bands'] = {name or spec: specs[spec] for name, _, spec in pairs}
    if 'patch_size' in given:
        given['patch_size'] = read_patch_size(given['patch_size'])
    merged = {**values, **given}
    return {**merged, 'dataset_args': arguments} if arguments else merged


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if '--loading' in arguments:
        return feature_speed.main([text for text in arguments if text != '--loading'])
    options = probe_parser().parse_args(arguments)
    config = config_from(_values(options), str(getattr(options, 'config', 'the command line')))
    folder = output_folder(options.output)
    start = time.monotonic()
    path = folder / 'results.json'
    rows = run(config, say, lambda rows: write_whole(path, _results(config, rows)))
    failed = {(row.bands, row.method): row.failed for row in rows if row.failed is not None}
    some = any(row.failed is None for row in rows)
    if some:
        draw(rows, f'{config.dataset}: {config.model}').savefig(folder / 'probe.png', dpi=110)
    if some or options.json:
        print(path.read_text(encoding='utf-8') if options.json else table(rows))
    if some and not options.json:
        print('+- is the standard deviation over seeds, of means over divisions')
        print(folder / 'probe.png')
    say(f'{time.monotonic() - start:.0f} s; results are in {path}')
    for (bands, method), reason in failed.items():
        say(f'Failed: {bands}, {method}: {reason}')
    return 1 if failed else 0
