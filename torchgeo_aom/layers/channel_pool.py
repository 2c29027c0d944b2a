"""Channel pooling: the tokens of all bands of a place as one token of that place.

The paper pools tokens globally for an image feature and is silent about dense maps. The mean is the
default since it has no parameters (a frozen backbone stays usable), serves any number of bands, and
makes the image feature the paper's global average of all tokens.
"""

from __future__ import annotations

import torch
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor, nn

__all__ = ('CHANNEL_POOLS', 'ChannelPool', 'attention_mask')

CHANNEL_POOLS = ('mean', 'max', 'attn')


@register_notrace_function  # type: ignore[untyped-decorator]
def attention_mask(valid: Tensor | None, places: int) -> Tensor | None:
    """Keys that attention may look at, for samples that lack bands.

    Args:
        valid: which bands exist, bool of shape (B, C); None for all.
        places: tokens a band.

    Returns:
        Bool of shape (B, 1, 1, C * places), or None where nothing is masked.
    """
    return None if valid is None else valid.repeat_interleave(places, 1)[:, None, None]


@register_notrace_module
class ChannelPool(nn.Module):
    """Pool tokens over bands by mean, maximum, or attention with one learned query.

    .. versionadded:: 0.1
    """

    def __init__(self, dim: int, kind: str = 'mean') -> None:
        """Initialize the pooling.

        Args:
            dim: token dimension D.
            kind: ``'mean'``, ``'max'`` or ``'attn'``; only the last has parameters.
        """
        super().__init__()
        self.kind = kind
        self.scale = dim**-0.5
        if kind == 'attn':
            self.query = nn.Parameter(torch.zeros(dim))  # zero: starts as the mean

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Pool over bands.

        Args:
            tokens: tokens of shape (B, C, N, D).
            valid: which bands exist, bool of shape (B, C); None for all.

        Returns:
            Tokens of shape (B, N, D).
        """
        keep = None if valid is None else valid[:, :, None, None]
        if self.kind == 'max':
            if keep is not None:
                tokens = tokens.masked_fill(~keep, float('-inf'))
            return tokens.amax(1)
        if self.kind == 'attn':
            scores = (tokens @ self.query)[..., None] * self.scale  # (B, C, N, 1)
            if keep is not None:
                scores = scores.masked_fill(~keep, float('-inf'))
            return (scores.softmax(1) * tokens).sum(1)
        if keep is None:
            return tokens.mean(1)
        return tokens.masked_fill(~keep, 0).sum(1) / keep.sum(1)

    def extra_repr(self) -> str:
        """Short description for ``repr``."""
        return self.kind
