"""SPARCS: clouds, their shadows, water and snow in Landsat-8 scenes (Hughes and Kennedy 2019)."""

from __future__ import annotations

import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..bands import BandSpec, Product, get_product, resolve_bands
from ..errors import ConfigError, DataError
from .base import BandDataset, Transform, checked_split
from .rasters import Part, no_download, open_images, read_image, read_mask, require
from .splits import fold_split

__all__ = ('SPARCS',)

WHERE = (
    'Get l8cloudmasks.zip (L8 SPARCS Cloud Validation Masks, doi:10.5066/F7FB5146, public domain) '
    'from the U.S. Geological Survey and unpack it: root= is the folder with its *_data.tif files, '
    'or one above it'
)
SIDE = 1000
BANDS = [f'landsat8:B{k}' for k in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)]
THERMAL = ('B10', 'B11')
# Top of the atmosphere: no scale is left to apply.
TOA = Product('toa', 1.0, 0.0, 'reflectance', quantity='toa')
_NAME = re.compile(r'LC8(\d{6})\d{7}[A-Z]{3}\d{2}')


class SPARCS(BandDataset):
    """SPARCS, 80 parts of Landsat-8 scenes with 1000 x 1000 px at 30 m and seven classes.

    The files hold ten bands of digital numbers, B1 to B7 and B9 to B11: the panchromatic band is
    not among them. Each comes with the metadata of its scene, by which they become reflectance at
    the top of the atmosphere, corrected for the elevation of the sun, and the thermal bands
    brightness temperature in units of 100 kelvins. There are no official splits: scenes are divided
    by path and row.

    .. versionadded:: 0.1
    """

    splits = ('train', 'val', 'test', 'all')
    target = 'mask'
    classes = ('shadow', 'shadow over water', 'water', 'snow', 'land', 'cloud', 'flooded')
    colors = ('#000000', '#00007F', '#0000FF', '#00FFFF', '#7F7F7F', '#FFFFFF', '#FFFF00')

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        tile: int = 250,
        calibrate: bool = True,
        fold: int = 0,
        folds: int = 5,
        seed: int = 0,
        transforms: Transform | None = None,
        download: bool = False,
    ) -> None:
        """List the tiles of a split.

        Args:
            root: folder with the files, or one above it.
            split: ``'train'``, ``'val'``, ``'test'`` or ``'all'``.
            bands: bands wanted, in their order; all ten where not given.
            tile: side of the tiles that scenes are cut into. Where it does not divide 1000, the
                last tiles overlap those before.
            calibrate: reflectance and temperature by the metadata; else stored numbers of product
                ``'c2l1'``.
            fold: which fold of the scenes is the test split; the next one validates.
            folds: number of folds.
            seed: another seed gives other folds.
            transforms: takes and returns a sample.
            download: must stay False.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split, fold or size of tiles.
            DataError: if files are missing.
        """
        stored = resolve_bands(BANDS)
        raw = get_product('landsat8:c2l1')
        super().__init__(stored, bands, TOA if calibrate else raw, transforms)
        no_download(download, WHERE)
        self.split = checked_split(split, self.splits)
        if not 1 <= tile <= SIDE:
            raise ConfigError(f'tile must be from 1 to {SIDE} px, got {tile}')
        self.tile, self.calibrate = tile, calibrate
        self.fold, self.folds, self.seed = fold, folds, seed
        folder = require(root, 'SPARCS', WHERE)
        scenes = sorted(folder.rglob('*_data.tif'))
        if not scenes:
            raise DataError(f'there are no *_data.tif files in {folder}. {WHERE}')
        places = [_place(path) for path in scenes]
        parts = fold_split(places, folds, fold, seed)
        chosen = [k for k, part in enumerate(parts) if split in (part, 'all')]
        self.scenes = [scenes[k] for k in chosen]
        starts = [*range(0, SIDE - tile + 1, tile), *([SIDE - tile] if SIDE % tile else [])]
        self._parts: list[Part] = [(row, column, tile, tile) for row in starts for column in starts]
        self.groups = [places[k] for k in chosen for _ in self._parts]
        self.files = [*self.scenes, *(self._beside(path, 'mask.png') for path in self.scenes)]
        if calibrate:
            self.files += [self._beside(path, 'mtl.txt') for path in self.scenes]
        self._reader = open_images('SPARCS', self.scenes, stored, raw)

    def _beside(self, path: Path, ending: str) -> Path:
        found = path.with_name(path.name.removesuffix('data.tif') + ending)
        more = ', or give calibrate=False' if ending == 'mtl.txt' else ''
        return require(found, f'a file beside {path.name}', WHERE + more)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.scenes) * len(self._parts)

    def load(self, index: int) -> dict[str, Any]:
        """Read a tile and its mask.

        Args:
            index: which one.

        Returns:
            ``image`` (C, tile, tile) and ``mask`` (tile, tile).

        Raises:
            DataError: if a file is missing or damaged.
        """
        number, place = divmod(index, len(self._parts))
        path, part = self.scenes[number], self._parts[place]
        image = read_image(self._reader, number, self.channels, part)
        if self.calibrate:
            empty = (image == 0).all(0)
            facts = _metadata(str(self._beside(path, 'mtl.txt')))
            image = torch.stack(
                [
                    _calibrated(plane, band.name, facts)
                    for plane, band in zip(image, self.band_objects, strict=True)
                ]
            )
            image[:, empty] = math.nan
        name = self._beside(path, 'mask.png')
        mask = torch.from_numpy(read_mask(name, part))
        if mask.min() < 0 or mask.max() >= len(self.classes):
            raise DataError(f'mask {name} holds values that are no classes (0 to 6). {WHERE}')
        return {'image': image, 'mask': mask}


def _place(path: Path) -> str:
    """Path and row of a scene: what is seen there is the same on another day."""
    match = _NAME.match(path.name)
    if match is None:
        raise DataError(f'{path} is not named as a Landsat-8 scene, LC8PPPRRR... . {WHERE}')
    return match[1]


@lru_cache(maxsize=128)
def _metadata(path: str) -> dict[str, float]:
    """Numbers of a Landsat MTL file."""
    try:
        text = Path(path).read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error}. {WHERE}') from error
    found: dict[str, float] = {}
    for key, value in re.findall(r'^\s*(\w+) = "?([-+.\dEe]+)"?\s*$', text, re.MULTILINE):
        try:
            found[key] = float(value)
        except ValueError:
            continue
    return found


def _calibrated(plane: torch.Tensor, band: str, facts: dict[str, float]) -> torch.Tensor:
    """Reflectance at the top of the atmosphere, or hundreds of kelvins."""
    key = f'BAND_{band[1:]}'
    try:
        if band not in THERMAL:
            sun = math.sin(math.radians(facts['SUN_ELEVATION']))
            scale, offset = facts[f'REFLECTANCE_MULT_{key}'], facts[f'REFLECTANCE_ADD_{key}']
            return (plane * scale + offset) / sun
        radiance = plane * facts[f'RADIANCE_MULT_{key}'] + facts[f'RADIANCE_ADD_{key}']
        one, two = facts[f'K1_CONSTANT_{key}'], facts[f'K2_CONSTANT_{key}']
        return two / torch.log(one / radiance + 1) / 100
    except KeyError as error:
        raise DataError(
            f'the metadata (*_mtl.txt) has no {error.args[0]}: it is damaged. {WHERE}'
        ) from error
