"""HLS chips around water bodies: water masks, and small patches with a class of WorldCover."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bands import BandSpec, get_product, resolve_bands
from ..errors import ConfigError, DataError
from .base import BandDataset, Transform, checked_split
from .rasters import Part, no_download, open_images, read_image, read_mask, require
from .splits import fold_split

__all__ = ('HLSWater', 'WorldCoverPatches')

WHERE = (
    'Root must hold images/ID.tif (7 bands, HLS reflectance x 10000), masks/ID.png (1 is water), '
    'and the tables derived_meta.csv (id, site_group) or derived_patches32_worldcover.csv (id, '
    'row, col, worldcover_class, purity, site_group); the images are those of the GitHub '
    'repository shahed137003/Water-Segmentation-project, which states no license'
)
SPLITS = ('train', 'val', 'test', 'all')


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in columns if not rows or not rows[0].get(name)]
    if missing:
        raise DataError(f'table {path} has no column {", ".join(missing)}, or no rows. {WHERE}')
    return rows


class _HLSChips(BandDataset):
    """What both have in common: seven bands, and splits by site."""

    splits = SPLITS
    table: str
    columns: tuple[str, ...]

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        fold: int = 0,
        folds: int = 5,
        seed: int = 0,
        transforms: Transform | None = None,
        download: bool = False,
    ) -> None:
        """List the samples of a split.

        Args:
            root: folder of the data.
            split: ``'train'``, ``'val'``, ``'test'`` or ``'all'``.
            bands: bands wanted, in their order; all seven where not given.
            fold: which fold of the sites is the test split; the next one validates.
            folds: number of folds.
            seed: another seed gives other folds.
            transforms: takes and returns a sample.
            download: must stay False.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split or fold.
            DataError: if a file is missing.
        """
        stored = resolve_bands('hls:common7')
        super().__init__(stored, bands, get_product('hls:v2'), transforms)
        no_download(download, WHERE)
        self.split = checked_split(split, self.splits)
        self.root = Path(root).expanduser()
        self.fold, self.folds, self.seed = fold, folds, seed
        path = require(self.root / self.table, f'the table of {type(self).__name__}', WHERE)
        rows = self._wanted(_rows(path, self.columns))
        sites = [row['site_group'] for row in rows]
        parts = fold_split(sites, folds, fold, seed)
        chosen = [k for k, part in enumerate(parts) if split in (part, 'all')]
        self.rows = [rows[k] for k in chosen]
        self.groups = [sites[k] for k in chosen]
        images = [self.root / 'images' / f'{row["id"]}.tif' for row in self.rows]
        found = {require(image, 'an image', WHERE) for image in images}
        self.files = [*sorted(found), *self._masks()]
        self._reader = open_images(type(self).__name__, images, stored, self.product)

    def _wanted(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return rows

    def _masks(self) -> list[Path]:
        return []

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)


class HLSWater(_HLSChips):
    """Water in HLS chips of 128 x 128 px at 30 m, from Sentinel-2 and Landsat.

    Chips of one site overlap, so splits are by site.

    .. versionadded:: 0.1
    """

    target = 'mask'
    classes = ('no water', 'water')
    ignore_index = 255
    colors = ('#C9B79C', '#2F6FB7')
    table = 'derived_meta.csv'
    columns = ('id', 'site_group')

    def _masks(self) -> list[Path]:
        paths = [self.root / 'masks' / f'{row["id"]}.png' for row in self.rows]
        self.masks = [require(path, 'a mask', WHERE) for path in paths]
        return self.masks

    def load(self, index: int) -> dict[str, Any]:
        """Read a chip and its mask.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 128, 128) and ``mask`` (128, 128), 255 where no band has data.

        Raises:
            DataError: if a file is missing or damaged.
        """
        image = read_image(self._reader, index, self.channels)
        path = self.masks[index]
        mask = read_mask(path)
        if mask.shape != tuple(image.shape[1:]) or not np.isin(mask, (0, 1)).all():
            raise DataError(f'{path} is no mask of zeros and ones of the size of its image')
        # NaN where a file says by itself that there are no data.
        values = image.numpy()
        empty = (np.isnan(values) | (values == self.product.nodata)).all(0)
        return {'image': image, 'mask': torch.from_numpy(np.where(empty, 255, mask))}


#: WorldCover code of each class; others have too few patches, of too few sites.
WORLDCOVER = {'tree': 10, 'shrub': 20, 'grass': 30, 'crop': 40, 'water': 80}


class WorldCoverPatches(_HLSChips):
    """Patches of 32 x 32 px of the same chips, each with the class that most of it has.

    Labels are ESA WorldCover's (CC BY 4.0), so they are weak.

    .. versionadded:: 0.1
    """

    target = 'class'
    classes = tuple(WORLDCOVER)
    colors = ('#006400', '#FFBB22', '#FFFF4C', '#F096FF', '#0064C8')
    table = 'derived_patches32_worldcover.csv'
    columns = ('id', 'row', 'col', 'worldcover_class', 'purity', 'site_group')
    side = 32

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        fold: int = 0,
        folds: int = 5,
        seed: int = 0,
        min_purity: float = 0.6,
        transforms: Transform | None = None,
        download: bool = False,
    ) -> None:
        """List the patches of a split.

        Args:
            root: folder of the data.
            split: ``'train'``, ``'val'``, ``'test'`` or ``'all'``.
            bands: bands wanted, in their order; all seven where not given.
            fold: which fold of the sites is the test split; the next one validates.
            folds: number of folds.
            seed: another seed gives other folds.
            min_purity: share of a patch that must be of its class, 0.6 to 1.
            transforms: takes and returns a sample.
            download: must stay False.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split or fold, or no patch is so pure.
            DataError: if a file is missing.
        """
        self.min_purity = min_purity
        super().__init__(root, split, bands, fold, folds, seed, transforms, download)
        codes = list(WORLDCOVER.values())
        self.labels = [codes.index(int(row['worldcover_class'])) for row in self.rows]

    def _wanted(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        codes = set(WORLDCOVER.values())
        pure = [row for row in rows if float(row['purity']) >= self.min_purity]
        wanted = [row for row in pure if int(row['worldcover_class']) in codes]
        if not wanted:
            raise ConfigError(f'no patch has a purity of {self.min_purity:g}: give a smaller one')
        return wanted

    def load(self, index: int) -> dict[str, Any]:
        """Read a patch.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 32, 32) and ``label``.

        Raises:
            DataError: if its file is missing or damaged.
        """
        row = self.rows[index]
        part: Part = (int(row['row']), int(row['col']), self.side, self.side)
        image = read_image(self._reader, index, self.channels, part)
        return {'image': image, 'label': torch.tensor(self.labels[index])}
