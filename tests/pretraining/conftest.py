"""A packed corpus of two small sources, and maps of a teacher that sees means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor

from torchgeo_aom.pretraining.packed import PackedCorpus, PackedSource, pack
from torchgeo_aom.pretraining.targets import CELLS, TargetMaps, store_maps

L2A = ('B02', 'B03', 'B04', 'B08', 'B11')


def write(path: Path, values: np.ndarray, bands: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {'driver': 'GTiff', 'count': len(values), 'dtype': values.dtype}
    height, width = values.shape[1:]
    with rasterio.open(path, 'w', height=height, width=width, **profile) as file:
        file.write(values)
        file.descriptions = bands


@pytest.fixture(scope='session')
def blocks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Twelve images of 80 x 96 px of Sentinel-2, one of them half empty, and nine of RGB."""
    root = tmp_path_factory.mktemp('sources')
    rng = np.random.default_rng(0)
    for k in range(12):
        values = rng.integers(200, 4000, (len(L2A), 80, 96)).astype(np.int16)
        if k == 3:
            values[:, :, :50] = 0
        write(root / 'coarse' / f'{k:02d}.tif', values, L2A)
    for k in range(9):
        values = rng.integers(0, 255, (3, 256, 256)).astype(np.uint8)
        write(root / 'fine' / f'{k}.tif', values, ('red', 'green', 'blue'))
    return [
        {'name': 'coarse', 'path': str(root / 'coarse'), 'sensor': 'sentinel2',
         'bands': list(L2A), 'product': 'l2a', 'size': 64},
        {'name': 'fine', 'path': str(root / 'fine'), 'bands': 'rgb', 'product': 'uint8',
         'size': 64},
    ]  # fmt: skip


@pytest.fixture(scope='session')
def packed_file(blocks: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('packed') / 'packed.safetensors'
    pack(blocks, path)
    return path


@pytest.fixture
def corpus(packed_file: Path) -> PackedCorpus:
    return PackedCorpus(packed_file)


def means(image: Tensor, source: PackedSource) -> Tensor:
    """A teacher that sees the mean of all bands and its square."""
    mean = torch.nn.functional.adaptive_avg_pool2d(image.mean(1, keepdim=True), CELLS)
    return torch.cat((mean, mean.square(), torch.ones_like(mean)), 1)


@pytest.fixture(scope='session')
def maps_folder(packed_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('maps')
    store_maps(PackedCorpus(packed_file), means, folder, 2)
    return folder


@pytest.fixture
def maps(maps_folder: Path) -> TargetMaps:
    return TargetMaps(maps_folder)
