"""Cache of features: keys are the content of all that features depend on, files whole or absent."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset

from ..datasets.base import BandDataset
from ..errors import AOMWarning
from ..files import replacing

__all__ = (
    'Arrays',
    'content',
    'dataset_digest',
    'load_arrays',
    'module_digest',
    'store_arrays',
)

PLAIN = (int, float, str, bool, bytes, type(None))


@dataclass(frozen=True)
class Arrays:
    """What a cache file holds, one row a sample: features, labels, and two halves of a hash."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]


def content(value: Tensor) -> bytes:
    """All of a tensor as bytes: type, shape and values, to take a hash of."""
    value = value.detach().cpu().contiguous()
    facts = f'{value.dtype} {tuple(value.shape)}'.encode()
    return facts + value.reshape(-1).view(torch.uint8).numpy().tobytes()


def module_digest(module: nn.Module) -> bytes:
    """Hash of parameters, buffers, and of what they do not say, such as the number of heads."""
    digest = hashlib.sha256()
    plain = (*PLAIN, tuple)
    for name, part in module.named_modules():
        own = {k: v for k, v in vars(part).items() if isinstance(v, plain) and k != 'training'}
        own.pop('_warned', None)  # Normalize's note to itself
        digest.update(f'{name} {type(part).__qualname__} {sorted(own.items())}'.encode())
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode())
        digest.update(content(value))
    return digest.digest()


def dataset_digest(dataset: Dataset[Any]) -> bytes | None:
    """Hash of a data set without reading it, where it can tell when its files have changed.

    It knows the files by their fingerprint, and everything else (the split, positions of patches,
    labels) by the attributes of the data set.

    Args:
        dataset: a data set, a subset of one, or several in a row.

    Returns:
        The hash; None where all samples have to be read to know what they are.
    """
    if isinstance(dataset, Subset):
        inner = dataset_digest(dataset.dataset)
        return inner and _sha('subset', inner, np.asarray(dataset.indices).tobytes())
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_digest(part) for part in dataset.datasets]
        return None if None in parts else _sha('concat', *parts)
    fingerprint: Callable[[], str] | None = getattr(dataset, 'fingerprint', None)
    inherited = getattr(type(dataset), 'fingerprint', None) is BandDataset.fingerprint
    if fingerprint is None or (inherited and not getattr(dataset, 'files', ())):
        return None  # without files, the base class reads all samples to hash them
    transforms = getattr(dataset, 'transforms', None)
    if transforms is not None and not isinstance(transforms, nn.Module):
        return None  # a function may do anything
    digest = hashlib.sha256(fingerprint().encode())
    for piece in _pieces(vars(dataset), 0):
        digest.update(piece)
    return digest.digest()


def _sha(*parts: Any) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.digest()


def _pieces(value: Any, depth: int) -> Iterator[bytes]:
    """Everything in a value that can be told apart by its content; readers and locks are left."""
    if isinstance(value, PLAIN) or isinstance(value, Path | np.generic):
        yield f'{type(value).__name__} {value!r};'.encode()
    elif isinstance(value, Tensor):
        yield content(value)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f'{value.dtype} {value.shape}'.encode() + value.tobytes()
    elif isinstance(value, nn.Module):
        yield module_digest(value)
    elif depth < 8 and isinstance(value, Mapping):
        for key, item in value.items():
            yield f'{key!r}:'.encode()
            yield from _pieces(item, depth + 1)
    elif depth < 8 and isinstance(value, list | tuple):
        yield f'[{len(value)}]'.encode()
        for item in value:
            yield from _pieces(item, depth + 1)
    elif depth < 8 and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield f'{field.name}='.encode()
            yield from _pieces(getattr(value, field.name), depth + 1)
    elif depth < 8 and isinstance(value, Dataset):
        yield type(value).__qualname__.encode()
        yield from _pieces(vars(value), depth + 1)


def load_arrays(path: Path) -> Arrays | None:
    """Read a cache file; None where there is none, or it is damaged and has to be replaced."""
    try:
        with path.open('rb') as handle, np.load(handle, allow_pickle=False) as file:
            return Arrays(file['values'], file['labels'], file['images'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def store_arrays(path: Path, arrays: Arrays) -> None:
    """Write a file that is whole or absent; a cache that cannot be written is no reason to fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open('wb') as file:
            np.savez(file, values=arrays.values, labels=arrays.labels, images=arrays.images)
    except OSError as error:
        warnings.warn(f'Features are not kept: {error}', AOMWarning, stacklevel=4)
