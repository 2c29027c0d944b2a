"""Channel pooling: the tokens of all bands of a place as one token of that place.

The paper pools tokens globally for an image feature and is silent about dense maps. The mean is the
default since it has no parameters (a frozen backbone stays usable), serves any number of bands, and
makes the image feature the paper's global average of all tokens.
"""

from __future__ import annotations

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

__all__ = ('CHANNEL_POOLS', 'ChannelPool', 'attention_mask')

CHANNEL_POOLS = ('mean', 'max', 'attn')


def attention_mask(weight: Tensor | None, places: int, like: Tensor) -> Tensor | None:
    """How much the keys of attention count: those of missing bands not, those of groups more.

    One number a key, broadcast over heads and queries, keeps attention on its fused path; measured
    on CPU, it costs 2 to 7 % of attention, less than a dense mask or than carrying the bias as
    another dimension of queries and keys.

    Args:
        weight: which bands exist, bool of shape (B, C), or how many bands each group stands for,
            float of shape (1, C) or (B, C); None where all count the same.
        places: tokens a band, or 1 where *weight* is one of tokens.
        like: tensor that gives the data type of a bias.

    Returns:
        Bool, or the logarithm of the weight, of shape (1 or B, 1, 1, C * places); None where all
        keys count the same.
    """
    if weight is None or (weight.is_floating_point() and weight.shape[1] == 1):
        return None
    if weight.is_floating_point():
        weight = weight.log().to(like.dtype)
    # Not repeat_interleave, which ONNX gets wrong where the number of places is not fixed.
    return weight[:, :, None].expand(-1, -1, places).flatten(1)[:, None, None]


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

    def forward(self, tokens: Tensor, weight: Tensor | None = None) -> Tensor:
        """Pool over bands.

        Args:
            tokens: tokens of shape (B, C, N, D).
            weight: which bands exist, bool of shape (B, C), or how many bands each group stands
                for, float of shape (1, C) or (B, C); None where all count the same.

        Returns:
            Tokens of shape (B, N, D).
        """
        keep = None if weight is None else weight[:, :, None, None] > 0
        if self.kind == 'max':
            if keep is not None:
                tokens = tokens.masked_fill(~keep, float('-inf'))
            return tokens.amax(1)
        if self.kind == 'attn':
            scores = (tokens @ self.query)[..., None] * self.scale  # (B, C, N, 1)
            if weight is not None:
                scores = scores + weight[:, :, None, None].to(scores.dtype).log()
            return (scores.softmax(1) * tokens).sum(1)
        if weight is None or keep is None:
            return tokens.mean(1)
        share = weight.to(tokens.dtype)[:, :, None, None]
        return (tokens.masked_fill(~keep, 0) * share).sum(1) / share.sum(1)

    def extra_repr(self) -> str:
        """Short description for ``repr``."""
        return self.kind
