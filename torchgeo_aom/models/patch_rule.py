"""Patch size by rule, where a user says ``'auto'``: from the image size, or from the resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..layers.sizes import (
    KERNEL_SIZES,
    as_pair,
    ceil_div,
    checked_patch_size,
    kernel_loss,
    nearest_kernel,
)

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = (
    'PRETRAINED',
    'check_gsd',
    'choose_patch_size',
    'explain_patch_size',
    'is_auto',
    'read_patch_size',
)

#: patch sizes that pretraining cycles through, in px
PRETRAINED = (16, 24, 32, 48, 64)
GRID = 16  # patches along an image
LEAST_GRID = 8
GROUND_M = 160.0  # what a patch covers: 16 px of Sentinel-2's 10 m


def is_auto(patch_size: object) -> TypeIs[str]:
    """Whether a patch size is to be chosen by rule.

    Args:
        patch_size: what a user gave.

    Returns:
        True for ``'auto'``.

    Raises:
        ConfigError: if it is any other text.
    """
    if isinstance(patch_size, str) and patch_size != 'auto':
        raise ConfigError(
            f"patch_size must be a number of px, (height, width) or 'auto', got {patch_size!r}."
        )
    return isinstance(patch_size, str)


def check_gsd(gsd_m: float | None, patch_size: object) -> None:
    """Refuse a resolution that would not count.

    Args:
        gsd_m: ground sampling distance in meters that a user gave, or None.
        patch_size: what a user gave.

    Raises:
        ConfigError: if there is a resolution, and the patch size is not ``'auto'``.
    """
    if gsd_m is not None and not is_auto(patch_size):
        raise ConfigError(
            f"gsd_m={gsd_m!r} counts with patch_size='auto' only, got patch_size={patch_size!r}; "
            'give one of the two.'
        )


def read_patch_size(text: str) -> int | str:
    """Read a patch size of a command line.

    Args:
        text: a number of px, or ``'auto'``.

    Returns:
        The number, or ``'auto'``.

    Raises:
        ConfigError: if it is any other text.
    """
    if text == 'auto':
        return text
    if not text.isdecimal():
        raise ConfigError(f"a patch size must be a number of px or 'auto', got {text!r}.")
    return int(text)


def choose_patch_size(
    image_size: int | Sequence[int] | None = None,
    pretrained: Sequence[int] = PRETRAINED,
    gsd_m: float | None = None,
    ground_m: float = GROUND_M,
) -> int:
    """Choose the patch size for images of a size, or of a resolution.

    By image size, the patch is the pretrained size nearest to a 16th of the image (of the root of
    its area, where it is not square). That makes about 16 x 16 patches a band, whatever the size:
    256 px take patches of 16, 400 px of 24, 500 and 512 px of 32, 1024 px of 64.

    By resolution, the patch is the pretrained size nearest to what covers *ground_m* on the ground:
    16 px at 10 m, 32 px at 5 m, 64 px from 2.5 m on. Where the image size is known too, patches
    that would leave fewer than 8 along an image are not taken, so 256 px of 0.1 m take 32.

    On a tie the smaller patch wins: it shows more detail, and its kernel loses less. Images of less
    than 256 px get 16, the smallest size of pretraining, and so a coarse grid; enlarging them
    (``resize=`` of the data module) makes it finer, and an explicit smaller patch does so too, but
    with a kernel that lost part of its freedom.

    Args:
        image_size: image size in px, or (height, width).
        pretrained: patch sizes to choose from: those of pretraining.
        gsd_m: ground sampling distance in meters.
        ground_m: what a patch should cover in meters, where *gsd_m* is given.

    Returns:
        Patch size in px.

    Raises:
        ConfigError: if neither image size nor resolution is given, or there is nothing to choose
            from.
        SizeError: if a size is impossible.

    .. versionadded:: 0.1
    """
    sizes = sorted({checked_patch_size(size)[0] for size in pretrained})
    if not sizes:
        raise ConfigError('pretrained is empty; give the patch sizes to choose from.')
    if image_size is None and gsd_m is None:
        raise ConfigError(
            "patch_size='auto' needs to know the images: give image_size (px) or gsd_m (meters), "
            'or a patch size in px.'
        )
    for name, value in (('gsd_m', gsd_m), ('ground_m', ground_m)):
        if value is not None and not (0 < value < math.inf):
            raise ConfigError(f'{name} must be a positive number of meters, got {value!r}.')
    side = None if image_size is None else math.sqrt(math.prod(as_pair(image_size, 'image_size')))
    if gsd_m is not None:
        target = ground_m / gsd_m
        sizes = [size for size in sizes if side is None or size * LEAST_GRID <= side] or sizes[:1]
    else:
        target = (side or 0) / GRID
    return min(sizes, key=lambda size: (abs(size - target), size))


def explain_patch_size(
    patch_size: int,
    image_size: int | Sequence[int] | None = None,
    gsd_m: float | None = None,
) -> str:
    """Say which patch size was chosen, why, and what it means.

    Args:
        patch_size: the size chosen.
        image_size: image size in px, or (height, width).
        gsd_m: ground sampling distance in meters, where the choice was made by it.

    Returns:
        One line.
    """
    facts = []
    if gsd_m is not None:
        facts.append(f'{gsd_m:g} m, so a patch covers {patch_size * gsd_m:g} m')
    if image_size is not None:
        height, width = as_pair(image_size, 'image_size')
        grid = f'{ceil_div(height, patch_size)} x {ceil_div(width, patch_size)}'
        facts.append(f'{height} x {width} px, so a band has {grid} patches')
    kernel = nearest_kernel(KERNEL_SIZES, patch_size)
    loss = kernel_loss(kernel, (patch_size, patch_size))
    lost = f', losing {loss:.0%} of its freedom' if loss >= 0.005 else ''
    return (
        f"AOM patch_size='auto': {patch_size} px for images of {'; '.join(facts)} "
        f'(from the {kernel} px kernel{lost})'
    )
