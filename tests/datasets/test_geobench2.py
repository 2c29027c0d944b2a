"""GEO-Bench-2 through a small stand-in of the form of ``geobenchv2`` 0.9."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from torchgeo_aom.datamodules.measured import measured
from torchgeo_aom.datasets import GeoBench2
from torchgeo_aom.errors import BandError, ConfigError, DataError

S2 = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12'.split()


class Fake(Dataset[dict[str, Any]]):
    """Channels as ``band_order`` says, under ``image`` or ``image_<modality>``."""

    extra: ClassVar[Any] = {'label': 3}
    classes: tuple[str, ...] = ('a', 'b', 'c', 'd')

    def __init__(self, band_order: Any, data_normalizer: Any = nn.Identity, **more: Any) -> None:
        self.band_order = band_order
        self.data_normalizer = data_normalizer()
        self.transforms, self.split = None, 'train'
        vars(self).update(more)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        order = self.band_order if isinstance(self.band_order, dict) else {'': self.band_order}
        sample: dict[str, Any] = {}
        for modality, names in order.items():
            planes = [torch.full((8, 8), 100.0 * k + index) for k in range(len(names))]
            sample[f'image_{modality}' if modality else 'image'] = torch.stack(planes)
        return {**sample, **self.extra}


class GeoBenchBENV2(Fake):
    multilabel = True
    extra: ClassVar[Any] = {'label': torch.tensor([0, 1, 0, 1])}


class GeoBenchBurnScars(Fake):
    extra: ClassVar[Any] = {'mask': torch.tensor([[0, 1], [2, 0]]).repeat(4, 4)}
    classes = ('Background', 'Burn Scar')


class GeoBenchForestnet(Fake):
    pass


class GeoBenchCloudSen12(Fake):
    extra: ClassVar[Any] = {'mask': torch.zeros(8, 8, dtype=torch.int64)}


class GeoBenchTreeSatAI(Fake):
    pass


def test_modality_of_sentinel2() -> None:
    found = GeoBench2(GeoBenchBENV2({'s2': S2}))
    assert found.bands == tuple(f'sentinel2:{name}' for name in S2)
    assert (found.product.name, found.target, found.num_classes) == ('l2a', 'classes', 4)
    sample = found[1]
    assert sample['image'].shape == (12, 8, 8) and sample['image'][8].unique() == 801
    assert sample['label'].tolist() == [0, 1, 0, 1] and len(found) == 3
    few = GeoBench2(GeoBenchBENV2({'s2': S2}), bands=['B8A', 'red'])
    assert few[0]['image'][:, 0, 0].tolist() == [800, 300]
    assert few.normalize(statistics='sentinel2:l2a')(few[0])['image'].shape == (2, 8, 8)
    with pytest.raises(BandError, match="'sentinel2:B10' is not in these files"):
        GeoBench2(GeoBenchBENV2({'s2': S2}), bands=['B10'])


def test_order_is_that_of_the_object() -> None:
    found = GeoBench2(GeoBenchBENV2({'s2': ['B12', 'B02']}))
    assert found.bands == ('sentinel2:B12', 'sentinel2:B02')
    assert found[0]['image'][:, 0, 0].tolist() == [0, 100]


def test_names_that_differ() -> None:
    names = ['B02', 'B03', 'B04', 'B8A', 'B11', 'B12']
    scars = GeoBench2(GeoBenchBurnScars(names))
    assert scars.bands[3:] == ('hls:nir08', 'hls:swir16', 'hls:swir22')
    assert (scars.target, scars.ignore_index, scars.num_classes) == ('mask', 2, 2)
    assert scars[0]['mask'].dtype == torch.int64 and scars.product.unit == 'reflectance'
    forest = GeoBench2(GeoBenchForestnet(names))
    assert forest.bands == tuple(f'landsat8:B{k}' for k in range(2, 8))
    assert forest.target == 'class' and forest[0]['label'] == 3
    trees = GeoBench2(GeoBenchTreeSatAI({'aerial': ['red', 'green', 'blue', 'nir']}))
    assert trees.bands[3] == 'rgbn:nir' and trees.product.name == 'uint8'


def test_what_must_be_given() -> None:
    with pytest.raises(ConfigError, match='give product=: it is not known of GeoBenchCloudSen12'):
        GeoBench2(GeoBenchCloudSen12(S2))
    clouds = GeoBench2(GeoBenchCloudSen12(S2), product='l1c', ignore_index=7)
    assert clouds.product.quantity == 'toa' and clouds.ignore_index == 7
    with pytest.raises(ConfigError, match='give sensor=: it is not known of Fake, modality'):
        GeoBench2(Fake({'s2': S2}))
    assert len(GeoBench2(Fake({'s2': S2}), sensor='sentinel2', product='l2a').bands) == 12

    class Derived(GeoBenchBENV2):
        pass

    assert GeoBench2(Derived({'s2': S2})).product.name == 'l2a'


def test_wrong_objects() -> None:
    cases: list[tuple[Any, str]] = [
        (object(), r"object has none.* pip install 'torchgeo_aom\[geobenchv2\]'"),
        (GeoBenchBENV2({'s2': S2}, nn.ReLU), 'make it with data_normalizer=torch.nn.Identity'),
        (GeoBenchBENV2({'s2': S2}, transforms=nn.ReLU()), 'give transforms= to GeoBench2'),
        (GeoBenchBENV2({'s2': S2, 's1': ['VV']}), 'mixes s2, s1: .*one optical sensor'),
        (GeoBenchBENV2({'s2': ['B02', 0.0]}), r'fills a channel with 0\.0'),
    ]
    for thing, match in cases:
        with pytest.raises(ConfigError, match=match):
            GeoBench2(thing)


def test_wrong_samples() -> None:
    order = {'s2': ['B02', 'B03']}
    cases: list[tuple[dict[str, Any], str]] = [
        ({'bbox_xyxy': torch.zeros(1, 4)}, 'object detection is not read'),
        ({'image_s2': None}, 'leave rename_modalities out'),
        ({'image_s2': torch.zeros(2, 3, 8, 8)}, 'take a single time step'),
        ({'image_s2': torch.zeros(3, 8, 8)}, r'shape \(2, H, W\), it has \(3, 8, 8\)'),
        ({'label': torch.zeros(2, 2)}, 'holds no classes'),
        ({'label': torch.full((4,), 0.5)}, 'holds no classes'),
    ]
    for extra, match in cases:
        found = GeoBench2(GeoBenchBENV2(order, extra={**GeoBenchBENV2.extra, **extra}))
        with pytest.raises(DataError, match=match):
            found[0]


def test_statistics_are_measured() -> None:
    found = measured(GeoBench2(GeoBenchBENV2({'s2': ['B02', 'B03']})))
    assert found.mean == pytest.approx((1e-4, 101e-4), rel=1e-3)
