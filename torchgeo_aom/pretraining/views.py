"""What a step looks at follows from its number alone: source, bands, crop, patch size, places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.teacher import rgb_channels
from ..rng import generator
from .packed import PackedCorpus, PackedSource
from .targets import CELLS

__all__ = ('SHAPES', 'Shape', 'View', 'cut', 'cut_map', 'draw', 'jitter')


@dataclass(frozen=True)
class Shape:
    """A way to see chips: the part that is cut out, its enlargement, the patch size.

    Attributes:
        cells: side of the part in cells of a chip.
        zoom: size at which it is seen over its own.
        patch: patch size in px.
        weight: how often it is drawn.
    """

    cells: int
    zoom: float
    patch: int
    weight: float

    def places(self, side: int) -> int:
        """Rows of places that a chip of *side* px gives."""
        return round(side / CELLS * self.cells * self.zoom) // self.patch


#: ways to see a chip by its side in px. The patch size divides the view: no place is partly empty.
SHAPES: dict[int, tuple[Shape, ...]] = {
    64: (
        Shape(8, 1, 4, 1.0), Shape(16, 1, 4, 0.7), Shape(16, 1, 8, 2.0), Shape(8, 1, 8, 0.4),
        Shape(8, 2, 8, 0.5), Shape(16, 2, 16, 1.5), Shape(8, 2, 16, 0.8), Shape(16, 1, 16, 0.5),
        Shape(12, 2, 24, 0.2), Shape(16, 2, 32, 0.4), Shape(16, 4, 32, 0.2), Shape(16, 4, 64, 0.2),
    ),
    256: (
        Shape(16, 1, 16, 1.5), Shape(16, 1, 32, 1.2), Shape(16, 1, 64, 1.0), Shape(12, 1, 24, 0.6),
        Shape(12, 1, 48, 0.8), Shape(8, 1, 16, 0.6), Shape(8, 1, 8, 0.5), Shape(16, 0.5, 8, 0.6),
        Shape(16, 0.5, 16, 0.8), Shape(16, 0.25, 4, 0.3), Shape(16, 0.25, 8, 0.3),
    ),
}  # fmt: skip

#: merge schedules of the half of the steps that merge: (after block, groups), see `Merge`
MERGES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 4),),
    ((0, 4), (4, 1)),
    ((0, 4), (4, 1)),
    ((1, 1),),
    ((2, 1),),
    ((1, 4),),
    ((2, 4), (4, 1)),
)
#: share of the steps that see all places, where there are no more than 64
DENSE = 0.4


@dataclass(frozen=True)
class View:
    """What one step looks at.

    Attributes:
        source: name of the source.
        chips: numbers of the chips, B of them.
        channels: channels that are seen.
        shape: crop, enlargement and patch size.
        corner: first row and column of each crop in cells, (B, 2).
        turn: which of the eight symmetries of the square the chips are seen in.
        keep: visible places of each chip, (B, K).
        merge: merge schedule; empty for none.
        seed: of the changes in brightness.
    """

    source: str
    chips: tuple[int, ...]
    channels: tuple[int, ...]
    shape: Shape
    corner: Tensor
    turn: int
    keep: Tensor
    merge: tuple[tuple[int, int], ...]
    seed: int


def _channels(source: PackedSource, rng: np.random.Generator, rgb_share: float) -> tuple[int, ...]:
    """Red, green and blue alone in a share of the steps, else a random subset of random size."""
    rgb = rgb_channels(source.resolved)
    count = len(source.bands)
    if rgb is not None and (count == 3 or rng.random() < rgb_share):
        if count > 3 or rng.random() < 0.85:
            return rgb
    # Sizes up to 6 mostly: all thirteen bands cost as much as four steps.
    sizes = np.arange(1, count + 1)
    chance = np.where(sizes <= 6, 1.0, 0.35)
    chance[0] *= 0.7
    size = int(rng.choice(sizes, p=chance / chance.sum()))
    return tuple(int(c) for c in rng.permutation(count)[:size])


def draw(
    corpus: PackedCorpus,
    shares: dict[str, float],
    step: int,
    seed: int,
    tokens: int,
    merge_share: float = 0.5,
    rgb_share: float = 0.35,
) -> View:
    """Choose what a step looks at.

    Args:
        corpus: the chips.
        shares: share of the steps of each source; they sum to 1.
        step: number of the step.
        seed: seed of the run.
        tokens: tokens a step, about; the number of chips follows.
        merge_share: share of the steps that merge bands.
        rgb_share: share of the steps that see red, green and blue alone, of sources with more.

    Returns:
        The view.
    """
    rng = generator(seed, 'view', step)
    names = list(shares)
    source = corpus.source(names[int(rng.choice(len(names), p=np.array(list(shares.values()))))])
    shapes = SHAPES[source.size]
    weights = np.array([shape.weight for shape in shapes])
    shape = shapes[int(rng.choice(len(shapes), p=weights / weights.sum()))]
    channels = _channels(source, rng, rgb_share)
    places = shape.places(source.size) ** 2
    # Short sequences, since places of one image teach much the same; but whole images in part of
    # the steps, since that is what is seen later.
    kept = int(rng.integers(min(places, 12), min(places, 36) + 1))
    if places <= 64 and rng.random() < DENSE:
        kept = places
    merging = len(channels) > 1 and rng.random() < merge_share
    merge = MERGES[int(rng.integers(len(MERGES)))] if merging else ()
    merge = tuple((k, g) for k, g in merge if g < len(channels))
    cost = _cost(len(channels), merge)
    count = int(np.clip(tokens / (kept * cost), 8, min(source.count, 256)))
    chips = rng.choice(source.count, count, replace=False)
    corner = rng.integers(0, CELLS - shape.cells + 1, (count, 2))
    keep = np.argsort(rng.random((count, places)), axis=1)[:, :kept]
    return View(
        source.name, tuple(int(c) for c in chips), channels, shape, torch.from_numpy(corner),
        int(rng.integers(8)), torch.from_numpy(np.sort(keep, axis=1)),
        merge, int(rng.integers(2**31)),
    )  # fmt: skip


def _cost(bands: int, merge: Sequence[tuple[int, int]], depth: int = 12) -> float:
    """Tokens of a place, averaged over the blocks."""
    total, now, last = 0.0, bands, 0
    for block, groups in merge:
        total += now * (block - last)
        now, last = min(now, groups), block
    return (total + now * (depth - last)) / depth


def turned(maps: Tensor, turn: int) -> Tensor:
    """Squares (B, D, N, N) in one of their eight symmetries."""
    if turn & 1:
        maps = maps.flip(-1)
    if turn & 2:
        maps = maps.flip(-2)
    return maps.transpose(-1, -2) if turn & 4 else maps


def _crop(maps: Tensor, corner: Tensor, cells: int) -> Tensor:
    """Parts of squares whose side is a multiple of `CELLS`, cut along cells."""
    scale = maps.shape[-1] // CELLS
    if cells == CELLS:
        return maps
    side = cells * scale
    return torch.stack(
        [
            one[:, r * scale : r * scale + side, c * scale : c * scale + side]
            for one, (r, c) in zip(maps, corner.tolist(), strict=True)
        ]
    )


def cut(chips: Tensor, view: View) -> Tensor:
    """The part of chips that a view shows, turned, at the size of the chip.

    Args:
        chips: chips of shape (B, C, S, S).
        view: the view.

    Returns:
        Parts of shape (B, C, s, s).
    """
    return turned(_crop(chips, view.corner, view.shape.cells), view.turn)


def zoomed(image: Tensor, zoom: float) -> Tensor:
    """Images at another size."""
    if zoom == 1:
        return image
    side = round(image.shape[-1] * zoom)
    if zoom < 1:
        return F.adaptive_avg_pool2d(image, side)
    return F.interpolate(image, (side, side), mode='bilinear', align_corners=False)


def cut_map(maps: Tensor, view: View, grid: int) -> tuple[Tensor, Tensor]:
    """Target of a view from the maps of whole chips.

    Args:
        maps: teacher's maps of shape (B, D, CELLS, CELLS).
        view: the view.
        grid: rows of places of the view.

    Returns:
        Targets of the visible places, (B, K, D), and of the view as a whole, (B, D).
    """
    part = cut(maps, view)
    whole = part.mean((2, 3))
    if grid <= part.shape[-1]:
        part = F.adaptive_avg_pool2d(part, grid)
    else:
        part = F.interpolate(part, (grid, grid), mode='bilinear', align_corners=False)
    rows = part.flatten(2).transpose(1, 2)  # (B, N, D)
    keep = view.keep[:, :, None].expand(-1, -1, rows.shape[2])
    return rows.gather(1, keep), whole


def jitter(image: Tensor, seed: int, share: float = 0.5, strength: float = 0.12) -> Tensor:
    """Brightness and contrast of a share of the images, a little of it band by band.

    Atmosphere, sun and processing change what is stored for the same ground.

    Args:
        image: normalized images of shape (B, C, H, W).
        seed: decides the changes.
        share: share of the images that are changed.
        strength: deviation of gains; offsets have the same in units of a band's deviation.

    Returns:
        Images of the same shape.
    """
    rng = np.random.default_rng(seed)
    count, bands = image.shape[:2]
    active = (rng.random(count) < share).astype(np.float32)[:, None] * strength
    common = rng.standard_normal((2, count, 1)) + 0.5 * rng.standard_normal((2, count, bands))
    gain, offset = (torch.from_numpy((active * one).astype(np.float32)) for one in common)
    return image * (1 + gain[:, :, None, None]) + offset[:, :, None, None]


def tokens_of(view: View) -> int:
    """Tokens that go into the first block."""
    return math.prod((len(view.chips), len(view.channels), view.keep.shape[1]))
