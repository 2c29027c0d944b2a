"""The pretraining objective: reconstruction (Eq. 5), alignment (Eq. 7), total (Eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ConfigError

__all__ = ('alignment_loss', 'patchify', 'reconstruction_loss', 'total_loss')


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
