"""What tells whether pretraining goes well: spread and rank of embeddings, speed, pictures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ..errors import AOMWarning, ConfigError, DataError
from ..files import write_whole

__all__ = (
    'CollapseAlarm',
    'embedding_std',
    'neighbor_mean',
    'rank_me',
    'reconstruction_figure',
    'scale_similarity',
    'write_samples',
)


def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of embeddings over images.

    Args:
        embeddings: embeddings of shape (B, D).

    Returns:
        Standard deviation over images of the embeddings scaled to unit length, as a root mean
        square over dimensions times the root of D: 0 where all images have the same embedding, 1
        where directions are random.
    """
    unit = F.normalize(embeddings.float(), dim=-1)
    return (unit - unit.mean(0)).square().sum(-1).mean().sqrt()


def rank_me(embeddings: Tensor) -> Tensor:
    """Effective rank of embeddings (RankMe, Garrido et al. 2023).

    Args:
        embeddings: embeddings of shape (B, D).

    Returns:
        Exponential of the entropy of the singular values: 1 where all embeddings are multiples of
        one, at most min(B, D).
    """
    values = torch.linalg.svdvals(embeddings.float())
    share = values / values.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()


def scale_similarity(embeddings: Sequence[Tensor]) -> Tensor:
    """Mean cosine similarity of the embeddings of one image at different scales.

    Args:
        embeddings: one tensor of shape (B, d) for each of at least two scales.

    Returns:
        Mean over images and pairs of scales.
    """
    unit = F.normalize(torch.stack(tuple(embeddings)).float(), dim=-1)  # (n, B, d)
    cosine = torch.einsum('ibd,jbd->ijb', unit, unit).mean(-1)
    count = len(unit)
    return (cosine.sum() - cosine.diagonal().sum()) / (count * (count - 1))


class CollapseAlarm:
    """Says when embeddings have become the same for all images, and stay so.

    An alignment loss without negatives is at its minimum there, so the loss itself does not tell.
    """

    def __init__(self, threshold: float, steps: int, action: str) -> None:
        """Initialize the alarm.

        Args:
            threshold: smallest :func:`embedding_std` that is no collapse.
            steps: number of steps below it, one after the other, that raise the alarm.
            action: ``'warn'``, ``'stop'`` or ``'off'``.

        Raises:
            ConfigError: if the action is unknown or there are no steps to wait.
        """
        if action not in ('warn', 'stop', 'off'):
            raise ConfigError(f"on_collapse must be 'warn', 'stop' or 'off', got {action!r}.")
        if steps < 1:
            raise ConfigError(f'collapse_steps must be at least 1, got {steps}.')
        self.threshold, self.steps, self.action = threshold, steps, action
        self.below = 0

    def update(self, spread: float, step: int) -> None:
        """Take the spread of one step.

        Args:
            spread: :func:`embedding_std` of a batch of at least two images.
            step: number of the step.

        Raises:
            DataError: if embeddings have collapsed and the action is ``'stop'``.

        Warns:
            AOMWarning: if they have and the action is ``'warn'``; once until they recover.
        """
        self.below = self.below + 1 if spread < self.threshold else 0
        if self.below != self.steps or self.action == 'off':
            return
        message = (
            f'The embeddings have collapsed: for {self.steps} steps up to step {step} their spread '
            f'over images (embedding_std) is below {self.threshold}, now {spread:.2g}; all images '
            "look the same to the encoder. Use negatives='batch', a smaller align_weight or a "
            'lower learning rate; on_collapse and collapse_std set this alarm.'
        )
        if self.action == 'stop':
            self.below = 0
            raise DataError(message)
        warnings.warn(message, AOMWarning, stacklevel=2)


def write_samples(
    path: Path, batch: Mapping[str, Any], infinite: Sequence[bool], facts: Mapping[str, Any]
) -> None:
    """Write down which samples a batch held when something went wrong.

    Args:
        path: the file to write.
        batch: the batch.
        infinite: whether each image has pixels that are not finite.
        facts: what else is known.
    """
    names = batch.get('name') or [int(key) for key in batch['key']]
    record = {
        **facts,
        'source': batch.get('source'),
        'bands': list(batch['bands']),
        'samples': list(names),
        'samples_with_infinite_pixels': [n for n, b in zip(names, infinite, strict=True) if b],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1).encode())


def neighbor_mean(image: Tensor, codes: Sequence[float], missing: float) -> Tensor:
    """The simplest guess at a missing band: the mean of the two bands around it.

    Args:
        image: images of shape (B, C, H, W).
        codes: channel index of each band.
        missing: channel index of the missing band; past the ends, the nearest band is the guess.

    Returns:
        Band of shape (B, H, W).
    """
    order = np.argsort(codes)
    ordered = [float(codes[k]) for k in order]
    for (low, below), (high, above) in pairwise(zip(order, ordered, strict=True)):
        if below <= missing <= above:
            return image[:, [int(low), int(high)]].mean(1)
    return image[:, int(order[0] if missing < ordered[0] else order[-1])]


def reconstruction_figure(
    image: Tensor,
    predicted: Tensor,
    masked: Tensor,
    bands: Sequence[str],
    valid: Tensor | None = None,
    title: str = '',
) -> Figure:
    """Plot input, masked input, reconstruction and error of each band of one image.

    Args:
        image: normalized image of shape (C, H, W).
        predicted: prediction of all pixels, of the same shape; only masked ones are shown.
        masked: which pixels were hidden from the encoder, bool of the same shape.
        bands: name of each band.
        valid: which pixels hold data, bool of the same shape; None for all.
        title: title of the figure.

    Returns:
        The figure: one row a band. Input and reconstruction share a color range, the error has its
        own, the same for all bands.
    """
    image, predicted = image.detach().float().cpu(), predicted.detach().float().cpu()
    masked = masked.detach().cpu()
    known = torch.ones_like(masked) if valid is None else valid.detach().cpu()
    rows = len(bands)
    figure = Figure(figsize=(7.2, 0.5 + 1.7 * rows), layout='constrained')
    axes = figure.subplots(rows, 4, squeeze=False)
    error = (predicted - image).masked_fill(~(masked & known), float('nan'))
    finite = error[~error.isnan()].abs()
    most = float(finite.quantile(0.98)) if 0 < finite.numel() < 10_000_000 else 1.0
    for row, name in enumerate(bands):
        pixels = image[row][known[row]]
        low, high = np.percentile(pixels, (2, 98)) if pixels.numel() else (0.0, 1.0)
        whole = torch.where(masked[row], predicted[row], image[row])
        panels = (
            image[row].masked_fill(~known[row], float('nan')),
            image[row].masked_fill(masked[row] | ~known[row], float('nan')),
            whole.masked_fill(~known[row], float('nan')),
        )
        for axis, panel in zip(axes[row], panels, strict=False):
            axis.imshow(panel, cmap='viridis', vmin=low, vmax=high, interpolation='none')
        drawn = axes[row, 3].imshow(
            error[row], cmap='PuOr', vmin=-most, vmax=most, interpolation='none'
        )
        axes[row, 0].set_ylabel(name, fontsize='small')
    for axis, name in zip(axes[0], ('input', 'visible', 'reconstruction', 'error'), strict=True):
        axis.set_title(name, fontsize='small')
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_facecolor('lightgray')
    figure.colorbar(drawn, ax=axes[:, 3], shrink=min(1.0, 2 / rows), label='standard deviations')
    figure.suptitle(title)
    return figure
