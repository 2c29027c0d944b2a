"""Speed of pretraining, in one run: see :data:`torchgeo_aom.commands.bench.PRETRAIN`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .bands import resolve_bands
from .commands.bench import pretrain_parser
from .data.adapter import open_reader
from .data.loader import PretrainDataModule
from .data.samples import SAMPLES
from .data.source import Source, read_sources
from .errors import ConfigError
from .layers.masking import split_tokens
from .models.aom import AOM
from .tasks.pretrain import PretrainTask
from .tasks.pretrain_plan import image_cost

__all__ = ('Result', 'Spread', 'main', 'measure')

#: Real images that ship with the package: many small files, and a few larger ones.
SHIPPED: tuple[dict[str, Any], ...] = (
    {
        'name': 'eurosat200',
        'path': str(SAMPLES / 'eurosat200'),
        'bands': 'sentinel2:eurosat',
        'product': 'sentinel2:l1c',
    },
    {
        'name': 'sentinel2_pairs',
        'path': str(SAMPLES / 'sentinel2_pairs' / 'l1c'),
        'bands': 'sentinel2:l1c',
        'product': 'sentinel2:l1c',
        'weight': 20,
    },
)
SIDE = {'cpu': 2048, 'cuda': 8192}  # of the matrices that the peak is measured with
#: What time is: the wall's, or what this process had of the processor.
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
PIXELS = 65536  # of a batch, where its size is not given: 16 images of 64 px


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """Three numbers."""
        return f'{self.median:.3g} ({self.low:.3g} to {self.high:.3g})'


@dataclass(frozen=True)
class Result:
    """What was measured with images of one source.

    Attributes:
        source: its name; ``'random'`` for random pixels.
        image: bands, height and width.
        batch_size: images a step.
        step_images_per_s: images that the step takes.
        plain_ratio: time of the plain way over that of the step.
        step_tflops: operations that the model needs a second.
        peak_tflops: those of one large matrix product.
        peak_share: the first over the second.
        loader_images_per_s: images that the data loader gives; None for random pixels.
        loader_ratio: these over those that the step takes.
        memory_gib: most memory on a GPU, of step and plain way; None on a CPU.
    """

    source: str
    image: tuple[int, int, int]
    batch_size: int
    step_images_per_s: Spread
    plain_ratio: Spread
    step_tflops: Spread
    peak_tflops: Spread
    peak_share: Spread
    loader_images_per_s: Spread | None
    loader_ratio: Spread | None
    memory_gib: tuple[float, float] | None


class _Loader:
    """Batches without end, epoch after epoch."""

    def __init__(self, block: Mapping[str, Any], batch_size: int, workers: int, cache: str) -> None:
        module = PretrainDataModule(
            [dict(block)], batch_size, num_workers=workers, statistics_dir=cache or None
        )
        module.setup('fit')
        self.loader = module.train_dataloader()
        self.batches = iter(self.loader)

    def take(self) -> dict[str, Any]:
        while True:
            for batch in self.batches:
                return batch
            self.batches = iter(self.loader)

    def rate(self, seconds: float, now: Callable[[], float]) -> float:
        """Images a second, over at least so many seconds."""
        self.take()  # workers have started
        start, images = now(), 0
        while now() - start < seconds or not images:
            images += len(self.take()['image'])
        return images / (now() - start)


def _all_tokens(
    encoder: AOM, x: Tensor, ids_keep: Tensor, bands: Any = None, patch_size: Any = None
) -> Tensor:
    """The cost of `AOM.forward_visible` where masked tokens are not dropped."""
    grid, valid = encoder.patch_embed(x, bands, patch_size)
    tokens, _, _ = encoder.run_blocks(grid.flatten(2, 3), valid)
    return split_tokens(tokens.flatten(1, 2), ids_keep)


def _stepper(
    options: Mapping[str, Any], batch: Mapping[str, Any], device: torch.device, plain: bool
) -> tuple[PretrainTask, Callable[[], None]]:
    task = PretrainTask(**options).to(device).train()
    if plain:
        vars(task.encoder)['forward_visible'] = partial(_all_tokens, task.encoder)
    optimizer = task.configure_optimizers()
    half = device.type == 'cuda'
    steps = iter(range(2**62))

    def run() -> None:
        with torch.autocast('cuda', torch.bfloat16) if half else nullcontext():
            loss = task.losses(batch, next(steps)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return task, run


def _time(
    run: Callable[[], object], device: torch.device, now: Callable[[], float]
) -> tuple[float, float]:
    """Seconds, and most memory in GiB on a GPU."""
    gpu = device.type == 'cuda'
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    start = now()
    run()
    if gpu:
        torch.cuda.synchronize(device)
    seconds = now() - start
    return seconds, torch.cuda.max_memory_allocated(device) / 2**30 if gpu else 0.0


def _batch(
    block: Mapping[str, Any] | tuple[Any, int], batch_size: int | None, workers: int, cache: str
) -> tuple[dict[str, Any], _Loader | None]:
    if isinstance(block, Mapping):
        if batch_size is None:
            height, width = open_reader(Source.parse(block)).size
            batch_size = max(2, PIXELS // (height * width))
        loader = _Loader(block, batch_size, workers, cache)
        return loader.take(), loader
    bands = resolve_bands(block[0])
    batch_size = batch_size or max(2, PIXELS // block[1] ** 2)
    image = torch.randn(batch_size, len(bands), block[1], block[1])
    specs = [band.label for band in bands]
    return {
        'image': image, 'bands': specs, 'key': torch.arange(batch_size), 'source': 'random',
    }, None  # fmt: skip


def measure(
    block: Mapping[str, Any] | tuple[Any, int],
    options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    rounds: int = 3,
    device: str = 'cpu',
    workers: int = 0,
    loader_seconds: float = 2.0,
    side: int | None = None,
    cache: str = '',
    clock: str = 'wall',
) -> Result:
    """Measure with the images of one source.

    Args:
        block: a source, as of `PretrainDataModule`, or (bands, size) for random pixels.
        options: of `PretrainTask`.
        batch_size: images a step; about 65,536 px of each band, at least 2, where not given.
        rounds: rounds counted, after one warm-up.
        device: ``'cpu'`` (float32) or ``'cuda'`` (bfloat16).
        workers: worker processes of the data loader.
        loader_seconds: how long the data loader is timed in each round, at least.
        side: of the matrices that the peak is measured with.
        cache: where statistics of the source are kept.
        clock: ``'wall'``, or ``'cpu'`` for the time that this process had of the processor.

    Returns:
        What was measured.

    Raises:
        ConfigError: if an option is impossible.
    """
    if rounds < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(f'runs and batch must be at least 1, got {rounds} and {batch_size}.')
    if clock not in CLOCKS or (clock == 'cpu' and (device != 'cpu' or workers)):
        raise ConfigError(
            f'clock must be one of {", ".join(CLOCKS)}, and cpu only on a CPU with workers=0, got '
            f'{clock!r}, {device!r} and {workers} workers.'
        )
    now = CLOCKS[clock]
    target = torch.device(device)
    batch, loader = _batch(block, batch_size, workers, cache)
    batch_size = len(batch['image'])
    moved = {k: v.to(target) if isinstance(v, Tensor) else v for k, v in batch.items()}
    task, step = _stepper(options or {}, moved, target, False)
    _, plain = _stepper(options or {}, moved, target, True)
    side = side or SIDE[target.type]
    left, right = torch.randn(
        2, side, side, device=target,
        dtype=torch.bfloat16 if target.type == 'cuda' else torch.float32,
    )  # fmt: skip
    _, channels, height, width = batch['image'].shape
    flops = batch_size * image_cost(task, channels, (height, width)).model
    found: dict[str, list[float]] = {}
    memory = (0.0, 0.0)
    for count in tqdm(range(rounds + 1), desc=str(batch.get('source')), disable=None):
        product = min(_time(lambda: left @ right, target, now)[0] for _ in range(3))
        seconds, most = _time(step, target, now)
        plain_seconds, plain_most = _time(plain, target, now)
        rate = loader.rate(loader_seconds if count else 0.0, now) if loader else 0.0
        if not count:  # the first round warms up
            continue
        memory = max(memory[0], most), max(memory[1], plain_most)
        row = {
            'step': batch_size / seconds,
            'plain': plain_seconds / seconds,
            'flops': flops / seconds / 1e12,
            'peak': 2 * side**3 / product / 1e12,
            'share': flops / seconds / (2 * side**3 / product),
            'loader': rate,
            'ratio': rate * seconds / batch_size,
        }
        for key, value in row.items():
            found.setdefault(key, []).append(value)
    spread = {key: Spread.of(values) for key, values in found.items()}
    return Result(
        str(batch.get('source')), (channels, height, width), batch_size, spread['step'],
        spread['plain'], spread['flops'], spread['peak'], spread['share'],
        spread['loader'] if loader else None, spread['ratio'] if loader else None,
        memory if target.type == 'cuda' else None,
    )  # fmt: skip


def _lines(result: Result) -> list[str]:
    channels, height, width = result.image
    lines = [
        f'{result.source}: {channels} bands, {height} x {width} px, batch {result.batch_size}',
        f'  step                    {result.step_images_per_s} images/s',
        f'  plain way / step        {result.plain_ratio} times the time',
        f'  step                    {result.step_tflops} TFLOP/s that the model needs',
        f'  matrix product          {result.peak_tflops} TFLOP/s',
        f'  share of that peak      {result.peak_share}',
    ]
    if result.loader_images_per_s is not None:
        lines += [
            f'  data loader alone       {result.loader_images_per_s} images/s',
            f'  data loader / step      {result.loader_ratio} times as many images',
        ]
    if result.memory_gib is not None:
        own, plain = result.memory_gib
        lines.append(f'  most memory             {own:.2f} GiB, the plain way {plain:.2f}')
    return lines


def main(argv: list[str] | None = None) -> int:
    """Command line: print what was measured; medians with the smallest and largest value.

    Args:
        argv: arguments, those of the process where None.

    Returns:
        Exit status.
    """
    args = pretrain_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    blocks: list[Any] = list(SHIPPED)
    if args.sources:
        blocks = list(read_sources(args.sources))
    if args.random:
        if not args.random[1].isdigit():
            raise ConfigError(f'--random takes bands and a size in px, got {args.random[1]!r}.')
        blocks = [(args.random[0], int(args.random[1]))]
    options = {
        'model': args.model, 'patch_sizes': tuple(args.patch_sizes), 'memory': args.memory,
        'compile': args.compile,
    }  # fmt: skip
    results = [
        measure(block, options, args.batch, args.runs, args.device, args.workers, clock=args.clock)
        for block in blocks
    ]
    if args.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return 0
    half = 'bfloat16' if args.device == 'cuda' else 'float32'
    threads = torch.get_num_threads()
    print(f'{args.model}, {args.device}, {half}, {threads} CPU threads, {args.clock} time')
    for result in results:
        print('\n'.join(_lines(result)))
    return 0
