"""A pretraining task that takes a step in milliseconds, and its batches."""

from typing import Any

import pytest
import torch
from torch import Tensor

from torchgeo_aom.data.samples import EuroSAT200
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.transforms import Normalize

BANDS = ['sentinel2:B02', 'sentinel2:B03', 'sentinel2:B04', 'sentinel2:B08']
TINY: dict[str, Any] = {
    'model': 'aom_vitt', 'patch_sizes': (8, 16), 'kernel_sizes': (8,), 'embed_dim': 32, 'depth': 2,
    'num_heads': 2, 'decoder_width': 32, 'decoder_depth': 1, 'projector_dim': 16, 'batch_size': 4,
}  # fmt: skip


def tiny(**options: Any) -> PretrainTask:
    torch.manual_seed(0)
    return PretrainTask(**{**TINY, **options})


@pytest.fixture(scope='module')
def images() -> Tensor:
    """Real chips of Sentinel-2, one of each of eight classes, cropped."""
    dataset = EuroSAT200(BANDS)
    chips = torch.stack([dataset[20 * k]['image'] for k in range(8)])
    return Normalize(BANDS, product='sentinel2:l1c')(chips)[:, :, :32, :32]


@pytest.fixture
def batch(images: Tensor) -> dict[str, Any]:
    return {
        'image': images[:4].clone(),
        'bands': BANDS,
        'key': torch.arange(4),
        'source': 'eurosat',
        'step': 0,
    }
