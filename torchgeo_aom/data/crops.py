"""Random crops of a few large images, drawn from the seed and the index alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from torchgeo_aom.errors import SizeError

__all__ = ('RandomCrops',)


class RandomCrops(Dataset[dict[str, Tensor]]):
    """Random crops and flips of images with masks.

    Which ones follows from the seed and the index: the order of calls and the number of workers
    do not matter, and a second run sees the same.

    .. versionadded:: 0.1
    """

    def __init__(
        self, samples: Sequence[dict[str, Tensor]], size: int, count: int, seed: int = 0
    ) -> None:
        """Initialize the data set.

        Args:
            samples: dicts of tensors that share height and width, their last two dimensions.
            size: height and width of a crop in px.
            count: number of crops.
            seed: what the crops follow from.

        Raises:
            SizeError: if a sample is smaller than a crop.
        """
        for sample in samples:
            for value in sample.values():
                if min(value.shape[-2:]) < size:
                    raise SizeError(
                        f'crops of {size} px do not fit an image of {value.shape[-2]} x '
                        f'{value.shape[-1]} px; use smaller crops'
                    )
        self.samples, self.size, self.count, self.seed = samples, size, count, seed

    def __len__(self) -> int:
        """Number of crops."""
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Draw one crop.

        Args:
            index: which one.

        Returns:
            The crop of each tensor of a sample.

        Raises:
            IndexError: if there is no such crop.
        """
        if not 0 <= index < self.count:
            raise IndexError(f'index {index} is out of range: there are {self.count} crops')
        random = np.random.default_rng((self.seed, index))
        sample = self.samples[int(random.integers(len(self.samples)))]
        height, width = next(iter(sample.values())).shape[-2:]
        top = int(random.integers(height - self.size + 1))
        left = int(random.integers(width - self.size + 1))
        dims = [dim for dim in (-2, -1) if random.random() < 0.5]
        rows, columns = slice(top, top + self.size), slice(left, left + self.size)
        return {key: value[..., rows, columns].flip(dims) for key, value in sample.items()}
