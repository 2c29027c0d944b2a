"""A ResNet-18 with UPerNet, trained end to end: what a frozen encoder is compared with."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from torchgeo_aom.datamodules.base import BandDataModule
from torchgeo_aom.tasks.dense_scores import iou_report

RATE = 1e-3


def resnet_water(data: BandDataModule, seed: int, steps: int) -> float:
    """Train it on the training split and measure it on the test split.

    Args:
        data: images with masks, set up.
        seed: of weights and order.
        steps: batches to train on.

    Returns:
        Mean IoU over classes, 0 to 1.
    """
    torch.manual_seed(seed)
    model: Any = smp.UPerNet(
        'resnet18', encoder_weights=None, in_channels=len(data.bands), classes=data.num_classes
    )
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    done = 0
    model.train()
    while done < steps:
        for batch in data.train_dataloader():
            batch = data.prepare(batch, training=True)
            for group in optimizer.param_groups:
                group['lr'] = RATE * (1 - done / steps) ** 0.9
            loss = F.cross_entropy(
                model(batch['image']), batch['mask'], ignore_index=data.ignore_index
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    model.eval()
    truth, said = [], []
    dataset: Any = data.test_dataset
    with torch.inference_mode():
        for k in range(len(dataset)):
            sample = {key: dataset[k][key][None] for key in ('image', 'mask')}
            batch = data.prepare(sample)
            said.append(model(batch['image']).argmax(1)[0].numpy())
            truth.append(batch['mask'][0].numpy())
    return float(iou_report(truth, said, data.classes, data.ignore_index, ())['mean IoU'])
