"""A model that is made in milliseconds, and what tests of weights compare."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_aom.models.aom import AOM

ROOT = Path(__file__).resolve().parents[2]


def nano(**kwargs: Any) -> AOM:
    options: dict[str, Any] = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'bands': [1, 2, 3]}
    return AOM(**{'kernel_sizes': (4, 8, 16), 'patch_size': 8, **options, **kwargs}).eval()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
