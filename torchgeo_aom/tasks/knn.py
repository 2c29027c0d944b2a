"""Nearest neighbors by cosine similarity with a weighted vote, in chunks, in PyTorch only."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, InputError

__all__ = ('TEMPERATURE', 'knn_scores')

TEMPERATURE = 0.07
CHUNK = 1 << 24


def knn_scores(
    train: NDArray[Any] | Tensor,
    labels: NDArray[Any] | Tensor,
    test: NDArray[Any] | Tensor,
    k: int = 20,
    temperature: float = TEMPERATURE,
    num_classes: int | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Vote of the k most similar training samples, each with the weight exp(cosine / temperature).

    Args:
        train: features of shape (N, D) of the samples whose labels are known.
        labels: their classes of shape (N,), or zeros and ones of shape (N, K).
        test: features of shape (M, D).
        k: neighbors that vote; all training samples where these are fewer.
        temperature: the smaller, the more the nearest count.
        num_classes: number of classes; as many as the labels name where not given.
        chunk: test samples at a time; as many as fit into 64 MiB of similarities where not given.

    Returns:
        Share of the votes for each class, or for each label, of shape (M, K).

    Raises:
        ConfigError: if k or the temperature are not positive.
        InputError: if there is no training sample, or shapes do not fit.
    """
    if k < 1 or temperature <= 0:
        raise ConfigError(f'k and temperature must be positive, got {k} and {temperature}')
    known, asked = (torch.as_tensor(x, dtype=torch.float32) for x in (train, test))
    y = torch.as_tensor(labels)
    if known.ndim != 2 or asked.ndim != 2 or known.shape[1] != asked.shape[1] or not len(known):
        raise InputError(
            f'neighbors need features (N, D) and (M, D), and N not 0, got {tuple(known.shape)} '
            f'and {tuple(asked.shape)}'
        )
    if len(y) != len(known) or y.ndim not in (1, 2):
        raise InputError(f'{len(known)} samples have labels of shape {tuple(y.shape)}')
    votes = F.one_hot(y.long(), num_classes or int(y.max()) + 1) if y.ndim == 1 else y
    votes = votes.to(known)
    known, asked = F.normalize(known, dim=1), F.normalize(asked, dim=1)
    k = min(k, len(known))
    parts = []
    for rows in asked.split(chunk or max(CHUNK // len(known), 1)):
        nearest, places = (rows @ known.T).topk(k, dim=1)
        # Relative to the nearest, so that no exponential overflows.
        weights = ((nearest - nearest[:, :1]) / temperature).exp()
        weights = weights / weights.sum(1, keepdim=True)
        parts.append(torch.einsum('mk,mkc->mc', weights, votes[places]))
    return torch.cat(parts) if parts else votes.new_zeros(0, votes.shape[1])
