"""The probe protocol: features of each method and each set of bands once, all probes, all seeds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..bands import BandSpec, resolve_bands
from ..commands.choices import METHODS, READOUT_PRECISIONS
from ..errors import AOMWarning, ConfigError, DataError, suggest
from ..layers.tokenizer import checked_patch_size
from ..models.aom import AOM
from ..models.patch_rule import (
    PRETRAINED,
    check_gsd,
    choose_patch_size,
    explain_patch_size,
    is_auto,
)
from ..models.plan import describe
from ..models.precision import AUTO, check_precision, explain, resolve
from ..models.registry import check_name, random_backbone
from ..models.speed import read_speed
from ..models.weights import default_weights, load_backbone, read_source
from .baselines import rcf_features, statistics_features
from .divisions import Division, fold_divisions, given_division, repeated_images
from .features import Features, Reading, extract_features
from .probe import ProbeResult, run_probe
from .probe_data import ProbeData, open_data
from .readout import check_readout
from .rows import STOP

__all__ = ('METHODS', 'ProbeConfig', 'Row', 'run')


@dataclass(frozen=True)
class ProbeConfig:
    """Everything that a run depends on, besides the files; keys of a configuration file.

    Attributes:
        dataset: name in `torchgeo_aom.datasets`, an import path, or ``'EuroSAT200'``.
        dataset_args: arguments of that class, such as ``root``.
        bands: sets of bands by name; None for all bands of the data set.
        model: name of the model.
        weights: weights to probe: files, names of members, or ``'default'``.
        methods: what to compare with: ``'statistics'``, ``'rcf'``, ``'rcf-empirical'`` and
            ``'random'``, the model with random weights.
        probes: ``'linear'``, ``'knn5'``, ``'knn20'`` ...
        patch_size: patch size in px, or ``'auto'``.
        size: height and width that images are resized to; None to leave them.
        gsd_m: ground sampling distance in m, for ``patch_size='auto'``.
        readout: what a feature of the model is made of: ``'mean'``, or ``'pyramid'``, see
            :func:`.read_out`.
        precision: of the model's products, ``'float32'``, ``'bfloat16'``, or ``'auto'``.
        speed: speed mode of the model, or a merge schedule such as ``'1:4,4:1'``.
        folds: number of folds of whole groups; 0 for the splits of the data set.
        splits: names of these splits.
        seeds: number of seeds, each with other random weights, kernels and folds.
        refit: fit once more on training and validation samples together.
        normalization: see `BandDataModule`.
        rcf_features: number of random convolutional features.
        every: take only every n-th sample.
        ignore_groups: take splits although they tear groups apart, as some published ones do.
        strict: raise where an image is both trained and tested on, instead of warning.
        batch_size: images a batch.
        num_workers: processes that load.
        device: ``'cpu'``, ``'cuda'`` ...
        cache: whether to keep features.
        cache_dir: where; the user's cache where not given.

    .. versionadded:: 0.1
    """

    dataset: str = 'EuroSAT200'
    dataset_args: Mapping[str, Any] = field(default_factory=dict)
    bands: Mapping[str, BandSpec | None] = field(default_factory=lambda: {'all bands': None})
    model: str = 'aom_vitt'
    weights: Sequence[str] = ()
    methods: Sequence[str] = ('statistics', 'rcf', 'random')
    probes: Sequence[str] = ('linear', 'knn5', 'knn20')
    patch_size: int | str = 'auto'
    size: int | None = None
    gsd_m: float | None = None
    readout: str = 'mean'
    precision: str = 'auto'
    speed: str = 'exact'
    folds: int = 0
    splits: Sequence[str] = ('train', 'val', 'test')
    seeds: int = 3
    refit: bool = False
    normalization: str = 'catalogue'
    rcf_features: int = 512
    every: int = 1
    ignore_groups: bool = False
    strict: bool = False
    batch_size: int = 32
    num_workers: int = 0
    device: str = 'cpu'
    cache: bool = True
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        check_name(self.model)
        check_readout(self.readout)
        read_speed(self.speed)
        check_precision(self.precision, (AUTO, *READOUT_PRECISIONS))
        for method in self.methods:
            if method not in METHODS:
                raise ConfigError(
                    f'methods are {", ".join(METHODS)}, got {method!r}{suggest(method, METHODS)}; '
                    'trained models come with weights='
                )
        for name, number, least in (('seeds', self.seeds, 1), ('folds', self.folds, 0)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigError(f'{name} must be a whole number from {least}, got {number!r}')
        if not self.bands or not self.probes or not (self.methods or self.weights):
            raise ConfigError(
                'name at least one set of bands, one probe, and one method or weights'
            )
        check_gsd(self.gsd_m, self.patch_size)
        if not is_auto(self.patch_size):
            checked_patch_size(self.patch_size)


@dataclass(frozen=True)
class Row:
    """Scores of one probe on the features of one method.

    Attributes:
        bands: name of the set of bands.
        method: where features come from.
        probe: the probe.
        dims: number of features.
        patch_size: patch size in px; None where there are no patches.
        scores: each metric for each seed and each division.
        strengths: what was chosen, for each seed and each division.
        seconds: time for features and probe; little where features were kept already.
        failed: why there are no scores, where there are none.
    """

    bands: str
    method: str
    probe: str
    dims: int
    patch_size: int | None
    scores: dict[str, list[list[float]]]
    strengths: list[list[float]]
    seconds: float
    failed: str | None = None

    def mean(self, metric: str) -> float:
        """Mean over divisions and seeds; NaN where it failed."""
        if self.failed is not None:
            return float('nan')
        return float(np.mean([np.mean(one) for one in self.scores[metric]]))

    def spread(self, metric: str) -> float:
        """Standard deviation over seeds of the mean over divisions; NaN with a single seed."""
        means = [np.mean(one) for one in self.scores.get(metric, ())]
        return float(np.std(means, ddof=1)) if len(means) > 1 else float('nan')


def run(
    config: ProbeConfig,
    say: Callable[[str], None] = lambda text: None,
    done: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Run the protocol.

    A method that fails is noted in its rows, with the reason, and the others are run.

    Args:
        config: what to run.
        say: told what is going on.
        done: called with all rows so far whenever there are new ones, so that they can be kept.

    Returns:
        One row for each set of bands, method and probe.

    Raises:
        BandError: if bands are unknown or not in the data.
        CheckpointError: if weights cannot be read or do not fit.
        ConfigError: if the configuration does not fit the data, or a group is in two parts.
        DataError: if data is missing or damaged, or *strict* and an image is both trained and
            tested on.
        SizeError: if images differ in size, and none is given.

    .. versionadded:: 0.1
    """
    rows: list[Row] = []
    for name in config.weights:  # before hours of baselines
        read_source(_source(config, name))
    for name, spec in config.bands.items():
        splits = None if config.folds else config.splits
        data = open_data(
            config.dataset, config.dataset_args, spec, splits, config.normalization,
            config.every, config.ignore_groups,
        )  # fmt: skip
        say(f'{data.name}, {name}: {len(data.names)} images {_shape(data)} of {_listed(data)}')
        say(f'  {_cost(config, data)}')
        checked = False
        for method in (*config.methods, *config.weights):
            start = time.monotonic()
            try:
                new = _measured(config, data, name, method, check=not checked)
                checked = True
                say(f'  {method}: {new[0].dims} features, {_seeds(new[0])}, {new[0].seconds:.0f} s')
            except STOP:
                raise
            except Exception as error:
                failed, seconds = f'{type(error).__name__}: {error}', time.monotonic() - start
                say(f'  {method} failed, the others go on: {failed}')
                new = [
                    Row(name, method, probe, 0, None, {}, [], seconds, failed)
                    for probe in config.probes
                ]
            rows += new
            done(rows)
    return rows


def _measured(
    config: ProbeConfig, data: ProbeData, name: str, method: str, check: bool
) -> list[Row]:
    """All probes and seeds of a method; before the first one, a check for repeated images."""
    results: dict[str, list[list[ProbeResult]]] = {probe: [] for probe in config.probes}
    start, dims = time.monotonic(), 0
    for seed in range(config.seeds):
        if seed and not config.folds and _fixed(method):
            break  # nothing would differ
        for features, divisions in _features(config, data, method, seed):
            if check:
                check = False
                _warn_repeated(divisions, features, data, config.strict)
            dims = features.values.shape[1]
            for probe in config.probes:
                result = run_probe(
                    features.values, features.labels, divisions, data.groups, probe,
                    refit=config.refit,
                )  # fmt: skip
                if len(results[probe]) <= seed:
                    results[probe].append([])
                results[probe][seed].append(result)
    seconds = time.monotonic() - start
    patch = None if method in METHODS[:3] else _patch(config, data, method)
    return [
        _row(name, method, probe, dims, patch, found, seconds) for probe, found in results.items()
    ]


def _seeds(row: Row) -> str:
    return f'{len(row.strengths)} seed(s)'


def _fixed(method: str) -> bool:
    """Whether a method does not depend on the seed."""
    return method == 'statistics' or method not in METHODS


def _shape(data: ProbeData) -> str:
    return f'of {data.size[0]} x {data.size[1]} px'


def _listed(data: ProbeData) -> str:
    parts, counts = np.unique(data.splits, return_counts=True)
    listed = ', '.join(f'{part} {count}' for part, count in zip(parts, counts, strict=True))
    groups = 'no groups' if data.groups is None else f'{len(np.unique(data.groups))} groups'
    return f'{len(data.bands)} bands, {len(data.classes)} classes, {groups} ({listed})'


def _source(config: ProbeConfig, method: str) -> Any:
    return default_weights(config.model) if method == 'default' else method


def _patch(config: ProbeConfig, data: ProbeData, method: str = 'random') -> int:
    if not is_auto(config.patch_size):
        return int(config.patch_size)
    # Of trained weights, a size that they were trained at, where they say so.
    facts = {} if method in METHODS else read_source(_source(config, method))[1]
    sizes = facts.get('patch_sizes') or PRETRAINED
    return choose_patch_size(_size(config, data), sizes, config.gsd_m)


def _size(config: ProbeConfig, data: ProbeData) -> tuple[int, int]:
    return data.size if config.size is None else (config.size, config.size)


def _cost(config: ProbeConfig, data: ProbeData) -> str:
    """What the model does with an image, in one line."""
    patch, size = _patch(config, data), _size(config, data)
    plan = describe(config.model, list(data.bands), size, patch, speed=read_speed(config.speed))
    tokens = f'speed {plan.speed}, {plan.tokens:,} tokens ({plan.merging})'
    facts = f'{config.model}: patch {patch} px, {tokens}'
    if is_auto(config.patch_size):
        facts = f'{explain_patch_size(patch, size, config.gsd_m)}; {tokens}'
    computed = explain(config.precision, torch.device(config.device))
    return f'{facts} and {plan.flops / 1e9:.1f} GFLOP an image, in {computed}'


def _features(
    config: ProbeConfig, data: ProbeData, method: str, seed: int
) -> Iterator[tuple[Features, list[Division]]]:
    """Features of all samples, with the divisions that they are for."""
    reading = Reading(
        data.normalize.to(config.device),
        None if config.size is None else (config.size, config.size),
        config.batch_size,
        config.num_workers,
        config.device,
        config.cache,
        config.cache_dir,
    )
    label = f'{method}, seed {seed}'
    if method == 'rcf-empirical':
        # Kernels are patches of the images to train on, so every division has its own.
        plain = statistics_features(data.dataset, reading, label='labels')
        for division in _divisions(config, data, plain, seed):
            features = rcf_features(
                data.dataset, reading, features=config.rcf_features, seed=seed,
                mode='empirical', train=division.train, label=label,
            )  # fmt: skip
            yield features, [division]
        return
    if method == 'statistics':
        features = statistics_features(data.dataset, reading, label)
    elif method == 'rcf':
        features = rcf_features(
            data.dataset, reading, features=config.rcf_features, seed=seed, label=label
        )
    else:
        model = _model(config, data, method, seed).to(config.device)
        computed = resolve(config.precision, torch.device(config.device))
        features = extract_features(
            model, data.dataset, data.bands, _patch(config, data, method), label=label,
            batch_size=config.batch_size, cache_dir=config.cache_dir, cache=config.cache,
            normalize=reading.normalize, size=reading.size, num_workers=config.num_workers,
            readout=config.readout, precision=computed,
        )  # fmt: skip
    yield features, _divisions(config, data, features, seed)


def _model(config: ProbeConfig, data: ProbeData, method: str, seed: int) -> AOM:
    speed = read_speed(config.speed)
    if method != 'random':
        source = _source(config, method)
        return load_backbone(source, config.model, bands=list(data.bands), speed=speed)
    model = random_backbone(config.model, resolve_bands(list(data.bands)), seed)
    model.set_speed(speed)
    return model


def _divisions(
    config: ProbeConfig, data: ProbeData, features: Features, seed: int
) -> list[Division]:
    if config.folds:
        return fold_divisions(features.labels, data.groups, config.folds, seed)
    return [given_division(data.splits.tolist())]


def _warn_repeated(
    divisions: Sequence[Division], features: Features, data: ProbeData, strict: bool
) -> None:
    found = [
        line for one in divisions for line in repeated_images(one, features.images, data.names)
    ]
    if not found:
        return
    message = (
        f'{len(found)} images to test on are also to train or validate on, so scores are too '
        f'good: {"; ".join(found[:5])}{"; ..." if len(found) > 5 else ""}'
    )
    if strict:
        raise DataError(f'{message}. Remove them, or give them a common group')
    warnings.warn(message, AOMWarning, stacklevel=2)


def _row(
    bands: str,
    method: str,
    probe: str,
    dims: int,
    patch: int | None,
    found: Sequence[Sequence[ProbeResult]],
    seconds: float,
) -> Row:
    metrics = found[0][0].metrics
    scores = {
        name: [[v for piece in pieces for v in piece.metrics[name]] for pieces in found]
        for name in metrics
    }
    strengths = [[v for piece in pieces for v in piece.strengths] for pieces in found]
    return Row(bands, method, probe, dims, patch, scores, strengths, seconds)
