"""Splits by hash: shares, strata, and the same split for ever."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from torchgeo_aom.datasets.splits import hash_split
from torchgeo_aom.errors import ConfigError, InputError

NAMES = [f'{name}{k:02d}.tif' for name in ('beach', 'river') for k in range(100)]
CLASSES = [name[:5] for name in NAMES]


def test_shares_hold_in_every_stratum() -> None:
    splits = hash_split(NAMES, CLASSES)
    counted = Counter(zip(CLASSES, splits, strict=True))
    for name in ('beach', 'river'):
        assert [counted[name, s] for s in ('train', 'val', 'test')] == [60, 20, 20]


def test_the_same_whatever_the_order() -> None:
    wanted = dict(zip(NAMES, hash_split(NAMES, CLASSES), strict=True))
    mixed = random.Random(0).sample(NAMES, len(NAMES))
    assert dict(zip(mixed, hash_split(mixed, [n[:5] for n in mixed]), strict=True)) == wanted
    # For ever: weights were trained on one side of it.
    assert [name for name in NAMES[:8] if wanted[name] == 'test'] == [
        'beach01.tif',
        'beach06.tif',
        'beach07.tif',
    ]


def test_groups_stay_together() -> None:
    sites = [f'site{k // 7}' for k in range(210)]
    splits = hash_split(sites, shares={'train': 0.5, 'test': 0.5})
    assert all(len({s for g, s in zip(sites, splits, strict=True) if g == x}) == 1 for x in sites)
    assert Counter({g: s for g, s in zip(sites, splits, strict=True)}.values())['train'] == 15


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match='add up to 1'):
        hash_split(NAMES, shares={'train': 0.5, 'test': 0.6})
    with pytest.raises(InputError, match='200 names have 1 strata'):
        hash_split(NAMES, ['beach'])
    with pytest.raises(InputError, match="'a' is in two strata"):
        hash_split(['a', 'a'], [0, 1])
