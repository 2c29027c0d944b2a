"""What a pretraining step does depends on its number alone: learning rate and patch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from torch import nn

from ..rng import generator

__all__ = ('OPTIMIZERS', 'decay_groups', 'muon_groups', 'scales_of_step', 'warmup_cosine')

OPTIMIZERS = ('adamw', 'muon')


def warmup_cosine(warmup: int, total: int) -> Callable[[int], float]:
    """Factor of the learning rate: linear warm-up, then half a cosine down to zero.

    Args:
        warmup: steps of warm-up.
        total: steps of the run, warm-up included.

    Returns:
        Function of the step, 0 to ``total - 1``.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.5 * (1 + math.cos(math.pi * done))

    return factor


def scales_of_step(
    step: int, patch_sizes: Sequence[int], count: int | None, seed: int
) -> tuple[int, ...]:
    """Patch sizes of a step.

    All subsets of the size wanted take turns in a keyed order, so each patch size, and each pair of
    them, comes equally often; an interrupted run goes on where it was.

    Args:
        step: number of the step.
        patch_sizes: all patch sizes.
        count: how many a step, or None for all.
        seed: seed of the run.

    Returns:
        Patch sizes in ascending order.
    """
    sizes = sorted(patch_sizes)
    if count is None or count == len(sizes):
        return tuple(sizes)
    subsets = list(combinations(sizes, count))
    cycle, place = divmod(step, len(subsets))
    return subsets[int(generator(seed, 'scales', cycle).permutation(len(subsets))[place])]


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: biases, norms and what modules exclude are not decayed.

    Args:
        module: module whose children may have ``no_weight_decay()``, as timm's models do.
        weight_decay: weight decay of the others.

    Returns:
        Two groups: decayed, not decayed.
    """
    parameters = {k: p for k, p in module.named_parameters() if p.requires_grad}
    skip = {k for k, p in parameters.items() if p.ndim < 2}
    for name, child in module.named_modules():
        method = getattr(child, 'no_weight_decay', None)
        for key in method() if callable(method) else ():
            skip.add(f'{name}.{key}' if name else key)
    return [
        {
            'params': [p for k, p in parameters.items() if k not in skip],
            'weight_decay': weight_decay,
        },
        {'params': [p for k, p in parameters.items() if k in skip], 'weight_decay': 0.0},
    ]


def muon_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for timm's Muon: matrices of transformer blocks, the rest by AdamW.

    Args:
        module: module with transformer blocks at paths with ``blocks`` in them.
        weight_decay: as of :func:`decay_groups`.

    Returns:
        Up to four groups; those with ``use_fallback`` are AdamW's.
    """
    matrices = {
        id(p) for k, p in module.named_parameters() if 'blocks' in k.split('.') and p.ndim == 2
    }
    groups = []
    for group in decay_groups(module, weight_decay):
        for fallback in (False, True):
            chosen = [p for p in group['params'] if (id(p) not in matrices) == fallback]
            if chosen:
                groups.append({**group, 'params': chosen, 'use_fallback': fallback})
    return groups
