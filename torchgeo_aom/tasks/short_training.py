"""What a training of a minute shows: its loss, and none of Lightning's hints."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback
from tqdm import tqdm

__all__ = ('TrainingProgress', 'quiet_lightning')

EVERY = 20  # steps, where there is no terminal


class TrainingProgress(Callback):
    """One bar with the loss; a line now and then where there is no terminal."""

    def __init__(self, label: str, total: int) -> None:
        """Open the bar.

        Args:
            label: what is trained.
            total: number of steps.
        """
        self.label, self.total = label, total
        self.bar = tqdm(desc=label, total=total, unit='step', disable=None)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by a step."""
        loss = f'{outputs["loss"].item():.3f}'
        self.bar.set_postfix(loss=loss, refresh=False)
        self.bar.update()
        done = trainer.global_step
        if self.bar.disable and done % EVERY == 0:
            print(f'  {self.label}: {done}/{self.total}, loss {loss}', file=sys.stderr)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the bar as it is."""
        self.bar.close()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back hints on hardware and workers, which do not matter for a minute of training."""
    log = logging.getLogger('lightning.pytorch')
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', PossibleUserWarning)
            # Lightning's own call of a function that torch deprecates.
            warnings.filterwarnings('ignore', r'.*LeafSpec')
            yield
    finally:
        log.setLevel(level)
