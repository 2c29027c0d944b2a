"""Splits without a file: by the hash of names, group by group, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from ..errors import ConfigError, InputError

__all__ = ('SHARES', 'hash_split')

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
