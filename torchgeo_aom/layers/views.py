"""Views of images for pretraining: each scale may see its own crop, turned and mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..rng import generator

__all__ = ('check_view', 'random_views')

RATIO = (3 / 4, 4 / 3)


def random_views(
    image: Tensor,
    valid: Tensor | None,
    keys: Sequence[int | str],
    seed: int,
    step: int,
    which: int,
    size: int,
    scale: tuple[float, float],
) -> tuple[Tensor, Tensor | None]:
    """Crop each image at random, resize it, and turn and mirror it.

    The view of an image depends on (seed, step, which, its key) alone. Seen from above, all eight
    turned and mirrored images are as likely.

    Args:
        image: images of shape (B, C, H, W).
        valid: pixels that hold data, bool of shape (B, C, H, W), or None.
        keys: key of each image.
        seed: of the run.
        step: number of the step.
        which: number of the view.
        size: height and width of the views in px.
        scale: smallest and largest share of the image's area.

    Returns:
        Views of shape (B, C, size, size), and their valid pixels or None.
    """
    views, masks = [], []
    for k, key in enumerate(keys):
        rng = generator(seed, 'view', step, which, key)
        rows, columns = _box(rng.uniform(*scale), rng.uniform(-1, 1), image.shape[2:])
        top = int(rng.random() * (image.shape[2] - rows + 1))
        left = int(rng.random() * (image.shape[3] - columns + 1))
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        part = image[k, :, top : top + rows, left : left + columns]
        views.append(_turn(_resize(part, size), turns, mirrored))
        if valid is not None:
            hole = (~valid[k, :, top : top + rows, left : left + columns]).to(image.dtype)
            masks.append(_turn(_resize(hole, size) < 0.01, turns, mirrored))
    view = torch.stack(views)
    if valid is None:
        return view, None
    mask = torch.stack(masks)
    return view.masked_fill(~mask, 0), mask


def check_view(size: int | None, scale: Sequence[float]) -> None:
    """Check the options of views.

    Args:
        size: height and width of the views in px; None for no views.
        scale: smallest and largest share of the image's area.

    Raises:
        ConfigError: if they are impossible.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ConfigError(f'view_size must be a positive number of px, or None, got {size!r}.')
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise ConfigError(
            f'view_scale must be two shares of the area, 0 < low <= high <= 1, got {scale!r}.'
        )


def _box(share: float, stretch: float, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a crop of this share of the area, inside the image."""
    ratio = math.exp(stretch * math.log(RATIO[1]))
    area = share * size[0] * size[1]
    rows = min(max(round(math.sqrt(area / ratio)), 1), size[0])
    columns = min(max(round(area / rows), 1), size[1])
    return rows, columns


def _resize(image: Tensor, size: int) -> Tensor:
    if image.shape[1:] == (size, size):
        return image
    return F.interpolate(image[None], (size, size), mode='bilinear', antialias=True)[0]


def _turn(image: Tensor, turns: int, mirrored: bool) -> Tensor:
    image = torch.rot90(image, turns, (1, 2))
    return image.flip(-1) if mirrored else image
