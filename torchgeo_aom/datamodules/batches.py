"""From samples to batches: cut and fill to one size, resize after normalization, turn and flip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from ..errors import ConfigError, SizeError

__all__ = ('Collate', 'Sides', 'dihedral', 'resized', 'sides')

Sides: TypeAlias = int | list[int]


def sides(value: Sides | Sequence[int] | None, name: str) -> tuple[int, int] | None:
    """Check a height and width.

    Args:
        value: one number for a square, or two.
        name: what the argument is called, for the message.

    Returns:
        Height and width, or None where nothing is given.

    Raises:
        ConfigError: if they are not positive integers.
    """
    if value is None:
        return None
    both = (value, value) if isinstance(value, int) else tuple(value)
    right = len(both) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in both)
    if not right or min(both) < 1:
        raise ConfigError(
            f'{name} must be a positive number of pixels or [height, width], got {value!r}'
        )
    return both[0], both[1]


@dataclass(frozen=True)
class Collate:
    """Makes a batch of samples, each of them padded and cut first.

    Images are padded with NaN, which normalization fills like any other pixel without data; masks
    with the value that counts nowhere.

    Attributes:
        pad: pad at the bottom and at the right to at least this height and width.
        crop: cut out this height and width.
        random: cut anywhere; else in the middle.
        ignore_index: value of a mask that counts nowhere.
        any_size: leave images of different sizes in a list, to be resized later.
    """

    pad: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    random: bool = False
    ignore_index: int | None = None
    any_size: bool = False

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            samples: samples with an ``image`` (C, H, W).

        Returns:
            The batch.

        Raises:
            ConfigError: if a mask has to be padded, and has no value for it.
            SizeError: if a crop is larger than an image, or images differ in size.
        """
        prepared = [self._prepared(dict(sample)) for sample in samples]
        shapes = {tuple(sample['image'].shape[-2:]) for sample in prepared}
        if len(shapes) == 1:
            batch: dict[str, Any] = default_collate(prepared)
            return batch
        if not self.any_size:
            listed = ', '.join(f'{h} x {w}' for h, w in sorted(shapes)[:6])
            raise SizeError(
                f'images of one batch have different sizes: {listed} px. Give crop= (training), '
                f'eval_crop=, pad= or resize= one size, or a batch size of 1'
            )
        dense = ('image', 'mask')
        lists = {
            key: [sample.pop(key) for sample in prepared] for key in dense if key in samples[0]
        }
        return {**(default_collate(prepared) if prepared[0] else {}), **lists}

    def _prepared(self, sample: dict[str, Any]) -> dict[str, Any]:
        height, width = sample['image'].shape[-2:]
        if self.pad is not None:
            more = (max(self.pad[0] - height, 0), max(self.pad[1] - width, 0))
            if any(more):
                self._fill(sample, more)
                height, width = height + more[0], width + more[1]
        if self.crop is not None:
            row, column = self._corner(height, width)
            for key in ('image', 'mask'):
                if key in sample:
                    part = sample[key][
                        ..., row : row + self.crop[0], column : column + self.crop[1]
                    ]
                    sample[key] = part.clone()  # not the whole image, on its way between processes
        return sample

    def _fill(self, sample: dict[str, Any], more: tuple[int, int]) -> None:
        if 'mask' in sample:
            if self.ignore_index is None:
                raise ConfigError(
                    f'a mask of {tuple(sample["mask"].shape)} px has to be padded by {more} px, '
                    f'but the data set has no value that counts nowhere: give crop= or resize= '
                    f'instead of pad='
                )
            sample['mask'] = F.pad(
                sample['mask'], (0, more[1], 0, more[0]), value=self.ignore_index
            )
        sample['image'] = F.pad(
            sample['image'].float(), (0, more[1], 0, more[0]), value=float('nan')
        )

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        free = [size - part for size, part in zip((height, width), self.crop or (), strict=True)]
        if min(free) < 0:
            raise SizeError(
                f'a crop of {self.crop} px does not fit into an image of {height} x {width} px: '
                f'give a smaller crop=, or pad= that size as well'
            )
        if not self.random:
            return free[0] // 2, free[1] // 2
        row, column = (int(torch.randint(n + 1, ())) for n in free)
        return row, column


def resized(image: Tensor, mask: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Any]:
    """Resize normalized images and their masks.

    Args:
        image: normalized images (B, C, H, W); none of their values is a fill value any more.
        mask: classes (B, H, W), or None.
        size: height and width wanted.

    Returns:
        Images, bilinear with antialiasing, and masks, nearest neighbor.
    """
    if tuple(image.shape[-2:]) == size:
        return image, mask
    image = F.interpolate(image, size, mode='bilinear', align_corners=False, antialias=True)
    if mask is not None:
        planes = F.interpolate(mask[:, None].double(), size, mode='nearest-exact')
        mask = planes[:, 0].to(mask.dtype)
    return image, mask


def dihedral(image: Tensor, mask: Tensor | None, flip: bool, rotate: bool) -> tuple[Tensor, Any]:
    """Flip each image, and turn it by multiples of 90 degrees, at random; masks in the same way.

    Nothing is interpolated. Images that are not square are turned by 180 degrees only.

    Args:
        image: images (B, C, H, W).
        mask: classes (B, H, W), or None.
        flip: flip horizontally and vertically, each with a probability of one half.
        rotate: turn, each multiple equally probable.

    Returns:
        New images and masks.
    """
    square = image.shape[-1] == image.shape[-2]
    count = len(image)
    flips = torch.rand(2, count) < 0.5 if flip else torch.zeros(2, count, dtype=torch.bool)
    turns = torch.randint(4 if square else 2, (count,)) * (1 if square else 2)
    turns = turns if rotate else torch.zeros_like(turns)
    parts: list[Tensor] = [image] if mask is None else [image, mask]
    for k, part in enumerate(parts):
        rows = []
        for plane, across, down, turn in zip(part, *flips.tolist(), turns.tolist(), strict=True):
            axes = [axis for axis, chosen in ((-1, across), (-2, down)) if chosen]
            plane = plane.flip(axes) if axes else plane
            rows.append(plane.rot90(turn, (-2, -1)) if turn else plane)
        parts[k] = torch.stack(rows)
    return parts[0], parts[1] if mask is not None else None
