"""Merging of bands against a slow, literal reference in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.layers.merging import group_slots, merge_slots, merge_visible

NAN = float('nan')


def slow_groups(order: list[float], groups: int) -> list[int]:
    """Group of each band of one sample: sort, cut into equal parts; -1 for no band."""
    present = sorted(value for value in order if value == value)
    count = min(groups, len(present))
    return [
        present.index(value) * count // len(present) if value == value else -1 for value in order
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


def names(spec: object, groups: int) -> list[set[str]]:
    """Groups of a sensor's bands as sets of names."""
    bands = resolve_bands(spec)  # type: ignore[arg-type]
    ids = group_slots(torch.tensor([band.index for band in bands]), None, groups)[0].tolist()
    return [{b.name for b, i in zip(bands, ids, strict=True) if i == g} for g in range(groups)]


class TestGroups:
    def test_sentinel2(self) -> None:
        assert names('sentinel2', 4) == [
            {'B01', 'B02', 'B03', 'B04'},
            {'B05', 'B06', 'B07'},
            {'B08', 'B8A', 'B09'},
            {'B10', 'B11', 'B12'},
        ]
        assert names('sentinel2', 6)[1:] == [
            {'B04', 'B05'}, {'B06', 'B07'}, {'B08', 'B8A'}, {'B09', 'B10'}, {'B11', 'B12'},
        ]  # fmt: skip

    @pytest.mark.parametrize('groups', [1, 2, 3, 4, 6, 20])
    def test_reference(self, groups: int) -> None:
        generator = np.random.default_rng(groups)
        for count in (1, 2, 3, 5, 13, 40):
            order = generator.permutation(count * 3)[:count] / 7.0
            order[generator.random(count) < 0.3] = np.nan
            if np.isnan(order).all():
                order[0] = 1.0
            expected = slow_groups(order.tolist(), groups)
            present = torch.from_numpy(~np.isnan(order))[None]
            ids = group_slots(torch.from_numpy(order), present, groups)[0]
            assert ids[present[0]].tolist() == [i for i in expected if i >= 0]
            sizes = np.bincount([i for i in expected if i >= 0])
            assert len(sizes) == min(groups, int(present.sum())) and np.ptp(sizes) <= 1

    def test_same_band_twice_shares_a_group(self) -> None:
        ids = group_slots(torch.tensor([3.0, 8.0, 3.0, 11.0]), None, 3)[0]
        assert ids[0] == ids[2] != ids[1]


def test_merge_reference() -> None:
    x = torch.randn(3, 5, 2, 4, dtype=torch.float64)
    order = torch.tensor([[3.0, NAN, 1.0, 8.0, 12.0], [1.0, 2.0, 3.0, 4.0, 5.0], [NAN] * 4 + [2.0]])
    weight = ~order.isnan() * torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0])
    merged, total, slots = merge_slots(x, weight, order, 2)
    assert merged.shape == (3, 2, 2, 4) and slots.tolist() == [0, 1]
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
