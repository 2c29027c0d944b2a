"""What loading and transforms cost next to the bare encoder: ``torchgeo-aom probe --loading``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import timm
import torch
from torch.utils.data import DataLoader

from ..commands.probe import loading_parser
from ..models.aom import AOM
from .features import extract_features
from .probe_data import open_data

__all__ = ('Seconds', 'compare', 'main')


class Seconds(NamedTuple):
    """Time on the clock, and of all threads of the process on processors."""

    wall: float
    cpu: float


def compare(
    model: AOM,
    data: Any,
    patch_size: int,
    batch_size: int = 32,
    num_workers: int = 0,
    rounds: int = 5,
) -> list[tuple[Seconds, Seconds]]:
    """Time the extraction of features and the encoder alone, on the same images, turn by turn.

    Args:
        model: the encoder.
        data: see :func:`~torchgeo_aom.tasks.probe_data.open_data`.
        patch_size: patch size in px.
        batch_size: images a batch.
        num_workers: processes that load; with 0, one thread does.
        rounds: rounds counted, after one warm-up.

    Returns:
        For each round the time of the encoder on normalized tensors that are there already, and
        that of reading, hashing, normalizing and encoding the same images from their files.
    """
    device = next(model.parameters()).device
    normalize = data.normalize.to(device)
    loader: Any = DataLoader(data.dataset, batch_size)
    ready = [normalize(batch['image'].to(device)) for batch in loader]

    def bare() -> None:
        with torch.inference_mode():
            for image in ready:
                model.forward_head(
                    model.forward_features(image, patch_size=patch_size), pre_logits=True
                ).float().cpu()

    def whole() -> None:
        extract_features(
            model, data.dataset, None, patch_size, batch_size=batch_size, cache=False,
            progress=False, normalize=normalize, num_workers=num_workers,
        )  # fmt: skip

    model.eval()
    times = [(_seconds(bare), _seconds(whole)) for _ in range(rounds + 1)]
    return times[1:]


def _seconds(work: Callable[[], None]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    options = loading_parser().parse_args(argv)
    arguments = {} if options.root is None else {'root': options.root}
    splits = None if options.dataset == 'EuroSAT200' else ('train', 'val', 'test')
    data = open_data(options.dataset, arguments, None, splits, every=options.every)
    model: Any = timm.create_model(options.model, bands=list(data.bands)).to(options.device)
    times = compare(
        model, data, options.patch_size, options.batch_size, options.num_workers, options.rounds
    )
    count = len(data.names)
    walls = ([one.wall for one in column] for column in zip(*times, strict=True))
    bare, whole = (statistics.median(column) for column in walls)
    print(
        f'{data.name}: {count} images of {data.size[0]} x {data.size[1]} px, {len(data.bands)} '
        f'bands; {options.model}, patch {options.patch_size} px, {options.device}\n'
        f'bare encoder      {count / bare:8.1f} images/s\n'
        f'whole extraction  {count / whole:8.1f} images/s\n'
        f'lost to loading, hashing and normalization: {_lost(times, 0)}\n'
        f'of the time on processors, which other programs disturb less: {_lost(times, 1)}'
    )
    return 0


def _lost(times: Sequence[tuple[Seconds, Seconds]], kind: int) -> str:
    losses = [1 - a[kind] / b[kind] for a, b in times]
    return f'{statistics.median(losses):.1%} (rounds: {min(losses):.1%} to {max(losses):.1%})'
