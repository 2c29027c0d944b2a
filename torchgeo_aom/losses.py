"""The pretraining objective: reconstruction (Eq. 5), alignment (Eq. 7), total (Eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ConfigError, InputError

__all__ = (
    'alignment_loss',
    'patchify',
    'reconstruction_loss',
    'spectral_loss',
    'spectral_targets',
    'total_loss',
)

#: numbers that `spectral_targets` gives for each band of a place
SPECTRAL_NUMBERS = 5


def patchify(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Images as rows of patches, the targets of the reconstruction.

    Args:
        images: images of shape (B, C, H, W), H and W multiples of the patch size.
        patch_size: (height, width) in px.

    Returns:
        Patches of shape (B, C * Nh * Nw, height * width), in the order of the tokens.

    .. versionadded:: 0.1
    """
    x = images.unflatten(3, (-1, patch_size[1])).unflatten(2, (-1, patch_size[0]))
    return x.transpose(3, 4).flatten(4).flatten(1, 3)


def reconstruction_loss(
    predicted: Tensor,
    target: Tensor,
    masked: Tensor,
    valid: Tensor | None = None,
    norm_pix_loss: bool = False,
) -> Tensor:
    """Mean squared error of the pixels of masked tokens at one scale (Eq. 5).

    Args:
        predicted: predicted pixels of shape (B, S, P).
        target: true pixels of shape (B, S, P).
        masked: which tokens were masked, bool of shape (B, S); only they count.
        valid: which pixels hold data, bool of shape (B, S, P); only they count. None for all.
        norm_pix_loss: normalise each target patch by its own mean and deviation, as MAE does (the
            paper does not).

    Returns:
        Mean over the pixels that count; 0 where none do.

    .. versionadded:: 0.1
    """
    count = masked[:, :, None].expand_as(target)
    if valid is not None:
        count = count & valid
    if norm_pix_loss:
        weight = torch.ones_like(target) if valid is None else valid.to(target.dtype)
        target = target if valid is None else target.masked_fill(~valid, 0)  # NaN * 0 is NaN
        size = weight.sum(-1, keepdim=True).clamp(min=1)
        mean = (target * weight).sum(-1, keepdim=True) / size
        variance = ((target - mean).square() * weight).sum(-1, keepdim=True) / size
        target = (target - mean) / (variance + 1e-6).sqrt()
    # Filled before squaring: the gradient of a square at NaN is NaN, whatever follows.
    error = (predicted - target).masked_fill(~count, 0).square()
    return error.sum() / count.sum().clamp(min=1)


def alignment_loss(
    embeddings: Sequence[Tensor], temperature: float = 0.5, negatives: str = 'none'
) -> Tensor:
    """InfoNCE between the embeddings of one image at several scales (Eq. 7).

    With ``negatives='none'`` this is Eq. 7 literally: a sum over ordered pairs of scales, whose
    denominator holds only the scales of the same image, itself included. Its minimum,
    ``n (n - 1) log n``, is reached by a constant encoder. ``negatives='batch'`` adds the other
    images of the batch at scale j to the denominator of the pair (i, j), which a constant encoder
    cannot minimise.

    Args:
        embeddings: one tensor of shape (B, d) for each of the n scales.
        temperature: tau.
        negatives: ``'none'`` or ``'batch'``.

    Returns:
        Mean over images of the sum over pairs of scales.

    Raises:
        ConfigError: if there are fewer than 2 scales, the option is unknown, or batch negatives are
            asked of a batch of one.

    .. versionadded:: 0.1
    """
    if negatives not in ('none', 'batch'):
        raise ConfigError(f"negatives must be 'none' or 'batch', got {negatives!r}.")
    if len(embeddings) < 2:
        raise ConfigError(f'Alignment needs at least 2 scales, got {len(embeddings)}.')
    h = F.normalize(torch.stack(tuple(embeddings)).float(), dim=-1)  # (n, B, d)
    scales, batch = h.shape[:2]
    if negatives == 'batch' and batch < 2:
        raise ConfigError(
            "negatives='batch' needs at least 2 images in the batch: one image has no negatives. "
            "Use a larger batch or negatives='none'."
        )
    within = torch.einsum('ibd,kbd->bik', h, h) / temperature  # (B, n, n)
    if negatives == 'none':
        log_probability = within - within.logsumexp(-1, keepdim=True)
    else:
        across = torch.einsum('ibd,jcd->ijbc', h, h) / temperature  # (n, n, B, B)
        own = torch.eye(batch, dtype=torch.bool, device=h.device)
        others = across.masked_fill(own, float('-inf')).logsumexp(-1)  # (n, n, B)
        same = within.logsumexp(-1).T[:, None].expand_as(others)  # (n, n, B)
        log_probability = within - torch.logaddexp(same, others).permute(2, 0, 1)
    pairs = ~torch.eye(scales, dtype=torch.bool, device=h.device)
    return -log_probability[:, pairs].sum(-1).mean()


def total_loss(
    reconstruction: Sequence[Tensor],
    alignment: Tensor,
    recon_weight: float = 0.2,
    align_weight: float = 0.8,
) -> Tensor:
    """Weighted sum of the mean reconstruction loss over scales and the alignment loss (Eq. 8).

    Args:
        reconstruction: reconstruction loss of each scale.
        alignment: alignment loss.
        recon_weight: lambda 1.
        align_weight: lambda 2.

    Returns:
        The loss to minimise.

    .. versionadded:: 0.1
    """
    return recon_weight * torch.stack(tuple(reconstruction)).mean() + align_weight * alignment


def spectral_targets(
    image: Tensor, patch_size: int, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the bands of an image measure at each place, for tokens to predict.

    For a place of P x P px and a band, with m the mean and s the standard deviation of its pixels
    and q1 to q4 the means of its quarters (upper left, upper right, lower left, lower right), the
    numbers are ``(m, s, q1 - m, q2 - m, q3 - m)``: brightness, roughness, and where it lies. The
    fourth quarter follows from the others. Pixels without data do not count. An extension: the
    paper asks tokens for pixels of masked patches only.

    Args:
        image: normalized images of shape (B, C, H, W), H and W multiples of the patch size.
        patch_size: P in px, even.
        valid: which pixels hold data, bool of the same shape; None for all.

    Returns:
        Numbers of shape (B, N, C, 5), and which bands of which places count, bool of shape
        (B, N, C): those with data in each quarter.

    Raises:
        InputError: if the image is no whole number of places, or the patch size is odd.

    .. versionadded:: 0.2
    """
    height, width = image.shape[2:]
    if patch_size < 2 or patch_size % 2 or height % patch_size or width % patch_size:
        raise InputError(
            f'spectral_targets needs an even patch size that divides the image, got {patch_size} '
            f'px and an image of {height} x {width} px.'
        )
    half = patch_size // 2
    image = image.float()
    weight = torch.ones_like(image[:1, :1]) if valid is None else valid.to(image.dtype)
    image = image if valid is None else image.masked_fill(~valid, 0)
    share = F.avg_pool2d(weight, half)  # of the pixels of a quarter that hold data
    first = F.avg_pool2d(image * weight, half) / share.clamp(min=1e-6)
    second = F.avg_pool2d(image.square() * weight, half) / share.clamp(min=1e-6)

    def places(quarters: Tensor) -> Tensor:  # (B, C, 2 Nh, 2 Nw) -> (B, N, C, 4)
        x = quarters.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 1, 3, 5)
        return x.flatten(4).flatten(1, 2)

    share, first, second = (places(x.expand_as(first)) for x in (share, first, second))
    total = share.sum(-1, keepdim=True).clamp(min=1e-6)
    mean = (first * share).sum(-1, keepdim=True) / total
    variance = (second * share).sum(-1, keepdim=True) / total - mean.square()
    deviation = variance.clamp(min=0).sqrt()
    return torch.cat((mean, deviation, first[..., :3] - mean), -1), (share > 0).all(-1)


def spectral_loss(predicted: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Smooth L1 distance of predicted from measured numbers of the bands of places.

    Args:
        predicted: numbers of shape (B, K, C, 5), see `spectral_targets`.
        target: what was measured, of the same shape.
        counts: which bands of which places count, bool of shape (B, K, C).

    Returns:
        Mean over the numbers that count; 0 where none do.

    .. versionadded:: 0.2
    """
    weight = counts[..., None].to(target.dtype)
    error = F.smooth_l1_loss(predicted.float() * weight, target * weight, reduction='sum')
    return error / (weight.sum() * target.shape[-1]).clamp(min=1)
