"""Results of other commands, read from their folders, for reproduction cards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .report import points, spread_of

__all__ = ('Result', 'read_results')

FACTS = 'study.json'


@dataclass(frozen=True)
class Result:
    """Something that was measured.

    Attributes:
        dataset: name of the data set.
        bands: name of the set of bands.
        run: objective and encoding of a small pretraining run; empty otherwise.
        model: name of the model with its weights.
        scores: score of each seed, from 0 to 1.
        source: file that it stands in.
    """

    dataset: str
    bands: str
    run: str
    model: str
    scores: tuple[float, ...]
    source: str

    def __str__(self) -> str:
        """The score with what it is of."""
        mean = points(float(np.mean(self.scores)), spread_of(self.scores))
        seeds = f'{len(self.scores)} seed{"s" if len(self.scores) > 1 else ""}'
        return f'{mean} ({self.model}, {self.bands}, {seeds}; {self.source})'


def read_results(folders: Iterable[Path]) -> list[Result]:
    """Read what commands left in their folders.

    Args:
        folders: folders of ``torchgeo-aom probe``, ``segment`` and ``study``.

    Returns:
        Results of AOMs.

    Raises:
        DataError: if a folder holds no results, or they cannot be read.
    """
    found: list[Result] = []
    for folder in folders:
        readers = {'results.json': _probe, 'results.jsonl': _segment, FACTS: _study}
        files = [(folder / name, read) for name, read in readers.items()]
        known = [(path, read) for path, read in files if path.is_file()]
        if not known:
            raise DataError(
                f'{folder} holds no results: neither {", ".join(readers)}. Give the folders that '
                'probe, segment and study wrote (--output)'
            )
        for path, read in known:
            try:
                found += read(path)
            except (ValueError, KeyError, TypeError) as error:
                reason = f'{type(error).__name__}: {error}'
                raise DataError(f'{path} cannot be read: {reason}') from error
    return found


def _probe(path: Path) -> list[Result]:
    data: Any = json.loads(path.read_text(encoding='utf-8'))
    config = data['config']
    found = []
    for row in data['rows']:
        if row['probe'] != 'linear' or row['method'] in ('statistics', 'rcf', 'rcf-empirical'):
            continue
        metric = next(iter(row['scores']))
        means = tuple(float(np.mean(one)) for one in row['scores'][metric])
        model = f'{config["model"]} ({Path(row["method"]).name})'
        found.append(Result(config['dataset'], row['bands'], '', model, means, _name(path)))
    return found


def _segment(path: Path) -> list[Result]:
    rows: list[Any] = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    by: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row.get('method') == 'upernet' and 'mean IoU' in row:
            weights = Path(row['weights']).name if row.get('weights') else 'random'
            task = (row.get('dataset_args') or {}).get('task') or row['dataset']
            key = (task, row['bands'], f'{row["model"]} ({weights})')
            by.setdefault(key, []).append(float(row['mean IoU']))
    return [
        Result(dataset, bands, '', model, tuple(scores), _name(path))
        for (dataset, bands, model), scores in by.items()
    ]


def _study(path: Path) -> list[Result]:
    facts: Any = json.loads(path.read_text(encoding='utf-8'))
    results = []
    for row in facts.get('results', ()):
        scores = tuple(float(score) for score in row['scores'])
        results.append(
            Result(row['dataset'], row['bands'], row['run'], row['model'], scores, _name(path))
        )
    return results


def _name(path: Path) -> str:
    return f'{path.parent.name}/{path.name}'
