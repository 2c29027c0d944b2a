"""Land cover of the sample places: a head on a frozen backbone, its maps, and a baseline."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from .. import __version__
from ..data.crops import RandomCrops
from ..data.samples import SentinelPairs
from ..files import replacing
from ..models.aom import AOM
from ..models.speed import plain_speed, speed_text
from ..transforms import Normalize, NormalizeSample
from .dense_scores import fit_pixels, iou_report
from .feature_cache import content
from .segmentation import SemanticSegmentationTask
from .short_training import TrainingProgress, quiet_lightning

__all__ = ('HeadSettings', 'load_half', 'pixel_regression', 'predict', 'rate', 'train_head')

# A class with fewer labelled pixels than this says nothing about a map of 125,000.
MIN_PIXELS = 100
REGRESSION_PIXELS = 5000


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained."""

    seed: int = 0
    patch_size: int = 8
    steps: int = 60
    batch_size: int = 8
    crop: int = 56
    lr: float = 1e-3


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
    """Train a UPerNet head on a frozen backbone, with all bands of L2A, in the western halves.

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
        'upernet',
        model,
        bands=spec,
        patch_size=settings.patch_size,
        speed=plain_speed(speed),
        num_classes=len(SentinelPairs.classes),
        ignore_index=SentinelPairs.ignore_index,
        lr=settings.lr,
        freeze_backbone=True,
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
    crops = RandomCrops(places, settings.crop, settings.steps * settings.batch_size, settings.seed)
    # TorchGeo's scheduler wants a validation loss; it comes from crops of the western halves too.
    check = RandomCrops(places, settings.crop, settings.batch_size, settings.seed + 1)
    with quiet_lightning(), tempfile.TemporaryDirectory(dir=folder) as scratch:
        trainer = Trainer(
            accelerator='cpu',
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[TrainingProgress('training the head', settings.steps)],
            default_root_dir=scratch,
        )
        train, validate = (DataLoader(data, settings.batch_size) for data in (crops, check))
        trainer.fit(task, train, validate)
        with replacing(path) as part:
            trainer.save_checkpoint(part)
    return path, False


def predict(task: SemanticSegmentationTask, image: Tensor, size: int) -> np.ndarray[Any, Any]:
    """Class of each pixel, window by window of the size of the training crops.

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
