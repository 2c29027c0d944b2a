"""Trains the hypercolumn head: on pixels drawn one by one, from maps that were computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from ..errors import InputError
from ..layers.pyramid import resample_map
from ..models.hypercolumn import Hypercolumn, local_statistics

__all__ = ('Chip', 'PixelSettings', 'Pixels', 'class_weights', 'draw', 'gather', 'train_pixels')

TOKENS = 20000  # for the principal components


@dataclass(frozen=True)
class Chip:
    """An image, what it is labelled with, and what the encoder makes of it.

    Attributes:
        image: normalized image (C, H, W).
        mask: class of each pixel (H, W).
        maps: maps of some blocks (L, D, Nh, Nw); None where no encoder is used.
    """

    image: Tensor
    mask: Tensor
    maps: Tensor | None = None


@dataclass(frozen=True)
class PixelSettings:
    """How the head is trained.

    Attributes:
        pixels: number of pixels, the same of every image as far as there are.
        steps: steps of the optimizer.
        batch_size: pixels a step.
        lr: highest learning rate, of one cycle.
        weight_decay: of AdamW.
        band_dropout: share of the pixels of a step that lose some of their bands, so that the
            head gets on with fewer.
        balance: power of the inverse frequency that a class is weighted with; 0 for none.
    """

    pixels: int = 14000
    steps: int = 450
    batch_size: int = 1024
    lr: float = 2e-3
    weight_decay: float = 0.05
    band_dropout: float = 0.0
    balance: float = 0.0


@dataclass(frozen=True)
class Pixels:
    """Pixels to train on: standardized statistics (N, C, 7), context (N, K), classes (N,)."""

    statistics: Tensor
    context: Tensor | None
    labels: Tensor


def draw(
    masks: Sequence[Tensor], count: int, seed: int, ignore_index: int | None
) -> list[NDArray[np.int64]]:
    """Draw labelled pixels, evenly over the images.

    Args:
        masks: class of each pixel.
        count: how many, all images together.
        seed: chooses them.
        ignore_index: value of a mask that counts nowhere.

    Returns:
        Positions in each flattened mask.

    Raises:
        InputError: if no pixel is labelled.
    """
    random = np.random.default_rng(seed)
    known = [
        np.flatnonzero(np.ones(mask.numel(), bool) if ignore_index is None
                       else mask.flatten().numpy() != ignore_index)
        for mask in masks
    ]  # fmt: skip
    labelled = sum(len(own) > 0 for own in known)
    if not labelled:
        raise InputError(
            f'none of the {len(masks)} training masks has a labelled pixel (all are '
            f'{ignore_index}): nothing can be learned from them'
        )
    each = -(-count // labelled)
    return [
        np.sort(random.choice(own, min(each, len(own)), replace=False)) if len(own) else own
        for own in known
    ]


def gather(head: Hypercolumn, chips: Sequence[Chip], patch: tuple[int, int],
           positions: Sequence[NDArray[np.int64]]) -> Pixels:  # fmt: skip
    """Fit what the head takes from the data as it is, and read the pixels.

    Args:
        head: its components and units are fitted, in place.
        chips: training images.
        patch: patch size of the maps in px.
        positions: pixels of each image, see :func:`draw`.

    Returns:
        The pixels.
    """
    raw = torch.cat(
        [
            local_statistics(chip.image[None])[0].flatten(2)[:, :, torch.from_numpy(own)]
            .permute(2, 0, 1)
            for chip, own in zip(chips, positions, strict=True)
        ]
    )  # fmt: skip
    head.fit_statistics(raw)
    statistics = (raw - head.kind_mean) * head.kind_scale
    labels = torch.cat(
        [chip.mask.flatten()[torch.from_numpy(p)] for chip, p in zip(chips, positions, strict=True)]
    )
    if not head.components:
        return Pixels(statistics, None, labels)
    maps = [chip.maps for chip in chips if chip.maps is not None]
    total = sum(one[0, 0].numel() for one in maps)
    step = max(1, total // TOKENS)
    head.fit_context(torch.cat([one.flatten(0, 1).flatten(1).T[::step].float() for one in maps]))
    context = []
    for chip, one, own in zip(chips, maps, positions, strict=True):
        grid = head.reduced([one.flatten(0, 1)[None].float()])
        size = (chip.image.shape[1], chip.image.shape[2])
        context.append(resample_map(grid, patch, size, 1)[0].flatten(1)[:, own].T)
    return Pixels(statistics, torch.cat(context), labels)


def class_weights(labels: Tensor, classes: int, power: float) -> Tensor | None:
    """Weight of each class in the loss, 1 on average over the pixels.

    Args:
        labels: classes of the training pixels.
        classes: number of classes.
        power: of the inverse frequency; 0 for no weights.
    """
    if not power:
        return None
    counts = torch.bincount(labels, minlength=classes).double()
    weight = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0.0)
    return (weight / (weight * counts).sum() * counts.sum()).float()


def train_pixels(
    head: Hypercolumn,
    pixels: Pixels,
    codes: Tensor,
    settings: PixelSettings,
    seed: int,
    said: Callable[[int, float], object] = lambda step, loss: None,
) -> None:
    """Train the head, in place.

    Args:
        head: the head, fitted to these pixels by :func:`gather`.
        pixels: training pixels.
        codes: channel indices of the bands, (C,).
        settings: how.
        seed: of order and dropout.
        said: is told each step and its loss.
    """
    settings_steps = settings.steps
    optimizer = AdamW(head.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = OneCycleLR(optimizer, settings.lr, settings_steps)
    weight = class_weights(pixels.labels, head.layers[-1].out_features, settings.balance)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(seed)
    count = len(pixels.labels)
    size = min(settings.batch_size, count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head.train()
        order = torch.empty(0, dtype=torch.long)
        for step in range(settings_steps):
            if len(order) < size:
                order = torch.cat([order, torch.randperm(count, generator=random)])
            some, order = order[:size], order[size:]
            values = _fewer_bands(pixels.statistics[some], settings.band_dropout, random)
            context = None if pixels.context is None else pixels.context[some]
            logits = head.rows(values, codes, context)
            loss = F.cross_entropy(logits, pixels.labels[some], weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            said(step + 1, float(loss.detach()))
    head.eval()


def _fewer_bands(values: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Some pixels lose bands: their statistics become the mean, which is 0."""
    count, channels = values.shape[:2]
    if not share or channels == 1:
        return values
    kept = torch.rand(count, channels, generator=random) < torch.rand(count, 1, generator=random)
    whole = torch.rand(count, 1, generator=random) >= share
    return values * (kept | whole)[:, :, None]
