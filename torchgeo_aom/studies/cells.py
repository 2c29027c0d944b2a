"""Cells of a study: features of each model and each set of bands once, rows as they come."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..errors import AOMError
from ..tasks.divisions import Division, fold_divisions, given_division
from ..tasks.features import Reading, extract
from ..tasks.probe import STRENGTHS, fit_probe
from ..tasks.probe_scores import METRICS, rate
from .encoder import Encoder
from .held import StudyData
from .peers import Batch
from .store import RowStore

__all__ = ('COLUMNS', 'FILLS', 'KEY', 'Cell', 'Count', 'Runner', 'band_names', 'open_store')

#: what becomes of missing bands: left out, zero reflectance, the mean of the band
FILLS = ('none', 'zero', 'mean')
KEY = ('run', 'model', 'weights', 'seed', 'bands', 'fill', 'trained', 'probe')
COLUMNS = (
    'count', 'metric', 'score', 'scores', 'strengths', 'dims', 'seconds', 'status', 'error',
)  # fmt: skip


def open_store(path: Any) -> RowStore:
    """The table of the cells of a study of bands, see :class:`Cell`."""
    return RowStore(path, KEY, COLUMNS)


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        columns: positions of the bands that there are at test time.
        fill: what becomes of the others, one of ``FILLS``.
        trained: ``'same'`` where the probe is trained with these bands, ``'all'`` where bands are
            missing at test time only.

    .. versionadded:: 0.1
    """

    columns: tuple[int, ...]
    fill: str = 'none'
    trained: str = 'same'


@dataclass
class Count:
    """What was done: model evaluations are forward passes of single images."""

    cells: int = 0
    kept: int = 0
    failed: int = 0
    passes: int = 0
    images: int = 0
    read: int = 0

    def __str__(self) -> str:
        """One line for the user."""
        failed = f', {self.failed} failed' if self.failed else ''
        return (
            f'{self.cells} cells{failed}, {self.kept} of them kept from before; '
            f'{self.passes} passes over the data = {self.images:,} model evaluations, '
            f'features of {self.read} passes read from the cache'
        )


def band_names(data: StudyData, columns: Sequence[int]) -> str:
    """Bands of a cell in one word."""
    return '+'.join(data.bands[k].name for k in columns)


@dataclass
class Runner:
    """Runs cells of one data set, and keeps what they share.

    Attributes:
        data: images and labels.
        store: where rows are kept.
        probes: ``'linear'``, ``'knn5'`` ...
        folds: number of folds of whole groups; 0 for the splits of the data.
        seeds: number of seeds.
        reading: batch size, cache and device.
        strengths: of the linear probe, chosen once for each model, seed and division, by inner
            splits of the training samples with all bands, and kept for all sets of bands.
    """

    data: StudyData
    store: RowStore
    probes: Sequence[str] = ('linear',)
    folds: int = 5
    seeds: int = 3
    reading: Reading = field(default_factory=Reading)
    strengths: Sequence[float] = STRENGTHS
    count: Count = field(default_factory=Count)

    def __post_init__(self) -> None:
        """Read what is there."""
        self.rows = self.store.rows()
        self.failures: list[tuple[str, str]] = []
        self._features: dict[tuple[bytes, tuple[int, ...], str], NDArray[np.float32]] = {}
        self._fits: dict[tuple[bytes, int, str], list[Any]] = {}
        self._chosen: dict[tuple[bytes, int, str], list[float]] = {}

    def divisions(self, seed: int) -> list[Division]:
        """What is trained and tested on with a seed."""
        if self.folds:
            return fold_divisions(self.data.labels, self.data.probe.groups, self.folds, seed)
        return [given_division(self.data.probe.splits.tolist())]

    def run_id(self, encoder: Encoder) -> str:
        """Hash of all that the rows of a model depend on and that is no column of them."""
        groups = self.data.probe.groups
        facts = (
            __version__, self.data.digest, repr(self.data.probe.normalize), self.folds,
            self.data.probe.normalize.mean, self.data.probe.normalize.std,
            self.data.probe.splits.tolist(), list(self.strengths), self.reading.size,
            None if groups is None else groups.tolist(),
        )  # fmt: skip
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(encoder.facts)
        return digest.hexdigest()[:12]

    def possible(self, encoder: Encoder, cell: Cell) -> bool:
        """Whether a cell has a meaning for a model."""
        if cell.fill != 'none' or cell.trained == 'same':
            return True
        return encoder.fixed_size  # otherwise features without a band are no input of the probe

    def _key(
        self, run: str, encoder: Encoder, seed: int, cell: Cell, probe: str
    ) -> tuple[str, ...]:
        bands = band_names(self.data, cell.columns)
        return (
            run, encoder.name, encoder.weights, str(seed), bands, cell.fill, cell.trained, probe,
        )  # fmt: skip

    def run(self, encoder: Encoder, seed: int, cell: Cell) -> list[dict[str, str]]:
        """Measure a cell, unless it was measured before; a failure is a row too.

        Args:
            encoder: the model, of this seed.
            seed: of the folds, and of random weights.
            cell: what to measure.

        Returns:
            One row for each probe.
        """
        run = self.run_id(encoder)
        keys = [self._key(run, encoder, seed, cell, probe) for probe in self.probes]
        self.count.cells += len(keys)
        for key, probe in zip(keys, self.probes, strict=True):
            if self.rows.get(key, {}).get('status') == 'ok':
                self.count.kept += 1
                continue
            start = time.monotonic()
            row: dict[str, Any] = dict(zip(KEY, key, strict=True))
            row |= dict.fromkeys(COLUMNS, '') | {'count': len(cell.columns)}
            try:
                row |= self._measure(encoder, seed, cell, probe)
                row['status'] = 'ok'
            except (AOMError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
                row |= {'status': 'failed', 'error': f'{type(error).__name__}: {error}'[:400]}
                self.count.failed += 1
                what = f'{encoder.label}, seed {seed}, {row["bands"]}, fill {cell.fill}'
                self.failures.append((what, row['error']))
                tqdm.write(f'failed: {what}: {row["error"]}', file=sys.stderr)
            row['seconds'] = f'{time.monotonic() - start:.3f}'
            self.store.append([row])
            self.rows[key] = {name: str(value) for name, value in row.items()}
        return [self.rows[key] for key in keys]

    def scores(self, cell: Cell, seeds: dict[int, Encoder]) -> list[float]:
        """Score of each seed in a cell, by the first probe; NaN where it failed."""
        found = []
        for seed, own in seeds.items():
            text = self.run(own, seed, cell)[0]['score']
            found.append(float(text) if text else float('nan'))
        return found

    def empty_score(self) -> list[float]:
        """Score of each seed without any band: the most frequent class of the training samples."""
        y = self.data.labels
        found = []
        for seed in range(self.seeds):
            parts = []
            for division in self.divisions(seed):
                if y.ndim == 1:
                    guess = np.bincount(y[division.train]).argmax()
                    parts.append(float((y[division.test] == guess).mean()))
                else:
                    parts.append(float(y[division.test].mean(0).mean()))
            found.append(float(np.mean(parts)))
        return found

    def _measure(self, encoder: Encoder, seed: int, cell: Cell, probe: str) -> dict[str, Any]:
        y, groups = self.data.labels, self.data.probe.groups
        x = self.features(encoder, cell.columns, cell.fill)
        divisions = self.divisions(seed)
        chosen = self._strengths(encoder, seed, probe, divisions)
        if cell.trained == 'all':
            fits = self._fits_all(encoder, seed, probe, divisions, chosen)
        else:
            fits = [
                fit_probe(x, y, division, groups, probe, [strength])[0]
                for division, strength in zip(divisions, chosen, strict=True)
            ]
        metric = METRICS[y.ndim][0]
        scores = [
            rate(y[division.test], fit(x[division.test]))[metric]
            for division, fit in zip(divisions, fits, strict=True)
        ]
        return {
            'metric': metric,
            'score': repr(float(np.mean(scores))),
            'scores': json.dumps([round(score, 6) for score in scores]),
            'strengths': json.dumps(chosen),
            'dims': x.shape[1],
        }

    def _strengths(
        self, encoder: Encoder, seed: int, probe: str, divisions: Sequence[Division]
    ) -> list[float]:
        key = (encoder.facts, seed, probe)
        if key not in self._chosen:
            every = tuple(range(len(self.data.bands)))
            x = self.features(encoder, every, 'none')
            y, groups = self.data.labels, self.data.probe.groups
            self._chosen[key] = [
                fit_probe(x, y, one, groups, probe, self.strengths)[1] for one in divisions
            ]
        return self._chosen[key]

    def _fits_all(
        self,
        encoder: Encoder,
        seed: int,
        probe: str,
        divisions: Sequence[Division],
        chosen: Sequence[float],
    ) -> list[Callable[[NDArray[Any]], NDArray[Any]]]:
        """Probes trained with all bands."""
        key = (encoder.facts, seed, probe)
        if key not in self._fits:
            every = tuple(range(len(self.data.bands)))
            x = self.features(encoder, every, 'none')
            self._fits[key] = [
                fit_probe(x, self.data.labels, division, self.data.probe.groups, probe, [strength])[
                    0
                ]
                for division, strength in zip(divisions, chosen, strict=True)
            ]
        return self._fits[key]

    def features(
        self, encoder: Encoder, columns: tuple[int, ...], fill: str
    ) -> NDArray[np.float32]:
        """Features of all samples with some bands, computed once.

        Args:
            encoder: the model.
            columns: positions of the bands that there are.
            fill: what becomes of the others.

        Returns:
            Features of shape (N, D).
        """
        every = tuple(range(len(self.data.bands)))
        fill = 'none' if columns == every else fill
        key = (encoder.facts, columns, fill)
        if key in self._features:
            return self._features[key]
        seen = columns if fill == 'none' else every
        if encoder.per_band and fill == 'none' and columns != every:
            full = self.features(encoder, every, 'none')
            full = full.reshape(len(full), -1, len(every))
            return full[:, :, list(columns)].reshape(len(full), -1)
        mean, std = self.data.scale(str(self.reading.device))
        bands = tuple(self.data.bands[k] for k in seen)
        missing = [k for k in every if k not in columns]

        def function(images: Tensor) -> Tensor:
            if fill == 'none':
                images = images[:, list(seen)]
            else:
                images = images.clone()
                value = -mean / std if fill == 'zero' else torch.zeros_like(mean)
                images[:, missing] = value[missing].expand(-1, *images.shape[-2:])
            part = list(seen)
            return encoder.function(Batch(images, bands, mean[part], std[part]))

        facts = [encoder.facts, repr((bands, columns, fill)).encode()]
        found = extract(function, facts, self.data.dataset, self.reading)
        if found.cached:
            self.count.read += 1
        else:
            self.count.passes += 1
            self.count.images += len(found.values)
        if len(self._features) > 64:  # those of cells that come right after each other
            self._features.pop(next(iter(self._features)))
        self._features[key] = found.values
        return found.values
