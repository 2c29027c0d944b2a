"""Masks for masked spectral-spatial reconstruction: which tokens of a sample stay visible.

Every sample of a batch keeps the same number of tokens, so that the visible ones stack; the number
is exact, and a mask depends on its key alone (see :mod:`torchgeo_aom.rng`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..rng import generator

__all__ = ('MASK_KINDS', 'keep_ids', 'split_tokens', 'unshuffle', 'visible_count')

MASK_KINDS = ('token', 'spatial', 'channel', 'mixed')


def visible_count(total: int, mask_ratio: float) -> int:
    """Number of things that stay visible.

    It is ``total * (1 - mask_ratio)``, rounded with halves to the even number, at least 1 and at
    most ``total - 1``.

    Args:
        total: number of tokens, places or bands; at least 2.
        mask_ratio: share that is masked, strictly between 0 and 1.

    Returns:
        How many stay visible.

    Raises:
        ConfigError: if there is nothing to choose from.
    """
    if not 0 < mask_ratio < 1:
        raise ConfigError(
            f'mask_ratio must lie strictly between 0 and 1, got {mask_ratio}: with 0 nothing is '
            'left to reconstruct, with 1 nothing to see.'
        )
    if total < 2:
        raise ConfigError(
            f'A mask needs at least 2 tokens (channel masks 2 bands), got {total}; use a smaller '
            "patch size, a larger image, or mask_kind='token'."
        )
    return min(max(round(total * (1 - mask_ratio)), 1), total - 1)


def _keep_one(
    channels: int, places: int, mask_ratio: float, kind: str, rng: np.random.Generator
) -> np.ndarray:
    """Flat indices into (C, N) of the visible tokens of one sample, in ascending order."""
    grid = np.arange(channels * places).reshape(channels, places)
    if kind == 'spatial':
        grid = grid[:, rng.permutation(places)[: visible_count(places, mask_ratio)]]
    elif kind == 'channel':
        grid = grid[rng.permutation(channels)[: visible_count(channels, mask_ratio)]]
    else:
        flat = rng.permutation(channels * places)
        grid = flat[: visible_count(channels * places, mask_ratio)]
    return np.sort(grid, axis=None)


def keep_ids(
    channels: int,
    places: int,
    mask_ratio: float,
    keys: Sequence[int | str],
    seed: int,
    step: int,
    kind: str = 'token',
) -> Tensor:
    """Choose the visible tokens of each sample of a batch.

    Args:
        channels: number of bands C.
        places: number of tokens a band, N = Nh * Nw.
        mask_ratio: share of tokens that is masked, 0.75 in the paper.
        keys: one key a sample, e.g. its number in the data set.
        seed: seed of the run.
        step: training step; the same sample gets another mask at another step.
        kind: ``'token'`` (the paper: uniform over all C * N tokens), ``'spatial'`` (the same places
            in all bands), ``'channel'`` (whole bands), or ``'mixed'`` (one of the three a step, of
            those that leave something to see).

    Returns:
        Indices of shape (B, K) into the C * N tokens, ascending.

    Raises:
        ConfigError: if the kind or the ratio is impossible.
    """
    if kind not in MASK_KINDS:
        raise ConfigError(f'mask_kind must be one of {MASK_KINDS}, got {kind!r}.')
    if kind == 'mixed':
        # By step, not by sample: the kinds keep different numbers of tokens.
        possible = {'token': True, 'spatial': places > 1, 'channel': channels > 1}
        kinds = [name for name, fits in possible.items() if fits]
        kind = kinds[int(generator(seed, 'mask_kind', step).integers(len(kinds)))]
    rows = [
        _keep_one(channels, places, mask_ratio, kind, generator(seed, 'mask', step, key))
        for key in keys
    ]
    return torch.from_numpy(np.stack(rows))


def split_tokens(tokens: Tensor, ids_keep: Tensor) -> Tensor:
    """Visible tokens.

    Args:
        tokens: tokens of shape (B, S, D).
        ids_keep: indices of shape (B, K).

    Returns:
        Tokens of shape (B, K, D).
    """
    return tokens.gather(1, ids_keep[:, :, None].expand(-1, -1, tokens.shape[2]))


def unshuffle(visible: Tensor, ids_keep: Tensor, mask_token: Tensor, total: int) -> Tensor:
    """Whole sequence: visible tokens at their places, the mask token everywhere else.

    Args:
        visible: tokens of shape (B, K, D).
        ids_keep: their indices, of shape (B, K).
        mask_token: mask token of shape (D,).
        total: number of tokens S.

    Returns:
        Tokens of shape (B, S, D).
    """
    full = mask_token.to(visible.dtype).expand(visible.shape[0], total, -1)
    return full.scatter(1, ids_keep[:, :, None].expand_as(visible), visible)
