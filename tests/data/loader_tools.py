"""Sources, loaders and samplers that tests of the loader share."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgeo_aom.data.chips import PretrainDataset
from torchgeo_aom.data.loader import KeyedLoader, PretrainDataModule
from torchgeo_aom.data.sampler import KeyedSampler
from torchgeo_aom.data.source import Source

RGB = ('B04', 'B03', 'B02')
# A folder for each source: number of images, size.
FOLDERS = {'s2': (22, (4, 12, 16)), 'rgb': (13, (3, 9, 9))}


def blocks(chips: Path, **facts: Any) -> list[dict[str, Any]]:
    return [
        {
            'path': str(chips / 's2'),
            'sensor': 'sentinel2',
            'bands': ['B02', 'B03', 'B04', 'B08'],
            'product': 'l2a',
            **facts,
        },
        {'path': str(chips / 'rgb'), 'sensor': 'rgb', 'unit': 'uint8'},
    ]


def module(sources: Any, **options: Any) -> PretrainDataModule:
    found = PretrainDataModule(sources, **{'batch_size': 4, 'seed': 7, **options})
    found.setup('fit')
    return found


def loader(sources: Any, **options: Any) -> KeyedLoader:
    return module(sources, **options).train_dataloader()


def sampler(sources: Any, rank: int = 0, world_size: int = 1, **options: Any) -> KeyedSampler:
    one = module(sources)
    dataset = PretrainDataset(one.sources, one.readers, one.normalizers)
    return KeyedSampler(dataset, **{'batch_size': 4, 'seed': 7, **options}, rank=rank,
                        world_size=world_size)  # fmt: skip


def equal(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    if len(left) != len(right):
        return False
    for one, other in zip(left, right, strict=True):
        if one.keys() != other.keys():
            return False
        for key, value in one.items():
            same = (
                torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
            )
            if not same:
                return False
    return True


def source(path: Path, **facts: Any) -> Source:
    if 'sensor' not in facts:
        facts = {'sensor': 'sentinel2', 'bands': RGB, **facts}
    if 'unit' not in facts:
        facts = {'product': 'l2a', **facts}
    return Source.parse({'path': str(path), **facts})
