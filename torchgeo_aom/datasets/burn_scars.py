"""HLS Burn Scars: burnt areas in chips of Landsat and Sentinel-2 (Phillips et al. 2023)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bands import BandSpec, Product, resolve_bands
from ..errors import ConfigError, DataError
from .base import BandDataset, Transform, checked_split
from .rasters import no_download, open_images, read_image, read_mask, require
from .splits import hash_split

__all__ = ('HLSBurnScars',)

WHERE = (
    'Get hls_burn_scars.tar.gz of the data set ibm-nasa-geospatial/hls_burn_scars (CC BY 4.0) from '
    'the Hugging Face hub and unpack it: root= is the folder with training/ and validation/'
)
# The bands have been converted to reflectance; only the fill value is that of HLS.
REFLECTANCE = Product(
    'hls_reflectance', 1.0, 0.0, 'reflectance', quantity='surface', nodata=-9999.0
)
_TILE = re.compile(r'\.(T\d{2}[A-Z]{3})\.')


class HLSBurnScars(BandDataset):
    """HLS Burn Scars: 804 chips of 512 x 512 px at 30 m, six bands, burnt or not.

    The authors drew two splits at random, ``training`` (540) and ``validation`` (264). Here the
    second is the test split, and part of the first validates, by tile of the HLS grid. Nothing
    keeps a tile on one side of the authors' split.

    .. versionadded:: 0.1
    """

    splits = ('train', 'val', 'test', 'all')
    target = 'mask'
    classes = ('not burnt', 'burnt')
    ignore_index = 255
    colors = ('#5B8C5A', '#D1495B')

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        val_share: float = 0.1,
        transforms: Transform | None = None,
        download: bool = False,
    ) -> None:
        """List the chips of a split.

        Args:
            root: folder with ``training`` and ``validation``.
            split: ``'train'``, ``'val'``, ``'test'`` or ``'all'``.
            bands: bands wanted, in their order; all six where not given.
            val_share: share of the tiles of the folder ``training`` that validate. With 0, all of
                it trains, and ``'val'`` is the folder ``validation``, the test split too.
            transforms: takes and returns a sample.
            download: must stay False.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split or share.
            DataError: if files are missing.
        """
        stored = resolve_bands('hls:common6')
        super().__init__(stored, bands, REFLECTANCE, transforms)
        no_download(download, WHERE)
        self.split = checked_split(split, self.splits)
        if not 0 <= val_share < 1:
            raise ConfigError(f'val_share must be at least 0 and below 1, got {val_share}')
        self.root = require(root, 'HLS Burn Scars', WHERE)
        self.val_share = val_share
        self.images = self._chosen()
        if not self.images:
            raise DataError(f'split {split!r} is empty. {WHERE}, or give another val_share=')
        self.masks = [_mask_of(path) for path in self.images]
        self.groups = [_tile(path) for path in self.images]
        self.files = [*self.images, *self.masks]
        self._reader = open_images('HLSBurnScars', self.images, stored, self.product)

    def _folder(self, name: str) -> list[Path]:
        folder = require(self.root / name, f'the folder {name}', WHERE)
        found = sorted(folder.glob('*_merged.tif'))
        if not found:
            raise DataError(f'there are no *_merged.tif files in {folder}. {WHERE}')
        return found

    def _chosen(self) -> list[Path]:
        if self.split == 'test' or (self.split == 'val' and not self.val_share):
            return self._folder('validation')
        training = self._folder('training')
        if self.split == 'all':
            return training + self._folder('validation')
        shares = {'train': 1 - self.val_share, 'val': self.val_share}
        parts = hash_split([_tile(path) for path in training], shares=shares)
        return [path for path, part in zip(training, parts, strict=True) if part == self.split]

    def __len__(self) -> int:
        """Number of chips."""
        return len(self.images)

    def load(self, index: int) -> dict[str, Any]:
        """Read a chip and its mask.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 512, 512) and ``mask`` (512, 512), 255 where data are missing.

        Raises:
            DataError: if a file is missing or damaged.
        """
        image = read_image(self._reader, index, self.channels)
        mask = read_mask(self.masks[index])
        if mask.shape != tuple(image.shape[1:]) or not np.isin(mask, (-1, 0, 1)).all():
            raise DataError(
                f'{self.masks[index]} is no mask of -1, 0 and 1 of the size of its image. {WHERE}'
            )
        return {'image': image, 'mask': torch.from_numpy(np.where(mask < 0, 255, mask))}


def _mask_of(path: Path) -> Path:
    name = path.name.removesuffix('_merged.tif') + '.mask.tif'
    return require(path.with_name(name), f'the mask of {path.name}', WHERE)


def _tile(path: Path) -> str:
    """Tile of the HLS grid; chips of one tile are neighbors, or the same place in other years."""
    match = _TILE.search(path.name)
    return path.name if match is None else match[1]
