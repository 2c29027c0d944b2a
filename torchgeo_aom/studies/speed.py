"""Study of speed: score against time over speed modes, sets of bands and patch sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import AOMError, AOMWarning, ConfigError
from ..layers.checks import ceil_div
from ..models.aom import SIZES
from ..models.registry import register
from ..models.speed import Schedule, merge_schedule, read_speed, slots_per_block, speed_text
from .cells import Cell
from .encoder import Encoder
from .held import StudyData
from .patches import PatchStudy, cost_store, measured_cost, patch_subsets
from .progress import Progress

__all__ = ('SpeedPoint', 'SpeedStudy', 'run_speed')

SPEEDS = ('exact', 'balanced', 'fast', '0:6', '0:6,1:4', '1:4', '0:4,6:2', '4:1', '1:1')
Say = Callable[[str], None]


@dataclass(frozen=True)
class SpeedStudy(PatchStudy):
    """What a study of speed does.

    Attributes:
        speeds: speed modes, and merge schedules such as ``'1:4,4:1'``; ``'exact'`` comes first.
        patch_sizes: of all of them, in px.
    """

    speeds: Sequence[str] = SPEEDS
    patch_sizes: Sequence[int] = (8, 16)
    weights: str | None = 'default'

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        super().__post_init__()
        for speed in self.speeds:
            merge_schedule(read_speed(speed), min(SIZES[m.partition('=')[0]]['depth']
                                                  for m in self.models))  # fmt: skip
        if not self.speeds or self.speeds[0] != 'exact':
            raise ConfigError(f"speeds begin with 'exact', which others are compared with, got "
                              f'{list(self.speeds)}')  # fmt: skip


@dataclass(frozen=True)
class SpeedPoint:
    """What was measured in one speed mode.

    Attributes:
        model: name with weights.
        bands: name of the set of bands.
        count: number of bands.
        patch: patch size in px.
        speed: mode or schedule.
        schedule: the schedule, as text.
        tokens: tokens of an image, the mean over blocks.
        scores: score of each seed, from 0 to 1; NaN where it failed.
        ms: milliseconds an image.
    """

    model: str
    bands: str
    count: int
    patch: int
    speed: str
    schedule: str
    tokens: int
    scores: tuple[float, ...]
    ms: float


def run_speed(
    config: SpeedStudy, folder: Path, say: Say = lambda text: None
) -> tuple[list[SpeedPoint], list[tuple[str, str]], str]:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept.
        say: told what is going on.

    Returns:
        What was measured, failures with their reasons, and what was done in one line.

    Raises:
        ConfigError: if the options do not fit the data.

    .. versionadded:: 0.2
    """
    register()
    data = config.read()
    subsets = patch_subsets(config, data)
    runner, costs = config.runner(data, folder), cost_store(folder)
    say(f'{data.probe.name}: {len(data.labels)} images, speeds {", ".join(config.speeds)}')
    found: list[SpeedPoint] = []
    runs = [(m, p, s) for m in config.models for p in config.patch_sizes for s in config.speeds]
    with Progress(len(runs) * config.seeds * len(subsets)) as bar:
        for entry, patch, speed in runs:
            what = f'{entry}, {patch} px, {speed}'
            try:
                first = _encoder(config, entry, 0, data, patch, speed)
            except (AOMError, RuntimeError, OSError) as error:
                runner.failures.append((what, f'{type(error).__name__}: {error}'))
                for _ in range(config.seeds * len(subsets)):
                    bar.step(what, worked=False)
                continue
            for subset in subsets:
                if speed != 'exact' and not _merges(entry, speed, len(subset.columns)):
                    for _ in range(config.seeds):
                        bar.step(what, worked=False)
                    continue
                bands = tuple(data.bands[k] for k in subset.columns)
                scores = []
                for seed in range(config.seeds):
                    kept = runner.count.kept
                    own = first
                    if seed and first.seeded:
                        own = _encoder(config, entry, seed, data, patch, speed)
                    row = runner.run(own, seed, Cell(subset.columns))[0]
                    scores.append(float(row['score']) if row['score'] else float('nan'))
                    bar.step(what, runner.count.kept == kept)
                named = f'{speed}, {config.precision}'
                ms, _ = measured_cost(
                    config.device, costs, first, named, patch, bands, data.probe.size
                )
                found.append(
                    _point(entry, first, subset.name, len(bands), patch, speed, data.probe.size,
                           tuple(scores), ms)
                )  # fmt: skip
    say(str(runner.count))
    return found, runner.failures, str(runner.count)


def _encoder(
    config: SpeedStudy, entry: str, seed: int, data: StudyData, patch: int, speed: str
) -> Encoder:
    with warnings.catch_warnings():  # of modes that nobody has measured: that is done here
        warnings.filterwarnings('ignore', 'speed=', AOMWarning)
        return config.encoder(entry, seed, data, patch, speed)


def _schedule(entry: str, speed: str) -> tuple[Schedule, int]:
    depth = SIZES[entry.partition('=')[0]]['depth']
    return merge_schedule(read_speed(speed), depth), depth


def _merges(entry: str, speed: str, count: int) -> bool:
    """Whether a mode does anything to so many bands."""
    return min(slots_per_block(count, *_schedule(entry, speed))) < count


def _point(
    entry: str, encoder: Encoder, bands: str, count: int, patch: int, speed: str,
    size: tuple[int, int], scores: tuple[float, ...], ms: float,
) -> SpeedPoint:  # fmt: skip
    schedule, depth = _schedule(entry, speed)
    slots = float(np.mean(slots_per_block(count, schedule, depth)))
    places = ceil_div(size[0], patch) * ceil_div(size[1], patch)
    return SpeedPoint(
        encoder.label, bands, count, patch, speed, speed_text(schedule), round(slots * places),
        scores, ms,
    )  # fmt: skip
