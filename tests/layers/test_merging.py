"""Merging of bands against a slow, literal reference in numpy."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.layers.merging import merge_slots, merge_visible
from torchgeo_aom.layers.spectral_groups import group_slots, spectral_position

NAN = float('nan')


def slow_groups(position: list[float], groups: int) -> list[int]:
    """Group of each band of one sample: the best of all ways to cut; -1 for no band."""
    present = sorted(value for value in position if value == value)
    n, best = len(present), (float('inf'), ())
    for cuts in combinations(range(1, n), min(groups, n) - 1):
        parts = [present[a:b] for a, b in pairwise((0, *cuts, n))]
        cost = sum(float(np.var(part)) * len(part) for part in parts)
        best = min(best, (cost, cuts))
    return [
        sum(present.index(value) >= cut for cut in best[1]) if value == value else -1
        for value in position
    ]


def slow_merge(x: np.ndarray, weight: np.ndarray, ids: list[int], groups: int) -> np.ndarray:
    """Weighted means of one sample (S, N, D) by loops."""
    out = np.zeros((groups, *x.shape[1:]))
    total = np.zeros(groups)
    for slot, group in enumerate(ids):
        if group >= 0:
            out[group] += weight[slot] * x[slot]
            total[group] += weight[slot]
    return out / np.maximum(total, 1)[:, None, None]


def names(spec: object, groups: int) -> list[str]:
    """Groups of a sensor's bands, each as text."""
    bands = resolve_bands(spec)  # type: ignore[arg-type]
    codes = torch.tensor([band.index for band in bands])
    ids = group_slots(spectral_position(codes, 'index'), None, groups)[0].tolist()
    every = range(max(ids) + 1)
    return [' '.join(b.name for b, i in zip(bands, ids, strict=True) if i == g) for g in every]


class TestGroups:
    def test_sentinel2(self) -> None:
        assert names('sentinel2', 4) == [
            'B01 B02 B03 B04 B05',
            'B06 B07 B08 B8A',
            'B09 B10',
            'B11 B12',
        ]
        assert names('sentinel2', 6) == [
            'B01 B02 B03', 'B04 B05', 'B06 B07', 'B08 B8A', 'B09 B10', 'B11 B12',
        ]  # fmt: skip
        assert names('sentinel2', 1) == [' '.join(b.name for b in resolve_bands('sentinel2'))]

    def test_other_sensors(self) -> None:
        assert names('landsat8', 4) == ['B1', 'B2 B3 B4', 'B5', 'B6 B7']
        assert names('hls', 4) == ['blue green', 'red', 'nir08', 'swir16 swir22']
        assert names('rgb', 4) == ['blue', 'green', 'red']
        cube = [0.41 + 0.01 * k for k in range(200)]
        sizes = [len(text.split()) for text in names(cube, 16)]
        assert len(sizes) == 16 and sum(sizes) == 200 and max(sizes) < 40

    @pytest.mark.parametrize('groups', [1, 2, 3, 4, 20])
    def test_reference(self, groups: int) -> None:
        """The cheapest of all ways to cut, for each sample of a batch by itself."""
        generator = np.random.default_rng(groups)
        for count in (1, 2, 3, 5, 9):
            rows = generator.random((3, count)) * 7
            rows[generator.random((3, count)) < 0.3] = np.nan
            rows[np.isnan(rows).all(1), 0] = 1.0
            position = torch.from_numpy(rows).float()
            ids = group_slots(position, ~position.isnan(), groups)
            for row, own in zip(position, ids, strict=True):
                expected = slow_groups(row.tolist(), groups)
                assert [i for i, e in zip(own.tolist(), expected, strict=True) if e >= 0] == [
                    e for e in expected if e >= 0
                ]

    def test_order_changes_nothing(self) -> None:
        position = torch.rand(40) * 7
        swap = torch.randperm(40)
        expected = group_slots(position, None, 6)[0]
        assert torch.equal(group_slots(position[swap], None, 6)[0], expected[swap])

    def test_weights_count(self) -> None:
        """A slot of many bands is as many slots."""
        position = torch.tensor([0.0, 1.0, 2.2, 3.0])
        weight = torch.tensor([[1.0, 30.0, 1.0, 1.0]])
        many = position.repeat_interleave(torch.tensor([1, 30, 1, 1]))
        light, heavy = group_slots(position, None, 2)[0], group_slots(position, weight, 2)[0]
        assert light.tolist() == [0, 0, 1, 1] and heavy.tolist() == [0, 0, 1, 1]
        assert group_slots(many, None, 2)[0][[0, 1, 31, 32]].tolist() == heavy.tolist()
        weight[0, 0] = 100.0
        assert group_slots(position, weight, 2)[0].tolist() == [0, 1, 1, 1]

    def test_same_band_twice_shares_a_group(self) -> None:
        for groups in (2, 3):
            ids = group_slots(torch.tensor([3.0, 8.0, 3.0, 11.0]), None, groups)[0]
            assert ids[0] == ids[2] != ids[1]


def test_spectral_position() -> None:
    """Bands of Sentinel-2 lie at the same places by index and by wavelength, and rise."""
    bands = resolve_bands('sentinel2')
    by_index = spectral_position(torch.tensor([band.index for band in bands]), 'index')
    nm = torch.tensor([1000 * (band.wavelength_um or 0) for band in bands])
    by_nm = spectral_position(nm, 'wavelength')
    torch.testing.assert_close(by_index, by_nm, rtol=0, atol=0.1)
    assert (by_index.diff() > 0).all() and by_index[5] == pytest.approx(2.42)
    codes = torch.tensor([-1.0, 2.5, 13.0, 99.0, NAN])
    position = spectral_position(codes, 'index')
    assert (
        (position[:4].diff() > 0).all()
        and position[1] == pytest.approx(0.95)
        and position[4].isnan()
    )


def test_merge_reference() -> None:
    x = torch.randn(3, 5, 2, 4, dtype=torch.float64)
    order = torch.tensor([[3.0, NAN, 1.0, 8.0, 12.0], [1.0, 2.0, 3.0, 6.0, 7.0], [NAN] * 4 + [2.0]])
    weight = ~order.isnan() * torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0])
    merged, total, position = merge_slots(x, weight, order, 2)
    assert merged.shape == (3, 2, 2, 4)
    expected = torch.tensor([[1.5, 32 / 3], [14 / 6, 20 / 3], [2.0, 0.0]])
    torch.testing.assert_close(position, expected)
    for b in range(3):
        ids = slow_groups(order[b].tolist(), 2)
        expected = slow_merge(x[b].numpy(), weight[b].numpy(), ids, 2)
        np.testing.assert_allclose(merged[b].numpy(), expected, rtol=1e-12)
    assert total.tolist() == [[4.0, 3.0], [6.0, 3.0], [2.0, 0.0]]


def test_nothing_to_merge() -> None:
    x, order = torch.randn(1, 3, 2, 4), torch.arange(3)
    merged, weight, after = merge_slots(x, None, order, 3)
    assert merged is x and weight is None and after is order


def test_merge_visible_reference() -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    keys = torch.tensor([[7, 2, 7, 7, 2], [1, 9, 4, 9, 0]])
    weight = torch.tensor([[1.0, 1.0, 2.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0]])
    merged, total, after, target = merge_visible(x, weight, keys)
    assert merged.shape == (2, 4, 3)
    for b in range(2):
        for k in range(5):
            assert after[b, target[b, k]] == keys[b, k]
            same = keys[b] == keys[b, k]
            share = (weight[b] * same)[:, None]
            assert total[b, target[b, k]] == share.sum()
            expected = (share * x[b]).sum(0) / max(share.sum(), 1)
            torch.testing.assert_close(merged[b, target[b, k]], expected)
    assert total.sum() == weight.sum()
    merged.square().sum().backward()
    assert x.grad is not None and x.grad[0, 3].abs().max() == 0 and x.grad[0, 2].abs().max() > 0
