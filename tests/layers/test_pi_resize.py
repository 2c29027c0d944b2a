"""PI-resize against timm's, against the dense pseudo-inverse, and against the clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import resample_patch_embed
from torch import Tensor
from torch.nn import functional as F

from torchgeo_aom.errors import SizeError
from torchgeo_aom.layers import pi_resize as module
from torchgeo_aom.layers.pi_resize import (
    kernel_loss,
    nearest_kernel,
    pi_matrices,
    pi_resize,
    resize_matrix,
)

# (kernel height, width) -> (patch height, width): up, down, mixed, not square, prime, one pixel.
PAIRS = [
    ((16, 16), (8, 8)),
    ((16, 16), (14, 14)),
    ((16, 16), (17, 17)),
    ((16, 16), (24, 24)),
    ((16, 16), (32, 32)),
    ((16, 16), (1, 1)),
    ((16, 16), (5, 5)),
    ((16, 16), (8, 24)),
    ((16, 16), (31, 7)),
    ((16, 16), (1, 16)),
    ((16, 16), (16, 23)),
    ((32, 32), (24, 24)),
    ((32, 32), (25, 25)),
    ((32, 32), (30, 20)),
    ((32, 32), (33, 16)),
    ((32, 32), (12, 36)),
    ((20, 12), (10, 18)),
    ((12, 20), (7, 30)),
    ((1, 1), (6, 9)),
    ((7, 3), (13, 2)),
]

_seed = itertools.count(1)


def kernel(height: int, width: int, dim: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(next(_seed))
    return torch.randn(dim, 1, height, width, generator=generator)


def dense_matrix(src: tuple[int, int], dst: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing of a whole patch as one matrix, by resizing every basis image."""
    basis = torch.eye(src[0] * src[1], dtype=torch.float64).view(-1, 1, *src)
    resized = F.interpolate(basis, size=dst, mode='bilinear', align_corners=False)
    return resized.flatten(1).T.numpy()  # (dst pixels, src pixels)


def timed(function: Callable[[], object], repeats: int) -> float:
    """Shortest time of several runs in seconds of the processor: the machine may be busy."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(('src', 'dst'), PAIRS, ids=str)
class TestOracles:
    def test_timm(self, src: tuple[int, int], dst: tuple[int, int]) -> None:
        weight = kernel(*src)
        expected = resample_patch_embed(
            weight, list(dst), interpolation='bilinear', antialias=False
        )
        torch.testing.assert_close(pi_resize(weight, dst), expected, rtol=1e-4, atol=1e-4)

    def test_dense_pseudo_inverse(self, src: tuple[int, int], dst: tuple[int, int]) -> None:
        """Eq. 3 word for word: ``w* = pinv(B^T) w``, with ``B`` over whole patches."""
        weight = kernel(*src).double()
        # Enlarged along one side and shrunk along the other, the matrix lacks rank: what is zero
        # but for rounding has to be cut off, or it would be inverted.
        inverse = torch.linalg.pinv(torch.from_numpy(dense_matrix(src, dst)), rtol=1e-10)
        actual = pi_resize(weight, dst).flatten(1)
        torch.testing.assert_close(actual, weight.flatten(1) @ inverse, rtol=1e-8, atol=1e-8)


def test_twenty_pairs() -> None:
    assert len(PAIRS) == 20
    assert sum(a != b for _, (a, b) in PAIRS) >= 5


def test_faster_than_dense() -> None:
    """At least 100 times faster than timm's for 64 -> 48, both without anything remembered."""
    weight = kernel(64, 64)
    dense = timed(
        lambda: resample_patch_embed(weight, [48, 48], interpolation='bilinear', antialias=False),
        1,
    )

    def separable() -> None:
        module._pinv_transposed.cache_clear()
        pi_resize(weight, (48, 48))

    assert dense > 100 * timed(separable, 5)


@pytest.mark.parametrize('size', [128, 63, 48])
def test_time_budget(size: int) -> None:
    """The kernel of 64 px of the tiny encoder, with the pseudo-inverse: under 50 ms."""
    weight = kernel(64, 64, dim=192)

    def resize() -> None:
        module._pinv_transposed.cache_clear()
        pi_resize(weight, (size, size))

    assert timed(resize, 5) < 0.05


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.tuples(st.integers(0, 64), st.integers(0, 64)),
    st.integers(0, 2**31),
)
def test_enlarging_is_exact(src: tuple[int, int], more: tuple[int, int], seed: int) -> None:
    """<x, w> = <B x, w*> for every patch x: enlarging loses nothing (reason of the tie rule)."""
    dst = (src[0] + more[0], src[1] + more[1])
    generator = torch.Generator().manual_seed(seed)
    weight, patch = torch.randn(2, 1, *src, generator=generator)
    resized = F.interpolate(patch[None], size=dst, mode='bilinear', align_corners=False)[0]
    expected = (patch * weight).sum()
    actual = (resized * pi_resize(weight, dst)).sum()
    scale = float(patch.norm() * weight.norm())
    assert abs(float(actual - expected)) < 1e-4 * max(scale, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 64), st.data())
def test_shrinking_is_the_best_fit(src: int, data: st.DataObject) -> None:
    """The residual of Eq. 3 is orthogonal to what the small kernel can do: no kernel is closer."""
    dst = data.draw(st.integers(1, src - 1))
    weight = kernel(src, 1).double()[:, 0, :, 0]
    small = weight @ pi_matrices((src, 1), (dst, 1))[0].T
    matrix = torch.from_numpy(resize_matrix(src, dst))  # (dst, src)
    residual = small @ matrix - weight
    assert (matrix @ residual.T).abs().max() < 1e-8
    assert residual.norm() > 1e-3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 128), st.integers(1, 128))
def test_resize_matrix_is_interpolate(src: int, dst: int) -> None:
    basis = torch.eye(src, dtype=torch.float64)[:, None]
    expected = F.interpolate(basis, size=dst, mode='linear', align_corners=False)[:, 0].T
    torch.testing.assert_close(
        torch.from_numpy(resize_matrix(src, dst)), expected, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize('src', [16, 32, 64])
def test_one_dimensional_matrices_have_full_rank(src: int) -> None:
    """Nothing has to be cut off, at any patch size: the result does not hang on a threshold."""
    for dst in range(1, 129):
        values = np.linalg.svd(resize_matrix(src, dst), compute_uv=False)
        assert values.min() > 1e-3 * values.max(), dst


@pytest.mark.parametrize('dst', [1, 2, 9])
def test_width_of_one_pixel(dst: int) -> None:
    """PyTorch's antialiased resizing of one pixel is wrong; ours is the pixel itself."""
    np.testing.assert_array_equal(resize_matrix(1, dst), np.ones((dst, 1)))


class TestSameWhateverTheMode:
    """float32 inside, whatever surrounds it."""

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_autocast(self, dtype: torch.dtype) -> None:
        weight = kernel(32, 32)
        expected = pi_resize(weight, (48, 20))
        with torch.autocast('cpu', dtype):
            actual = pi_resize(weight, (48, 20))
            assert (weight[0, 0] @ weight[0, 0]).dtype == dtype  # autocast is on
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
    def test_dtype_is_kept(self, dtype: torch.dtype) -> None:
        weight = kernel(16, 16).to(dtype)
        actual = pi_resize(weight, (24, 9))
        assert actual.dtype == dtype
        expected = pi_resize(weight.double(), (24, 9))
        # Rounded once, at the end.
        torch.testing.assert_close(
            actual.double(), expected.to(dtype).double(), rtol=1e-2, atol=1e-4
        )

    def test_inference_mode_first(self) -> None:
        """Nothing that is remembered comes from inference mode."""
        module._pinv_transposed.cache_clear()
        weight = kernel(16, 16).requires_grad_()
        with torch.inference_mode():
            expected = pi_resize(weight, (21, 21)).clone()
        actual = pi_resize(weight, (21, 21))
        actual.sum().backward()
        assert weight.grad is not None
        torch.testing.assert_close(actual.detach(), expected.clone())

    def test_remembered_result_is_the_same(self) -> None:
        weight = kernel(16, 16)
        first = pi_resize(weight, (27, 27))
        first.add_(1)  # the caller's own
        assert torch.equal(pi_resize(weight, (27, 27)) + 1, first)

    def test_matrices_at_hand(self) -> None:
        weight = kernel(16, 16)
        matrices = pi_matrices((16, 16), (10, 12))
        assert torch.equal(pi_resize(weight, (10, 12), matrices), pi_resize(weight, (10, 12)))


class TestGradient:
    def test_reaches_the_bank(self) -> None:
        weight = kernel(16, 16).requires_grad_()
        (pi_resize(weight, (24, 24)) * kernel(24, 24)).sum().backward()
        assert (weight.grad != 0).all()

    def test_is_right(self) -> None:
        weight = kernel(5, 4, dim=2).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda w: pi_resize(w, (3, 7)), weight)

    def test_size_that_fits_is_the_kernel_itself(self) -> None:
        weight = torch.nn.Parameter(kernel(16, 16))
        assert pi_resize(weight, (16, 16)) is weight


class TestNearestKernel:
    @pytest.mark.parametrize(
        ('patch', 'expected'),
        [(1, 16), (16, 16), (23, 16), (24, 16), (25, 32), (32, 32), (47, 32), (48, 32), (49, 64),
         (64, 64), (128, 64)],
    )  # fmt: skip
    def test_ties_go_to_the_smaller(self, patch: int, expected: int) -> None:
        for bank in itertools.permutations((16, 32, 64)):
            assert nearest_kernel(bank, patch) == expected

    def test_tie_rule_loses_less(self) -> None:
        """The reason of the rule: of 16 and 32, the smaller serves a patch of 24 exactly."""
        smooth = F.interpolate(torch.randn(1, 1, 4, 4), size=(48, 48), mode='bicubic')
        losses = {}
        for size in (16, 32):
            weight = F.interpolate(torch.randn(1, 1, 4, 4), size=(size, size), mode='bicubic')
            patch = F.interpolate(smooth, size=(size, size), mode='bilinear')
            seen = F.interpolate(patch, size=(24, 24), mode='bilinear')
            exact = (patch * weight).sum()
            losses[size] = abs(float((seen * pi_resize(weight, (24, 24))).sum() - exact))
        assert losses[16] < 1e-3 < losses[32]

    def test_empty_bank(self) -> None:
        with pytest.raises(SizeError, match='bank is empty'):
            nearest_kernel((), 16)


def test_kernel_loss() -> None:
    assert kernel_loss(16, (16, 16)) == kernel_loss(16, (24, 128)) == 0
    assert kernel_loss(32, (24, 24)) == pytest.approx(1 - 0.75**2)
    assert kernel_loss(16, (8, 24)) == pytest.approx(0.5)
    assert kernel_loss(16, (1, 1)) == pytest.approx(255 / 256)
