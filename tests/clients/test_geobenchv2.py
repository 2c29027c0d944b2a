"""GEO-Bench-2: `GeoBench2` over objects of its own classes, on small files in their form.

Only the reader of its archives is replaced, which downloads gigabytes; bands, order, normalization,
masks and labels are the work of ``geobench_v2``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from torch import nn

from torchgeo_aom.datasets import GeoBench2
from torchgeo_aom.errors import ConfigError

pytest.importorskip(
    'geobench_v2',
    reason="needs geobenchv2: 'make test-torchgeo-bench', in an environment of its own",
)

import tacoreader
from geobench_v2.datasets import (
    GeoBenchBENV2,
    GeoBenchBurnScars,
    GeoBenchForestnet,
    GeoBenchSpaceNet7,
)
from geobench_v2.datasets.normalization import ZScoreNormalizer

POINT = 'POINT (1 2)'

Make = Callable[..., Any]


class Row:
    """A sample of an archive: its files by position, and its facts."""

    def __init__(self, facts: pd.Series) -> None:
        self.facts = facts
        self.iloc = [facts]

    def read(self, index: int) -> str:
        return str(self.facts['files'][index])


class Archive(pd.DataFrame):
    """What ``tacoreader.load`` gives: a table that reads its rows."""

    @property
    def _constructor(self) -> type[Archive]:
        return Archive

    def read(self, index: int) -> Row:
        return Row(self.iloc[index])


def write(path: Path, planes: np.ndarray[Any, Any]) -> Path:
    profile = {'count': len(planes), 'height': 8, 'width': 8, 'dtype': planes.dtype}
    with rasterio.open(path, 'w', driver='GTiff', **profile) as file:
        file.write(planes)
    return path


def channels(count: int, dtype: str, step: float = 1.0) -> np.ndarray[Any, Any]:
    """Channel k holds (k + 1) * step everywhere."""
    values = (np.arange(count) + 1) * step
    return np.broadcast_to(values[:, None, None], (count, 8, 8)).astype(dtype)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an object of a class over one sample for training, and another for the test."""

    def build(cls: Any, files: Sequence[Path], facts: dict[str, Any], **options: Any) -> Any:
        row = {'files': list(files), 'stac:centroid': POINT, **facts}
        rows = [{**row, 'tortilla:data_split': split} for split in ('train', 'test')]
        monkeypatch.setattr(tacoreader, 'load', lambda paths: Archive(rows))
        for name in cls.paths:
            (tmp_path / name).touch()
        return cls(tmp_path, 'train', **{'data_normalizer': nn.Identity, **options})

    return build


def test_burn_scars(make: Make, tmp_path: Path) -> None:
    image = write(tmp_path / 'image.tif', channels(6, 'float32', 0.1))
    mask = write(tmp_path / 'mask.tif', np.int16([[[0, 1, -1, 0] * 2] * 8]))
    made = make(GeoBenchBurnScars, (image, mask), {}, band_order=['B8A', 'B04', 'B02'])
    found = GeoBench2(made)
    assert len(found) == 1 and found.split == 'train'
    assert found.bands == ('hls:nir08', 'hls:red', 'hls:blue')
    assert (found.target, found.ignore_index, found.num_classes) == ('mask', 2, 2)
    assert found.product.unit == 'reflectance'
    sample = found[0]
    assert sample['image'].shape == (3, 8, 8)
    assert sample['image'][:, 0, 0].tolist() == pytest.approx([0.4, 0.3, 0.1])
    assert sample['mask'][0, :4].tolist() == [0, 1, 2, 0]
    few = GeoBench2(made, bands=['red'])
    assert few[0]['image'].unique().tolist() == pytest.approx([0.3])
    six = GeoBench2(make(GeoBenchBurnScars, (image, mask), {}))
    assert len(six.bands) == 6 and six[0]['image'][5, 0, 0] == pytest.approx(0.6)


def test_bigearthnet(make: Make, tmp_path: Path) -> None:
    radar = write(tmp_path / 's1.tif', channels(2, 'float32'))
    image = write(tmp_path / 's2.tif', channels(12, 'uint16', 100))
    labels = [list(GeoBenchBENV2.label_names)[k] for k in (2, 5)]
    config = GeoBenchBENV2.band_default_order['s2']
    facts = {'labels': labels, 'lon': 1.0, 'lat': 2.0}
    found = GeoBench2(make(GeoBenchBENV2, (radar, image), facts, band_order={'s2': config}))
    assert found.target == 'classes' and found.product.name == 'l2a'
    assert set(found.bands) == {f'sentinel2:{name}' for name in config} and len(config) == 12
    sample = found[0]
    assert sample['image'].shape == (12, 8, 8)
    assert torch.nonzero(sample['label']).flatten().tolist() == [2, 5]
    few = GeoBench2(make(GeoBenchBENV2, (radar, image), facts, band_order={'s2': ['B8A', 'B04']}))
    place = list(config)
    assert few[0]['image'][:, 0, 0].tolist() == [
        sample['image'][place.index(name), 0, 0] for name in ('B8A', 'B04')
    ]
    both = {'s2': ['B04'], 's1': ['VV']}
    with pytest.raises(ConfigError, match='mixes s2, s1'):
        GeoBench2(make(GeoBenchBENV2, (radar, image), facts, band_order=both))


def test_forestnet(make: Make, tmp_path: Path) -> None:
    image = write(tmp_path / 'image.tif', channels(6, 'uint8', 10))
    found = GeoBench2(make(GeoBenchForestnet, (image,), {'labels': 4}))
    assert found.bands == tuple(f'landsat8:B{k}' for k in range(2, 8))
    assert found.target == 'class' and int(found[0]['label']) == 4
    assert found[0]['image'][:, 0, 0].tolist() == [10, 20, 30, 40, 50, 60]
    normalized = found.normalize(mean=[0.2] * 6, std=[0.1] * 6)(found[0])
    assert normalized['image'].shape == (6, 8, 8)


def test_spacenet7(make: Make, tmp_path: Path) -> None:
    image = write(tmp_path / 'image.tif', channels(3, 'uint8', 10))
    mask = write(tmp_path / 'mask.tif', np.uint8([[[0, 1] * 4] * 8]))
    found = GeoBench2(make(GeoBenchSpaceNet7, (image, mask), {}))
    assert len(found.bands) == 3 and found.target == 'mask'
    assert found[0]['mask'].unique().tolist() == [1, 2]


def test_its_own_normalization_is_refused(make: Make, tmp_path: Path) -> None:
    image = write(tmp_path / 'image.tif', channels(6, 'float32', 0.1))
    with pytest.raises(ConfigError, match='normalizes values itself'):
        GeoBench2(make(GeoBenchBurnScars, (image, image), {}, data_normalizer=ZScoreNormalizer))
