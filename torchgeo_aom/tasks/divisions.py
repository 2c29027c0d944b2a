"""Divisions of samples into those to train, validate and test on, and checks that nothing leaks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from ..rng import generator
from .scikit_learn import scikit_learn

__all__ = ('Division', 'check_groups', 'fold_divisions', 'given_division', 'repeated_images')

PARTS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Division:
    """Positions of samples in each part; without a part to validate on, ``val`` is empty.

    .. versionadded:: 0.1
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """The parts by name."""
        return {'train': self.train, 'val': self.val, 'test': self.test}


def given_division(splits: Sequence[str]) -> Division:
    """Make a division of given splits.

    Args:
        splits: split of each sample: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        The division.

    Raises:
        ConfigError: if there is another name, or nothing to train or to test on.

    .. versionadded:: 0.1
    """
    names = np.asarray(splits)
    unknown = sorted(set(names.tolist()) - set(PARTS))
    if unknown:
        raise ConfigError(f'splits are train, val and test, got {", ".join(map(repr, unknown))}')
    division = Division(*(np.flatnonzero(names == part) for part in PARTS))
    for part in ('train', 'test'):
        if not len(division.parts()[part]):
            raise ConfigError(f'there are no samples to {part} on')
    return division


def fold_divisions(
    labels: ArrayLike, groups: ArrayLike | None = None, folds: int = 5, seed: int = 0
) -> list[Division]:
    """Cut samples into folds of whole groups, each of which is tested on once.

    Folds have about the same share of each class (scikit-learn's StratifiedGroupKFold); where
    samples have several labels, about the same size.

    Args:
        labels: classes of shape (N,), or zeros and ones of shape (N, K).
        groups: group of each sample, such as its place; each sample is its own where not given.
        folds: number of folds.
        seed: another seed gives other folds.

    Returns:
        One division a fold, without a part to validate on.

    Raises:
        ConfigError: if there are fewer groups than folds, or fewer samples of each class, or fewer
            than two folds.

    .. versionadded:: 0.1
    """
    y = np.asarray(labels)
    group_of = np.arange(len(y)) if groups is None else _numbers(groups)
    count = len(np.unique(group_of))
    if not 2 <= folds <= count:
        raise ConfigError(
            f'there must be from 2 to {count} folds, as many as there are groups, got {folds}'
        )
    if y.ndim == 1:
        largest = int(np.unique(y, return_counts=True)[1].max())
        if folds > largest:
            raise ConfigError(
                f'{folds} folds need a class of {folds} samples at least, and the largest has '
                f'{largest}: take more samples or fewer folds'
            )
        fold_of = np.zeros(len(y), dtype=np.int64)
        model_selection = scikit_learn('sklearn.model_selection')
        splitter = model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(_quietly(splitter, y, group_of)):
            fold_of[test] = fold
    else:
        fold_of = _by_size(group_of, folds, seed)
    nobody = np.empty(0, dtype=np.int64)
    return [
        Division(np.flatnonzero(fold_of != k), nobody, np.flatnonzero(fold_of == k))
        for k in range(folds)
    ]


def _quietly(splitter: Any, y: NDArray[Any], group_of: NDArray[Any]) -> list[Any]:
    with warnings.catch_warnings():
        # A class with fewer samples than folds is in some of them only, which is no failure.
        warnings.filterwarnings('ignore', 'The least populated class')
        return list(splitter.split(y, y, group_of))


def _by_size(group_of: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Give whole groups, in random order, to the smallest fold so far, the largest groups first."""
    names, sizes = np.unique(group_of, return_counts=True)
    order = generator(seed, 'folds').permutation(len(names))
    order = order[np.argsort(-sizes[order], kind='stable')]
    load, fold_of_group = np.zeros(folds), np.zeros(len(names), dtype=np.int64)
    for k in order:
        fold_of_group[k] = load.argmin()
        load[fold_of_group[k]] += sizes[k]
    return fold_of_group[np.searchsorted(names, group_of)]


def _numbers(groups: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(np.unique(np.asarray(groups), return_inverse=True)[1], dtype=np.int64)


def check_groups(division: Division, groups: ArrayLike) -> None:
    """Refuse a division that tears a group apart.

    Args:
        division: the division.
        groups: group of each sample.

    Raises:
        ConfigError: if a group is in two parts.
    """
    names = np.asarray(groups)
    parts = {part: set(names[places].tolist()) for part, places in division.parts().items()}
    for first, second in (('train', 'test'), ('train', 'val'), ('val', 'test')):
        torn = sorted(map(str, parts[first] & parts[second]))
        if torn:
            raise ConfigError(
                f'{len(torn)} groups are in {first} and in {second}, so {first} has seen places '
                f'of {second}: {", ".join(torn[:5])}{", ..." if len(torn) > 5 else ""}. Assign '
                'whole groups to parts, or use folds= (--folds), which does'
            )


def repeated_images(
    division: Division, images: NDArray[np.int64], names: Sequence[str] | None = None
) -> list[str]:
    """Find images that a division both tests and trains or validates on.

    Args:
        division: the division.
        images: hash of each image, see `Features.images`.
        names: name of each sample; its number where not given.

    Returns:
        One line for each, such as ``'a.tif (train) = b.tif (test)'``.
    """
    seen: dict[tuple[int, ...], str] = {}
    called = [f'sample {k}' for k in range(len(images))] if names is None else list(names)
    for part in ('train', 'val'):
        for k in division.parts()[part]:
            seen.setdefault(tuple(images[k].tolist()), f'{called[k]} ({part})')
    found = []
    for k in division.test:
        other = seen.get(tuple(images[k].tolist()))
        if other is not None:
            found.append(f'{other} = {called[k]} (test)')
    return found
