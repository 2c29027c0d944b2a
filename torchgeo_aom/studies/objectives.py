"""Study of objectives and encodings (Tables 4 and 5 of the paper), as small pretraining runs."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything

from .. import __version__
from ..data.loader import PretrainDataModule
from ..errors import AOMError, ConfigError, suggest
from ..models.registry import register
from ..tasks.divisions import fold_divisions
from ..tasks.pretrain import PretrainTask
from ..tasks.probe import extract_features, run_probe
from ..tasks.probe_data import open_data
from ..tasks.short_training import TrainingProgress, quiet_lightning
from .held import StudyData, hold
from .progress import Progress
from .store import RowStore

__all__ = ('OBJECTIVES', 'RUNS', 'ObjectiveResult', 'ObjectiveStudy', 'run_objectives')

#: what Eq. 8 is made of
OBJECTIVES: dict[str, dict[str, Any]] = {
    'MSE': {'align_weight': 0.0},
    'MSE + InfoNCE, as printed': {'negatives': 'none'},
    'MSE + InfoNCE, batch negatives': {'negatives': 'batch'},
}
#: objective and channel encoding of each run; with both encodings where Table 5 compares them
RUNS: tuple[tuple[str, str], ...] = (
    *((name, 'index') for name in OBJECTIVES),
    ('MSE + InfoNCE, batch negatives', 'wavelength'),
)
UNTRAINED = 'before training'
KEY = ('run', 'objective', 'encoding', 'seed', 'steps', 'batch', 'depth', 'sources', 'test')
#: of PretrainTask: what the study itself says, so that no further option may
OWN = (
    'model', 'depth', 'batch_size', 'epochs', 'seed', 'channel_encoding', 'align_weight',
    'negatives', 'weights',
)  # fmt: skip
Say = Callable[[str], None]


@dataclass(frozen=True)
class ObjectiveStudy:
    """What a study of objectives does.

    Attributes:
        sources: YAML list of sources of pretraining, see ``docs/pretraining.md``.
        tests: data sets that probes are fitted on, perhaps with their folder: ``'EuroSAT200'``,
            ``'WorldCoverPatches=DIR'``.
        runs: some of ``RUNS``.
        steps: of each run, a multiple of 10.
        batch_size: images a step.
        depth: blocks of the encoder, of the width of ``aom_vitt``.
        seeds: number of seeds.
        folds: folds of whole groups of each test.
        every: take only every n-th sample of each test.
        options: further options of ``PretrainTask``, such as ``base_lr``; those that the study
            itself varies or says elsewhere are refused.

    .. versionadded:: 0.1
    """

    sources: str
    tests: Sequence[str] = ('EuroSAT200',)
    runs: Sequence[tuple[str, str]] = RUNS
    steps: int = 200
    batch_size: int = 32
    depth: int = 4
    seeds: int = 3
    folds: int = 5
    every: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        if not Path(self.sources).is_file():
            raise ConfigError(
                f'sources must be a YAML file with sources of pretraining, got {self.sources!r}; '
                'see examples/pretrain/objectives.yaml'
            )
        for name, _ in self.runs:
            if name not in OBJECTIVES:
                raise ConfigError(
                    f'objectives are {", ".join(OBJECTIVES)}, got {name!r}'
                    f'{suggest(name, list(OBJECTIVES))}'
                )
        if self.steps < 10 or self.steps % 10 or self.seeds < 1 or not self.tests:
            raise ConfigError(
                'a study of objectives needs steps in multiples of 10, at least one seed and one '
                f'test, got {self.steps}, {self.seeds} and {list(self.tests)}'
            )
        for name in ('batch_size', 'depth', 'every'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.folds < 2:
            raise ConfigError(f'a study of objectives needs at least 2 folds, got {self.folds}')
        free = [name for name in inspect.signature(PretrainTask).parameters if name not in OWN]
        for name in self.options:
            if name not in free:
                why = 'is what the study itself says' if name in OWN else 'is not known'
                raise ConfigError(
                    f'the option {name!r} of PretrainTask {why}{suggest(name, free)}. Options '
                    f'are {", ".join(free)}'
                )


@dataclass(frozen=True)
class ObjectiveResult:
    """Accuracy of one run's features on one test, of each seed; NaN where it failed."""

    objective: str
    encoding: str
    test: str
    scores: tuple[float, ...]


def _tests(config: ObjectiveStudy) -> dict[str, StudyData]:
    found = {}
    for entry in config.tests:
        name, sign, root = entry.partition('=')
        arguments = {'root': root} if sign else {}
        if name == 'UCMerced':
            arguments['split_rule'] = 'hash'  # needs no lists of TorchGeo
        found[name] = hold(open_data(name, arguments, splits=None, every=config.every))
    return found


def _pretrain(config: ObjectiveStudy, objective: str, encoding: str, seed: int) -> Any:
    """The encoder of a run; that before training where the objective is none."""
    trained = objective in OBJECTIVES
    seed_everything(seed, verbose=False)
    options: dict[str, Any] = {
        'model': 'aom_vitt',
        'depth': config.depth,
        'decoder_depth': 2,
        'patch_sizes': (12, 16, 24),
        'kernel_sizes': (16, 32),
        'scales_per_step': 2,
        'batch_size': config.batch_size,
        'base_lr': 4e-3,
        'warmup_epochs': 1,
        'epochs': 10,
        'seed': seed,
        'channel_encoding': encoding,
        **config.options,
    }
    task = PretrainTask(**options, **OBJECTIVES.get(objective, {}))
    if not trained:
        return task.encoder.eval()
    data = PretrainDataModule(config.sources, batch_size=config.batch_size, seed=seed)
    label = f'{objective}, {encoding}, seed {seed}'
    with quiet_lightning(), tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            devices=1, max_steps=config.steps, logger=False, enable_checkpointing=False,
            callbacks=[TrainingProgress(label, config.steps)], num_sanity_val_steps=0,
            limit_train_batches=config.steps // 10, enable_model_summary=False,
            enable_progress_bar=False, default_root_dir=scratch,
        )  # fmt: skip
        trainer.fit(task, data)
    return task.encoder.cpu().eval()


def run_objectives(
    config: ObjectiveStudy, folder: Path, say: Say = lambda text: None
) -> tuple[list[ObjectiveResult], list[tuple[str, str]], str]:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept, in ``rows.csv``.
        say: told what is going on.

    Returns:
        What was measured, failures with their reasons, and what was done in one line.

    Raises:
        ConfigError: if data do not fit, or cannot be cut into so many folds.
        DataError: if images are missing.

    .. versionadded:: 0.1
    """
    register()
    work = _Work(config, folder)
    encodings = dict.fromkeys(encoding for _, encoding in config.runs)
    runs = [*((UNTRAINED, encoding) for encoding in encodings), *config.runs]
    found: dict[tuple[str, str, str], list[float]] = {}
    say(
        f'{len(config.runs)} runs of {config.steps} steps of {config.batch_size} images and '
        f'{len(encodings)} encoders before training, {config.seeds} seeds, probes on '
        f'{", ".join(f"{name} ({len(data.labels)} images)" for name, data in work.tests.items())}'
    )
    with Progress(config.seeds * len(runs), 'run') as bar:
        for seed in range(config.seeds):
            for objective, encoding in runs:
                before = work.trained, work.passes
                for name, score in work.run(objective, encoding, seed).items():
                    found.setdefault((objective, encoding, name), []).append(score)
                label = f'{objective}, {encoding}, seed {seed}'
                bar.step(label, (work.trained, work.passes) != before)
    say(str(work))
    results = [ObjectiveResult(*key, tuple(scores)) for key, scores in found.items()]
    return results, work.failures, str(work)


class _Work:
    """Runs and probes of one study, and what was done of them."""

    def __init__(self, config: ObjectiveStudy, folder: Path) -> None:
        self.config = config
        self.store = RowStore(folder / 'rows.csv', KEY, ('score', 'status', 'error'))
        self.rows = self.store.rows()
        self.tests = _tests(config)
        for one in self.tests.values():  # folds that cannot be: said before anything is trained
            fold_divisions(one.labels, one.probe.groups, config.folds)
        self.id = _run_id(config, self.tests)
        self.failures: list[tuple[str, str]] = []
        self.cells = self.kept = self.trained = self.passes = self.images = 0

    def __str__(self) -> str:
        """One line for the user."""
        config = self.config
        seen = self.trained * config.steps * config.batch_size
        return (
            f'{self.cells} cells, {self.kept} of them kept from before; {self.trained} pretraining '
            f'runs of {config.steps} steps = {seen:,} images; {self.passes} passes over test data '
            f'= {self.images:,} model evaluations'
        )

    def _key(self, objective: str, encoding: str, seed: int, test: str) -> tuple[str, ...]:
        config = self.config
        return (
            self.id, objective, encoding, str(seed),
            str(config.steps if objective in OBJECTIVES else 0), str(config.batch_size),
            str(config.depth), Path(config.sources).name, test,
        )  # fmt: skip

    def run(self, objective: str, encoding: str, seed: int) -> dict[str, float]:
        """Score on each test of one run; what was measured before is kept."""
        keys = {name: self._key(objective, encoding, seed, name) for name in self.tests}
        todo = [k for k, key in keys.items() if self.rows.get(key, {}).get('status') != 'ok']
        self.cells += len(keys)
        self.kept += len(keys) - len(todo)
        encoder, error = None, ''
        if todo:
            encoder, error = _attempt(_pretrain, self.config, objective, encoding, seed)
            self.trained += encoder is not None and objective in OBJECTIVES
        for name in todo:
            score = None
            if encoder is not None:
                score, error = _attempt(self._probe, encoder, name, seed)
            row: dict[str, Any] = dict(zip(KEY, keys[name], strict=True))
            row |= {'score': '' if score is None else repr(score), 'error': error}
            row['status'] = 'failed' if score is None else 'ok'
            if score is None:
                self.failures.append((f'{objective}, {encoding}, seed {seed}, {name}', error))
            self.store.append([row])
            self.rows[keys[name]] = {k: str(v) for k, v in row.items()}
        texts = {name: self.rows[key]['score'] for name, key in keys.items()}
        return {name: float(text) if text else float('nan') for name, text in texts.items()}

    def _probe(self, encoder: Any, name: str, seed: int) -> float:
        data = self.tests[name].probe
        with torch.no_grad():
            features = extract_features(
                encoder, data.dataset, data.bands, 16, batch_size=32, cache=False,
                label=data.name, normalize=data.normalize,
            )  # fmt: skip
        self.passes += 1
        self.images += len(features.values)
        divisions = fold_divisions(features.labels, data.groups, self.config.folds, seed)
        result = run_probe(
            features.values, features.labels, divisions, data.groups, strengths=(0.01, 0.1, 1.0)
        )
        return float(np.mean(result.scores))


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What a function returns and no error, or nothing and why it failed."""
    try:
        return function(*arguments), ''
    except (AOMError, RuntimeError, ValueError, ArithmeticError, OSError) as problem:
        return None, f'{type(problem).__name__}: {problem}'[:400]


def _run_id(config: ObjectiveStudy, tests: Mapping[str, StudyData]) -> str:
    """Hash of all that rows depend on and that is no column of them; opens all sources.

    Images of the sources count by their number and, where statistics are measured, by those.
    """
    data = PretrainDataModule(config.sources, batch_size=config.batch_size)
    facts = (
        __version__, data.hparams['sources'], data.statistics, sorted(config.options.items()),
        config.folds,
        [
            (name, one.digest, one.bands, one.probe.normalize.mean, one.probe.normalize.std)
            for name, one in tests.items()
        ],
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
