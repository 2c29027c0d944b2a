"""From the maps of a frozen encoder to one feature of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bands import BandSpec
from ..commands.choices import READOUT_PRECISIONS, READOUTS
from ..errors import ConfigError, suggest
from ..models.aom import AOM, pyramid_blocks

__all__ = ('READOUTS', 'READOUT_PRECISIONS', 'check_readout', 'read_out')


def check_readout(readout: str) -> None:
    """Raise :class:`ConfigError` if there is no such readout."""
    if readout not in READOUTS:
        raise ConfigError(
            f'readout is one of {", ".join(READOUTS)}, got {readout!r}{suggest(readout, READOUTS)}'
        )


def read_out(
    model: AOM,
    image: Tensor,
    bands: BandSpec | Tensor | None = None,
    patch_size: int | Sequence[int] | None = None,
    readout: str = 'mean',
) -> Tensor:
    """Feature of each image for a probe.

    ``'mean'`` is the image feature of the model: the mean of the tokens of the last block.
    ``'pyramid'`` takes the maps of the four blocks that decoders see, too, and mean, standard
    deviation and maximum over the places of each: a mean does not tell a street from a square.

    Args:
        model: encoder.
        image: normalized images of shape (B, C, H, W).
        bands: bands of the channels where not those of the model.
        patch_size: patch size in px where not that of the model.
        readout: ``'mean'`` or ``'pyramid'``.

    Returns:
        Features of shape (B, D), or (B, 12 * D) of the pyramid.

    Raises:
        BandError: if the bands do not fit the images.
        ConfigError: if there is no such readout.

    .. versionadded:: 0.1
    """
    check_readout(readout)
    if readout == 'mean':
        tokens = model.forward_features(image, bands=bands, patch_size=patch_size)
        return model.forward_head(tokens, pre_logits=True)
    maps = model.forward_intermediates(
        image, list(pyramid_blocks(len(model.blocks))), output_fmt='NLC', intermediates_only=True,
        bands=bands, patch_size=patch_size,
    )  # fmt: skip
    rows = [(x.mean(1), x.std(1, correction=0), x.amax(1)) for x in (m.float() for m in maps)]
    return torch.cat([part for row in rows for part in row], dim=1)
