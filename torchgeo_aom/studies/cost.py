"""What a model costs: time and memory of a batch, as measured on this machine."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ('measure_cost', 'peak_memory')

MIB = 1 << 20


def measure_cost(run: Callable[[], Any], images: int, repeats: int = 3) -> tuple[float, float]:
    """Time and memory of a pass over a batch.

    Args:
        run: the pass.
        images: images of the batch.
        repeats: timed passes, after one that warms up and one that measures memory.

    Returns:
        Milliseconds an image of the fastest pass, and MiB that the pass needs at its peak beyond
        what was there before; NaN where the system does not tell.
    """
    run()
    memory = peak_memory(run)
    seconds = []
    # On one thread, time on the processor: other programs disturb it less than the clock.
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    for _ in range(repeats):
        start = clock()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return 1000 * min(seconds) / images, memory


def peak_memory(run: Callable[[], Any]) -> float:
    """Memory that a pass needs at its peak beyond what was there before, in MiB; NaN if unknown."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    if not _peak_is_told():
        run()
        return float('nan')
    return _host_peak(run)


@cache
def _peak_is_told() -> bool:
    """Whether the system reports the peak of a known pass: some containers only seem to."""
    try:
        return 12 < _host_peak(lambda: np.ones(16 * MIB, dtype=np.uint8).sum()) < 32
    except OSError:  # not Linux
        return False


def _host_peak(run: Callable[[], Any]) -> float:
    """Peak of the memory of this process beyond what was there before, in MiB."""
    _give_back()
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    before = _status('VmRSS')
    run()
    return (_status('VmHWM') - before) / 1024


def _give_back() -> None:
    """Give what was freed back to the system: a pass that takes it again would seem free."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> int:
    """A value of this process in KiB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1])
    raise OSError(f'/proc/self/status has no {name}')
