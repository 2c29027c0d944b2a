"""Makes batches for pretraining: reads, cuts, flips and normalizes chips, each by its own key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from torchgeo_aom.data.source import BadFiles, BadSampleError, Pixels, Reader, Source
from torchgeo_aom.errors import DataError
from torchgeo_aom.rng import generator
from torchgeo_aom.transforms import Normalize

__all__ = ('PretrainDataset', 'Request', 'bad_lists')

ATTEMPTS = 100  # samples tried in place of one that is damaged or holds too little data


@dataclass(frozen=True)
class Request:
    """One batch of one rank, as the sampler asks for it.

    Attributes:
        epoch: the epoch.
        step: number of the batch since the start of training.
        source: which source.
        samples: which of its samples.
        rounds: how often the epoch has taken each of them before.
    """

    epoch: int
    step: int
    source: int
    samples: tuple[int, ...]
    rounds: tuple[int, ...]


class PretrainDataset(Dataset[dict[str, Any]]):
    """Reads, cuts, flips and normalizes the samples of a batch.

    Args:
        sources: the declarations.
        readers: their readers.
        normalizers: their transforms.
        seed: seed of the run.
        crop_scale: smallest and largest share of a chip's area that is cut out.
        crop_ratio: smallest and largest ratio of width to height, relative to that of the chip.
        flip: whether to mirror half of the chips.
        bad_limit: share of a source's samples that may be unreadable.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        readers: Sequence[Reader],
        normalizers: Sequence[Normalize],
        seed: int = 0,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        bad_limit: float = 0.01,
    ) -> None:
        """Keep everything; nothing is opened."""
        self.sources = tuple(sources)
        self.readers = tuple(readers)
        self.normalizers = tuple(normalizers)
        self.seed = seed
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.flip = flip
        self.first = np.cumsum([0, *map(len, readers)]).tolist()
        # Of this process only: an early end where everything is bad. The loader counts for all.
        self.bad = bad_lists(self.sources, self.readers, bad_limit, quiet=True)

    def __len__(self) -> int:
        """Samples of all sources."""
        return int(self.first[-1])

    def __getitem__(self, request: Request) -> dict[str, Any]:
        """Make a batch.

        Args:
            request: which one.

        Returns:
            ``image`` float32 (B, C, H, W); ``valid`` bool (B, C, H, W) unless all is; ``bands``,
            plain specs of the channels; ``key``, sample numbers (B,); ``source``; ``step``; and,
            for the loader, ``skipped`` and ``dropped``.

        Raises:
            DataError: if too many samples are unreadable, or none can be found that holds data.
        """
        source = self.sources[request.source]
        skipped: list[tuple[str, str]] = []
        chips = [
            self._chip(request, sample, again, skipped)
            for sample, again in zip(request.samples, request.rounds, strict=True)
        ]
        batch: dict[str, Any] = {
            'image': torch.stack([image for image, _, _, _ in chips]),
            'bands': source.specs,
            'key': torch.tensor([self.first[request.source] + index for _, _, index, _ in chips]),
            'source': source.name,
            'step': request.step,
            'skipped': (request.source, skipped),
            'dropped': sum(dropped for _, _, _, dropped in chips),
        }
        if any(valid is not None for _, valid, _, _ in chips):
            batch['valid'] = torch.stack(
                [
                    torch.ones_like(image, dtype=torch.bool) if valid is None else valid
                    for image, valid, _, _ in chips
                ]
            )
        return batch

    def _chip(
        self, request: Request, sample: int, again: int, skipped: list[tuple[str, str]]
    ) -> tuple[Tensor, Tensor | None, int, int]:
        """Image, valid, sample and number of chips dropped; a bad sample gives way to another.

        Which one follows from the key too, so that a resumed run finds the same.
        """
        source, reader = self.sources[request.source], self.readers[request.source]
        dropped = 0
        key = self.first[request.source] + sample
        for attempt in range(ATTEMPTS):
            rng = generator(self.seed, 'augment', request.epoch, key, again, attempt)
            index = sample if attempt == 0 else int(rng.integers(len(reader)))
            crop = _Crop(rng, reader.size, self.crop_scale, self.crop_ratio)
            try:
                pixels = reader.read(index, crop, int(rng.integers(2**31)))
            except BadSampleError as error:
                skipped.append((error.name, error.reason))
                self.bad[request.source].add(error.name, error.reason)
                continue
            if pixels.valid is not None and 1 - pixels.valid.mean() > source.max_nodata:
                dropped += 1
                continue
            image, valid = _finish(pixels, self.normalizers[request.source], reader.size)
            if self.flip and rng.random() < 0.5:
                image = image.flip(-1)
                valid = None if valid is None else valid.flip(-1)
            return image, valid, index, dropped
        raise DataError(
            f'source {source.name!r}: {ATTEMPTS} chips in a row are damaged or have more than '
            f'{source.max_nodata:.0%} nodata ({dropped} of them). Check nodata=, or raise '
            f'max_nodata'
        )


class _Crop:
    """Random window of an image: share of the chip's area and aspect ratio at random, as timm."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        scale: tuple[float, float],
        ratio: tuple[float, float],
    ) -> None:
        low, high = math.log(ratio[0]), math.log(ratio[1])
        self.size = size
        # All drawn beforehand: what comes next does not depend on the size of the image.
        self.shapes = [(rng.uniform(*scale), math.exp(rng.uniform(low, high))) for _ in range(10)]
        self.place = rng.random(2)

    def __call__(self, height: int, width: int) -> tuple[int, int, int, int]:
        most = min(height, self.size[0]), min(width, self.size[1])
        rows, columns = most
        for share, ratio in self.shapes:
            h = round(most[0] * math.sqrt(share / ratio))
            w = round(most[1] * math.sqrt(share * ratio))
            if 0 < h <= most[0] and 0 < w <= most[1]:
                rows, columns = h, w
                break
        row = int(self.place[0] * (height - rows + 1))
        column = int(self.place[1] * (width - columns + 1))
        return row, column, rows, columns


def _finish(
    pixels: Pixels, normalize: Normalize, size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Normalize, set what is not valid to the mean of its band, and resize."""
    stored, valid = pixels
    if valid is not None:
        # Any value of this image will do, so that the check of units sees real ones only.
        stored = np.where(valid, stored, stored[valid][0] if valid.any() else 0)
    image = normalize(stored)
    inside = None if valid is None else torch.from_numpy(valid)
    if inside is not None:
        image = torch.where(inside, image, 0.0)
    if image.shape[1:] == size:
        return image, inside
    image = _resize(image, size)
    if inside is not None:
        # Not valid as soon as a pixel without data has a share in it.
        inside = _resize((~inside).float(), size).abs() < 0.01
        image = torch.where(inside, image, 0.0)
    return image, inside


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(image[None], size, mode='bicubic', align_corners=False)[0]


def bad_lists(
    sources: Sequence[Source], readers: Sequence[Reader], limit: float, quiet: bool = False
) -> list[BadFiles]:
    """An empty list of bad samples for each source."""
    pairs = zip(sources, readers, strict=True)
    return [BadFiles(source.name, len(reader), limit, quiet) for source, reader in pairs]
