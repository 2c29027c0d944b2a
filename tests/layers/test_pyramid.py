"""The pyramid keeps everything in its place: what is at a pixel stays at that pixel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from torchgeo_aom.layers.pyramid import resample_map, resample_matrix

STRIDES = (4, 8, 16, 32)


def ramp_map(patch: tuple[int, int], size: tuple[int, int], slope: tuple[float, float]) -> Tensor:
    """Token map of an image whose value is a ramp in px: its value at the token centers."""
    rows, cols = -(-size[0] // patch[0]), -(-size[1] // patch[1])
    y = (torch.arange(rows) + 0.5) * patch[0]
    x = (torch.arange(cols) + 0.5) * patch[1]
    return (slope[0] * y[:, None] + slope[1] * x)[None, None]


@pytest.mark.parametrize('size', [(333, 400), (500, 333), (400, 500), (64, 7)])
@pytest.mark.parametrize('patch', [16, 24, 14, 8, 5, 64])
@pytest.mark.parametrize('stride', STRIDES)
class TestAnySize:
    def test_shape_and_constant(self, size: tuple[int, int], patch: int, stride: int) -> None:
        """A constant image stays constant, also at the borders."""
        rows, cols = -(-size[0] // patch), -(-size[1] // patch)
        grid = torch.randn(2, 3, 1, 1).expand(-1, -1, rows, cols)
        output = resample_map(grid, (patch, patch), size, stride)
        expected = (2, 3, -(-size[0] // stride), -(-size[1] // stride))
        assert output.shape == expected
        torch.testing.assert_close(output, grid[:, :, :1, :1].expand(expected))

    def test_ramp(self, size: tuple[int, int], patch: int, stride: int) -> None:
        """A ramp stays the same ramp in image pixels, wherever tokens lie on both sides."""
        slope = (0.7, -0.3)
        output = resample_map(ramp_map((patch, patch), size, slope), (patch, patch), size, stride)
        y = (torch.arange(output.shape[2]) + 0.5) * stride
        x = (torch.arange(output.shape[3]) + 0.5) * stride
        expected = slope[0] * y[:, None] + slope[1] * x
        reach = max(patch, stride)
        rows, cols = -(-size[0] // patch), -(-size[1] // patch)
        inside_y = (y >= reach - patch / 2) & (y <= (rows + 0.5) * patch - reach)
        inside_x = (x >= reach - patch / 2) & (x <= (cols + 0.5) * patch - reach)
        error = (output[0, 0] - expected)[inside_y][:, inside_x].abs()
        if error.numel():
            # Interpolation is exact. Averages over patches that do not divide the cell lie off by
            # a part of a patch, never by a shift.
            exact = stride <= patch or stride % patch == 0
            assert error.max() < (1e-2 if exact else 0.25 * patch)
            assert error.mean() < (1e-2 if exact else 0.1 * patch)


@pytest.mark.parametrize(('patch', 'stride'), [(16, 4), (16, 8), (16, 16), (32, 4), (8, 8)])
def test_equals_interpolate_where_that_is_aligned(patch: int, stride: int) -> None:
    """For whole multiples bilinear interpolation is aligned: then both are the same."""
    grid = torch.randn(2, 5, 6, 9)
    size = (6 * patch, 9 * patch)
    expected = F.interpolate(grid, scale_factor=patch // stride, mode='bilinear')
    torch.testing.assert_close(resample_map(grid, (patch, patch), size, stride), expected)


def test_same_stride_is_the_map_itself() -> None:
    grid = torch.randn(1, 3, 5, 7)
    torch.testing.assert_close(resample_map(grid, (16, 16), (80, 112), 16), grid, rtol=0, atol=0)


def test_patch_that_is_not_square() -> None:
    output = resample_map(ramp_map((8, 32), (64, 96), (1.0, 1.0)), (8, 32), (64, 96), 8)
    y = (torch.arange(8) + 0.5) * 8
    x = ((torch.arange(12) + 0.5) * 8).clamp(16, 80)
    torch.testing.assert_close(output[0, 0], y[:, None] + x)


def test_padding_is_cropped() -> None:
    """The tokens that hold padding only reach the cells beside them."""
    grid = torch.randn(1, 2, 4, 4)
    changed = grid.clone()
    changed[:, :, 3] += 1
    before = resample_map(grid, (16, 16), (50, 64), 4)
    after = resample_map(changed, (16, 16), (50, 64), 4)
    assert before.shape == (1, 2, 13, 16)
    # The center of the last row of tokens is at 56 px, that of the one before at 40 px.
    torch.testing.assert_close(after[:, :, :10], before[:, :, :10], rtol=0, atol=0)
    assert (after[:, :, 11:] - before[:, :, 11:]).abs().min() > 0


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 128), st.sampled_from([*STRIDES, 2, 64]), st.integers(1, 64)
)
def test_matrix_is_a_weighted_mean(tokens: int, patch: int, stride: int, cells: int) -> None:
    """Rows sum to 1, no weight is negative, no cell lacks a token, even far outside the tokens."""
    matrix = resample_matrix(tokens, patch, cells, stride, torch.empty(0))
    assert matrix.shape == (cells, tokens)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(cells))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_dtype(dtype: torch.dtype) -> None:
    grid = torch.randn(1, 2, 6, 6)
    output = resample_map(grid.to(dtype), (16, 16), (90, 96), 4)
    assert output.dtype == dtype
    expected = resample_map(grid, (16, 16), (90, 96), 4)
    torch.testing.assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)


def test_gradient_is_right() -> None:
    grid = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g: resample_map(g, (5, 7), (9, 20), 4), grid)
