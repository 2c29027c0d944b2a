from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from task_tools import CLASSES, MODEL, SIZE, label, loader, quick_trainer
from torch import nn
from torch.utils.data import ConcatDataset, Subset
from torchgeo.datamodules import EuroSATDataModule
from torchgeo.datasets import EuroSAT, IntersectionDataset

from torchgeo_aom import AOM, resolve_bands, tasks
from torchgeo_aom.data.samples import EuroSAT200
from torchgeo_aom.errors import BandError, BandWarning
from torchgeo_aom.tasks import BandCheck, dataset_bands, upstream
from torchgeo_aom.tasks.callbacks import compare_bands
from torchgeo_aom.tasks.dataset_bands import FIXED, NAMES, SENSORS, SETS

LISTS = ('all_bands', 'all_band_names', 'band_names', 'default_bands', 'rgb_bands')
RGB = ('B04', 'B03', 'B02')


def tiny(**kwargs: Any) -> AOM:
    return AOM(embed_dim=24, depth=1, num_heads=3, **kwargs)


class Data(torch.utils.data.Dataset[Any]):
    """A data set with whatever attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'image': torch.randn(3, SIZE, SIZE), 'label': label()}

    def __len__(self) -> int:
        return 2


def named(name: str, **attributes: Any) -> Data:
    """A data set whose class has the name of one of TorchGeo's."""
    return type(name, (Data,), {})(**attributes)


def labels(dataset: object, sensor: str | None = None) -> list[str] | None:
    bands = dataset_bands(dataset, sensor)
    return None if bands is None else [band.label for band in bands]


class TestDatasetBands:
    def test_eurosat(self, eurosat: Path) -> None:
        """B8A is last in the files."""
        data = EuroSAT(eurosat)
        assert [band.index for band in dataset_bands(data) or ()] == [*range(8), 9, 10, 11, 12, 8]
        assert labels(EuroSAT(eurosat, bands=RGB)) == [f'sentinel2:{name}' for name in RGB]

    def test_own(self) -> None:
        assert labels(EuroSAT200(bands='rgb')) == [f'sentinel2:{name}' for name in RGB]

    @pytest.mark.parametrize(
        ('data', 'expected'),
        [
            (named('Landsat8', bands=['SR_B5', 'SR_B4']), ['landsat8:B5', 'landsat8:B4']),
            (
                named('NAIP', bands=('R', 'G', 'B', 'NIR')),
                [f'naip:{b}' for b in ('R', 'G', 'B', 'NIR')],
            ),
            (named('So2Sat', bands=('S2_B02', 'S2_B8A')), ['sentinel2:B02', 'sentinel2:B8A']),
            (named('ZueriCrop', bands=('NIR', 'B03')), ['sentinel2:B08', 'sentinel2:B03']),
            (named('L7IrishImage', bands=('B30', 'B61')), ['landsat7:B3', 'landsat7:B6']),
            (named('SeasonalContrastS2', bands=('B4', 'B3')), ['sentinel2:B04', 'sentinel2:B03']),
            (named('BigEarthNet', bands='s1'), None),
            (named('UCMerced'), ['rgb:red', 'rgb:green', 'rgb:blue']),
            (
                named('SSL4EOL', split='oli_sr', metadata={'oli_sr': {'all_bands': ['B1', 'B2']}}),
                ['landsat8:B1', 'landsat8:B2'],
            ),
            # Neither the sensor nor radar is guessed.
            (named('Mine', bands=('B04', 'B03')), None),
            (named('Mine'), None),
            (named('Mine', bands=()), None),
            (named('Mine', bands=(3, 2, 1)), None),
            (named('Mine', bands={'s2': ['B04']}), None),
            (named('SEN12MS', bands=('VV', 'VH', 'B04')), None),
            (named('Mine', bands=('landsat8:B4', '865')), None),
            (
                named('Mine', bands=('landsat8:B4', 'sentinel2:B03')),
                ['landsat8:B4', 'sentinel2:B03'],
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_table(self, data: Data, expected: list[str] | None) -> None:
        assert labels(data) == expected

    def test_bigearthnet(self) -> None:
        bands = dataset_bands(named('BigEarthNetV2', bands='s2'))
        assert bands == resolve_bands('sentinel2:l2a')

    def test_sensor_given(self) -> None:
        data = named('Mine', bands=('B5', 'B4'))
        assert labels(data, 'landsat8') == ['landsat8:B5', 'landsat8:B4']
        assert labels(data, 'sentinel2') == ['sentinel2:B05', 'sentinel2:B04']
        with pytest.raises(BandError, match='unknown band'):
            dataset_bands(named('Mine', bands=('VV',)), 'sentinel2')

    def test_inherited(self) -> None:
        parent = type(named('NAIP'))
        assert labels(type('MyNAIP', (parent,), {})(bands=('R',))) == ['naip:R']

    def test_wrapped(self) -> None:
        naip = named('NAIP', bands=('R', 'G'))
        expected = ['naip:R', 'naip:G']
        assert labels(Subset(Subset(naip, [0]), [0])) == expected
        assert labels(ConcatDataset([naip, Subset(naip, [1])])) == expected
        with pytest.raises(BandError, match='ConcatDataset mixes bands'):
            dataset_bands(ConcatDataset([naip, named('NAIP', bands=('G', 'R'))]))

    def test_intersection(self) -> None:
        """Images are stacked as channels, masks are not."""
        both = IntersectionDataset.__new__(IntersectionDataset)
        mask = named('CDL', bands=(), is_image=False)
        both.datasets = [named('NAIP', bands=('R',), is_image=True), mask]  # type: ignore[list-item]
        assert labels(both) == ['naip:R']
        both.datasets = [*both.datasets, named('Landsat9', bands=('SR_B5',))]  # type: ignore[list-item]
        assert labels(both) == ['naip:R', 'landsat9:B5']
        both.datasets = [*both.datasets, named('Sentinel1', bands=('VV',))]  # type: ignore[list-item]
        assert labels(both) is None

    def test_classes_exist(self) -> None:
        """A class that TorchGeo renames must not drop out in silence."""
        from torchgeo import datasets
        from torchgeo.datasets import l7irish, l8biome

        for name in {*SENSORS, *NAMES, *SETS, *FIXED}:
            assert any(hasattr(module, name) for module in (datasets, l7irish, l8biome)), name

    @pytest.mark.parametrize('name', SENSORS)
    def test_all_bands_resolve(self, name: str) -> None:
        """The optical names that each class lists are names of its sensor."""
        from torchgeo import datasets
        from torchgeo.datasets import l7irish, l8biome

        modules = (datasets, l7irish, l8biome)
        cls = next(getattr(m, name) for m in modules if hasattr(m, name))
        found = next(
            (
                getattr(cls, key)
                for key in (
                    'all_bands',
                    'all_band_names',
                    'band_names',
                    'default_bands',
                    'rgb_bands',
                )
                if getattr(cls, key, ())
            ),
            (),
        )
        optical = [b for b in found if b not in ('VV', 'VH', 'CLD') and not b.startswith('S1_')]
        if optical:
            assert len(resolve_bands(optical, SENSORS[name])) == len(optical)


class TestCompare:
    def test_equal_for_the_model(self) -> None:
        compare_bands(tiny(bands='rgb'), resolve_bands('sentinel2:rgb'), 'Data')
        compare_bands(tiny(in_chans=2), resolve_bands(['sentinel2:B01', 'sentinel2:B02']), 'Data')
        wavelengths = tiny(bands='rgb', channel_encoding='wavelength')
        compare_bands(wavelengths, resolve_bands('rgb'), 'Data')

    def test_order(self) -> None:
        with pytest.raises(
            BandError, match='the same in another order, first at channel 8'
        ) as error:
            compare_bands(tiny(bands='sentinel2'), resolve_bands('eurosat'), 'EuroSAT')
        assert 'sentinel2:B8A against sentinel2:B09' in str(error.value)
        assert str(error.value).count('sentinel2:B12') == 2

    def test_other(self) -> None:
        with pytest.raises(BandError, match='channel 1: sentinel2:B03 against landsat8:B5'):
            bands = resolve_bands(['landsat8:B4', 'landsat8:B5', 'landsat8:B2'])
            compare_bands(tiny(bands='sentinel2:rgb'), bands, 'Data')

    def test_count(self) -> None:
        with pytest.raises(BandError, match=r'different bands \(3 against 4\)'):
            compare_bands(tiny(bands='rgb'), resolve_bands('naip'), 'Data')

    def test_positions(self) -> None:
        with pytest.raises(BandError, match='position 0 against naip:R'):
            compare_bands(tiny(in_chans=4), resolve_bands('naip'), 'NAIP')


def run(task: Any, data: Any, folder: Path, **check: Any) -> None:
    trainer = quick_trainer(folder, callbacks=[BandCheck(**check)])
    if isinstance(data, EuroSATDataModule):
        trainer.fit(task, datamodule=data)
    else:
        trainer.fit(task, data, data)


def classifier(bands: Any = 'sentinel2:rgb') -> Any:
    return tasks.ClassificationTask(MODEL, bands=bands, num_classes=10)


class TestBandCheck:
    def test_datamodule(self, eurosat: Path, tmp_path: Path) -> None:
        data = EuroSATDataModule(2, root=eurosat, bands=RGB)
        with warnings.catch_warnings():
            warnings.simplefilter('error', BandWarning)
            run(classifier(), data, tmp_path)

    @pytest.mark.parametrize('bands', ['sentinel2', 'sentinel2:l2a'])
    def test_b8a_last(self, bands: str, eurosat: Path, tmp_path: Path) -> None:
        task = classifier(bands)
        before = task.model.head.weight.clone()
        with pytest.raises(BandError, match='EuroSAT have different bands'):
            run(task, EuroSATDataModule(2, root=eurosat), tmp_path)
        assert torch.equal(task.model.head.weight, before)
        assert task.hparams['bands'] == bands

    def test_stock_task(self, eurosat: Path, tmp_path: Path) -> None:
        task = upstream.Classification(model=f'{MODEL}.sentinel2_rgb', num_classes=10)
        with pytest.raises(BandError, match='another order, first at channel 0'):
            run(task, EuroSATDataModule(2, root=eurosat, bands=RGB[::-1]), tmp_path)

    @pytest.mark.parametrize('verb', ['fit', 'validate', 'test', 'predict'])
    def test_loaders(self, verb: str, tmp_path: Path) -> None:
        data = torch.utils.data.DataLoader(Subset(named('NAIP', bands=('R', 'G', 'B')), [0, 1]))
        trainer = quick_trainer(tmp_path, callbacks=[BandCheck()])
        run = getattr(trainer, verb)
        with pytest.raises(BandError, match='first at channel 0: sentinel2:B02 against naip:R'):
            run(classifier(['sentinel2:B02', 'sentinel2:B03', 'sentinel2:B04']), data)

    def test_several_loaders(self, tmp_path: Path) -> None:
        good = torch.utils.data.DataLoader(named('NAIP', bands=('R', 'G', 'B')))
        bad = torch.utils.data.DataLoader(named('NAIP', bands=('B', 'G', 'R')))
        trainer = quick_trainer(tmp_path, callbacks=[BandCheck()])
        with pytest.raises(BandError, match='naip:B'):
            trainer.test(classifier(), [good, bad])

    def test_unknown(self, tmp_path: Path) -> None:
        data = torch.utils.data.DataLoader(named('Mine', bands=RGB), batch_size=2)
        with pytest.warns(BandWarning, match=r"states \['B04', 'B03', 'B02'\]\), so they are not"):
            run(classifier(), data, tmp_path)
        with pytest.raises(BandError, match='bands of Mine are not known'):
            run(classifier(), data, tmp_path, strict=True)
        run(classifier(), data, tmp_path, sensor='sentinel2', strict=True)

    def test_list(self, tmp_path: Path) -> None:
        with pytest.warns(BandWarning, match='bands of list are not known'):
            run(classifier(), loader(3, SIZE, SIZE, label=label), tmp_path)

    def test_no_aom(self) -> None:
        with pytest.warns(BandWarning, match='has no AOM'):
            BandCheck().check(nn.Linear(1, 1), Data())  # type: ignore[arg-type]

    def test_unknown_sensor(self) -> None:
        with pytest.raises(BandError, match='landsat8'):
            BandCheck(sensor='landsat88')

    def test_never_sets(self, tmp_path: Path) -> None:
        task = tasks.ClassificationTask(MODEL, num_classes=CLASSES)
        data = torch.utils.data.DataLoader(named('Mine', bands=RGB), batch_size=2)
        with pytest.warns(BandWarning):
            run(task, data, tmp_path)
        assert task.backbones[0].bands is None and task.hparams['bands'] is None
