"""How one's own images lie in folders: what belongs to what, and in which split."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from ..data.folder import SUFFIXES, list_files
from ..errors import ConfigError, DataError
from .rasters import require

__all__ = ('Item', 'Layout', 'inside', 'list_items')

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Layout:
    """Where images and their labels are, see `RasterFolder`.

    Attributes:
        root: folder of the data.
        table: CSV inside it, or None.
        images: folder of the images.
        masks: folder of the masks, or None for classes.
        image_suffix: what the names of images end in.
        mask_suffix: what the names of masks end in.
        multilabel: whether the labels of the table are several.
    """

    root: Path
    table: str | None = None
    images: str = ''
    masks: str | None = None
    image_suffix: str = ''
    mask_suffix: str = ''
    multilabel: bool = False


@dataclass(frozen=True)
class Item:
    """A sample.

    Attributes:
        path: its image.
        label: its class.
        mask: its mask.
        split: its split, where that is said.
        group: its group, where that is said.
    """

    path: Path
    label: str | None = None
    mask: Path | None = None
    split: str | None = None
    group: str | None = None


def inside(path: Path, root: Path) -> str:
    """Path inside a folder, the same on every machine.

    Args:
        path: file.
        root: folder above it.

    Returns:
        The parts between them, joined by ``/``.
    """
    return Path(os.path.relpath(path, root)).as_posix()


def list_items(layout: Layout) -> list[Item]:
    """List all samples, of all splits.

    Args:
        layout: how they lie.

    Returns:
        The samples, in an order that does not change.

    Raises:
        ConfigError: if arguments contradict each other.
        DataError: if files are missing or do not fit together.
    """
    root = require(layout.root, 'the folder of the data', 'Put images there')
    if layout.table is not None:
        if layout.masks is not None or layout.images:
            raise ConfigError('table= names the files: leave images= and masks= out')
        return _from_table(layout, root / layout.table)
    if layout.multilabel:
        raise ConfigError('multilabel=True needs table=: a folder is one class only')
    # Splits have folders in them; a class of trains has images.
    parts = [name for name in SPLITS if any(p.is_dir() for p in root.glob(f'{name}/*'))]
    if 'train' not in parts:
        return _from_folder(layout, root, None)
    return [item for name in parts for item in _from_folder(layout, root / name, name)]


def _from_folder(layout: Layout, base: Path, split: str | None) -> list[Item]:
    if layout.masks is not None:
        return _pairs(layout, base, split)
    if layout.image_suffix or layout.mask_suffix:
        raise ConfigError(
            'image_suffix= and mask_suffix= belong to masks=, the folder of the masks'
        )
    folder = require(base / layout.images, 'the folder of the classes', 'Give images=')
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    items = [
        Item(Path(path), label=one.name, split=split)
        for one in classes
        for path in list_files(str(one))
    ]
    if not items:
        raise DataError(
            f'{folder} has no folders with {", ".join(SUFFIXES)} files, one folder for each class. '
            f'For images with masks give masks=, for other forms table='
        )
    return items


def _named(folder: Path, suffix: str, other: str) -> dict[str, Path]:
    """Files by the part of their names that images and masks share."""
    found: dict[str, Path] = {}
    for path in map(Path, list_files(str(folder))):
        stem = path.relative_to(folder.resolve()).with_suffix('').as_posix()
        if not stem.endswith(suffix) or (
            other and len(other) > len(suffix) and stem.endswith(other)
        ):
            continue
        key = stem.removesuffix(suffix)
        if key in found:
            raise DataError(f'{found[key]} and {path} have the same name: which is meant?')
        found[key] = path
    return found


def _pairs(layout: Layout, base: Path, split: str | None) -> list[Item]:
    folders = [base / layout.images, base / str(layout.masks)]
    if folders[0].resolve() == folders[1].resolve() and layout.image_suffix == layout.mask_suffix:
        raise ConfigError(
            'images and masks are in one folder: tell them apart by mask_suffix=, such as "_mask"'
        )
    for folder, key in zip(folders, ('images', 'masks'), strict=True):
        require(folder, f'the folder of the {key}', f'Give {key}=')
    same = folders[0].resolve() == folders[1].resolve()
    ends = (layout.image_suffix, layout.mask_suffix)
    images = _named(folders[0], ends[0], ends[1] if same else '')
    masks = _named(folders[1], ends[1], ends[0] if same else '')
    lone = sorted(images.keys() ^ masks.keys())
    if lone or not images:
        which = 'have no mask or no image' if lone else 'no image was found'
        raise DataError(
            f'{folders[0]} and {folders[1]}: {len(lone)} names {which}: {", ".join(lone[:5])}. '
            f'{len(images)} images end in {ends[0]!r}, {len(masks)} masks in {ends[1]!r}: correct '
            f'image_suffix= and mask_suffix=, or complete the files'
        )
    return [Item(images[key], mask=masks[key], split=split) for key in sorted(images)]


def _from_table(layout: Layout, path: Path) -> list[Item]:
    with require(path, 'the table', 'Give table=').open(encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    what = [name for name in ('label', 'mask') if name in columns]
    if 'path' not in columns or len(what) != 1 or not rows:
        raise DataError(
            f'table {path} must have the columns path, and label or mask, and at least one row; it '
            f'has {", ".join(columns) or "nothing"} and {len(rows)} rows'
        )
    items = []
    for number, row in enumerate(rows, 2):
        for column in ('path', *what, *(c for c in ('split', 'group') if c in columns)):
            if not row[column] and not (layout.multilabel and column == 'label'):
                raise DataError(f'table {path}, line {number}: {column} is empty')
        image = require(path.parent / row['path'], f'the image of line {number}', f'See {path}')
        mask = row.get('mask')
        found = mask and require(path.parent / mask, f'the mask of line {number}', f'See {path}')
        label, split, group = row.get('label'), row.get('split'), row.get('group')
        items.append(Item(image.absolute(), label, found or None, split, group))
    return items
