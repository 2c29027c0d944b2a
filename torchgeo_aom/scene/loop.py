"""Lightning's predict loop around batches and a step: several devices and machines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.utils.data import DataLoader, IterableDataset

from torchgeo_aom.errors import ConfigError

__all__ = ('check_trainer', 'first_of_all', 'make_trainer', 'predict_batches')

Batch = TypeVar('Batch')


def make_trainer(device: str, devices: int, nodes: int) -> Trainer:
    """A trainer that only predicts.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        devices: processes of each machine.
        nodes: machines; each starts the same program, as Lightning says (``MASTER_ADDR``,
            ``NODE_RANK``, or SLURM).

    Returns:
        The trainer.

    Raises:
        ConfigError: if there are no such devices.
    """
    try:
        return Trainer(
            accelerator={'cuda': 'gpu'}.get(device, device), devices=devices, num_nodes=nodes,
            strategy='ddp', logger=False, enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False,
        )  # fmt: skip
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            f'{nodes} x {devices} devices of {device!r} are not to be had: {error}'
        ) from error


def check_trainer(trainer: Trainer) -> None:
    """Refuse what a trainer would do otherwise than it says.

    Args:
        trainer: the trainer.

    Raises:
        ConfigError: if its strategy splits models or starts processes in a way that cannot hand
            over open files, or if it has a precision of its own.
    """
    strategy = trainer.strategy
    known = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
    if not known or isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError(
            f"a scene runs on one device or with strategy='ddp', not with "
            f'{type(strategy).__name__}: windows share nothing, and processes start by themselves'
        )
    if trainer.precision not in (None, '32-true'):
        raise ConfigError(
            f'the precision of the trainer ({trainer.precision}) is not used: leave it out, and '
            f'give that of the run (precision=, --precision)'
        )


class _Stream(IterableDataset[Batch]):
    """Batches of this process, as they come."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class _Step(LightningModule):
    """Runs a function on each batch; what it returns is kept by the function itself."""

    def __init__(self, step: Callable[[Any], None]) -> None:
        super().__init__()
        self._run = step

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """The step moves what it needs."""
        return batch

    def predict_step(self, batch: Any) -> None:
        """One batch."""
        self._run(batch)


def _same(batch: Batch) -> Batch:
    return batch


def predict_batches(
    trainer: Trainer, batches: Iterable[Batch], step: Callable[[Batch], None]
) -> None:
    """Run a step on each batch inside ``trainer.predict``.

    With several devices the first call starts the other processes, which run the same program up to
    here, as Lightning does everywhere.

    Args:
        trainer: the trainer, see :func:`check_trainer`.
        batches: batches of this process.
        step: what to do with one.
    """
    loader: DataLoader[Batch] = DataLoader(_Stream(batches), batch_size=None, collate_fn=_same)
    with warnings.catch_warnings():
        # Windows are read ahead by threads of our own.
        warnings.filterwarnings('ignore', '.*does not have many workers.*')
        trainer.predict(_Step(step), loader, return_predictions=False)


def first_of_all(trainer: Trainer | None) -> bool:
    """Wait for all processes of a trainer; whether this one is the first. True without a trainer.

    Args:
        trainer: the trainer, or None.

    Returns:
        Whether this process writes the files.
    """
    if trainer is None:
        return True
    trainer.strategy.barrier('scene')
    return bool(trainer.is_global_zero)
