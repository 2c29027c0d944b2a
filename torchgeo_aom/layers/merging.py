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

from .spectral_groups import group_slots

__all__ = ('group_members', 'merge_slots', 'merge_visible')


def group_members(
    weight: Tensor | None, position: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which slots make up a group, and what the groups are.

    Args:
        weight: see :func:`merge_slots`.
        position: see :func:`merge_slots`.
        groups: largest number of groups G of a sample.

    Returns:
        For each group the number of bands that each slot brings in, of shape (1 or B, G, S); then
        weight and mean position of the groups, of shape (1 or B, G).
    """
    ids = group_slots(position, weight, groups)  # (1 or B, S)
    member = (ids[:, None] == torch.arange(groups, device=ids.device)[:, None]).float()
    if weight is not None:
        member = member * weight[:, None]
    total = member.sum(2)
    known = torch.where(member > 0, position[..., None, :], 0.0)
    return member, total, (member * known).sum(2) / total.clamp(min=1)


def merge_slots(
    x: Tensor, weight: Tensor | None, position: Tensor, groups: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Average the tokens of each place within groups of slots.

    Args:
        x: tokens of shape (B, S, N, D).
        weight: how many bands a slot stands for, bool or float of shape (1, S) or (B, S); 0 where
            there is none, None where every slot is one band.
        position: see :func:`~torchgeo_aom.layers.spectral_groups.group_slots`.
        groups: largest number of groups G of a sample.

    Returns:
        Tokens of shape (B, G, N, D), and their weight and mean position, of shape (1, G) or (B, G);
        the arguments as they are where there are no more than *groups* slots.
    """
    if x.shape[1] <= groups:
        return x, weight, position
    member, total, position = group_members(weight, position, groups)
    member = member.to(x.dtype)
    device = 'cpu' if x.is_meta else x.device.type  # meta has no autocast
    with torch.autocast(device_type=device, enabled=False):  # else the residual stream is rounded
        summed = (member @ x.flatten(2)).unflatten(2, x.shape[2:])
    return summed / total.clamp(min=1)[:, :, None, None].to(x.dtype), total, position


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
