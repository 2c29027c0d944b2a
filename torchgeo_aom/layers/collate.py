"""One batch from samples that have different bands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from ..bands import BandSpec, resolve_bands
from ..errors import InputError
from .tokenizer import band_codes

__all__ = ('collate_bands',)


def collate_bands(
    images: Sequence[Tensor], bands: Sequence[BandSpec], channel_encoding: str = 'index'
) -> tuple[Tensor, Tensor]:
    """Stack images of different bands and one size for :class:`~torchgeo_aom.AOM`.

    The encoder masks the padding in attention and pooling: each sample comes out as it would alone.

    Args:
        images: normalized images of shape (C_i, H, W), of floats.
        bands: bands of each image.
        channel_encoding: that of the model.

    Returns:
        Images of shape (B, C, H, W) with C the largest number of bands, of a type that holds the
        values of all of them, and channel indices of shape (B, C), NaN where a sample has no such
        channel, for ``model(x, bands=index)``.

    Raises:
        BandError: if the bands of a sample do not fit its channels.
        InputError: if there are no samples, an image is not of floats, or sizes or numbers differ.

    .. versionadded:: 0.1
    """
    for k, image in enumerate(images):
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise InputError(
                f'Image {k} is of type {kind}, expected a tensor of normalized floats: apply '
                f'torchgeo_aom.transforms.Normalize(bands, product=...) first.'
            )
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(images) != len(bands) or len(sizes) != 1:
        raise InputError(
            f'Samples need bands each and one common size, got {len(images)} images of sizes '
            f'{sorted(sizes)} and {len(bands)} band lists; crop or resize the images first.'
        )
    channels = max(image.shape[0] for image in images)
    dtype = reduce(torch.promote_types, (image.dtype for image in images))
    x = images[0].new_zeros((len(images), channels, *images[0].shape[1:]), dtype=dtype)
    index = torch.full((len(images), channels), float('nan'), device=x.device)
    for row, (image, spec) in enumerate(zip(images, bands, strict=True)):
        codes = band_codes(resolve_bands(spec, channels=image.shape[0]), channel_encoding)
        x[row, : len(codes)] = image
        index[row, : len(codes)] = torch.tensor(codes)
    return x, index
