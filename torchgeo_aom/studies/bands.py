"""Study of bands (Figure 3 of the paper): what is lost without them, and which of them matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..commands.choices import IMPORTANCE
from ..errors import AOMError, ConfigError
from ..models.registry import register
from . import importance
from .cells import COLUMNS, FILLS, KEY, Cell, Runner
from .encoder import Encoder
from .frozen import FrozenStudy
from .held import StudyData
from .importance import Shares
from .progress import Progress
from .subsets import Subset, named_subsets, study_subsets

__all__ = ('IMPORTANCE', 'BandStudy', 'Outcome', 'run_bands')

#: every set of so many bands is looked at for Shapley values
EXACT = 7


@dataclass(frozen=True)
class BandStudy(FrozenStudy):
    """What a study of bands does.

    Attributes:
        presets: further sets of bands by name.
        subsets: sets of each size at most.
        fill_subsets: of these, how many of each size are also filled with zeros and means, as known
            sets always are.
        importance: some of ``IMPORTANCE``.
        importance_models: models that greedy orders and Shapley values are asked of.
        orders: random orders of the bands for Shapley values.
        within: how much less than all bands is about as good.

    .. versionadded:: 0.1
    """

    presets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subsets: int = 3
    fill_subsets: int = 0
    importance: Sequence[str] = IMPORTANCE
    importance_models: Sequence[str] = ('statistics',)
    orders: int = 8
    within: float = 0.01

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        super().__post_init__()
        unknown = [name for name in self.importance if name not in IMPORTANCE]
        if unknown:
            raise ConfigError(f'importance is some of {", ".join(IMPORTANCE)}, got {unknown}')
        for name in ('subsets', 'orders'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1, got {getattr(self, name)}')
        strange = [m for m in self.importance_models if m not in self.models]
        if strange and tuple(self.importance_models) != ('statistics',):
            raise ConfigError(
                f'importance_models {", ".join(strange)} are not among the models '
                f'{", ".join(self.models)}'
            )


@dataclass
class Outcome:
    """What a study found.

    Attributes:
        config: what was asked for.
        data: what it was measured on.
        subsets: the sets of bands.
        encoders: how each model is called in tables, and given its bands.
        scores: for each model and cell of the first probe, the score of each seed.
        probes: the same for each probe.
        chance: score without any band.
        shares: for each model, leave-one-out and Shapley values.
        greedy: for each model, orders in which bands were added and dropped.
        count: what was done, for the user.
        failures: models and cells that failed, with the reason.
        metric: name of the score.
    """

    config: BandStudy
    data: StudyData
    subsets: list[Subset]
    encoders: dict[str, str] = field(default_factory=dict)
    probes: dict[str, dict[str, dict[Cell, list[float]]]] = field(default_factory=dict)
    chance: float = 0.0
    shares: dict[str, dict[str, Shares]] = field(default_factory=dict)
    greedy: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    count: str = ''
    failures: list[tuple[str, str]] = field(default_factory=list)
    metric: str = 'accuracy'

    @property
    def scores(self) -> dict[str, dict[Cell, list[float]]]:
        """Scores of the first probe."""
        return self.probes[self.config.probes[0]]


def _cells(config: BandStudy, subsets: Sequence[Subset]) -> list[Cell]:
    """All cells of the ablation, each once; those that share features come together."""
    every = subsets[0].columns
    per_size: dict[int, int] = {}
    cells: dict[Cell, None] = {Cell(every): None}
    for subset in subsets[1:]:
        columns = subset.columns
        cells[Cell(columns)] = None
        cells[Cell(columns, 'none', 'all')] = None
        size = len(columns)
        fill = subset.kind == 'preset'
        if subset.kind == 'random' and per_size.get(size, 0) < config.fill_subsets:
            per_size[size] = per_size.get(size, 0) + 1
            fill = True
        for how in FILLS[1:] if fill else ():
            cells[Cell(columns, how)] = None
            cells[Cell(columns, how, 'all')] = None
    return list(cells)


def run_bands(
    config: BandStudy, folder: Path, say: Callable[[str], None] = lambda text: None
) -> Outcome:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept, in ``rows.csv``.
        say: told what is going on.

    Returns:
        What was found, of this and of earlier runs.

    Raises:
        BandError: if a band is unknown.
        ConfigError: if the configuration does not fit the data.
        DataError: if the folder holds rows of another study.

    .. versionadded:: 0.1
    """
    register()
    data = config.read()
    subsets = study_subsets(data.bands, config.subsets)
    subsets[1:1] = named_subsets(data.bands, dict(config.presets))
    runner = config.runner(data, folder)
    outcome = Outcome(config, data, subsets)
    cells = _cells(config, subsets)
    say(
        f'{data.probe.name}: {len(data.labels)} images of {_size(data)}, {len(data.bands)} bands, '
        f'{len({s.columns for s in subsets})} sets of bands, {config.seeds} seeds'
    )
    total = len(config.models) * config.seeds * len(cells)
    with Progress(total) as bar:
        for entry in config.models:
            _run_model(config, runner, entry, cells, outcome, bar, say)
    found = runner.empty_score()
    outcome.chance = sum(found) / len(found)
    for entry in config.importance_models if config.importance else ():
        if entry in config.models:
            _importance(config, runner, entry, outcome, say)
    outcome.failures += runner.failures
    outcome.count = str(runner.count)
    say(outcome.count)
    return outcome


def _size(data: StudyData) -> str:
    return f'{data.probe.size[0]} x {data.probe.size[1]} px'


def _run_model(
    config: BandStudy,
    runner: Runner,
    entry: str,
    cells: Sequence[Cell],
    outcome: Outcome,
    bar: Progress,
    say: Callable[[str], None],
) -> None:
    try:
        first = config.encoder(entry, 0, runner.data)
    except (AOMError, RuntimeError, ValueError, OSError) as error:
        reason = f'{type(error).__name__}: {error}'
        say(f'failed: {entry}: {reason}')
        outcome.failures.append((entry, reason))
        row = {**dict.fromkeys((*KEY, *COLUMNS), ''), 'run': '-', 'model': entry}
        runner.store.append([{**row, 'status': 'failed', 'error': reason[:400]}])
        for _ in range(config.seeds * len(cells)):
            bar.step(entry, worked=False)
        return
    outcome.encoders[first.label] = first.given
    at, own = 0, first
    for seed, cell in _order(config, first, cells):
        if seed != at and first.seeded:
            at, own = seed, config.encoder(entry, seed, runner.data)
        kept = runner.count.kept
        if runner.possible(own, cell):
            for row in runner.run(own, seed, cell):
                score = float(row['score']) if row['score'] else float('nan')
                outcome.metric = row['metric'] or outcome.metric
                model = outcome.probes.setdefault(row['probe'], {}).setdefault(first.label, {})
                model.setdefault(cell, []).append(score)
        worked = runner.possible(own, cell) and runner.count.kept == kept
        bar.step(first.label, worked)


def _order(
    config: BandStudy, encoder: Encoder, cells: Sequence[Cell]
) -> Iterator[tuple[int, Cell]]:
    """Cells and seeds, so that features are used for all that they serve before they go."""
    if encoder.seeded:
        yield from ((seed, cell) for seed in range(config.seeds) for cell in cells)
    else:
        yield from ((seed, cell) for cell in cells for seed in range(config.seeds))


def _most_sets(config: BandStudy, count: int) -> int:
    """How often a score is asked for."""
    asked = {
        'loo': count + 1,
        'forward': count * (count + 1) // 2,
        'backward': count * (count + 1) // 2 - 1,
        'shapley': count * 2**count if count <= EXACT else config.orders * count,
    }
    return sum(asked[name] for name in config.importance)


def _importance(
    config: BandStudy,
    runner: Runner,
    entry: str,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    first = config.encoder(entry, 0, runner.data)
    own = {
        seed: config.encoder(entry, seed, runner.data) if seed and first.seeded else first
        for seed in range(config.seeds)
    }
    kept = outcome.scores.setdefault(first.label, {})
    count = len(runner.data.bands)
    bar = Progress(_most_sets(config, count), 'set')

    def value(columns: tuple[int, ...]) -> list[float]:
        cell = Cell(columns)
        if cell not in kept:
            kept[cell] = runner.scores(cell, own)
        bar.step(f'importance, {first.label}')
        return kept[cell]

    say(f'importance of bands to {first.label}: {", ".join(config.importance)}')
    shares: dict[str, Shares] = {}
    greedy: dict[str, list[tuple[int, float]]] = {}
    with bar:
        if 'loo' in config.importance:
            shares['leave-one-out'] = importance.leave_one_out(value, count)
        if 'forward' in config.importance:
            greedy['forward'] = importance.forward(value, count)
        if 'backward' in config.importance:
            greedy['backward'] = importance.backward(value, count)
        if 'shapley' in config.importance and count <= EXACT:
            shares['Shapley'] = importance.exact_shapley(value, count, runner.empty_score())
        elif 'shapley' in config.importance:
            empty = runner.empty_score()
            shares['Shapley'] = importance.sampled_shapley(
                value, count, sum(empty) / len(empty), config.orders
            )
    outcome.shares[first.label], outcome.greedy[first.label] = shares, greedy
