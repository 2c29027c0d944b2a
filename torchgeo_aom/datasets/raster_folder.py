"""One's own images: classes in folders, images with masks, or a table; split by group."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bands import Band, BandSpec, get_sensor, list_sensors
from ..data.folder import FolderDataset
from ..data.source import Source
from ..errors import BandError, BandWarning, ConfigError, DataError
from .base import BandDataset, Transform, checked_split
from .folder_layout import Item, Layout, inside, list_items
from .rasters import cell, descriptions, read_image, read_mask
from .splits import fold_split, hash_split

__all__ = ('RasterFolder',)

NOWHERE = 255


class RasterFolder(BandDataset):
    """Labelled images of one's own, as GeoTIFF, PNG or JPEG.

    Three forms: a folder for each class; images and masks of the same names, in two folders or told
    apart by the end of their names; or a table (CSV) of paths. Splits are folders ``train``,
    ``val`` and ``test``, or a column of the table; where there are none, they follow from the hash
    of the names, group by group, the same on every machine.

    What the channels are is declared, never guessed; files that name their bands otherwise are
    refused.

    .. versionadded:: 0.1
    """

    splits = ('train', 'val', 'test', 'all')

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        sensor: str | None = None,
        file_bands: BandSpec | None = None,
        product: str | dict[str, float] | None = None,
        unit: str | None = None,
        nodata: float | None = None,
        classes: Sequence[str] | None = None,
        table: str | None = None,
        multilabel: bool = False,
        images: str = '',
        masks: str | None = None,
        image_suffix: str = '',
        mask_suffix: str = '',
        class_values: Sequence[int] | None = None,
        ignore_values: Sequence[int] = (),
        group_pattern: str | None = None,
        group_cell_m: float | None = None,
        fold: int = 0,
        folds: int = 5,
        seed: int = 0,
        transforms: Transform | None = None,
    ) -> None:
        """List the samples of a split.

        Args:
            root: folder of the data.
            split: ``'train'``, ``'val'``, ``'test'`` or ``'all'``.
            bands: bands wanted, in their order; all where not given.
            sensor: sensor of the images; its default bands unless *file_bands* names others.
            file_bands: bands of the files in file order.
            product: how values are stored, such as ``'l2a'``; ``{'scale': ..., 'offset': ...}``; or
                ``'file'``, as the files say.
            unit: instead of *product*, ``'reflectance'`` or ``'uint8'``.
            nodata: stored value that means "no data", besides what product and files say.
            classes: names of the classes; the names of the folders, or the labels of the table, in
                alphabetical order where not given. Needed for masks.
            table: CSV inside *root* with the columns ``path`` and ``label`` or ``mask``, perhaps
                also ``split`` and ``group``.
            multilabel: labels of the table are several, separated by ``|``.
            images: folder of the images inside *root* (inside each split).
            masks: folder of the masks inside *root* (inside each split): then this is segmentation.
                It may be the folder of the images, with *mask_suffix*.
            image_suffix: what the names of images end in, before the dot.
            mask_suffix: what the names of masks end in, before the dot.
            class_values: value of each class in the masks; 0, 1, 2 ... where not given.
            ignore_values: values of the masks that count nowhere.
            group_pattern: regular expression for the path inside *root*; its first group, in
                parentheses, names what must stay together: a place, a scene.
            group_cell_m: instead, all images of a cell of a grid with this side stay together.
            fold: which fold of the groups is the test split; the next one validates.
            folds: number of folds, where there are groups.
            seed: another seed gives other folds.
            transforms: takes and returns a sample.

        Raises:
            BandError: if bands are unknown, not stored, or not those that the files name.
            ConfigError: if arguments are missing, unknown or contradict each other.
            DataError: if files are missing or do not fit together.
        """
        self.root = Path(root).expanduser()
        self.split = checked_split(split, self.splits)
        self.fold, self.folds, self.seed = fold, folds, seed
        layout = Layout(self.root, table, images, masks, image_suffix, mask_suffix, multilabel)
        items = list_items(layout)
        dense = items[0].mask is not None
        self.target = 'mask' if dense else 'classes' if multilabel else 'class'
        self.classes = _classes(items, classes, dense)
        self._lookup = _Lookup(len(self.classes), class_values, ignore_values) if dense else None
        self.ignore_index = NOWHERE if dense and ignore_values else None
        groups = _groups(items, self.root, group_pattern, group_cell_m)
        parts = self._parts(items, groups)
        chosen = [k for k, part in enumerate(parts) if split in (part, 'all')]
        if not chosen:
            raise DataError(
                f'split {split!r} of {self.root} is empty: {len(items)} samples are in '
                f'{", ".join(sorted(set(parts)))}'
            )
        self.items = [items[k] for k in chosen]
        self.groups = None if groups is None else [groups[k] for k in chosen]
        paths = [str(item.path) for item in self.items]
        block = {
            'name': f'RasterFolder {self.root.name}', 'path': paths, 'size': 1, 'sensor': sensor,
            'bands': file_bands, 'product': product, 'unit': unit, 'nodata': nodata,
        }  # fmt: skip
        source = Source.parse(block)
        self._reader = FolderDataset(source)
        _doubt(descriptions(paths[0]), source.bands)
        self.files = [*paths, *(item.mask for item in self.items if item.mask is not None)]
        name = product if isinstance(product, str) and product != 'file' else unit
        super().__init__(source.bands, bands, source.product if name is None else name, transforms)

    def _parts(self, items: list[Item], groups: list[str] | None) -> list[str]:
        """Split of each sample."""
        given = [item.split for item in items if item.split is not None]
        if given:
            if len(given) != len(items):
                raise DataError(f'{len(items) - len(given)} samples of {self.root} have no split')
            for name in sorted(set(given)):
                checked_split(name, self.splits[:3])
            return given
        if groups is not None:
            return fold_split(groups, self.folds, self.fold, self.seed)
        names = [inside(item.path, self.root) for item in items]
        return hash_split(names, [item.label for item in items])

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.items)

    def load(self, index: int) -> dict[str, Any]:
        """Read a sample.

        Args:
            index: which one.

        Returns:
            ``image`` (C, H, W) with ``mask`` (H, W), or with ``label``, a number or zeros and ones.

        Raises:
            DataError: if a file is missing or damaged, or a mask does not fit its image.
        """
        item = self.items[index]
        image = read_image(self._reader, index, self.channels)
        if self._lookup is not None and item.mask is not None:
            mask = self._lookup.find(read_mask(item.mask), item.mask)
            if mask.shape != image.shape[1:]:
                raise DataError(
                    f'mask {item.mask} has {tuple(mask.shape)} px, its image {item.path} '
                    f'{tuple(image.shape[1:])}'
                )
            return {'image': image, 'mask': mask}
        names = str(item.label).split('|') if self.target == 'classes' else [str(item.label)]
        numbers = [self.classes.index(name) for name in names if name]
        if self.target == 'class':
            return {'image': image, 'label': torch.tensor(numbers[0])}
        flags = torch.zeros(len(self.classes), dtype=torch.int64)
        flags[numbers] = 1
        return {'image': image, 'label': flags}


def _doubt(names: Sequence[str], bands: Sequence[Band]) -> None:
    """Warn where files name bands that the declared sensor does not have, and another one has."""
    declared = {band.sensor for band in bands if band.sensor is not None}

    def owners(name: str) -> set[str]:
        prefix, _, own = name.rpartition(':')
        able = [prefix] if prefix in list_sensors() else list_sensors()
        return {sensor for sensor in able if has(sensor, own)}

    def has(sensor: str, name: str) -> bool:
        try:
            return get_sensor(sensor).find(name) is not None
        except BandError:  # ambiguous
            return False

    found = {name: owners(name) for name in names if name}
    strange = [name for name, own in found.items() if own and not own & declared]
    if declared and strange:
        first = sorted(set.intersection(*(found[name] for name in strange)) or found[strange[0]])
        warnings.warn(
            f'the files name {", ".join(strange[:5])}, which {", ".join(sorted(declared))} does '
            f'not have, but {", ".join(first[:5])} does: check sensor=',
            BandWarning,
            stacklevel=3,
        )


class _Lookup:
    """From the values of masks to classes."""

    def __init__(
        self, classes: int, class_values: Sequence[int] | None, ignore_values: Sequence[int]
    ) -> None:
        values = list(range(classes)) if class_values is None else list(class_values)
        both = set(values) & set(ignore_values)
        if len(values) != classes or len(set(values)) != classes or both:
            raise ConfigError(
                f'class_values must hold one value for each of the {classes} classes, none twice '
                f'and none of ignore_values, got {values} and ignore_values={list(ignore_values)}'
            )
        if classes > NOWHERE:
            raise ConfigError(f'there can be {NOWHERE} classes at most, got {classes}')
        self.table = {value: k for k, value in enumerate(values)}
        self.table |= dict.fromkeys(ignore_values, NOWHERE)

    def find(self, stored: np.ndarray[Any, Any], path: Path) -> torch.Tensor:
        """Classes of a mask.

        Raises:
            DataError: if a value is neither a class nor ignored.
        """
        seen, inverse = np.unique(stored, return_inverse=True)
        unknown = [int(value) for value in seen if int(value) not in self.table]
        if unknown:
            raise DataError(
                f'mask {path} holds the values {unknown[:10]}, which are no classes: known are '
                f'{sorted(self.table)}. Give class_values=, or ignore_values= for those that count '
                f'nowhere'
            )
        classes = np.array([self.table[int(value)] for value in seen], dtype=np.int64)
        return torch.from_numpy(classes[inverse].reshape(stored.shape))


def _classes(items: list[Item], given: Sequence[str] | None, dense: bool) -> tuple[str, ...]:
    if dense:
        if not given:
            raise ConfigError('masks hold numbers only: give classes=, the name of each')
        return tuple(given)
    found = {name for item in items for name in str(item.label).split('|') if name}
    if given is None:
        return tuple(sorted(found))
    unknown = sorted(found - set(given))
    if unknown or len(set(given)) != len(given):
        raise ConfigError(
            f'classes= must name every label once; {unknown[:10]} are not among {list(given)}'
        )
    return tuple(given)


def _groups(
    items: list[Item], root: Path, pattern: str | None, side: float | None
) -> list[str] | None:
    own = [item.group for item in items]
    if sum((pattern is not None, side is not None, own[0] is not None)) > 1:
        raise ConfigError('groups come from group_pattern=, group_cell_m= or the table: choose one')
    if pattern is not None:
        try:
            search = re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f'group_pattern={pattern!r} is no regular expression: {error}'
            ) from None
        if search.groups < 1:
            raise ConfigError(f'group_pattern={pattern!r} has no group in parentheses')
        names = [inside(item.path, root) for item in items]
        found = [search.search(name) for name in names]
        for name, match in zip(names, found, strict=True):
            if match is None:
                raise DataError(f'{name} does not match group_pattern={pattern!r}')
        return [match[1] for match in found if match is not None]
    if side is not None:
        if side <= 0:
            raise ConfigError(f'group_cell_m must be positive, got {side}')
        return [cell(item.path, side) for item in items]
    return [str(group) for group in own] if own[0] is not None else None
