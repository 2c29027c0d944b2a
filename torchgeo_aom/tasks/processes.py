"""What the processes of a distributed run know of each other."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

__all__ = ('gather_images', 'world_size')


def world_size() -> int:
    """Number of processes of a distributed run, 1 where there is none."""
    running = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if running else 1


def gather_images(x: Tensor) -> Tensor:
    """The embeddings of all processes, with the gradients that one process would have.

    Every process computes the same loss of all embeddings, so the gradient at its own ones is
    already whole; it is multiplied by the number of processes, by which their mean divides it.

    Args:
        x: embeddings of shape (n, B, D); B may differ between processes.

    Returns:
        Embeddings of shape (n, sum of B, D).
    """
    world = world_size()
    if world == 1:
        return x
    size = torch.tensor([x.shape[1]], device=x.device)
    sizes = [torch.empty_like(size) for _ in range(world)]
    distributed.all_gather(sizes, size)
    own = x.detach()
    padded = F.pad(own, (0, 0, 0, int(max(sizes)) - x.shape[1])).contiguous()
    parts = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded)
    parts = [part[:, : int(count)] for part, count in zip(parts, sizes, strict=True)]
    parts[distributed.get_rank()] = own + world * (x - own)
    return torch.cat(parts, dim=1)
