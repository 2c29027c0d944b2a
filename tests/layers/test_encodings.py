"""Encodings against their formulas, number by number."""

from __future__ import annotations

import math

import pytest
import torch

from torchgeo_aom.layers.encodings import grid_encoding, interpolate_grid, sinusoid


def literal_sinusoid(position: float, dim: int) -> list[float]:
    """The transformer's formula with plain Python numbers."""
    angles = [position / 10000 ** (k / (dim // 2)) for k in range(dim // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


@pytest.mark.parametrize('position', [0.0, 1.0, 7.5, 12.0, 865.0])
def test_sinusoid_is_the_formula(position: float) -> None:
    actual = sinusoid(torch.tensor([[position]], dtype=torch.float64), 24)
    assert actual.shape == (1, 1, 24)
    expected = torch.tensor(literal_sinusoid(position, 24), dtype=torch.float64)
    torch.testing.assert_close(actual[0, 0], expected, rtol=0, atol=1e-12)


def test_single_precision_is_good_enough() -> None:
    for positions in (torch.arange(0, 100.0), torch.arange(300.0, 2500.0)):
        single = sinusoid(positions, 192)
        double = sinusoid(positions.double(), 192)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=0, atol=3e-4)


def test_band_between_two_bands_has_a_code_between_theirs() -> None:
    """Fractional indices: nearer in index is nearer in code, without jumps."""
    codes = sinusoid(torch.tensor([7.0, 7.25, 7.5, 8.0, 12.0], dtype=torch.float64), 192)
    distance = (codes[0] - codes[1:]).norm(dim=1)
    assert (distance.diff() > 0).all()
    torch.testing.assert_close(
        (codes[2] - codes[0]).norm(), (codes[3] - codes[2]).norm(), rtol=1e-6, atol=0
    )


def test_all_integer_codes_differ() -> None:
    codes = sinusoid(torch.arange(100, dtype=torch.float64), 24)
    distance = torch.cdist(codes, codes) + 1e9 * torch.eye(100)
    assert distance.min() > 0.05


@pytest.mark.parametrize('size', [(14, 14), (3, 5), (1, 1), (1, 9)])
def test_grid_is_the_formula(size: tuple[int, int]) -> None:
    """MAE's: the first half of the channels is the column's code, the second the row's."""
    actual = grid_encoding(size, 24)
    assert actual.shape == (1, 24, *size) and actual.dtype == torch.float32
    for row in range(size[0]):
        for col in range(size[1]):
            expected = literal_sinusoid(col, 12) + literal_sinusoid(row, 12)
            torch.testing.assert_close(
                actual[0, :, row, col], torch.tensor(expected), rtol=0, atol=1e-6
            )


def test_grid_that_fits_is_the_table_bit_by_bit() -> None:
    table = grid_encoding((14, 14), 24)
    assert torch.equal(interpolate_grid(table, (14, 14)), table)


def test_grid_is_resampled_by_rows_and_columns() -> None:
    """Rows depend on rows only, columns on columns only, and both ends keep their place."""
    table = interpolate_grid(grid_encoding((14, 14), 24), (7, 20))
    assert table.shape == (1, 24, 7, 20)
    torch.testing.assert_close(table[0, :12], table[0, :12, :1].expand(-1, 7, -1))
    torch.testing.assert_close(table[0, 12:], table[0, 12:, :, :1].expand(-1, -1, 20))
    same = interpolate_grid(grid_encoding((14, 14), 24), (20, 7))
    torch.testing.assert_close(same[0, 12:].transpose(1, 2), table[0, :12])


def test_grid_of_half_the_size_averages_pairs() -> None:
    table = grid_encoding((14, 14), 24)
    pairs = table.unflatten(3, (7, 2)).mean(4).unflatten(2, (7, 2)).mean(3)
    torch.testing.assert_close(interpolate_grid(table, (7, 7)), pairs)


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (64, 64), (3, 2)])
def test_any_grid_is_finite_and_bounded(size: tuple[int, int]) -> None:
    table = interpolate_grid(grid_encoding((14, 14), 24), size)
    assert table.shape == (1, 24, *size)
    assert table.abs().max() <= 1
