"""What studies of frozen features share: data, models, probes and where things are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bands import BandSpec
from ..errors import ConfigError
from ..models.precision import check_precision
from ..models.speed import read_speed
from ..tasks.features import Reading
from ..tasks.probe_data import open_data
from ..tasks.readout import READOUT_PRECISIONS
from .cells import Runner, open_store
from .encoder import Encoder, build_encoder, check_models
from .held import StudyData, hold

__all__ = ('FrozenStudy',)


@dataclass(frozen=True)
class FrozenStudy:
    """Options of every study of frozen features.

    Attributes:
        dataset: name in `torchgeo_aom.datasets`, an import path, or ``'EuroSAT200'``.
        dataset_args: arguments of that class, such as ``root``.
        bands: bands of the study; all of the data where not given.
        models: what is compared, see :func:`~torchgeo_aom.studies.encoder.model_names`; an AOM may
            name its weights, as in ``'aom_vitt=default'``.
        weights: weights of AOMs that name none; random where not given.
        peer_weights: whether peers load their authors' weights.
        peer_size: image side in px that peers see.
        patch_size: of AOMs in px, or ``'auto'``.
        probes: ``'linear'``, ``'knn5'`` ...
        folds: folds of whole groups; 0 for the splits of the data.
        seeds: number of seeds: of folds, random weights and kernels.
        normalization: see :func:`~torchgeo_aom.tasks.probe_data.open_data`.
        every: take only every n-th sample.
        batch_size: images a batch.
        device: ``'cpu'``, ``'cuda'`` ...
        precision: of the products of networks, ``'float32'``, or ``'bfloat16'``, which GPUs and
            CPUs with matrix units do faster.
        speed: speed mode of AOMs, or a merge schedule such as ``'1:4,4:1'``.
        cache_dir: where features are kept; the user's cache where not given.
    """

    dataset: str = 'EuroSAT200'
    dataset_args: Mapping[str, Any] = field(default_factory=dict)
    bands: BandSpec | None = None
    models: Sequence[str] = ('statistics', 'rcf', 'aom_vitt')
    weights: str | None = None
    peer_weights: bool = False
    peer_size: int | None = None
    patch_size: int | str = 'auto'
    probes: Sequence[str] = ('linear',)
    folds: int = 5
    seeds: int = 3
    normalization: str = 'catalogue'
    every: int = 1
    batch_size: int = 50
    device: str = 'cpu'
    precision: str = 'float32'
    speed: str = 'exact'
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        """Check what nothing further down checks."""
        check_models(self.models)
        read_speed(self.speed)
        check_precision(self.precision, READOUT_PRECISIONS)
        for name in ('seeds', 'batch_size', 'every'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1, got {getattr(self, name)}')
        if not self.probes:
            raise ConfigError('name at least one probe, such as linear')

    def read(self) -> StudyData:
        """Open the data and read them.

        Returns:
            Images and labels.

        Raises:
            ConfigError: if the options do not fit the data.
        """
        splits = None if self.folds else ('train', 'val', 'test')
        return hold(
            open_data(
                self.dataset, self.dataset_args, self.bands, splits, self.normalization, self.every
            )
        )

    def runner(self, data: StudyData, folder: Path) -> Runner:
        """What measures cells of these data, with rows in ``rows.csv`` of a folder.

        Args:
            data: what is measured.
            folder: where rows are kept.

        Returns:
            What measures.

        Raises:
            ConfigError: if the data cannot be cut into so many folds.
            DataError: if the folder holds rows of another study.
        """
        reading = Reading(
            data.probe.normalize.to(self.device), None, self.batch_size, 0, self.device,
            cache_dir=self.cache_dir, progress=False,
        )  # fmt: skip
        store = open_store(folder / 'rows.csv')
        runner = Runner(data, store, self.probes, self.folds, self.seeds, reading)
        runner.divisions(0)
        return runner

    def encoder(
        self,
        entry: str,
        seed: int,
        data: StudyData,
        patch_size: int | None = None,
        speed: str | None = None,
    ) -> Encoder:
        """Make a model of the study, with its patch size and speed where none is given."""
        return build_encoder(
            entry, seed, data.bands, data.probe.size, patch_size=patch_size or self.patch_size,
            weights=self.weights, peer_weights=self.peer_weights, peer_size=self.peer_size,
            device=self.device, precision=self.precision, speed=speed or self.speed,
        )  # fmt: skip
