"""Files of GEO-Bench v1: folders, JSON and HDF5, read band by band and closed again at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from .geobench_pickle import label_in, parse_attribute
from .geobench_tasks import Task

__all__ = ('find_folder', 'label_table', 'read_arrays', 'read_json', 'read_label', 'where')

#: More than any image of the benchmark has: 500 x 500 px.
MAX_PIXELS = 1 << 22
MAX_JSON = 1 << 28
_DATE = re.compile(r'_\d{4}-\d{2}-\d{2}(_.*)?')


def where(task: Task) -> str:
    """Say where a task can be had.

    Args:
        task: the task.

    Returns:
        A sentence.
    """
    return (
        f'Get {task.name} by hand from the data set recursix/geo-bench-1.0 of Hugging Face, folder '
        f'{task.collection}_v1.0, and unpack it; root= is the folder that holds '
        f'{task.collection}_v1.0, or the folder of the task itself'
    )


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            'GEO-Bench is stored as HDF5, and h5py is not installed: pip install h5py, or with '
            "this package: pip install 'torchgeo_aom[geobench]'"
        ) from error
    module: ModuleType = h5py
    return module


def find_folder(root: str | os.PathLike[str], task: Task) -> Path:
    """Find the folder of a task.

    Args:
        root: the folder that holds ``classification_v1.0`` and ``segmentation_v1.0``, or one of
            these, or the folder of the task itself.
        task: the task.

    Returns:
        The folder that holds its partitions.

    Raises:
        DataError: if there is none.
    """
    _h5py()
    top = Path(root).expanduser()
    names = (task.name, *task.aliases)
    inside = [path for path in sorted(top.glob(f'{task.collection}_v*'), reverse=True)]
    tried = [top / name for name in names] + [path / name for path in inside for name in names]
    for folder in (top, *tried):
        if next(folder.glob('*_partition.json'), None) is not None:
            return folder
    raise DataError(
        f'{task.name} is missing: {top} holds no partitions (*_partition.json), nor does a folder '
        f'{task.collection}_v1.0/{task.name} in it. {where(task)}'
    )


def read_json(path: Path, task: Task) -> dict[str, Any]:
    """Read a file of facts.

    Args:
        path: the file.
        task: whose it is.

    Returns:
        Its content.

    Raises:
        DataError: if it is missing, damaged or no table.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise DataError(f'{path} is too large: more than {MAX_JSON} bytes are not read')
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f'{path} cannot be read: {error}. {where(task)}') from error
    if not isinstance(found, dict):
        raise DataError(f'{path} is damaged: it holds no table. {where(task)}')
    return found


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file, closed afterwards: processes that load share no handle."""
    h5py = _h5py()
    try:
        with h5py.File(path, 'r') as file:
            yield file
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, DataError | ConfigError):
            raise
        known = 'damaged, perhaps cut off' if os.path.isfile(path) else 'missing'
        raise DataError(f'{path} is {known}: {error}. Get it again') from error


def _find(file: Any, name: str, path: object) -> str:
    """The key of a band; where an image has a date, names end in it."""
    keys = [key for key in file if key == name or key.startswith(name)]
    found = [key for key in keys if key == name or _DATE.fullmatch(key[len(name) :])]
    if not found:
        raise DataError(
            f'{path} holds no {name!r}: it holds {", ".join(map(repr, list(file)[:24]))}. Is it of '
            f'another task?'
        )
    if len(found) > 1:
        raise DataError(f'{path} holds several dates: {", ".join(found)}. Only one can be read')
    return found[0]


def _read(file: Any, key: str, path: object) -> NDArray[Any]:
    h5py = _h5py()
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise DataError(f'{path}: {key!r} leads elsewhere, which GEO-Bench does not use')
    data = file[key]
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in 'biuf':
        raise DataError(f'{path}: {key!r} holds no numbers')
    if data.external or data.is_virtual:
        raise DataError(f'{path}: {key!r} leads to other files, which GEO-Bench does not use')
    plane = data.shape[:2] if len(data.shape) == 3 and data.shape[2] == 1 else data.shape
    if len(plane) != 2 or 0 in plane or plane[0] * plane[1] > MAX_PIXELS:
        raise DataError(f'{path}: {key!r} has the shape {data.shape}, which is no image')
    values: NDArray[Any] = data[()]
    return values.reshape(plane)


def read_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> list[NDArray[Any]]:
    """Read some bands of an image, and only these.

    Args:
        path: the file.
        names: their stored names, without dates.

    Returns:
        Their values (H, W), all of one size.

    Raises:
        DataError: if the file is missing or damaged, or lacks a band.
    """
    with _opened(path) as file:
        arrays = [_read(file, _find(file, name, path), path) for name in names]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(f'{path} holds bands of different sizes: {sorted(shapes)}')
    return arrays


def read_label(path: str | os.PathLike[str]) -> int | list[int]:
    """Read the label that is kept in the file of an image.

    Args:
        path: the file.

    Returns:
        A class, or zeros and ones for several.

    Raises:
        DataError: if the file is missing or damaged, or its label is not safe to read.
    """
    with _opened(path) as file:
        try:
            text = file.attrs['pickle']
        except KeyError:
            raise DataError(f'{path} has no label: its attribute "pickle" is missing') from None
    try:
        return label_in(parse_attribute(text))
    except DataError as error:
        raise DataError(f'the label of {path} was not read: {error}') from error


def label_table(folder: Path, task: Task) -> dict[str, int | list[int]]:
    """Read the labels that stand in tables beside the images.

    Args:
        folder: folder of the task.
        task: a task of classification.

    Returns:
        Labels by name of the image; empty where there is no table.

    Raises:
        DataError: if a table is damaged.
    """
    labels: dict[str, int | list[int]] = {}
    path = folder / 'label_map.json'
    if path.is_file() and task.target == 'class':
        for key, names in read_json(path, task).items():
            if not (key.isdecimal() and len(key) < 10 and isinstance(names, list)):
                raise DataError(f'{path} is damaged: {key!r} is no class with its images')
            for name in names:
                if labels.setdefault(str(name), int(key)) != int(key):
                    raise DataError(f'{path} is damaged: {name} is of two classes')
        return labels
    path = folder / 'label_stats.json'
    if path.is_file():
        for name, flags in read_json(path, task).items():
            if not isinstance(flags, list) or any(flag not in (0, 1) for flag in flags):
                raise DataError(f'{path} is damaged: {name} has no row of zeros and ones')
            row = [int(flag) for flag in flags]
            labels[name] = row.index(1) if task.target == 'class' and sum(row) == 1 else row
    return labels
