"""Progress of a study: a bar on a terminal, a line now and then elsewhere, both with time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

__all__ = ('Progress',)

EVERY_S = 30.0


class Progress:
    """Counts steps; those that were done before do not count for the time left."""

    def __init__(self, total: int, unit: str = 'cell') -> None:
        """Start.

        Args:
            total: number of steps.
            unit: what a step is.
        """
        self.total, self.unit = total, unit
        self.steps = self.worked = 0
        self.start = self.said = time.monotonic()
        self.bar = tqdm(total=total, unit=unit, disable=None)

    def __enter__(self) -> Progress:
        """Go on."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def step(self, what: str, worked: bool = True) -> None:
        """One step is done.

        Args:
            what: what it was of.
            worked: whether it took any work.
        """
        self.steps += 1
        self.worked += worked
        self.bar.set_description(what, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and self.worked and now - self.said > EVERY_S:
            self.said = now
            left = (now - self.start) / self.worked * (self.total - self.steps)
            print(
                f'  {what}: {self.steps} of {self.total} {self.unit}s, '
                f'{(now - self.start) / 60:.1f} min so far, about {left / 60:.0f} min left',
                file=sys.stderr,
                flush=True,
            )
