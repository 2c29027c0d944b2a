"""PI-resize (Eq. 2 and 3 of the paper): a patch kernel of one size as a kernel of another.

Resizing an image patch bilinearly is a linear map ``B``. PI-resize finds the kernel whose response
to the resized patch is closest to the response of the old kernel to the old patch:
``w* = pinv(B^T) w`` (FlexiViT, Beyer et al. 2023). Bilinear resizing is separable,
``B = Bh (x) Bw``, and ``pinv(Bh (x) Bw) = pinv(Bh) (x) pinv(Bw)``: two small one-dimensional
pseudo-inverses give Eq. 3 exactly, at a thousandth of the cost of the dense matrix.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .sizes import kernel_loss, nearest_kernel

__all__ = ('kernel_loss', 'nearest_kernel', 'pi_matrices', 'pi_resize', 'resize_matrix')


def resize_matrix(src: int, dst: int) -> np.ndarray:
    """Bilinear resizing of a row of pixels as a matrix, without antialiasing.

    Args:
        src: length of the input row in px.
        dst: length of the output row in px.

    Returns:
        Matrix ``B`` of shape (dst, src), float64, with ``resized = B @ row``; the same as
        ``torch.nn.functional.interpolate(mode='linear', align_corners=False)``.

    .. versionadded:: 0.1
    """
    centre = np.clip((np.arange(dst) + 0.5) * src / dst - 0.5, 0, src - 1)
    return np.clip(1 - np.abs(centre[:, None] - np.arange(src)), 0, None)


@lru_cache(maxsize=512)
def _pinv_transposed(src: int, dst: int) -> np.ndarray:
    """``pinv(B^T)`` of shape (dst, src); NumPy, so that no fake or graph tensor is ever cached."""
    return np.linalg.pinv(resize_matrix(src, dst).T)


def pi_matrices(src: tuple[int, int], dst: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two factors of Eq. 3, one for rows and one for columns.

    Args:
        src: kernel size (height, width) in px.
        dst: target patch size (height, width) in px.

    Returns:
        Matrices of shape (dst height, src height) and (dst width, src width), float64.

    .. versionadded:: 0.1
    """
    rows, cols = (_pinv_transposed(s, d) for s, d in zip(src, dst, strict=True))
    return torch.from_numpy(rows), torch.from_numpy(cols)


def pi_resize(
    kernel: Tensor, size: tuple[int, int], matrices: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Resize a patch kernel to another patch size (Eq. 3).

    The computation runs in float32 or better and outside autocast: in bfloat16 the pseudo-inverse
    is off by 2 %.

    Args:
        kernel: weights of shape (..., P, P') of any floating type.
        size: target patch size in px, (height, width).
        matrices: what :func:`pi_matrices` gives for these sizes, if at hand.

    Returns:
        Kernel of shape (..., height, width) with the dtype of ``kernel``; ``kernel`` itself where
        the size already fits (Eq. 2), so that gradients and storage stay those of the bank.

    .. versionadded:: 0.1
    """
    src = (kernel.shape[-2], kernel.shape[-1])
    if src == tuple(size):
        return kernel
    rows, cols = matrices or pi_matrices(src, size)
    device = 'cpu' if kernel.is_meta else kernel.device.type  # meta has no autocast
    with torch.autocast(device_type=device, enabled=False):
        dtype = torch.float64 if kernel.dtype == torch.float64 else torch.float32
        rows, cols = rows.to(kernel.device, dtype), cols.to(kernel.device, dtype)
        return (rows @ kernel.to(dtype) @ cols.T).to(kernel.dtype)
