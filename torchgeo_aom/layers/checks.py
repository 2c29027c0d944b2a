"""Checks of what a user hands to the encoder: made once, where it comes in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import BandError, BandWarning, InputError, SizeError, UnitWarning, warn
from . import sizes
from .sizes import ceil_div

__all__ = (
    'as_pair',
    'ceil_div',
    'check_codes',
    'check_tokens',
    'check_type',
    'check_values',
    'checked_patch_size',
    'mean_size',
    'warn_stored',
)

# torch.compile of PyTorch 2.8 follows a tuple of classes, but neither unions nor abstract classes.
WHOLE = (int, np.integer, torch.SymInt)
STORED = 20.0  # normalized values are about 1 in size, stored ones 50 (8 bits) to thousands
# What tensors of band codes may hold: (lowest, highest, name).
CODE_RANGES = {
    'index': (-1, 99, 'channel indices'),
    'wavelength': (300, 15000, 'wavelengths in nm'),
}


def as_pair(value: int | Sequence[int], what: str) -> tuple[int, int]:
    """:func:`torchgeo_aom.layers.sizes.as_pair` for a graph too, where sizes are symbols."""
    return sizes.as_pair(value, what, WHOLE)


def checked_patch_size(patch_size: int | Sequence[int]) -> tuple[int, int]:
    """:func:`torchgeo_aom.layers.sizes.checked_patch_size` for a graph too."""
    return sizes.checked_patch_size(patch_size, WHOLE)


def check_type(x: Tensor) -> None:
    """Raise InputError unless *x* is a floating-point tensor of shape (B, C, H, W)."""
    if not isinstance(x, Tensor) or x.ndim != 4 or 0 in x.shape[1:]:
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            'AOM takes a tensor of images of shape (B, C, H, W) with at least one channel and '
            f'pixel, got {given}.'
        )
    if not x.is_floating_point():
        raise InputError(
            f'The image has dtype {x.dtype}, but AOM expects normalized floats; apply '
            'torchgeo_aom.transforms.Normalize with the bands and the unit of the product.'
        )


def check_tokens(
    x: Tensor, grid: tuple[int, int], patch_size: tuple[int, int], max_tokens: int
) -> None:
    """Raise SizeError if an image makes more tokens than the budget allows."""
    tokens = x.shape[1] * grid[0] * grid[1]
    if not torch.compiler.is_compiling() and tokens > max_tokens:
        raise SizeError(
            f'{x.shape[1]} bands of {x.shape[2]} x {x.shape[3]} px at patch size '
            f'{patch_size[0]} x {patch_size[1]} make {tokens:,} tokens an image, more than '
            f'max_tokens={max_tokens:,}. Use a larger patch size, smaller chips or fewer bands, or '
            'raise max_tokens if the memory is there (see torchgeo-aom plan).'
        )


def mean_size(x: Tensor) -> float:
    """Mean absolute value of an image, in one pass; not finite where a value is not."""
    kind = torch.promote_types(x.dtype, torch.float32)
    return float(torch.linalg.vector_norm(x.detach(), 1, (2, 3), dtype=kind).sum()) / x.numel()


def warn_stored(size: float) -> None:
    """Warn if values are so large on average that nobody can have normalized them."""
    if size > STORED:
        warn(  # the same text for all images, so that Python shows it once
            f'the values of the image, above {STORED:g} on average, look like stored numbers: '
            'apply torchgeo_aom.transforms.Normalize(bands, product=...) once, before the model',
            UnitWarning,
        )


def check_values(x: Tensor) -> None:
    """Check the pixels of an image; compiled graphs do without.

    Raises:
        InputError: if a pixel is NaN or infinite.

    Warns:
        UnitWarning: if the values look like stored numbers.
    """
    if torch.compiler.is_compiling() or x.is_meta or not x.numel():
        return
    size = mean_size(x)
    if not math.isfinite(size) and not x.isfinite().all():
        raise InputError(
            'The image has NaN or infinite pixels, which would make the whole output NaN; fill '
            'them with torchgeo_aom.transforms.Normalize(..., nodata_fill=True), or leave out the '
            'bands or the images.'
        )
    warn_stored(size)


def check_codes(codes: Tensor, present: Tensor, encoding: str) -> None:
    """Check a tensor of band codes.

    Args:
        codes: codes of shape (C,) or (B, C), NaN for no band.
        present: where they are not NaN.
        encoding: ``'index'`` or ``'wavelength'``.

    Raises:
        BandError: if a sample has no band, or a code is out of range.

    Warns:
        BandWarning: if channel indices look like wavelengths in um.
    """
    if not (present.any(-1) if codes.ndim == 2 else present).all():
        raise BandError(
            'Every sample needs at least one band, and NaN (no band) is allowed only in indices of '
            f'shape (B, C); got {codes.tolist()}.'
        )
    low, high, what = CODE_RANGES[encoding]
    known = codes[present]
    if not ((known >= low) & (known <= high)).all():
        raise BandError(
            f"With channel_encoding='{encoding}' a tensor of bands holds {what} from {low} to "
            f'{high}, got {codes.tolist()}; names, wavelengths and indices in a list are told '
            'apart by themselves.'
        )
    if encoding == 'index' and ((known > 0.3) & (known < 2.6) & (known % 1 != 0)).all():
        warnings.warn(
            f'The tensor of bands {codes.tolist()} is taken as channel indices, but looks like '
            'wavelengths in um; give those as a list of floats.',
            BandWarning,
            stacklevel=4,
        )
