"""From windows to pieces: reading ahead in threads, batches through a model, blending."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from torchgeo_aom.models.precision import mixed_precision

from .grid import Job, Plan
from .loop import predict_batches
from .options import RunOptions
from .outputs import Store
from .reader import SceneReader
from .sinks import Sink

__all__ = ('Collector', 'Counts', 'Output', 'compute', 'own_units')

logger = logging.getLogger('torchgeo_aom.scene')
# Windows without data may wait with those of a batch; they are small.
_WAITING = 64

Floats = NDArray[np.float32]


class Output(NamedTuple):
    """What a model makes of a batch of windows: values (B, K, h, w), vectors (B, D) or None."""

    values: Tensor
    vectors: Tensor | None = None


class Collector(Sink):
    """A sink of one vector for each window, instead of one for each cell."""

    def keep(self, rows: Sequence[Floats], store: Store, unit: tuple[int, int]) -> None:
        """Keep the vectors of a unit."""
        raise NotImplementedError


@dataclass
class Counts:
    """What a run did.

    Attributes:
        windows: windows computed.
        empty: windows without data, which were skipped.
        seconds: time of the run.
        model_seconds: time spent waiting for the model.
    """

    windows: int = 0
    empty: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0


class _Loaded(NamedTuple):
    job: Job
    image: Floats | None
    valid: NDArray[np.bool_] | None


class _Sweep:
    """Weighted sums of a strip, as high as one row of windows, moving downward."""

    def __init__(self, plan: Plan, job: Job, channels: int) -> None:
        self.plan, self.strip = plan, job.strip
        first, last = plan.strips[job.strip]
        self.left = plan.columns.starts[plan.columns.lead(first)]
        width = plan.columns.end(last - 1) - self.left
        # Windows stick out to the right of a strip that is not the last.
        width = max(width, plan.columns.starts[last - 1] + plan.columns.chip - self.left)
        self.top = plan.rows.starts[job.row]
        self.values = np.zeros((channels, plan.rows.chip, width), np.float32)
        self.valid = np.zeros((plan.rows.chip, width), bool)

    def move(self, row: int) -> None:
        """Go down to a row of windows."""
        down = self.plan.rows.starts[row] - self.top
        if down:
            for plane in (*self.values, self.valid):
                plane[: len(plane) - down] = plane[down:].copy()
                plane[len(plane) - down :] = 0
            self.top += down

    def add(self, job: Job, values: Floats, valid: NDArray[np.bool_]) -> None:
        """Add a window, weighted."""
        start = self.plan.columns.starts[job.column] - self.left
        columns = slice(start, start + self.plan.columns.chip)
        weight = np.outer(
            self.plan.rows.weights[job.row], self.plan.columns.weights[job.column]
        ).astype(np.float32)
        self.values[:, :, columns] += values * weight
        self.valid[:, columns] |= valid

    def complete(self, row: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Cells of a unit."""
        first, last = (column - self.left for column in self.plan.span(self.strip))
        rows = slice(0, self.plan.rows.end(row) - self.top)
        return self.values[:, rows, first:last], self.valid[rows, first:last]


def own_units(plan: Plan, part: tuple[int, int]) -> list[tuple[int, int]]:
    """Units of a process: rows that lie together, so that few windows are computed twice."""
    number, count = part
    units = plan.units()
    bounds = [len(units) * k // count for k in range(count + 1)]
    return units[bounds[number] : bounds[number + 1]]


def compute(
    reader: SceneReader,
    normalize: nn.Module,
    model: Callable[[Tensor], Output],
    plan: Plan,
    sinks: Sequence[Sink],
    store: Store,
    options: RunOptions,
    units: Sequence[tuple[int, int]],
    channels: int,
) -> Counts:
    """Compute units, and keep their pieces.

    Args:
        reader: the scene.
        normalize: reflectance to what the model reads.
        model: normalized images (B, C, H, W) to values and vectors.
        plan: the windows.
        sinks: what to keep.
        store: where to.
        options: batch size, device, threads.
        units: units wanted; those that are there already are left out.
        channels: values a cell, K.

    Returns:
        What was done.

    Raises:
        DataError: if a file cannot be read, or a piece not be written.
    """
    missing = [u for u in units if not all(store.has(sink.name, u) for sink in sinks)]
    jobs = list(plan.jobs(missing))
    counts = Counts()
    hidden = None if options.progress is None else not options.progress
    writer = _Writer(plan, sinks, store, channels)
    runner = _Batches(normalize.to(options.torch_device()), model, options, counts)
    windows = _ahead(reader, plan, jobs, options)
    batches = _timed(_grouped(windows, options.batch_size), counts)
    bar = tqdm(total=len(jobs), desc='windows', unit='window', disable=hidden)
    # Whatever happens, threads have stopped reading before anybody closes their files.
    with bar, closing(windows), closing(batches):

        def step(batch: Sequence[_Loaded]) -> None:
            writer.take(runner.run(batch))
            bar.update(len(batch))

        if options.trainer is not None:
            predict_batches(options.trainer, batches, step)
        else:
            for batch in batches:
                step(batch)
    return counts


def _timed(
    batches: Iterator[list[_Loaded]], counts: Counts
) -> Generator[list[_Loaded], None, None]:
    """Batches; time runs from the first one on, since processes may take long to start."""
    began = time.monotonic()
    for batch in batches:
        yield batch
        counts.seconds = time.monotonic() - began


def _grouped(windows: Iterator[_Loaded], size: int) -> Iterator[list[_Loaded]]:
    """Batches of so many windows with data, and those without that lie between."""
    waiting: list[_Loaded] = []
    for loaded in windows:
        waiting.append(loaded)
        full = sum(x.image is not None for x in waiting) == size
        if full or len(waiting) == _WAITING * size:
            yield waiting
            waiting = []
    yield waiting


def _ahead(
    reader: SceneReader, plan: Plan, jobs: Sequence[Job], options: RunOptions
) -> Generator[_Loaded, None, None]:
    """Load windows in order, some ahead of their use."""
    height, width = plan.chip

    def load(job: Job) -> _Loaded:
        row, column = (
            axis.starts[k] * plan.cell
            for axis, k in ((plan.rows, job.row), (plan.columns, job.column))
        )
        image = reader.read((row, column, height, width))
        there = np.isfinite(image)
        pixels = there.any(0) if options.nodata == 'all' else there.all(0)
        if not pixels.any():
            return _Loaded(job, None, None)
        cells: NDArray[np.bool_] = pixels.reshape(
            plan.rows.chip, plan.cell, plan.columns.chip, plan.cell
        )
        return _Loaded(job, image, np.any(cells, axis=(1, 3)))

    if options.readers == 0:
        yield from map(load, jobs)
        return
    ahead = 2 * options.batch_size + options.readers
    queue: deque[Future[_Loaded]] = deque()
    pool = ThreadPoolExecutor(options.readers, thread_name_prefix='scene-reader')
    try:
        for job in jobs:
            queue.append(pool.submit(load, job))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Batches:
    """Runs batches of windows through a model."""

    normalize: nn.Module
    model: Callable[[Tensor], Output]
    options: RunOptions
    counts: Counts
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.options.torch_device()

    def run(self, loaded: Sequence[_Loaded]) -> Iterator[tuple[_Loaded, Floats | None, Any]]:
        """Windows with their values (K, h, w) and vector (D,), None where there are no data."""
        images = [x.image for x in loaded if x.image is not None]
        values: Any = iter(())
        vectors: Any = iter(())
        if images:
            began = time.monotonic()
            values, vectors = map(iter, self._forward(np.stack(images)))
            self.counts.model_seconds += time.monotonic() - began
        self.counts.windows += len(images)
        self.counts.empty += len(loaded) - len(images)
        for x in loaded:
            yield (x, None, None) if x.image is None else (x, next(values), next(vectors))

    def _forward(self, images: Floats) -> tuple[Floats, Sequence[Any]]:
        with torch.inference_mode():
            x = self.normalize(torch.from_numpy(images).to(self.device))
            with mixed_precision(self.device, self.options.computed_in):
                output = self.model(x)
            values = output.values.float().cpu().numpy()
            if output.vectors is None:
                return values, [None] * len(images)
            return values, list(output.vectors.float().cpu().numpy())


class _Writer:
    """Takes windows in order, and keeps the pieces that they complete."""

    def __init__(self, plan: Plan, sinks: Sequence[Sink], store: Store, channels: int) -> None:
        self.plan, self.sinks, self.store, self.channels = plan, sinks, store, channels
        self.sweep: _Sweep | None = None
        self.rows: list[Floats] = []

    def take(self, items: Iterator[tuple[_Loaded, Floats | None, Any]]) -> None:
        for loaded, values, vector in items:
            job = loaded.job
            if job.begins or self.sweep is None:
                self.sweep, self.rows = _Sweep(self.plan, job, self.channels), []
            self.sweep.move(job.row)
            if values is not None and loaded.valid is not None:
                self.sweep.add(job, values, loaded.valid)
                if job.own and vector is not None:
                    share = float(loaded.valid.mean())
                    facts = np.array([job.row, job.column, share], np.float32)
                    self.rows.append(np.concatenate((facts, vector)))
            if job.completes:
                self._keep((job.strip, job.row))

    def _keep(self, unit: tuple[int, int]) -> None:
        if self.sweep is None:
            raise RuntimeError('a unit is complete before its first window')
        values, valid = self.sweep.complete(unit[1])
        for sink in self.sinks:
            if isinstance(sink, Collector):
                sink.keep(self.rows, self.store, unit)
            else:
                self.store.put(sink.name, unit, sink.stage(values, valid))
        self.rows = []


def speed(counts: Counts) -> str:
    """What a run did, in one line."""
    rate = counts.windows / counts.seconds if counts.seconds else math.nan
    busy = counts.model_seconds / counts.seconds if counts.seconds else math.nan
    return (
        f'{counts.windows} windows in {counts.seconds:.1f} s ({rate:.2f} a second), '
        f'{busy:.0%} of it in the model; {counts.empty} without data'
    )
