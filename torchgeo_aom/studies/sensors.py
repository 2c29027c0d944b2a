"""Study across sensors: train a probe on one sensor's bands, test it on another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..errors import AOMError, ConfigError, suggest
from ..models.aom import SIZES
from ..models.registry import register
from ..tasks.divisions import Division, fold_divisions
from ..tasks.features import Reading, extract
from ..tasks.probe import fit_probe
from ..tasks.probe_scores import rate
from .encoder import Encoder, build_encoder
from .frozen import FrozenStudy
from .held import Held
from .peers import Batch
from .progress import Progress
from .sensor_cases import CASES, Case, Domain, fractional
from .store import RowStore

__all__ = ('INDICES', 'SensorResult', 'SensorStudy', 'run_sensors')

#: channel indices of the second sensor: of its counterparts, or of its own wavelengths
INDICES = ('counterpart', 'fractional')
KEY = ('run', 'case', 'model', 'weights', 'seed', 'index', 'trained', 'tested')
Say = Callable[[str], None]


@dataclass(frozen=True)
class SensorStudy(FrozenStudy):
    """What a study across sensors does; ``dataset`` and ``bands`` are those of the cases.

    Attributes:
        cases: some of ``CASES``.
        root: folder of the HLS chips, for the case ``'hls'``.

    .. versionadded:: 0.1
    """

    cases: Sequence[str] = ('landsat-like', 'levels')
    root: str = 'data'

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        super().__post_init__()
        for name in self.cases:
            if name not in CASES:
                raise ConfigError(
                    f'cases are {", ".join(CASES)}, got {name!r}{suggest(name, list(CASES))}'
                )
        if not self.folds or not self.cases:
            raise ConfigError('a study across sensors needs at least one case, and folds of places')


@dataclass(frozen=True)
class SensorResult:
    """Score of each seed of one way to train and test.

    Attributes:
        case: name of the pair.
        model: name with weights.
        index: how the second sensor's bands are indexed, one of ``INDICES``.
        trained: sensor that the probe was trained on.
        tested: sensor that it was tested on.
        scores: score of each seed; NaN where it failed.
    """

    case: str
    model: str
    index: str
    trained: str
    tested: str
    scores: tuple[float, ...]


def run_sensors(
    config: SensorStudy, folder: Path, say: Say = lambda text: None
) -> tuple[list[Case], list[SensorResult], list[tuple[str, str]], str]:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept, in ``rows.csv``.
        say: told what is going on.

    Returns:
        The cases, what was measured, failures with their reasons, and what was done in one line.

    Raises:
        ConfigError: if an option is unknown, or the data cannot be cut into so many folds.
        DataError: if data are missing.

    .. versionadded:: 0.1
    """
    register()
    cases = [CASES[name](Path(config.root).expanduser(), config.every) for name in config.cases]
    for case in cases:  # folds that cannot be: said before anything is measured
        fold_divisions(case.labels, case.groups, config.folds)
    store = RowStore(folder / 'rows.csv', KEY, ('score', 'scores', 'status', 'error'))
    work = _Work(config, store)
    found: dict[tuple[str, str, str, str, str], list[float]] = {}
    with Progress(len(cases) * len(config.models) * config.seeds, 'run') as bar:
        for case in cases:
            for entry in config.models:
                for seed in range(config.seeds):
                    before = work.passes
                    for key, score in work.run(case, entry, seed):
                        found.setdefault(key, []).append(score)
                    bar.step(f'{case.name}, {entry}', work.passes > before)
    results = [SensorResult(*key, tuple(scores)) for key, scores in found.items()]
    count = f'{work.passes} passes over the data = {work.images:,} model evaluations'
    say(count)
    return cases, results, work.failures, count


class _Work:
    """Features and probes of one study."""

    def __init__(self, config: SensorStudy, store: RowStore) -> None:
        self.config, self.store, self.rows = config, store, store.rows()
        self.passes = self.images = 0
        self.failures: list[tuple[str, str]] = []
        self._held: dict[tuple[str, str], Held] = {}

    def run(
        self, case: Case, entry: str, seed: int
    ) -> list[tuple[tuple[str, str, str, str, str], float]]:
        """All ways to train and test a model with a seed."""
        config = self.config
        size = case.first.images.shape[-2:]
        try:
            encoder = build_encoder(
                entry, seed, case.first.bands, (int(size[0]), int(size[1])),
                patch_size=config.patch_size, weights=config.weights,
                peer_weights=config.peer_weights, peer_size=config.peer_size, device=config.device,
                precision=config.precision, speed=config.speed,
            )  # fmt: skip
        except (AOMError, RuntimeError, OSError) as error:
            self.failures.append((f'{case.name}, {entry}', f'{type(error).__name__}: {error}'))
            return []
        ways = INDICES if encoder.name in SIZES else INDICES[:1]
        found = []
        for index in ways:
            second = case.second
            if index == 'fractional':
                second = replace(second, bands=fractional(second.bands))
                if second.bands == case.second.bands:
                    continue  # nothing differs
            pairs = [(case.first, case.first), (case.first, second), (second, second)]
            for trained, tested in pairs if index == INDICES[0] else pairs[1:]:
                if not encoder.fixed_size and len(trained.bands) != len(tested.bands):
                    continue  # other features than the probe knows
                key = (case.name, encoder.label, index, trained.name, tested.name)
                found.append((key, self._score(case, encoder, seed, index, trained, tested)))
        return found

    def _score(
        self, case: Case, encoder: Encoder, seed: int, index: str, trained: Domain, tested: Domain
    ) -> float:
        facts = (
            __version__, self.config.folds, self.config.probes[0], encoder.facts.hex(),
            case.labels.tolist(), case.groups.tolist(),
            [(d.bands, self._data(case, d).digest) for d in (trained, tested)],
            *(_scales(trained, tested) if encoder.as_reflectance else ()),
        )  # fmt: skip
        run = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
        key = (
            run, case.name, encoder.name, encoder.weights, str(seed), index, trained.name,
            tested.name,
        )  # fmt: skip
        if self.rows.get(key, {}).get('status') == 'ok':
            return float(self.rows[key]['score'])
        row: dict[str, Any] = dict(zip(KEY, key, strict=True))
        row |= {'score': '', 'scores': '', 'status': 'failed', 'error': ''}
        try:
            scores = self._measure(case, encoder, seed, trained, tested)
            row |= {'score': repr(float(np.mean(scores))), 'status': 'ok'}
            row['scores'] = json.dumps([round(score, 6) for score in scores])
        except (AOMError, RuntimeError, ValueError) as error:
            row['error'] = f'{type(error).__name__}: {error}'[:400]
            what = f'{case.name}, {encoder.label}, seed {seed}, {trained.name} to {tested.name}'
            self.failures.append((what, row['error']))
        self.store.append([row])
        self.rows[key] = {name: str(value) for name, value in row.items()}
        return float(row['score']) if row['score'] else float('nan')

    def _measure(
        self, case: Case, encoder: Encoder, seed: int, trained: Domain, tested: Domain
    ) -> list[float]:
        x, new = self._features(case, encoder, trained), self._features(case, encoder, tested)
        scores = []
        for division in fold_divisions(case.labels, case.groups, self.config.folds, seed):
            train = division.train[trained.member[division.train]]
            test = division.test[tested.member[division.test]]
            if not len(test) or len(np.unique(case.labels[train])) < 2:
                continue
            own = Division(train, division.val, test)
            fit, _ = fit_probe(x, case.labels, own, case.groups, self.config.probes[0])
            scores.append(rate(case.labels[test], fit(new[test]))['accuracy'])
        if not scores:
            raise ConfigError('no fold has samples of both sensors; take fewer folds')
        return scores

    def _data(self, case: Case, domain: Domain) -> Held:
        key = (case.name, domain.name)
        if key not in self._held:
            labels = torch.from_numpy(case.labels)
            self._held[key] = Held(domain.images, labels)
        return self._held[key]

    def _features(self, case: Case, encoder: Encoder, domain: Domain) -> NDArray[np.float32]:
        mean, std = domain.scale(self.config.device)
        reading = Reading(
            None, None, self.config.batch_size, 0, self.config.device,
            cache_dir=self.config.cache_dir, progress=False,
        )  # fmt: skip
        facts = [encoder.facts, repr(domain.bands).encode()]
        if encoder.as_reflectance:
            facts.append(repr(_scales(domain)).encode())
        found = extract(
            lambda images: encoder.function(Batch(images, domain.bands, mean, std)),
            facts, self._data(case, domain), reading,
        )  # fmt: skip
        if not found.cached:
            self.passes += 1
            self.images += len(found.values)
        return found.values


def _scales(*domains: Domain) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    return [(domain.mean, domain.std) for domain in domains]
