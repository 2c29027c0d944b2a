"""Token maps as a feature pyramid, without parameters.

Decoders want maps at strides 4, 8, 16 and 32. A learnable neck would belong to the encoder, and a
frozen encoder would keep it at its random start; so maps are resampled, in place and scale exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import ceil_div

__all__ = ('resample_map', 'resample_matrix')


def resample_matrix(tokens: int, patch: int, cells: int, stride: int, like: Tensor) -> Tensor:
    """Linear resampling of a row of tokens to cells of another stride, as a matrix.

    Both rows start at the same pixel. Cells smaller than a patch are interpolated linearly; cells
    larger than a patch average the patches below them with a triangle of the cell's width, so
    nothing aliases. Beyond the outermost token centres the nearest tokens count alone.

    Args:
        tokens: number of tokens.
        patch: size of a token in px.
        cells: number of cells wanted.
        stride: size of a cell in px.
        like: tensor that gives dtype and device.

    Returns:
        Matrix of shape (cells, tokens), rows summing to 1.
    """
    at = (torch.arange(cells, device=like.device)[:, None] + 0.5) * stride  # px
    centre = (torch.arange(tokens, device=like.device)[None] + 0.5) * patch  # px
    # A cell outside all token centres would find no token within reach.
    at = at.clamp(0.5 * patch, (tokens - 0.5) * patch)
    weight = (1 - (at - centre).abs() / max(patch, stride)).clamp(min=0)
    return (weight / weight.sum(1, keepdim=True)).to(like.dtype)


def resample_map(
    grid: Tensor, patch_size: tuple[int, int], img_size: tuple[int, int], stride: int
) -> Tensor:
    """Resample a token map to a stride, aligned with the image and cropped to it.

    The token grid covers the padded image; the result covers the image, ``ceil(H / stride)`` rows
    high, whatever the patch size.

    Args:
        grid: token map of shape (B, D, Nh, Nw).
        patch_size: size of a token in px, (height, width).
        img_size: size of the image in px, (H, W).
        stride: stride wanted in px.

    Returns:
        Map of shape (B, D, ceil(H / stride), ceil(W / stride)).
    """
    rows, cols = ceil_div(img_size[0], stride), ceil_div(img_size[1], stride)
    down = resample_matrix(grid.shape[2], patch_size[0], rows, stride, grid)
    across = resample_matrix(grid.shape[3], patch_size[1], cols, stride, grid)
    return down @ grid @ across.T
