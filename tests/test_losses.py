"""The losses against slow references written from the equations."""

import math

import numpy as np
import pytest
import torch

from torchgeo_aom.errors import ConfigError, InputError
from torchgeo_aom.losses import (
    alignment_loss,
    patchify,
    reconstruction_loss,
    spectral_loss,
    spectral_targets,
    total_loss,
)


def slow_alignment(h: np.ndarray, tau: float, batch_negatives: bool) -> float:
    """Eq. 7 in loops; h of shape (n, B, d)."""
    n, batch, _ = h.shape
    h = h / np.linalg.norm(h, axis=-1, keepdims=True)
    losses = []
    for b in range(batch):
        loss = 0.0
        for i in range(n):
            for j in range(n):
                if i == j:
                    continue
                below = sum(math.exp(h[i, b] @ h[k, b] / tau) for k in range(n))
                if batch_negatives:
                    below += sum(math.exp(h[i, b] @ h[j, c] / tau) for c in range(batch) if c != b)
                loss -= math.log(math.exp(h[i, b] @ h[j, b] / tau) / below)
        losses.append(loss)
    return float(np.mean(losses))


@pytest.mark.parametrize('scales', [2, 3, 5])
@pytest.mark.parametrize('batch', [2, 5])
@pytest.mark.parametrize('tau', [0.1, 0.5])
@pytest.mark.parametrize('negatives', ['none', 'batch'])
def test_alignment_equals_reference(scales: int, batch: int, tau: float, negatives: str) -> None:
    h = torch.randn(scales, batch, 7, dtype=torch.float64)
    fast = alignment_loss(list(h), tau, negatives)
    assert fast.item() == pytest.approx(
        slow_alignment(h.numpy(), tau, negatives == 'batch'), rel=1e-5
    )


def test_literal_alignment_is_smallest_for_a_constant_encoder() -> None:
    constant = [torch.ones(3, 4)] * 5
    floor = 5 * 4 * math.log(5)
    assert alignment_loss(constant).item() == pytest.approx(floor, rel=1e-5)
    assert all(
        alignment_loss([torch.randn(3, 4) for _ in range(5)]).item() > floor for _ in range(20)
    )


def test_batch_negatives_punish_a_constant_encoder() -> None:
    apart = torch.eye(4)
    constant = alignment_loss([torch.ones(4, 4)] * 3, negatives='batch')
    assert alignment_loss([apart] * 3, negatives='batch') < constant


def test_alignment_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ConfigError, match='at least 2 images'):
        alignment_loss([torch.randn(1, 4)] * 2, negatives='batch')
    with pytest.raises(ConfigError, match='at least 2 scales'):
        alignment_loss([torch.randn(3, 4)])
    with pytest.raises(ConfigError, match="'none' or 'batch'"):
        alignment_loss([torch.randn(3, 4)] * 2, negatives='all')


def test_patchify_follows_the_order_of_tokens() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    patches = patchify(x, (2, 3))
    assert patches.shape == (2, 3 * 2 * 2, 6)
    for c in range(3):
        for i in range(2):
            for j in range(2):
                expected = x[1, c, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].flatten()
                assert torch.equal(patches[1, c * 4 + i * 2 + j], expected)


@pytest.mark.parametrize('with_nodata', [False, True])
@pytest.mark.parametrize('norm_pix_loss', [False, True])
def test_reconstruction_equals_reference(with_nodata: bool, norm_pix_loss: bool) -> None:
    predicted, target = torch.randn(2, 5, 9), 3 + 2 * torch.randn(2, 5, 9)
    masked = torch.rand(2, 5) < 0.6
    masked[0, 0] = True
    valid = torch.rand(2, 5, 9) < 0.7 if with_nodata else None
    errors = []
    for b in range(2):
        for s in range(5):
            good = [p for p in range(9) if valid is None or valid[b, s, p]]
            pixels = np.array([target[b, s, p] for p in good])
            mean, std = (pixels.mean(), math.sqrt(pixels.var() + 1e-6)) if good else (0, 1)
            for p in good:
                truth = target[b, s, p].item()
                truth = (truth - mean) / std if norm_pix_loss else truth
                if masked[b, s]:
                    errors.append((predicted[b, s, p].item() - truth) ** 2)
    fast = reconstruction_loss(predicted, target, masked, valid, norm_pix_loss)
    assert fast.item() == pytest.approx(np.mean(errors), rel=1e-4)


def test_reconstruction_ignores_visible_tokens_and_nodata_even_if_not_finite() -> None:
    predicted = torch.randn(1, 2, 4, requires_grad=True)
    target = torch.randn(1, 2, 4)
    target[0, 1] = float('nan')
    loss = reconstruction_loss(predicted, target, torch.tensor([[True, False]]))
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad[0, 1], torch.zeros(4))
    nothing = torch.zeros(1, 2, 4, dtype=torch.bool)
    assert reconstruction_loss(predicted, target, torch.ones(1, 2) > 0, nothing).item() == 0


def test_constant_patch_stays_finite_when_normalised() -> None:
    flat = torch.full((1, 1, 4), 7.0)
    loss = reconstruction_loss(torch.zeros(1, 1, 4), flat, torch.ones(1, 1) > 0, None, True)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_total_weighs_as_the_paper_does() -> None:
    total = total_loss([torch.tensor(1.0), torch.tensor(3.0)], torch.tensor(10.0))
    assert total.item() == pytest.approx(0.2 * 2 + 0.8 * 10)


def slow_spectra(image: np.ndarray, patch: int, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, deviation and three quarters of each place and band, in loops."""
    batch, channels, height, width = image.shape
    rows, columns, half = height // patch, width // patch, patch // 2
    numbers = np.zeros((batch, rows * columns, channels, 5))
    counts = np.zeros((batch, rows * columns, channels), bool)
    for b in range(batch):
        for n in range(rows * columns):
            top, left = n // columns * patch, n % columns * patch
            for c in range(channels):
                pixels = image[b, c, top : top + patch, left : left + patch]
                good = valid[b, c, top : top + patch, left : left + patch]
                quarters = [
                    (slice(r * half, (r + 1) * half), slice(k * half, (k + 1) * half))
                    for r in range(2)
                    for k in range(2)
                ]
                counts[b, n, c] = all(good[q].any() for q in quarters)
                if not counts[b, n, c]:
                    continue
                mean = pixels[good].mean()
                numbers[b, n, c, :2] = mean, pixels[good].std()
                for k in range(3):
                    numbers[b, n, c, 2 + k] = pixels[quarters[k]][good[quarters[k]]].mean() - mean
    return numbers, counts


@pytest.mark.parametrize('patch', [2, 4, 8, 12])
@pytest.mark.parametrize('channels', [1, 5])
@pytest.mark.parametrize('holes', [False, True])
def test_spectral_targets_equal_reference(patch: int, channels: int, holes: bool) -> None:
    generator = torch.Generator().manual_seed(patch)
    image = torch.randn(2, channels, 24, 48, generator=generator)
    valid = torch.rand(image.shape, generator=generator) > (0.3 if holes else -1)
    valid[0, 0, :8] &= not holes
    given = image.masked_fill(~valid, float('nan'))
    numbers, counts = spectral_targets(given, patch, valid if holes else None)
    wanted, counted = slow_spectra(image.numpy(), patch, valid.numpy())
    assert numbers.shape == wanted.shape
    assert np.array_equal(counts.expand(wanted.shape[:3]).numpy(), counted)
    np.testing.assert_allclose(numbers.numpy()[counted], wanted[counted], rtol=1e-4, atol=2e-3)


def test_spectral_loss_counts_what_was_measured() -> None:
    target = torch.randn(2, 3, 4, 5)
    counts = torch.rand(2, 3, 4) > 0.5
    wild = torch.where(counts[..., None], target, torch.full_like(target, 1e4))
    assert spectral_loss(wild, target, counts) == 0
    assert spectral_loss(target, target, torch.zeros_like(counts)) == 0
    every = torch.ones_like(counts)
    assert spectral_loss(target + 3, target, every).item() == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize(('patch', 'size'), [(3, 12), (8, 20), (0, 16)])
def test_spectral_targets_refuse_what_has_no_quarters(patch: int, size: int) -> None:
    with pytest.raises(InputError, match='even patch size that divides the image'):
        spectral_targets(torch.zeros(1, 1, size, size), patch)
