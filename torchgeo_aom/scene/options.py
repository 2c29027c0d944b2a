"""How a scene is run: windows, batches, devices, what happens to files that exist."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.models.precision import AUTO, PRECISIONS, check_precision, resolve
from torchgeo_aom.models.speed import MAX_DEPTH, Speed, merge_schedule

from .loop import check_trainer

__all__ = ('RunOptions',)


@dataclass(frozen=True)
class RunOptions:
    """How a scene is run.

    Attributes:
        chip: side of a window in px; 256, made a multiple of the cell, where not given.
        overlap: px that neighboring windows share at least; a quarter of a window where not given.
        batch_size: windows a batch.
        readers: threads that read ahead; with 0, reading and computing take turns.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'`` ...
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'`` for mixed precision, or ``'auto'``
            for what :func:`~torchgeo_aom.models.precision.best_precision` says of the device.
        overwrite: whether existing files are replaced.
        progress: whether to show a progress bar; None for only on a terminal.
        shard: which part of the scene this process computes, (number from 0, number of parts); that
            of ``torchrun`` where not given, else all of it. The last part to finish writes the
            files.
        memory_mib: what values of one row of windows may take.
        nodata: ``'all'``: a pixel has no data where no band has; ``'any'``: where one band has not.
        speed: speed mode or merge schedule of the encoder, see
            :func:`~torchgeo_aom.models.speed.merge_schedule`; that of the task, or ``'exact'``,
            where not given.
        trainer: Lightning's trainer, whose predict loop runs the windows on all its devices and
            machines instead of on *device*; its first process writes the files.

    .. versionadded:: 0.1
    """

    chip: int | None = None
    overlap: int | None = None
    batch_size: int = 8
    readers: int = 2
    device: str = 'cpu'
    precision: str = 'float32'
    overwrite: bool = False
    progress: bool | None = None
    shard: tuple[int, int] | None = None
    memory_mib: int = 256
    nodata: str = 'all'
    trainer: Trainer | None = None
    speed: Speed | None = None

    def __post_init__(self) -> None:
        """Check once.

        Raises:
            ConfigError: if a value is impossible.
        """
        for key, least in (('batch_size', 1), ('readers', 0), ('overlap', 0), ('memory_mib', 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f'{key} must be at least {least}, got {value}')
        if self.chip is not None and self.chip < 1:
            raise ConfigError(f'chip must be at least 1 px, got {self.chip}')
        check_precision(self.precision, (AUTO, *PRECISIONS))
        merge_schedule(self.speed, MAX_DEPTH)
        if self.nodata not in ('all', 'any'):
            raise ConfigError(f"nodata must be 'all' or 'any', got {self.nodata!r}")
        if self.trainer is not None:
            check_trainer(self.trainer)
            if self.shard is not None:
                raise ConfigError('shard and trainer both split the scene: give one of them')
        number, count = self.part
        if not 0 <= number < count:
            raise ConfigError(
                f'shard must be a number from 0 to one less than the number of parts, got '
                f'{number}/{count}'
            )

    @property
    def part(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        if self.shard is not None:
            return self.shard
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))

    @property
    def computed_in(self) -> str:
        """The precision on the device at hand."""
        return self.precision if self.precision != AUTO else resolve(AUTO, self.torch_device())

    def torch_device(self) -> torch.device:
        """The device, one for each process of a machine.

        Raises:
            ConfigError: if it is not there.
        """
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ConfigError(f'device {self.device!r} is unknown: {error}') from error
        if device.type == 'cuda':
            if not torch.cuda.is_available():
                raise ConfigError("device='cuda', but PyTorch sees no GPU: give device='cpu'")
            if device.index is None:
                device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))
        return device
