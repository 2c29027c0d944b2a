"""Groups of neighboring bands, for any sensor: clusters along one spectral axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..spectrum import SENTINEL2_CENTRES_UM

__all__ = ('group_slots', 'spectral_position')

# Steps of the axis from each band of Sentinel-2 to the next: how far apart their tokens are before
# the first block, square root of the mean squared distance on EuroSAT in units of that of all pairs
# (weights OPTICAL). A step of wavelength says little: 35 nm of the red edge change an image more
# than 150 nm of the visible. Then the two thermal channels of the index.
_STEPS = (0.53, 0.26, 0.32, 0.42, 0.89, 0.28, 0.45, 0.45, 0.91, 0.87, 1.14, 0.45, 1.0, 0.25)
_KNOTS = {
    'index': tuple(float(k) for k in range(15)),
    'wavelength': (*(1000.0 * um for um in SENTINEL2_CENTRES_UM), 10900.0, 12000.0),
}


def spectral_position(codes: Tensor, encoding: str) -> Tensor:
    """Place of bands on an axis along which equal steps change an image about equally.

    Args:
        codes: channel codes of any shape (...), NaN for no band.
        encoding: what they are: ``'index'``, or ``'wavelength'`` in nm.

    Returns:
        Positions of shape (...), float32; NaN for no band. The axis is linear between the bands of
        Sentinel-2, and goes on with the last step beyond them.
    """
    knots = _KNOTS[encoding]
    codes = codes.float()
    slopes = [step / (b - a) for step, (a, b) in zip(_STEPS, pairwise(knots), strict=True)]
    position = slopes[0] * (codes - knots[0]).clamp(max=0)
    position = position + slopes[-1] * (codes - knots[-1]).clamp(min=0)
    for slope, (low, high) in zip(slopes, pairwise(knots), strict=True):
        position = position + slope * (codes.clamp(low, high) - low)
    return position


def group_slots(position: Tensor, weight: Tensor | None, groups: int) -> Tensor:
    """Put slots (bands, or groups of bands) into contiguous groups along the spectrum.

    The sorted slots are cut where the squared distances within the groups become least (k-means on
    a line, which has an exact solution by dynamic programming; Wang and Song 2011,
    https://doi.org/10.32614/RJ-2011-015). So the rule needs no table of sensors, follows the order
    of the channels nowhere, and treats a sample as if its missing bands did not exist.

    Args:
        position: places on the axis, of shape (S,) or (B, S); anything where no slot is.
        weight: how many bands a slot stands for, 0 where there is none, of shape (1, S) or (B, S);
            None where every slot is one band.
        groups: largest number of groups of a sample; one with fewer slots has as many groups.

    Returns:
        Group of each slot, 0 to ``groups - 1``, integers of shape (1, S) or (B, S); 0 where there
        is no slot. Slots at the same place share a group.
    """
    position = position if position.ndim == 2 else position[None]
    size = torch.ones_like(position) if weight is None else weight.to(position.dtype)
    size = size.expand(max(len(size), len(position)), -1)  # (B, S)
    position = torch.where(size > 0, position, float('inf'))
    rank = _ranks(position)  # (B, S), slots that do not exist last
    count = position.shape[1]
    if groups == 1:
        return torch.zeros_like(rank)
    numbers = torch.arange(count, device=rank.device)
    at = rank[:, None, :] == numbers[:, None]  # (B, S, S): the sorted place, and the slot there
    finite = torch.where(size > 0, position, 0.0)
    places, sizes = (torch.where(at, v[:, None], 0.0).sum(2) for v in (finite, size))
    starts = _cuts(places, sizes, min(groups, count))
    ids = sum(((numbers >= start[:, None]).long() for start in starts), torch.zeros_like(rank))
    ids = torch.where(at, ids[:, :, None], 0).sum(1)  # (B, S), by slot again
    same = position[:, :, None] == position[:, None, :]
    ids = torch.where(same, ids[:, None, :], groups).amin(2)
    return ids.masked_fill(size <= 0, 0)


def _ranks(values: Tensor) -> Tensor:
    """Rank of each value of (B, S), from 0; equal ones in their order. Any graph can hold it."""
    count = torch.arange(values.shape[1], device=values.device)
    before = values[:, None, :] < values[:, :, None]  # (B, S, S): the last comes before
    equal = (values[:, None, :] == values[:, :, None]) & (count[None, :] < count[:, None])
    return (before | equal).sum(2)


def _cuts(places: Tensor, sizes: Tensor, groups: int) -> Sequence[Tensor]:
    """Where groups begin, but the first: (B,) each, past the end where there are fewer slots."""
    batch, count = places.shape
    zero = places.new_zeros(batch, 1)
    # Sums over the first j slots: bands, positions, squares.
    sums = [torch.cat((zero, (sizes * places**k).cumsum(1)), 1) for k in range(3)]
    total, first, second = (x[:, None, :] - x[:, :, None] for x in sums)  # (B, from, to)
    spread = (second - first**2 / total.clamp(min=1)).clamp(min=0)
    index = torch.arange(count + 1, device=places.device)
    # A group holds at least one slot; one that does not exist costs nothing.
    spread = spread.masked_fill(index[:, None] >= index[None, :], float('inf'))
    best = spread[:, 0]  # (B, S + 1): least cost of the first j slots in one group
    origins = []
    for _ in range(groups - 1):
        best, origin = (best[:, :, None] + spread).min(1)
        origins.append(origin)  # where the last group begins
    present = (sizes > 0).sum(1)  # (B,)
    end, starts = present, []
    for level in range(groups, 1, -1):
        start = origins[level - 2].gather(1, end[:, None])[:, 0]
        used = present >= level
        starts.append(torch.where(used, start, count))
        end = torch.where(used, start, end)
    return starts
