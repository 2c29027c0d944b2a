"""Sinusoidal encodings: which band a token is (section 'SiTok' of the paper) and where it lies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ('grid_encoding', 'interpolate_grid', 'sinusoid')

# Ratio of the longest to the shortest wavelength of the sinusoids, as in transformers.
BASE = 10000.0


def sinusoid(position: Tensor, dim: int) -> Tensor:
    """1-D sine-cosine encoding of real positions.

    Channel indices may be fractional: the encoding is continuous, so a band between two
    Sentinel-2 bands gets a code between theirs.

    Args:
        position: positions of any shape (...), float32 or better.
        dim: encoding width D, even.

    Returns:
        Encoding of shape (..., D): first half sines, second half cosines.
    """
    steps = torch.arange(dim // 2, device=position.device, dtype=position.dtype)
    angles = position[..., None] * BASE ** (-steps / (dim // 2))  # (..., D/2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def grid_encoding(size: tuple[int, int], dim: int) -> Tensor:
    """Fixed 2-D sine-cosine encoding of a token grid, as in MAE.

    Args:
        size: rows and columns of the grid.
        dim: encoding width D, a multiple of 4: one half for the column, one for the row.

    Returns:
        Table of shape (1, D, rows, columns), float32.
    """
    rows = sinusoid(torch.arange(size[0], dtype=torch.float64), dim // 2)  # (rows, D/2)
    cols = sinusoid(torch.arange(size[1], dtype=torch.float64), dim // 2)  # (columns, D/2)
    table = torch.cat(
        (
            cols[None].expand(size[0], -1, -1),
            rows[:, None].expand(-1, size[1], -1),
        ),
        dim=-1,
    )
    return table.permute(2, 0, 1)[None].float()


def interpolate_grid(table: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample a position table to another token grid.

    Only the grid decides, never the number of tokens: four bands at half the image size have as
    many tokens as one band at full size, but another grid.

    Args:
        table: position table of shape (1, D, rows, columns).
        size: rows and columns wanted, not necessarily square.

    Returns:
        Table of shape ``(1, D, *size)``, equal to ``table`` to the last bit where the grid fits.
    """
    return F.interpolate(table, size=size, mode='bilinear', align_corners=False)
