"""Decoders and projection heads of pretraining (Eq. 5 and 6): left out of exported weights."""

from __future__ import annotations

import torch
from timm.models._manipulate import checkpoint
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.encodings import grid_encoding, interpolate_grid, sinusoid
from ..layers.masking import split_tokens, unshuffle
from ..layers.tokenizer import POSITION_GRID

__all__ = ('Decoder', 'ProjectionHead', 'decoder_size', 'masked_ids', 'unpatchify')

HEAD_WIDTH = 32
PROJECTOR_NORMS = ('batch', 'layer', 'none')


def decoder_size(
    embed_dim: int, width: int | None = None, num_heads: int | None = None
) -> tuple[int, int]:
    """Width of a decoder and number of its attention heads.

    For ViT-B it is 512 with 16 heads, as in MAE and SpectralGPT. Other encoders keep the ratio: two
    thirds of their width, rounded to a multiple of 64, in heads 32 wide. ViT-T: 128 with 4, ViT-S:
    256 with 8, ViT-L: 704 with 22.

    Args:
        embed_dim: width D of the encoder.
        width: width wanted, where not by this rule.
        num_heads: number of heads wanted, where not by this rule.

    Returns:
        (width, number of heads).

    Raises:
        ConfigError: if they do not fit together.

    .. versionadded:: 0.1
    """
    width = width or max(64, round(embed_dim * 2 / 3 / 64) * 64)
    num_heads = num_heads or max(1, width // HEAD_WIDTH)
    if width % 4 or width % num_heads:
        raise ConfigError(
            f'decoder_width must be a multiple of 4 and of decoder_heads, got {width} and '
            f'{num_heads}; leave both out for two thirds of the encoder.'
        )
    return width, num_heads


def masked_ids(ids_keep: Tensor, total: int) -> Tensor:
    """Tokens that are not visible.

    Args:
        ids_keep: indices of the visible tokens, of shape (B, K).
        total: number of tokens S.

    Returns:
        Indices of shape (B, S - K), ascending.

    .. versionadded:: 0.1
    """
    visible = torch.zeros(ids_keep.shape[0], total, dtype=torch.uint8, device=ids_keep.device)
    visible.scatter_(1, ids_keep, 1)
    # A stable sort, since nonzero would make a GPU wait.
    return visible.argsort(dim=1, stable=True)[:, : total - ids_keep.shape[1]]


def unpatchify(pixels: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Patches as images: the inverse of :func:`torchgeo_aom.losses.patchify`.

    Args:
        pixels: patches of shape (B, C * Nh * Nw, P * P).
        grid: (Nh, Nw).
        patch_size: P in px.

    Returns:
        Images of shape (B, C, Nh * P, Nw * P).

    .. versionadded:: 0.1
    """
    x = pixels.unflatten(2, (patch_size, patch_size)).unflatten(1, (-1, *grid))
    return x.transpose(3, 4).flatten(4).flatten(2, 3)


class Decoder(nn.Module):
    """Predicts the pixels of masked tokens of one patch size from the visible ones.

    It works on the tokens of all bands together and knows which band and place each stands for, so
    that it serves any bands and any image size. There is one decoder for each patch size, with its
    own mask token.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        patch_size: int,
        embed_dim: int = 768,
        width: int | None = None,
        depth: int = 4,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
    ) -> None:
        """Initialize the decoder. The defaults are the paper's for ViT-B.

        Args:
            patch_size: patch size P in px.
            embed_dim: width D of the encoder.
            width: width of the decoder; see :func:`decoder_size`.
            depth: number of blocks.
            num_heads: number of attention heads; see :func:`decoder_size`.
            mlp_ratio: hidden width of a block's MLP over the width.

        Raises:
            ConfigError: if width and heads do not fit together.
        """
        super().__init__()
        width, num_heads = decoder_size(embed_dim, width, num_heads)
        self.patch_size = patch_size
        self.width = width
        self.grad_checkpointing = False
        self.embed = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, patch_size * patch_size)
        self.register_buffer('position', grid_encoding(POSITION_GRID, width), persistent=False)
        self.position: Tensor
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize like MAE: Xavier-uniform projections, zero biases, small mask token."""
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def no_weight_decay(self) -> set[str]:
        """Parameters that optimizers should not decay."""
        return {'mask_token'}

    def forward(
        self, tokens: Tensor, ids_keep: Tensor, codes: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Predict the pixels of the masked tokens.

        Args:
            tokens: normed visible tokens of the encoder, of shape (B, K, D).
            ids_keep: their indices into the C * Nh * Nw tokens, of shape (B, K).
            codes: what the channel encoding of each band is the sinusoid of, of shape (C,).
            grid: (Nh, Nw).

        Returns:
            Pixels of shape (B, M, P * P), and the indices of these M masked tokens, (B, M).
        """
        total = len(codes) * grid[0] * grid[1]
        x = unshuffle(self.embed(tokens), ids_keep, self.mask_token, total)
        position = interpolate_grid(self.position, grid)[0].flatten(1).T  # (N, width)
        channel = sinusoid(codes, self.width).to(position.dtype)  # (C, width)
        x = x + (channel[:, None] + position).flatten(0, 1)
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x)
            else:
                x = block(x)
        ids = masked_ids(ids_keep, total)
        return self.head(self.norm(split_tokens(x, ids))), ids

    def extra_repr(self) -> str:
        """Short description for ``repr``."""
        return f'patch_size={self.patch_size}'


class ProjectionHead(nn.Sequential):
    """Non-linear projection g_i of Eq. 6: Linear, norm, GELU, Linear.

    Batch norm is the usual choice of contrastive learning, and a help against collapse: a constant
    input cannot stay the same constant for all images of a batch. ``'layer'`` serves batches of
    one. The first layer has no bias where batch norm would take it away again.

    .. versionadded:: 0.1
    """

    def __init__(
        self, embed_dim: int, hidden: int | None = None, dim: int = 256, norm: str = 'batch'
    ) -> None:
        """Initialize the head.

        Args:
            embed_dim: width D of the encoder.
            hidden: width of the hidden layer; D where not given.
            dim: width d of the embedding.
            norm: ``'batch'``, ``'layer'`` or ``'none'``.

        Raises:
            ConfigError: if the norm is unknown.
        """
        if norm not in PROJECTOR_NORMS:
            raise ConfigError(f'projector_norm must be one of {PROJECTOR_NORMS}, got {norm!r}.')
        hidden = hidden or embed_dim
        norms = {'batch': nn.BatchNorm1d, 'layer': nn.LayerNorm}
        super().__init__(
            nn.Linear(embed_dim, hidden, bias=norm != 'batch'),
            norms[norm](hidden) if norm in norms else nn.Identity(),
            nn.GELU(),
            nn.Linear(hidden, dim),
        )
