"""Study of patch sizes (Figure 5 of the paper): scores, time and memory by patch size and bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bands import Band
from ..datamodules.base import find_dataset
from ..errors import AOMError, ConfigError
from ..layers.checks import ceil_div
from ..layers.tokenizer import checked_patch_size
from ..models.aom import SIZES
from ..models.registry import register
from ..models.weights import default_weights
from ..tasks.rows import FAILED
from ..tasks.segment_run import Protocol, run_segmentation
from .cells import Cell
from .cost import measure_cost
from .encoder import RANDOM, Encoder, build_encoder, weights_title
from .frozen import FrozenStudy
from .held import StudyData
from .peers import Batch
from .progress import Progress
from .store import RowStore
from .subsets import Subset, named_subsets, presets

__all__ = (
    'PatchPoint',
    'PatchStudy',
    'cost_store',
    'measured_cost',
    'patch_subsets',
    'run_patches',
)

PATCHES = (8, 16, 24, 32, 48, 64)
COST_BATCH = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class PatchStudy(FrozenStudy):
    """What a study of patch sizes does.

    Attributes:
        patch_sizes: sizes in px.
        presets: sets of bands by name, beside all bands; RGB where the data have it and none is
            given.
        steps: where samples have masks: steps that the head is trained.
        crop: where samples have masks: side of the crops that it is trained with, in px.

    .. versionadded:: 0.1
    """

    models: Sequence[str] = ('aom_vitt',)
    patch_sizes: Sequence[int] = PATCHES
    presets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: int = 200
    crop: int | None = None

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        super().__post_init__()
        for size in self.patch_sizes:
            checked_patch_size(size)
        others = [entry for entry in self.models if entry.partition('=')[0] not in SIZES]
        if others or not self.patch_sizes:
            raise ConfigError(
                f'a study of patch sizes is of {", ".join(SIZES)} and needs at least one size; got '
                f'{", ".join(self.models)} and {list(self.patch_sizes)}. Peers have one patch size'
            )


@dataclass(frozen=True)
class PatchPoint:
    """What was measured with one patch size and set of bands.

    Attributes:
        model: name with weights.
        bands: name of the set of bands.
        count: number of bands.
        patch: patch size in px.
        tokens: tokens of an image.
        scores: score of each seed, from 0 to 1; NaN where it failed.
        ms: milliseconds an image; NaN where it was not measured.
        mib: memory of a batch at its peak in MiB; NaN where it is not known.
    """

    model: str
    bands: str
    count: int
    patch: int
    tokens: int
    scores: tuple[float, ...]
    ms: float
    mib: float


def is_dense(config: PatchStudy) -> bool:
    """Whether samples of the data have a class for each pixel."""
    return config.dataset != 'EuroSAT200' and find_dataset(config.dataset).target == 'mask'


def run_patches(
    config: PatchStudy, folder: Path, say: Say = lambda text: None
) -> tuple[list[PatchPoint], list[tuple[str, str]], str]:
    """Run a study, or what is left of it.

    Args:
        config: what to do.
        folder: where rows are kept.
        say: told what is going on.

    Returns:
        What was measured, failures with their reasons, and what was done in one line.

    Raises:
        ConfigError: if the options do not fit the data.

    .. versionadded:: 0.1
    """
    register()
    if is_dense(config):
        if config.precision != 'float32':
            raise ConfigError(
                f'precision is of features for probes; where samples have masks, as those of '
                f'{config.dataset}, heads are trained in float32. Got {config.precision!r}'
            )
        return _dense(config, folder, say)
    data = config.read()
    subsets = patch_subsets(config, data)
    runner = config.runner(data, folder)
    costs = cost_store(folder)
    say(
        f'{data.probe.name}: {len(data.labels)} images of {data.probe.size[0]} x '
        f'{data.probe.size[1]} px, patches of {", ".join(map(str, config.patch_sizes))} px'
    )
    found: dict[tuple[str, int, str], list[float]] = {}
    shown: dict[tuple[str, int, str], tuple[float, float]] = {}
    total = len(config.models) * len(config.patch_sizes) * config.seeds * len(subsets)
    with Progress(total) as bar:
        for entry in config.models:
            for patch in config.patch_sizes:
                try:
                    first = config.encoder(entry, 0, data, patch)
                except (AOMError, RuntimeError, OSError) as error:
                    reason = f'{type(error).__name__}: {error}'
                    runner.failures.append((f'{entry}, {patch} px', reason))
                    for _ in range(config.seeds * len(subsets)):
                        bar.step(f'{entry}, {patch} px', worked=False)
                    continue
                for seed in range(config.seeds):
                    again = seed > 0 and first.seeded
                    own = config.encoder(entry, seed, data, patch) if again else first
                    for subset in subsets:
                        kept = runner.count.kept
                        row = runner.run(own, seed, Cell(subset.columns))[0]
                        score = float(row['score']) if row['score'] else float('nan')
                        key = (first.label, patch, subset.name)
                        found.setdefault(key, []).append(score)
                        bar.step(f'{first.label}, {patch} px', runner.count.kept == kept)
                for subset in subsets:
                    key = (first.label, patch, subset.name)
                    bands = tuple(data.bands[k] for k in subset.columns)
                    shown[key] = _cost(config, costs, first, patch, bands, data.probe.size)
    points = []
    for (model, patch, name), scores in found.items():
        subset = next(s for s in subsets if s.name == name)
        count = len(subset.columns)
        rows, cols = (ceil_div(side, patch) for side in data.probe.size)
        ms, mib = shown[model, patch, name]
        tokens = count * rows * cols
        points.append(PatchPoint(model, name, count, patch, tokens, tuple(scores), ms, mib))
    say(str(runner.count))
    return points, runner.failures, str(runner.count)


def patch_subsets(config: PatchStudy, data: StudyData) -> list[Subset]:
    """Sets of bands of a study: all, then the presets, or RGB where the data have it."""
    every = Subset('all', 'all', tuple(range(len(data.bands))))
    if config.presets:
        return [every, *named_subsets(data.bands, dict(config.presets))]
    return [every, *(s for s in presets(data.bands) if s.name == 'RGB')]


def cost_store(folder: Path) -> RowStore:
    """Rows of what models cost, in a folder."""
    return RowStore(folder / 'costs.csv', ('model', 'patch', 'bands', 'size'), ('ms', 'mib'))


def _cost(
    config: PatchStudy, store: RowStore, encoder: Encoder, patch: int, bands: tuple[Band, ...],
    size: tuple[int, int],
) -> tuple[float, float]:  # fmt: skip
    plain = {'float32', 'exact'}
    mode = ', '.join(text for text in (config.precision, config.speed) if text not in plain)
    return measured_cost(config.device, store, encoder, mode, patch, bands, size)


def measured_cost(
    device: str, store: RowStore, encoder: Encoder, mode: str, patch: int, bands: tuple[Band, ...],
    size: tuple[int, int],
) -> tuple[float, float]:  # fmt: skip
    """Time and memory, measured once a machine: rows of an earlier run are taken as they are.

    Args:
        device: where the encoder is.
        store: rows that are known, as of :func:`cost_store`.
        encoder: the encoder.
        mode: what else its cost depends on, as text; empty for nothing.
        patch: patch size in px.
        bands: bands of the images.
        size: height and width of the images in px.

    Returns:
        Milliseconds an image, and MiB of a batch of 8; NaN where they cannot be measured.
    """
    names = '+'.join(band.name for band in bands)
    model = f'{encoder.name}, {mode}' if mode else encoder.name
    key = (model, str(patch), names, f'{size[0]}x{size[1]}')
    kept = store.rows().get(key)
    if kept is not None:
        return float(kept['ms']), float(kept['mib'])
    images = torch.randn(COST_BATCH, len(bands), *size, device=device)
    one = torch.ones(len(bands), 1, 1, device=device)
    batch = Batch(images, bands, 0 * one, one)
    try:
        with torch.inference_mode():
            ms, mib = measure_cost(lambda: encoder.function(batch), COST_BATCH)
    except (AOMError, RuntimeError):
        return float('nan'), float('nan')
    row: dict[str, Any] = dict(zip(store.key, key, strict=True))
    new = {'ms': f'{ms:.4g}', 'mib': f'{mib:.4g}'}
    store.append([{**row, **new}])
    return float(new['ms']), float(new['mib'])  # what a later run reads: the same table


def _dense(
    config: PatchStudy, folder: Path, say: Say
) -> tuple[list[PatchPoint], list[tuple[str, str]], str]:
    """Mean IoU of a UPerNet head on the frozen encoder, trained for each patch size and seed."""
    points, failures = [], []
    costs = cost_store(folder)
    wanted: dict[str, Any] = {'all': None, **{k: list(v) for k, v in config.presets.items()}}
    total = len(config.models) * len(config.patch_sizes) * len(wanted)
    with Progress(total, 'training') as bar:
        for entry in config.models:
            name, _, own = entry.partition('=')
            weights = own or config.weights
            if weights == 'default':
                weights = str(default_weights(name))
            label = f'{name} ({weights_title(weights) if weights else RANDOM})'
            for patch in config.patch_sizes:
                protocol = Protocol(
                    config.dataset, dict(config.dataset_args), name, weights, patch,
                    steps=config.steps, crop=config.crop, normalization=config.normalization,
                )  # fmt: skip
                for bands, spec in wanted.items():
                    rows = run_segmentation(
                        protocol, {bands: spec}, range(config.seeds), folder, ('upernet',)
                    )
                    what = f'{label}, {bands}, {patch} px'
                    failures += [(what, str(row[FAILED])) for row in rows if FAILED in row]
                    scores = tuple(float(row.get('mean IoU', 'nan')) for row in rows)
                    data = protocol.data(spec)
                    dataset: Any = data.test_dataset
                    height, width = dataset[0]['image'].shape[-2:]
                    tokens = len(data.bands) * ceil_div(height, patch) * ceil_div(width, patch)
                    encoder = build_encoder(
                        name, 0, dataset.band_objects, (height, width), patch_size=patch,
                        weights=weights, device=config.device,
                    )  # fmt: skip
                    cost = _cost(
                        config, costs, encoder, patch, dataset.band_objects, (height, width)
                    )
                    known = (len(data.bands), patch, tokens, scores)
                    points.append(PatchPoint(label, bands, *known, *cost))
                    bar.step(f'{label}, {patch} px')
    count = f'{total * config.seeds} trainings of {config.steps} steps, those kept included'
    say(count)
    return points, failures, count


def best_points(points: Sequence[PatchPoint]) -> list[PatchPoint]:
    """Points that no other one beats in both score and time.

    Args:
        points: what was measured.

    Returns:
        Those that are worth it, the fastest first.
    """
    known = [p for p in points if np.isfinite(p.scores).all() and p.ms == p.ms]
    best: list[PatchPoint] = []
    for point in sorted(known, key=lambda p: (p.ms, -float(np.mean(p.scores)))):
        if not best or np.mean(point.scores) > np.mean(best[-1].scores):
            best.append(point)
    return best
