"""Merging bands inside the encoder: tokens of one place are averaged within spectral groups.

After some block the tokens of neighboring bands hold much the same, and one token for several of
them saves their share of every block that follows. A group then counts by its size: attention gets
the logarithm of the size as a bias on the keys ("proportional attention" of Token Merging, Bolya et
al. 2023, https://arxiv.org/abs/2210.09461), and averages over bands are weighted. Unlike there,
only tokens of the same place are merged, so the token grid survives, and the groups follow from the
spectrum alone, so the same bands are always merged.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ('group_slots', 'merge_slots', 'merge_visible')


def group_slots(order: Tensor, present: Tensor | None, groups: int) -> Tensor:
    """Put slots (bands, or groups of bands) into contiguous groups along the spectrum.

    The slots of a sample, sorted, are cut into groups whose sizes differ by at most one: slot of
    rank r of n goes to group ``r * g // n``. So the rule needs no table of sensors, follows the
    order of the channels nowhere, and treats a sample as if its missing bands did not exist. Slots
    of equal place in the spectrum share a group.

    Args:
        order: numbers that grow along the spectrum, of shape (S,) or (B, S); NaN for no band.
        present: which slots exist, bool of shape (1, S) or (B, S); None for all.
        groups: largest number of groups of a sample.

    Returns:
        Group of each slot, 0 to ``groups - 1``, integers of shape (1, S) or (B, S); 0 where there
        is no slot.
    """
    order = order if order.ndim == 2 else order[None]
    before = order[:, None, :] < order[:, :, None]  # (B, S, S): the last comes before the first
    if present is None:
        total = order.shape[1]
        return before.sum(2) * min(groups, total) // total
    rank = (before & present[:, None, :]).sum(2)  # (B, S)
    count = present.sum(1, keepdim=True).clamp(min=1)
    return (rank * count.clamp(max=groups) // count).masked_fill(~present, 0)


def merge_slots(
    x: Tensor, weight: Tensor | None, order: Tensor, groups: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Average the tokens of each place within groups of slots.

    Args:
        x: tokens of shape (B, S, N, D).
        weight: how many bands a slot stands for, bool or float of shape (1, S) or (B, S); 0 where
            there is none, None where every slot is one band.
        order: see :func:`group_slots`.
        groups: largest number of groups G of a sample.

    Returns:
        Tokens of shape (B, G, N, D), their weight of shape (1, G) or (B, G), and their order of
        shape (G,); the arguments as they are where there are no more than *groups* slots.
    """
    if x.shape[1] <= groups:
        return x, weight, order
    ids = group_slots(order, None if weight is None else weight > 0, groups)
    slots = torch.arange(groups, device=x.device)
    member = (ids[:, None] == slots[:, None]).to(x.dtype)  # (1 or B, G, S)
    if weight is not None:
        member = member * weight[:, None].to(x.dtype)
    device = 'cpu' if x.is_meta else x.device.type  # meta has no autocast
    with torch.autocast(device_type=device, enabled=False):  # else the residual stream is rounded
        summed = (member @ x.flatten(2)).unflatten(2, x.shape[2:])
    total = member.sum(2, dtype=torch.float32)  # (1 or B, G)
    return summed / total.clamp(min=1)[:, :, None, None].to(x.dtype), total, slots


def merge_visible(x: Tensor, weight: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Average tokens that share a key, where every sample has other keys.

    For masked pretraining, where each place shows other bands. Samples with fewer keys than others
    are filled up with tokens of weight 0.

    Args:
        x: tokens of shape (B, K, D).
        weight: how many bands a token stands for, float of shape (B, K); 0 for a token that does
            not count.
        keys: keys of the tokens, integers of shape (B, K).

    Returns:
        Tokens of shape (B, M, D), M the largest number of keys of a sample; their weight and their
        keys, of shape (B, M); and where each of the K tokens went, of shape (B, K).
    """
    ordered, places = keys.sort(1)
    fresh = torch.zeros_like(ordered)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    target = torch.empty_like(keys).scatter(1, places, fresh.cumsum(1))  # (B, K)
    shape = (x.shape[0], int(target.max()) + 1)
    total = weight.new_zeros(shape).scatter_add(1, target, weight)
    index = target[:, :, None].expand_as(x)
    summed = x.new_zeros(*shape, x.shape[2]).scatter_add(1, index, x * weight[:, :, None].to(x))
    merged = summed / total.clamp(min=1)[:, :, None].to(x)
    return merged, total, keys.new_zeros(shape).scatter(1, target, keys), target
