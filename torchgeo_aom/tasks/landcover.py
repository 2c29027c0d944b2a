"""Land cover of the sample places: a head on a frozen backbone, its maps, and a baseline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import seed_everything
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..data.samples import SentinelPairs
from ..models.aom import AOM
from ..models.feature_memory import FeatureMemory
from ..models.speed import plain_speed, speed_text
from ..transforms import Normalize, NormalizeSample
from .dense_scores import fit_pixels, iou_report
from .feature_cache import content
from .pixel_training import PixelSettings, draw, gather, train_pixels
from .segment_head import chips_of, save_task
from .segmentation import SemanticSegmentationTask

__all__ = ('HeadSettings', 'load_half', 'pixel_regression', 'predict', 'rate', 'train_head')

# A class with fewer labelled pixels than this says nothing about a map of 125,000.
MIN_PIXELS = 100
REGRESSION_PIXELS = 5000


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained."""

    seed: int = 0
    patch_size: int = 8
    pixels: int = 14000
    steps: int = 450
    batch_size: int = 1024
    lr: float = 2e-3
    #: of the windows that the encoder sees, in px
    window: int = 112
    #: how much of the encoder the head sees
    context: Literal['none', 'weak', 'strong'] = 'weak'
    #: share of the pixels that lose bands: the head is run on fewer bands than it is trained on
    band_dropout: float = 0.25


def load_half(level: str, spec: str, half: str) -> list[dict[str, Tensor]]:
    """Places as normalized images with masks."""
    places = SentinelPairs(level, spec, half)
    statistics = f'sentinel2:{level}'
    normalize = Normalize(places.bands, product=places.product, statistics=statistics)
    places.transforms = NormalizeSample(normalize)
    return [places[k] for k in range(len(places))]


def train_head(
    backbone: AOM, model: str, settings: HeadSettings, folder: Path
) -> tuple[Path, bool]:
    """Train a hypercolumn head on a frozen backbone, with all bands of L2A, in the western halves.

    Args:
        backbone: what the head sees the images through.
        model: its name.
        settings: how to train.
        folder: where checkpoints are, named by the hash of all that they depend on.

    Returns:
        Path of the checkpoint of the task, and whether it was there already.
    """
    level, spec = 'l2a', 'sentinel2:l2a'
    speed = speed_text(backbone.speed)
    seed_everything(settings.seed, verbose=False)
    task = SemanticSegmentationTask(
        'hypercolumn',
        model,
        bands=spec,
        patch_size=settings.patch_size,
        speed=plain_speed(speed),
        num_classes=len(SentinelPairs.classes),
        ignore_index=SentinelPairs.ignore_index,
        freeze_backbone=True,
        context=settings.context,
    )
    task.model.encoder.load_state_dict(backbone.state_dict())
    places = load_half(level, spec, 'west')
    digest = hashlib.sha256(
        f'{__version__} {torch.__version__} {asdict(settings)} {speed}'.encode()
    )
    for value in (*task.state_dict().values(), *(v for place in places for v in place.values())):
        digest.update(content(value))
    path = folder / f'{digest.hexdigest()[:16]}.ckpt'
    if path.is_file():
        return path, True
    side = settings.window
    images = [part for place in places for part in place['image'].split(side, 1)]
    masks = [part for place in places for part in place['mask'].split(side)]
    chips = chips_of(task, {'train': (images, masks)}, FeatureMemory())['train']
    head, patch = task.model.decoder, task.model.encoder.patch_embed.patch_size
    positions = draw(masks, settings.pixels, settings.seed, SentinelPairs.ignore_index)
    pixels = gather(head, chips, patch, positions)
    how = PixelSettings(
        settings.pixels,
        settings.steps,
        settings.batch_size,
        settings.lr,
        band_dropout=settings.band_dropout,
    )
    with tqdm(desc='training the head', total=how.steps, unit='step', disable=None) as bar:
        train_pixels(head, pixels, task.model.codes(), how, settings.seed, lambda *_: bar.update())
    save_task(task, path)
    return path, False


def predict(task: SemanticSegmentationTask, image: Tensor, size: int) -> np.ndarray[Any, Any]:
    """Class of each pixel, window by window of the size that the head was trained at.

    .. versionadded:: 0.1
    """
    windows = image.unfold(1, size, size).unfold(2, size, size)  # (C, rows, columns, size, size)
    _, rows, columns, *_ = windows.shape
    with torch.inference_mode():
        classes = task(windows.permute(1, 2, 0, 3, 4).flatten(0, 1)).argmax(1)
    joined = classes.unflatten(0, (rows, columns)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return np.asarray(joined)


def rate(masks: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
    """Mean IoU over classes that occur, pixel accuracy, and the IoU of each class."""
    classes, ignore = SentinelPairs.classes, SentinelPairs.ignore_index
    return iou_report(masks, predictions, classes, ignore, min_pixels=MIN_PIXELS)


def pixel_regression(level: str, spec: str, seed: int) -> Callable[[Tensor], Any]:
    """Fit the baseline: logistic regression of single pixels, of the same bands."""
    west = load_half(level, spec, 'west')
    images, masks = ([place[key] for place in west] for key in ('image', 'mask'))
    return fit_pixels(images, masks, REGRESSION_PIXELS, seed, SentinelPairs.ignore_index)
