"""Masks: exact counts, keys, kinds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.layers.masking import keep_ids, split_tokens, unshuffle, visible_count
from torchgeo_aom.rng import generator


@pytest.mark.parametrize('kind', ['token', 'spatial', 'channel', 'mixed'])
@pytest.mark.parametrize(('channels', 'places'), [(2, 2), (3, 7), (13, 16), (12, 25)])
@pytest.mark.parametrize('ratio', [0.1, 0.5, 0.75, 0.95])
def test_counts_are_exact(kind: str, channels: int, places: int, ratio: float) -> None:
    ids = keep_ids(channels, places, ratio, [4, 5, 6], seed=1, step=2, kind=kind)
    total = channels * places
    options = {
        'token': visible_count(total, ratio),
        'spatial': channels * visible_count(places, ratio),
        'channel': places * visible_count(channels, ratio),
    }
    allowed = options.values() if kind == 'mixed' else [options[kind]]
    assert ids.shape[0] == 3
    assert ids.shape[1] in allowed
    assert 0 < ids.shape[1] < total
    assert (ids.diff(dim=1) > 0).all()
    assert ids.min() >= 0
    assert ids.max() < total


def test_round_rule() -> None:
    assert visible_count(100, 0.75) == 25
    assert visible_count(2, 0.01) == 1
    assert visible_count(2, 0.99) == 1
    assert visible_count(10, 0.75) == 2  # 2.5: halves go to the even number
    for ratio in (0.0, 1.0, -0.1, float('nan')):
        with pytest.raises(ConfigError, match='mask_ratio'):
            visible_count(10, ratio)
    with pytest.raises(ConfigError, match='at least 2'):
        visible_count(1, 0.5)


def test_mask_depends_on_its_key_alone() -> None:
    together = keep_ids(4, 9, 0.75, [10, 11, 12], seed=3, step=7)
    alone = keep_ids(4, 9, 0.75, [11], seed=3, step=7)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(alone, keep_ids(4, 9, 0.75, [11], seed=3, step=8))
    assert not torch.equal(alone, keep_ids(4, 9, 0.75, [11], seed=4, step=7))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 20),
    st.integers(2, 70),
    st.floats(0.01, 0.99),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True),
    st.integers(0, 2**31),
    st.integers(0, 10**6),
    st.sampled_from(['token', 'spatial', 'channel', 'mixed']),
)
def test_any_mask(
    channels: int, places: int, ratio: float, keys: list[int], seed: int, step: int, kind: str
) -> None:
    """Whatever the image: as many tokens as the rule says, and samples do not know each other."""
    total = channels * places
    ids = keep_ids(channels, places, ratio, keys, seed, step, kind)
    assert ids.shape[0] == len(keys)
    assert 0 < ids.shape[1] < total
    if kind == 'token':
        assert ids.shape[1] == min(max(round(total * (1 - ratio)), 1), total - 1)
    assert ((ids >= 0) & (ids < total)).all()
    assert (ids.diff(dim=1) > 0).all()  # ascending, so none twice
    assert torch.equal(ids.flip(0), keep_ids(channels, places, ratio, keys[::-1], seed, step, kind))
    assert torch.equal(ids[:1], keep_ids(channels, places, ratio, keys[:1], seed, step, kind))


def test_kinds_mask_places_and_bands() -> None:
    spatial = torch.zeros(5 * 16)
    spatial[keep_ids(5, 16, 0.75, [0], 0, 0, 'spatial')[0]] = 1
    assert (spatial.view(5, 16) == spatial.view(5, 16)[0]).all()
    bands = torch.zeros(5 * 16)
    bands[keep_ids(5, 16, 0.6, [0], 0, 0, 'channel')[0]] = 1
    assert bands.view(5, 16).sum(1).sort().values.tolist() == [0, 0, 0, 16, 16]


def test_mixed_uses_every_kind() -> None:
    counts = {keep_ids(5, 16, 0.7, [0], 0, step, 'mixed').shape[1] for step in range(40)}
    assert counts == {24, 5 * 5, 16 * 2}


def test_unknown_kind() -> None:
    with pytest.raises(ConfigError, match='mask_kind'):
        keep_ids(2, 4, 0.5, [0], 0, 0, 'block')


def test_split_and_unshuffle_are_inverse_on_visible_tokens() -> None:
    tokens, mask_token = torch.randn(3, 36, 5), torch.randn(5)
    ids = keep_ids(4, 9, 0.75, [0, 1, 2], 0, 0)
    full = unshuffle(split_tokens(tokens, ids), ids, mask_token, 36)
    visible = torch.zeros(3, 36, dtype=torch.bool).scatter(1, ids, True)
    assert torch.equal(full[visible], tokens[visible])
    assert (full[~visible] == mask_token).all()


def test_generator_keys() -> None:
    def draw(*key: int | str) -> int:
        return int(generator(0, *key).integers(2**62))

    keys = [(), (1,), ('1',), (1, 2), (12,), ('a', 'b'), ('ab',), (-1,)]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert draw('mask', 3) == draw('mask', 3)
    for bad in (True, 1.5, None):
        with pytest.raises(ConfigError, match='integers and strings'):
            draw(bad)  # type: ignore[arg-type]
