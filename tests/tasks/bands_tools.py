"""Every one of TorchGeo's tasks with bands, as small as it can be."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from task_tools import CLASSES, MODEL, SIZE, change_mask, label, loader, mask

from torchgeo_aom import tasks
from torchgeo_aom.models.aom import AOM

SSL = {'hidden_dim': 8, 'output_dim': 8, 'size': SIZE}
LABEL = {'label': label}
MASK = {'mask': mask()}
DENSE = {'num_classes': CLASSES}
TASKS: dict[str, tuple[type[LightningModule], dict[str, Any], dict[str, Any]]] = {
    'classification': (tasks.ClassificationTask, {'num_classes': CLASSES}, LABEL),
    'regression': (tasks.RegressionTask, {}, {'label': lambda: torch.rand(())}),
    'segmentation': (tasks.SemanticSegmentationTask, DENSE, MASK),
    'pixelwise': (tasks.PixelwiseRegressionTask, {}, {'mask': lambda: torch.rand(SIZE, SIZE)}),
    'change': (tasks.ChangeDetectionTask, {'model': 'fcsiamdiff'}, {'mask': change_mask}),
    'moco': (tasks.MoCoTask, SSL, {}),
    'simclr': (tasks.SimCLRTask, {**SSL, 'memory_bank_size': 0, 'temperature': 1.0}, {}),
    'byol': (tasks.BYOLTask, {}, {}),
}
BANDS: tuple[Any, ...] = ('rgb', ['sentinel2:B8A', 'sentinel2:B11'])
DENSE_TASKS = ('segmentation', 'pixelwise', 'change')


def build(name: str, /, **kwargs: Any) -> Any:
    cls, defaults, _ = TASKS[name]
    backbone = {'backbone' if name in DENSE_TASKS else 'model': kwargs.pop('name', MODEL)}
    return cls(**{**backbone, **defaults, **kwargs})


def data(name: str, channels: int, size: int = SIZE) -> Any:
    dates = (2,) if name == 'change' else ()
    # SimCLR's head ends in batch norm, which makes +1 and -1 of any two features: of two images,
    # the patch kernel gets gradients from 1e-10 to 1, by seed and rounding; of four, from 0.09 on.
    count = 4 if name == 'simclr' else 2
    return loader(*dates, channels, size, size, count=count, **TASKS[name][2])


def models(task: LightningModule) -> list[AOM]:
    return [m for m in task.modules() if isinstance(m, AOM)]


def indices(task: LightningModule) -> list[float]:
    found = [[band.index for band in model.bands or ()] for model in models(task)]
    assert all(one == found[0] for one in found)
    return found[0]
