"""Splits without a file: by the hash of names, group by group, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

from ..errors import ConfigError, InputError
from ..rng import generator

__all__ = ('SHARES', 'fold_split', 'hash_split')

#: train, val and test
SHARES = {'train': 0.6, 'val': 0.2, 'test': 0.2}


def hash_split(
    names: Sequence[str],
    strata: Sequence[Hashable] | None = None,
    shares: dict[str, float] | None = None,
) -> list[str]:
    """Assign names to splits by the order of their SHA-256.

    Names are sorted by hash inside each stratum, and cut at the shares. Equal names (the chips of
    one place, say, named by the place) always get the same split.

    Args:
        names: what is assigned: file names, or the groups that must stay together.
        strata: something, such as the class, whose parts get the shares each.
        shares: share of each split; 60, 20 and 20 % for train, val and test where not given.

    Returns:
        Split of each name.

    Raises:
        ConfigError: if shares do not add up to 1.
        InputError: if names and strata differ in number, or a name is in two strata.

    .. versionadded:: 0.1
    """
    shares = SHARES if shares is None else shares
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise ConfigError(f'shares must be positive and add up to 1, got {shares}')
    strata = [0] * len(names) if strata is None else strata
    if len(strata) != len(names):
        raise InputError(f'{len(names)} names have {len(strata)} strata: one for each is needed')
    stratum_of: dict[str, Hashable] = {}
    for name, stratum in zip(names, strata, strict=True):
        if stratum_of.setdefault(name, stratum) != stratum:
            raise InputError(f'{name!r} is in two strata, {stratum_of[name]!r} and {stratum!r}')
    found: dict[str, str] = {}
    for stratum in set(strata):
        members = [name for name, own in stratum_of.items() if own == stratum]
        members.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        start, end = 0, 0.0
        for split, share in shares.items():
            end += share
            stop = round(end * len(members))
            found |= dict.fromkeys(members[start:stop], split)
            start = stop
    return [found[name] for name in names]


def fold_split(groups: Sequence[str], folds: int = 5, fold: int = 0, seed: int = 0) -> list[str]:
    """Assign groups to folds of nearly equal size: one to test, the next to validate, others train.

    Groups go to the smallest fold one by one, the largest first; groups of equal size in the order
    of their SHA-256. Samples of a group are never torn apart.

    Args:
        groups: group of each sample.
        folds: number of folds, at least 3.
        fold: which of them is the test split.
        seed: another seed gives other folds.

    Returns:
        Split of each sample: train, val or test.

    Raises:
        ConfigError: if there is no such fold, or there are fewer groups than folds.

    .. versionadded:: 0.1
    """
    sizes = Counter(groups)
    if folds < 3 or not 0 <= fold < folds:
        raise ConfigError(
            f'fold must be from 0 to folds - 1, and folds at least 3 (one to test, one to '
            f'validate, one to train), got fold={fold} of folds={folds}'
        )
    if len(sizes) < folds:
        raise ConfigError(
            f'{len(sizes)} groups cannot be cut into {folds} folds: give fewer folds= (at least '
            f'3), or smaller groups'
        )

    def rank(group: str) -> tuple[int, bytes]:
        return -sizes[group], hashlib.sha256(f'{seed}:{group}'.encode()).digest()

    load = [0] * folds
    names = generator(seed, 'folds').permutation(folds)
    place: dict[str, int] = {}
    for group in sorted(sizes, key=rank):
        smallest = min(range(folds), key=load.__getitem__)
        load[smallest] += sizes[group]
        place[group] = int(names[smallest])
    word = {fold: 'test', (fold + 1) % folds: 'val'}
    return [word.get(place[group], 'train') for group in groups]
