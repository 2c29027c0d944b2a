"""A small data set with masks, in stored values of a real product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torchgeo_aom.bands import BandSpec, resolve_bands
from torchgeo_aom.datasets.base import BandDataset, Transform, as_image, checked_split

STORED = resolve_bands('hls:common7')


class Toy(BandDataset):
    """HLS chips: ``mask`` says where the near infrared is bright, so that it can be learnt."""

    target = 'mask'
    classes = ('dark', 'bright')
    ignore_index = 255

    def __init__(
        self,
        split: str = 'train',
        bands: BandSpec | None = None,
        sizes: Sequence[int] = (40,),
        scale: float = 1.0,
        fill: bool = True,
        transforms: Transform | None = None,
    ) -> None:
        self.split = checked_split(split, self.splits)
        self.sizes, self.scale, self.fill = sizes, scale, fill
        self.groups = [f'site{k // 2}' for k in range(8)]
        super().__init__(STORED, bands, 'v2', transforms)

    def __len__(self) -> int:
        return 8

    def load(self, index: int) -> dict[str, Any]:
        side = self.sizes[index % len(self.sizes)]
        random = np.random.default_rng([index, self.splits.index(self.split)])
        values = random.integers(100, 3000, (7, side, side)).astype('<i2')
        mask = torch.from_numpy((values[4] > 1500).astype(np.int64))
        if self.fill:
            values[:, :4, :4] = -9999
            mask[:4, :4] = 255
        return {'image': as_image(values[self.channels]) * self.scale, 'mask': mask}


class Labels(Toy):
    """The same chips, each with one class."""

    target = 'class'

    def load(self, index: int) -> dict[str, Any]:
        return {'image': super().load(index)['image'], 'label': torch.tensor(index % 2)}
