"""Folds of groups: whole, balanced, the same for ever."""

from __future__ import annotations

from collections import Counter

import pytest

from torchgeo_aom.datasets.splits import fold_split
from torchgeo_aom.errors import ConfigError

GROUPS = [f'site{k}' for k in range(40) for _ in range(1 + k % 7)]


def test_groups_stay_whole_and_folds_are_even() -> None:
    tested = []
    for fold in range(5):
        splits = fold_split(GROUPS, fold=fold)
        owner = {}
        for group, split in zip(GROUPS, splits, strict=True):
            assert owner.setdefault(group, split) == split
        counted = Counter(splits)
        assert abs(counted['test'] - len(GROUPS) / 5) <= 2
        assert abs(counted['val'] - len(GROUPS) / 5) <= 2
        tested += [k for k, split in enumerate(splits) if split == 'test']
    assert sorted(tested) == list(range(len(GROUPS)))  # each once


def test_the_same_for_ever_and_another_with_another_seed() -> None:
    pairs = list(zip(GROUPS, fold_split(GROUPS), strict=True))
    again = dict(zip(GROUPS[::-1], fold_split(GROUPS[::-1]), strict=True))
    assert dict(pairs) == again
    assert fold_split(GROUPS, seed=1) != fold_split(GROUPS)
    assert sorted({group for group, split in pairs if split == 'test'})[:3] == EXPECTED


EXPECTED = ['site0', 'site1', 'site12']


def test_wrong_arguments() -> None:
    for options in ({'fold': 5}, {'folds': 2}, {'fold': -1}):
        with pytest.raises(ConfigError, match='fold must be from 0'):
            fold_split(GROUPS, **options)
    with pytest.raises(ConfigError, match='2 groups cannot be cut into 5 folds'):
        fold_split(['a', 'a', 'b'])
