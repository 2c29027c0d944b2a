"""The hypercolumn head in `torchgeo-aom segment`: maps once, strength chosen by validation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, InputError
from ..files import replacing
from ..models.feature_memory import FeatureMemory
from ..models.hypercolumn import STRENGTHS
from ..models.precision import mixed_precision
from .dense_scores import iou_report
from .pixel_training import Chip, PixelSettings, draw, gather, train_pixels
from .segmentation import SemanticSegmentationTask
from .short_training import quiet_lightning

__all__ = ('Places', 'chips_of', 'predict_maps', 'save_task', 'train_head')

Places = dict[str, list[Chip]]


def chips_of(
    task: SemanticSegmentationTask,
    samples: dict[str, tuple[list[Tensor], list[Tensor]]],
    memory: FeatureMemory | None,
    precision: str = 'float32',
    label: str = '',
) -> Places:
    """Images of all splits with the maps of the encoder, each computed once.

    Args:
        task: task with the hypercolumn head; its encoder is used.
        samples: normalized images and masks of each split.
        memory: keeps maps for the next call; None where the head sees no encoder.
        precision: of the encoder's products.
        label: what is said while it runs.

    Returns:
        The images of each split.
    """
    encoder = task.model.encoder
    found: Places = {}
    with torch.inference_mode(), mixed_precision(torch.device('cpu'), precision):
        for split, (images, masks) in samples.items():
            if memory is None:
                maps: list[Any] = [None] * len(images)
            else:
                encoder.memory = memory
                maps = []
                for k, image in enumerate(images):
                    maps.append(
                        torch.stack([x[0].float() for x in encoder.token_maps(image[None])])
                    )
                    if (k + 1) % 50 == 0:
                        print(
                            f'  {label}: maps of {k + 1}/{len(images)} ({split})', file=sys.stderr
                        )
                encoder.memory = None
            found[split] = [Chip(*one) for one in zip(images, masks, maps, strict=True)]
    return found


def predict_maps(task: SemanticSegmentationTask, chips: Sequence[Chip]) -> list[NDArray[Any]]:
    """Class of each pixel of images whose maps are known."""
    model = task.model.eval()
    patch = model.encoder.patch_embed.patch_size
    said = []
    with torch.inference_mode():
        for chip in chips:
            maps = [] if chip.maps is None else list(chip.maps[:, None])
            logits = model.decoder(chip.image[None], model.codes(), maps, patch)
            said.append(logits[0].argmax(0).numpy())
    return said


def train_head(
    make: Any,
    places: Places,
    settings: PixelSettings,
    seed: int,
    facts: dict[str, Any],
    strengths: Sequence[str] = tuple(STRENGTHS),
) -> tuple[SemanticSegmentationTask, str, dict[str, float]]:
    """Train the head at each strength of context, and keep the best on validation images.

    Args:
        make: strength to a task with fresh head and the encoder.
        places: images of ``'train'`` and ``'val'``.
        settings: how to train.
        seed: of pixels, head and order.
        facts: ``classes``, ``ignore_index`` and ``ignored`` of :func:`.iou_report`.
        strengths: those to compare; without validation images ``'weak'`` is taken.

    Returns:
        The task, its strength, and the mean IoU on validation images of each strength.
    """
    train, val = places['train'], places.get('val') or []
    strengths = _possible(strengths, train)
    if not val and len(strengths) > 1:
        strengths = ['weak'] if 'weak' in strengths else strengths[:1]
        print('  no validation images: context is not chosen', file=sys.stderr)
    positions = draw([chip.mask for chip in train], settings.pixels, seed, facts['ignore_index'])
    _check_labels(train, positions, len(facts['classes']), facts['ignore_index'])
    scores: dict[str, float] = {}
    best: tuple[SemanticSegmentationTask, str] | None = None
    for strength in strengths:
        seed_everything(seed, verbose=False)
        task = make(strength)
        head, patch = task.model.decoder, task.model.encoder.patch_embed.patch_size
        pixels = gather(head, train, patch, positions)
        train_pixels(head, pixels, task.model.codes(), settings, seed)
        scores[strength] = 0.0
        if len(strengths) > 1:
            scores[strength] = iou_report(
                [chip.mask.numpy() for chip in val], predict_maps(task, val), facts['classes'],
                facts['ignore_index'], facts['ignored'],
            )['mean IoU']  # fmt: skip
        if best is None or scores[strength] > scores[best[1]]:
            best = (task, strength)
    if best is None:
        raise ConfigError('strengths is empty: name one of none, weak, strong at least')
    return *best, scores


def _possible(strengths: Sequence[str], train: Sequence[Chip]) -> list[str]:
    """Strengths with no more components than there are tokens to fit them to."""
    tokens = sum(chip.maps[0, 0].numel() for chip in train if chip.maps is not None)
    kept = [name for name in strengths if STRENGTHS[name][0] <= tokens]
    if left := [name for name in strengths if name not in kept]:
        said = f'  context {", ".join(left)}: left out, {tokens} tokens are too few'
        print(said, file=sys.stderr)
    return kept


def _check_labels(
    train: Sequence[Chip], positions: Sequence[Any], classes: int, ignore: int | None
) -> None:
    drawn = zip(train, positions, strict=True)
    labels = torch.cat([chip.mask.flatten()[torch.from_numpy(own)] for chip, own in drawn])
    seen = labels.unique().tolist()
    if wrong := [value for value in seen if not 0 <= value < classes]:
        raise InputError(
            f'training masks hold {wrong[:10]}, which are no classes (0 to {classes - 1}) and not '
            f'the value to ignore ({ignore}); correct the masks, or the classes of the data set'
        )
    if len(seen) < 2:
        raise ConfigError(
            f'the training pixels have fewer than two classes (only {seen}), so there is nothing '
            'to learn; use another split or more images'
        )


def save_task(task: SemanticSegmentationTask, path: Path) -> None:
    """Write the checkpoint of a task, whole or absent, for `torchgeo-aom scene predict`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet_lightning():
        trainer = Trainer(
            accelerator='cpu', logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=path.parent,
        )  # fmt: skip
        trainer.strategy.connect(task)
        with replacing(path) as part:
            trainer.save_checkpoint(part)
