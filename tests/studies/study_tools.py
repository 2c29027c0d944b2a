"""A small data set for tests of studies."""

from typing import Any

import numpy as np
import torch

from torchgeo_aom.bands import BandSpec, resolve_bands
from torchgeo_aom.datasets.base import BandDataset, checked_split

STORED = resolve_bands(['hls:blue', 'hls:green', 'hls:red', 'hls:nir08'])


class Bright(BandDataset):
    """Patches of 16 px of three classes that only the first two bands tell apart."""

    splits = ('train', 'val', 'test', 'all')
    classes = ('dark', 'middle', 'bright')

    def __init__(
        self, split: str = 'train', bands: BandSpec | None = None, count: int = 48
    ) -> None:
        super().__init__(STORED, bands, 'v2')
        self.split, self.count = checked_split(split, self.splits), count
        parts = {'train': (0, 0.5), 'val': (0.5, 0.75), 'test': (0.75, 1.0)}
        low, high = parts.get(split, (0.0, 1.0))
        self.numbers = list(range(int(low * count), int(high * count)))
        self.groups = [f'site{k // 4}' for k in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, index: int) -> dict[str, Any]:
        number = self.numbers[index]
        image = np.random.default_rng(number).integers(300, 900, (4, 16, 16)).astype(np.float32)
        label = number % 3
        image[0] += 700 * (label > 0)
        image[1] += 700 * (label > 1)
        return {'image': torch.from_numpy(image[self.channels]), 'label': torch.tensor(label)}
