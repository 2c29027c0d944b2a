"""Sizes of images, patches and kernels as plain numbers: what can be said of them without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

from ..errors import SizeError

__all__ = (
    'KERNEL_SIZES',
    'MAX_TOKENS',
    'as_pair',
    'ceil_div',
    'checked_patch_size',
    'kernel_loss',
    'nearest_kernel',
    'token_grid',
)

#: kernel bank of the paper, in px
KERNEL_SIZES = (16, 32, 64)
#: largest number of tokens of an image, where nobody says another
MAX_TOKENS = 65536
MAX_PATCH_SIZE = 128
# Looked up, since that makes a patch size a constant of a compiled graph: one graph for each size.
PATCH_SIZES = {size: size for size in range(1, MAX_PATCH_SIZE + 1)}
WHOLE: tuple[type, ...] = (int, Integral)  # NumPy's integers are Integral too


def ceil_div(length: int, step: int) -> int:
    """Cells of a step that cover a length: what is left over counts as a whole cell.

    Only positive numbers are divided: ONNX rounds the quotient of a negative one toward zero, so
    the usual ``-(-length // step)`` would give a wrong number in an exported graph.
    """
    return (length + step - 1) // step


def as_pair(
    value: int | Sequence[int], what: str, whole: tuple[type, ...] = WHOLE
) -> tuple[int, int]:
    """Read a size given as one number or as (height, width).

    Args:
        value: positive integer or two of them.
        what: name of the argument, for the error message.
        whole: types of whole numbers.

    Returns:
        (height, width).

    Raises:
        SizeError: if it is not one or two positive integers.
    """
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if (
        len(pair) != 2
        or not (_is_whole(pair[0], whole) and _is_whole(pair[1], whole))
        or not (pair[0] > 0 and pair[1] > 0)
    ):
        raise SizeError(
            f'{what} must be a positive integer or (height, width) in px, got {value!r}; '
            f'give for example {what}=16.'
        )
    return pair


def _is_whole(side: object, whole: tuple[type, ...]) -> bool:
    return isinstance(side, whole) and not isinstance(side, bool)


def checked_patch_size(
    patch_size: int | Sequence[int], whole: tuple[type, ...] = WHOLE
) -> tuple[int, int]:
    """Patch size as (height, width).

    Args:
        patch_size: patch size in px, one number or two.
        whole: types of whole numbers.

    Returns:
        (height, width).

    Raises:
        SizeError: if it is not 1 to 128 px.
    """
    pair = as_pair(patch_size, 'patch_size', whole)
    if max(pair) > MAX_PATCH_SIZE:
        raise SizeError(
            f'patch_size must be 1 to {MAX_PATCH_SIZE} px, got {patch_size}; larger patches leave '
            'the kernel bank too far behind.'
        )
    return PATCH_SIZES[pair[0]], PATCH_SIZES[pair[1]]


def token_grid(img_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens (Nh, Nw): every pixel is in one patch."""
    return (ceil_div(img_size[0], patch_size[0]), ceil_div(img_size[1], patch_size[1]))


def nearest_kernel(kernel_sizes: Iterable[int], patch_size: int) -> int:
    """Choose the kernel of the bank for a patch size (Eq. 1).

    The paper leaves ties open (24 lies between 16 and 32). They go to the smaller kernel: enlarging
    a kernel loses nothing, shrinking 32 to 24 loses 44 % of its degrees of freedom.

    Args:
        kernel_sizes: sizes P_i of the bank in px.
        patch_size: target patch size P_t in px.

    Returns:
        The chosen size P_i.

    Raises:
        SizeError: if the bank is empty.

    .. versionadded:: 0.1
    """
    sizes = sorted(kernel_sizes)
    if not sizes:
        raise SizeError('The kernel bank is empty; give at least one size, e.g. (16, 32, 64).')
    nearest = sizes[0]
    for size in sizes[1:]:
        if abs(size - patch_size) < abs(nearest - patch_size):
            nearest = size
    return nearest


def kernel_loss(kernel_size: int, patch_size: tuple[int, int]) -> float:
    """Share of a kernel's degrees of freedom that PI-resize to a patch size loses, 0 to 1.

    .. versionadded:: 0.1
    """
    kept = min(1.0, patch_size[0] / kernel_size) * min(1.0, patch_size[1] / kernel_size)
    return 1.0 - kept
