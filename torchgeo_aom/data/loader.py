"""Loads batches for pretraining so that any run can be resumed, repeated and distributed exactly.

What a batch holds is a function of (seed, epoch, place in the epoch), carried in the sampler's
index: no generator has a state that a worker, a rank or an interruption could change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from warnings import warn

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from torchgeo.datamodules import BaseDataModule

from torchgeo_aom.data.adapter import open_reader
from torchgeo_aom.data.chips import PretrainDataset, bad_lists
from torchgeo_aom.data.sampler import KeyedSampler, check_facts, facts
from torchgeo_aom.data.source import Reader, Source, read_sources
from torchgeo_aom.data.statistics import normalizer
from torchgeo_aom.data.validation import OrderedLoader, OrderedSampler, split
from torchgeo_aom.errors import AOMWarning, ConfigError
from torchgeo_aom.transforms import Normalize

__all__ = ('KeyedLoader', 'KeyedSampler', 'PretrainDataModule')

logger = logging.getLogger(__name__)


class KeyedLoader(DataLoader[dict[str, Any]]):
    """A data loader that knows where it is.

    The place is counted by what was handed out, not by what the workers have fetched.

    Args:
        sampler: order of the batches.
        dataset: reads them.
        num_workers: worker processes; the batches do not depend on it.
        bad_limit: share of a source's samples that may be unreadable.
        pin_memory: whether to copy batches to page-locked memory.
    """

    def __init__(
        self,
        dataset: PretrainDataset,
        sampler: KeyedSampler,
        num_workers: int = 0,
        bad_limit: float = 0.01,
        pin_memory: bool = False,
    ) -> None:
        """Make the loader; a sampler's index is a whole batch."""
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # The seeds of the workers are drawn from it and not from the global generator.
            generator=torch.Generator().manual_seed(sampler.seed % 2**63),
        )
        self.keyed = sampler
        self.bad = bad_lists(dataset.sources, dataset.readers, bad_limit)
        self.dropped = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Batches of this epoch that are not done yet; afterwards the next epoch is on."""
        sampler = self.keyed
        epoch, sampler.done = sampler.epoch, sampler.start
        batches = super().__iter__()
        try:
            for batch in batches:
                source, skipped = batch.pop('skipped')
                for name, reason in skipped:
                    self.bad[source].add(name, reason)
                self.dropped += batch.pop('dropped')
                sampler.done += 1
                if sampler.done == len(sampler):
                    next(batches, None)  # Lightning never asks for more: let the workers end
                yield batch
        finally:
            # Otherwise the garbage collector ends them some time later, which takes 5 s a worker.
            getattr(batches, '_shutdown_workers', int)()
        if sampler.done == len(sampler):
            sampler.set_epoch(epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, and what the order depends on."""
        return {
            'epoch': self.keyed.epoch,
            'batches': self.keyed.done,
            **self.keyed.facts(),
            'plan': self.keyed.plan(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another run was.

        Args:
            state: what `state_dict` gave.

        Raises:
            ConfigError: if seed, world size or batch size were others.
        """
        check_facts(state, self.keyed.facts())
        if state['plan'] != self.keyed.plan():
            warn(
                'The sources have changed since the checkpoint (names, weights or numbers of '
                'images): the run goes on, but in an order of its own',
                AOMWarning,
                stacklevel=2,
            )
        self.keyed.set_epoch(int(state['epoch']))
        self.keyed.start = self.keyed.done = int(state['batches'])


class PretrainDataModule(BaseDataModule):
    """Images of several sensors for pretraining, one source a batch.

    Each batch holds ``image`` (B, C, H, W), normalized, and ``valid`` of the same shape where some
    pixels hold no data; ``bands``, ``key`` (sample numbers), ``source`` and ``step``. An epoch
    takes each image of a source ``weight`` times.

    Args:
        sources: the blocks that `Source` describes, or a YAML file with a list of them.
        batch_size: images a batch and device.
        seed: seed of order and augmentation.
        num_workers: worker processes a device; the batches do not depend on it.
        crop_scale: smallest and largest share of a chip's area that is cut out and resized back.
        crop_ratio: smallest and largest ratio of width to height of it.
        flip: whether to mirror half of the chips.
        drop_last: as of `KeyedSampler`.
        bad_limit: share of a source's images that may be unreadable; more end the run.
        statistics_dir: where measured statistics are kept; a folder in the user's cache if None.
        val_share: share of each source that is kept for validation, chosen by the names of the
            samples; 0 for no validation.
        val_sources: instead, sources of their own for validation, as *sources*.

    Raises:
        ConfigError: if an option or a block is not valid.
        BandError: if bands are unknown.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        sources: list[dict[str, Any]] | str,
        batch_size: int = 64,
        seed: int = 0,
        num_workers: int = 0,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (0.75, 4 / 3),
        flip: bool = True,
        drop_last: bool = True,
        bad_limit: float = 0.01,
        statistics_dir: str | None = None,
        val_share: float = 0.0,
        val_sources: list[dict[str, Any]] | str | None = None,
    ) -> None:
        """Check the options; nothing is opened yet."""
        super().__init__(PretrainDataset, batch_size, num_workers)
        blocks = read_sources(sources)
        # Not for the logger: Lightning refuses names that a task has too, such as batch_size, with
        # another value, and that of a device is not that of a step.
        self.save_hyperparameters(logger=False)
        self.hparams['sources'] = blocks
        self.seed = seed
        self.crop_scale = _pair('crop_scale', crop_scale, 1.0)
        self.crop_ratio = _pair('crop_ratio', crop_ratio, math.inf)
        self.flip = flip
        self.drop_last = drop_last
        self.bad_limit = bad_limit
        self.statistics_dir = statistics_dir
        for key, value, least in (('batch_size', batch_size, 1), ('num_workers', num_workers, 0)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f'{key} must be an integer of at least {least}, got {value!r}')
        if not 0 <= bad_limit <= 1:
            raise ConfigError(f'bad_limit must be a share from 0 to 1, got {bad_limit!r}')
        if not 0 <= val_share < 1 or (val_share and val_sources is not None):
            raise ConfigError(
                f'val_share must be a share from 0 to below 1, and 0 with val_sources=, got '
                f'{val_share!r}'
            )
        self.val_share = val_share
        self.sources = _parse(blocks)
        own = [] if val_sources is None else read_sources(val_sources)
        self.hparams['val_sources'] = own or None
        self.val_sources = _parse(own)
        self.readers: tuple[Reader, ...] = ()
        self.val_readers: tuple[Reader, ...] = ()
        self.normalizers: tuple[Normalize, ...] = ()
        self.val_normalizers: tuple[Normalize, ...] = ()
        self.loader: KeyedLoader | None = None
        if not (val_share or own):
            # Lightning runs no validation without the method; without loaders it warns.
            vars(self)['val_dataloader'] = super().val_dataloader

    def prepare_data(self) -> None:
        """Measure statistics where they are needed, on one process of each node."""
        self._open()

    def setup(self, stage: str | None = None) -> None:
        """Open the sources.

        Args:
            stage: not used.
        """
        self._open()

    def _open(self) -> None:
        if self.readers:
            return
        readers = _readers(self.sources)
        if self.val_share:
            pairs = zip(self.sources, readers, strict=True)
            parts = [split(source.name, reader, self.val_share) for source, reader in pairs]
            readers = tuple(part[0] for part in parts)
            self.val_readers = tuple(part[1] for part in parts)
            # After the split: images to validate on are not measured.
            self.normalizers = self._normalizers(self.sources, readers)
            self.val_sources, self.val_normalizers = self.sources, self.normalizers
        else:
            self.normalizers = self._normalizers(self.sources, readers)
            self.val_readers = _readers(self.val_sources)
            self.val_normalizers = self._normalizers(self.val_sources, self.val_readers)
        self.readers = readers
        for what, sources, opened in (
            ('', self.sources, self.readers),
            (' for validation', self.val_sources, self.val_readers),
        ):
            for source, reader in zip(sources, opened, strict=True):
                logger.info(
                    'source %r%s: %d images, chips of %d x %d px, %d bands, product %s',
                    source.name, what, len(reader), *reader.size, len(source.bands),
                    source.product.name,
                )  # fmt: skip

    def _normalizers(
        self, sources: Sequence[Source], readers: Sequence[Reader]
    ) -> tuple[Normalize, ...]:
        """Normalizations of some sources."""
        return tuple(
            normalizer(source, reader, self.statistics_dir, self.bad_limit)
            for source, reader in zip(sources, readers, strict=True)
        )

    @property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """How each source is normalized: bands, product, mean and std in reflectance."""
        self._open()
        return {
            source.name: {
                'bands': source.specs,
                'product': source.product.name,
                'mean': list(normalize.mean),
                'std': list(normalize.std),
                'images': len(reader),
            }
            for source, normalize, reader in zip(
                self.sources, self.normalizers, self.readers, strict=True
            )
        }

    @property
    def bad_files(self) -> dict[str, dict[str, str]]:
        """Samples that could not be read so far and why, by source."""
        lists = self.loader.bad if self.loader else ()
        return {bad.source: dict(bad.reasons) for bad in lists}

    def train_dataloader(self) -> KeyedLoader:
        """The loader of this process.

        Raises:
            ConfigError: if the trainer would put another sampler in, or a source is too small.
        """
        if getattr(self.trainer, 'overfit_batches', 0):
            raise ConfigError(
                'overfit_batches= would replace the order of the batches, which says what they '
                'hold: use limit_train_batches= and crop_scale=(1, 1) instead'
            )
        self._open()
        rank, world_size = self._ranks()
        dataset = PretrainDataset(
            self.sources, self.readers, self.normalizers, self.seed, self.crop_scale,
            self.crop_ratio, self.flip, self.bad_limit,
        )  # fmt: skip
        sampler = KeyedSampler(
            dataset, self.batch_size, self.seed, rank, world_size, self.drop_last
        )
        self.loader = KeyedLoader(
            dataset, sampler, self.num_workers, self.bad_limit, torch.cuda.is_available()
        )
        return self.loader

    def val_dataloader(self) -> OrderedLoader:
        """The validation loader of this process; there is none without val_share or val_sources."""
        self._open()
        rank, world_size = self._ranks()
        dataset = PretrainDataset(
            self.val_sources, self.val_readers, self.val_normalizers, self.seed, (1.0, 1.0),
            (1.0, 1.0), False, self.bad_limit,
        )  # fmt: skip
        return OrderedLoader(
            dataset, OrderedSampler(dataset, self.batch_size, rank, world_size), self.num_workers,
            self.bad_limit, torch.cuda.is_available(),
        )  # fmt: skip

    def _ranks(self) -> tuple[int, int]:
        """Number of this process and of all processes that take part of the data each."""
        if self.trainer is not None:
            part = self.trainer.distributed_sampler_kwargs
            return (part['rank'], part['num_replicas']) if part else (0, 1)
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Leave the batch as it is: augmented and normalized it is already.

        Args:
            batch: the batch.
            dataloader_idx: not used.

        Returns:
            The batch.
        """
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on; Lightning keeps the place within it with the loader."""
        return facts(self.seed, self._ranks()[1], self.batch_size)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the run can go on from a checkpoint.

        Args:
            state_dict: what `state_dict` gave.

        Raises:
            ConfigError: if seed, world size or batch size were others.
        """
        check_facts(state_dict, facts(self.seed, self._ranks()[1], self.batch_size))


def _parse(blocks: list[dict[str, Any]]) -> tuple[Source, ...]:
    sources = tuple(Source.parse(block) for block in blocks)
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f'every source needs a name= of its own, got {", ".join(names)}')
    return sources


def _readers(sources: Sequence[Source]) -> tuple[Reader, ...]:
    return tuple(open_reader(source) for source in sources)


def _pair(key: str, value: Any, most: float) -> tuple[float, float]:
    """A range of positive numbers."""
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 < low <= high <= most or math.isinf(high):
        raise ConfigError(f'{key} must be two numbers, 0 < low <= high <= {most:g}, got {value!r}')
    return low, high
