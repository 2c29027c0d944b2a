"""Study of objectives and encodings (Tables 4 and 5 of the paper), as small pretraining runs."""

from __future__ import annotations

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
from ..tasks.probe_data import ProbeData, open_data
from ..tasks.short_training import TrainingProgress, quiet_lightning
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
KEY = ('version', 'objective', 'encoding', 'seed', 'steps', 'batch', 'depth', 'sources', 'test')
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
        options: further options of ``PretrainTask``.
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


@dataclass(frozen=True)
class ObjectiveResult:
    """Accuracy of one run's features on one test, of each seed; NaN where it failed."""

    objective: str
    encoding: str
    test: str
    scores: tuple[float, ...]


def _tests(config: ObjectiveStudy) -> dict[str, ProbeData]:
    found = {}
    for entry in config.tests:
        name, sign, root = entry.partition('=')
        arguments = {'root': root} if sign else {}
        if name == 'UCMerced':
            arguments['split_rule'] = 'hash'  # needs no lists of TorchGeo
        found[name] = open_data(name, arguments, splits=None, every=config.every)
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
) -> tuple[list[ObjectiveResult], list[tuple[str, str]]]:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept, in ``rows.csv``.
        say: told what is going on.

    Returns:
        What was measured, and failures with their reasons.

    Raises:
        ConfigError: if data do not fit.
    """
    register()
    store = RowStore(folder / 'rows.csv', KEY, ('score', 'status', 'error'))
    rows = store.rows()
    tests = _tests(config)
    encodings = dict.fromkeys(encoding for _, encoding in config.runs)
    runs = [*((UNTRAINED, encoding) for encoding in encodings), *config.runs]
    found: dict[tuple[str, str, str], list[float]] = {}
    failures = []
    for seed in range(config.seeds):
        for objective, encoding in runs:
            keys = {
                name: (
                    __version__, objective, encoding, str(seed),
                    str(config.steps if objective in OBJECTIVES else 0), str(config.batch_size),
                    str(config.depth), Path(config.sources).name,
                    f'{name}, {len(data.names)} images',
                )
                for name, data in tests.items()
            }  # fmt: skip
            todo = [k for k, key in keys.items() if rows.get(key, {}).get('status') != 'ok']
            if todo:
                say(f'{objective}, {encoding}, seed {seed}')
                error = ''
                scores: dict[str, float] = {}
                try:
                    encoder = _pretrain(config, objective, encoding, seed)
                    for name in todo:
                        scores[name] = _probe(config, encoder, tests[name], seed)
                except (AOMError, RuntimeError, ValueError) as problem:
                    error = f'{type(problem).__name__}: {problem}'[:400]
                    failures.append((f'{objective}, {encoding}, seed {seed}', error))
                for name in todo:
                    row: dict[str, Any] = dict(zip(KEY, keys[name], strict=True))
                    row |= {'score': repr(scores[name]) if name in scores else '', 'error': error}
                    row['status'] = 'ok' if name in scores else 'failed'
                    store.append([row])
                    rows[keys[name]] = {k: str(v) for k, v in row.items()}
            for name, key in keys.items():
                text = rows[key]['score']
                score = float(text) if text else float('nan')
                found.setdefault((objective, encoding, name), []).append(score)
    return [ObjectiveResult(*key, tuple(scores)) for key, scores in found.items()], failures


def _probe(config: ObjectiveStudy, encoder: Any, data: ProbeData, seed: int) -> float:
    with torch.no_grad():
        features = extract_features(
            encoder, data.dataset, data.bands, 16, batch_size=32, cache=False,
            label=data.name, normalize=data.normalize,
        )  # fmt: skip
    divisions = fold_divisions(features.labels, data.groups, config.folds, seed)
    result = run_probe(
        features.values, features.labels, divisions, data.groups, strengths=(0.01, 0.1, 1.0)
    )
    return float(np.mean(result.scores))
