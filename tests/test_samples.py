"""Images in the package: bands by name, folds without leakage, declared offsets, clear errors."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.data.samples import SAMPLES, EuroSAT200, SentinelPairs, composite
from torchgeo_aom.errors import BandError, ConfigError, DataError, InputError
from torchgeo_aom.transforms import Normalize, NormalizeSample


@pytest.fixture(scope='module')
def chips() -> EuroSAT200:
    return EuroSAT200()


class TestEuroSAT200:
    def test_all(self, chips: EuroSAT200) -> None:
        assert len(chips) == 200
        assert Counter(chips.labels.tolist()) == dict.fromkeys(range(10), 20)
        sample = chips[25]
        assert sample['image'].shape == (13, 64, 64)
        assert sample['image'].dtype == torch.float32
        assert chips.classes[sample['label']] == 'Forest'
        assert chips.bands[-1] == 'sentinel2:B8A'  # EuroSAT's order
        assert chips.bands == tuple(b.label for b in resolve_bands('eurosat'))

    def test_bands_by_name_not_position(self, chips: EuroSAT200) -> None:
        dataset = EuroSAT200(bands=['B8A', 'B12', 'sentinel2:B02'])
        assert dataset.bands == ('sentinel2:B8A', 'sentinel2:B12', 'sentinel2:B02')
        assert torch.equal(dataset[7]['image'], chips[7]['image'][[12, 11, 1]])
        rgb = EuroSAT200(bands='sentinel2:rgb')
        assert torch.equal(rgb[7]['image'], chips[7]['image'][[3, 2, 1]])

    def test_the_bands_are_what_their_names_say(self, chips: EuroSAT200) -> None:
        """B10 (cirrus) is dark; B8A and B08 see nearly the same."""
        image = torch.stack([chips[k]['image'] for k in range(0, 200, 10)])
        mean = dict(zip(chips.bands, image.mean((0, 2, 3)).tolist(), strict=True))
        assert mean['sentinel2:B10'] == min(mean.values()) < 50
        narrow, wide = (image[:, chips.bands.index(f'sentinel2:{b}')] for b in ('B8A', 'B08'))
        pair = torch.stack([narrow.flatten(), wide.flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.95

    def test_folds_hold_whole_cells_and_all_classes(self, chips: EuroSAT200) -> None:
        assert len(set(chips.cells)) == 113
        assert chips.cells[0] == '35N_6_48'
        for cell in set(chips.cells):
            assert len(set(chips.folds[[c == cell for c in chips.cells]])) == 1
        for fold in range(5):
            train, test = (EuroSAT200(split=split, fold=fold) for split in ('train', 'test'))
            assert not set(train.cells) & set(test.cells)
            assert sorted(train.files + test.files) == sorted(chips.files)
            assert 36 <= len(test) <= 44
            assert set(test.labels) == set(train.labels) == set(range(10))
        assert np.array_equal(chips.assign_folds(0), chips.folds)
        other = chips.assign_folds(1)
        assert not np.array_equal(other, chips.folds)
        assert len({(cell, fold) for cell, fold in zip(chips.cells, other, strict=True)}) == 113

    def test_normalized_by_the_catalogue(self) -> None:
        bands = ('B04', 'B8A')
        normalize = NormalizeSample(
            Normalize(bands, product=EuroSAT200.product, sensor='sentinel2', strict=True)
        )
        dataset = EuroSAT200(bands=bands, split='test', transforms=normalize)
        batch = next(iter(DataLoader(dataset, batch_size=len(dataset))))
        assert batch['image'].mean().abs() < 1
        assert 0.3 < batch['image'].std() < 3

    @pytest.mark.parametrize(
        'bands, name', [('landsat8:B4', 'landsat8:B4'), (['B04', 'B4x'], 'B4x'), ('red', 'B04')]
    )
    def test_bands(self, bands: str, name: str) -> None:
        if name == 'B04':  # a common name means the band of these files' sensor
            assert EuroSAT200(bands=bands).bands == ('sentinel2:B04',)
        else:
            with pytest.raises(BandError, match=name):
                EuroSAT200(bands=bands)

    def test_options(self, chips: EuroSAT200) -> None:
        with pytest.raises(ConfigError, match="'val'"):
            EuroSAT200(split='val')
        with pytest.raises(ConfigError, match='0 to 4, got 5'):
            EuroSAT200(fold=5)
        with pytest.raises(IndexError, match='200'):
            chips[200]
        assert torch.equal(chips[-1]['image'], chips[199]['image'])

    @pytest.mark.parametrize('prediction', [False, True])
    def test_plot(self, chips: EuroSAT200, prediction: bool) -> None:
        sample = chips[3]
        if prediction:
            sample['prediction'] = torch.tensor(4)
        figure = chips.plot(sample, suptitle='title')
        assert isinstance(figure, Figure)
        assert ('Industrial' in figure.axes[0].get_title()) == prediction


class TestSentinelPairs:
    @pytest.mark.parametrize('product, count', [('l1c', 13), ('l2a', 12)])
    def test_all(self, product: str, count: int) -> None:
        dataset = SentinelPairs(product)
        assert len(dataset) == 5
        assert len(dataset.bands) == count
        for sample in (dataset[k] for k in range(5)):
            assert sample['image'].shape == (count, 224, 224)
            assert sample['mask'].shape == (224, 224)
            assert sample['mask'].dtype == torch.int64
            assert set(sample['mask'].unique().tolist()) <= {*range(8), 255}

    def test_halves_are_disjoint_and_complete(self) -> None:
        halves = (None, 'west', 'east')
        whole, west, east = (SentinelPairs('l2a', 'rgb', half)[2] for half in halves)
        for key in ('image', 'mask'):
            assert torch.equal(torch.cat((west[key], east[key]), -1), whole[key])

    def test_classes(self) -> None:
        """Snow is where the place is snow, water is dark in the near infrared."""
        dataset = SentinelPairs('l2a', bands=['B08'])
        assert dataset[3]['mask'].unique().tolist() == [dataset.classes.index('snow or ice')]
        water = torch.cat([s['image'][0][s['mask'] == 0] for s in (dataset[0], dataset[2])])
        crops = torch.cat([s['image'][0][s['mask'] == 3] for s in (dataset[1], dataset[4])])
        assert water.median() < 0.1 < crops.median()

    def test_declared_offsets_fit_the_pixels(self) -> None:
        """Cirrus is dark everywhere; shortwave infrared of both levels lies on a line through 0."""
        l1c, l2a = (SentinelPairs(level) for level in ('l1c', 'l2a'))
        assert {place['l1c'] for place in l1c.places} == {'l1c', 'l1c_2022'}
        assert {place['l2a'] for place in l2a.places} == {'l2a', 'l2a_2022'}
        for k in range(5):
            top, surface = l1c[k]['image'], l2a[k]['image']
            assert 0 <= top[10].min() < 0.01
            for name in ('sentinel2:B11', 'sentinel2:B12'):
                x = top[l1c.bands.index(name)].flatten().double().numpy()
                y = surface[l2a.bands.index(name)].flatten().double().numpy()
                assert abs(np.polyfit(x, y, 1)[1]) < 0.02

    def test_normalized_by_the_catalogue(self) -> None:
        for level in ('l1c', 'l2a'):
            dataset = SentinelPairs(level)
            normalize = Normalize(
                dataset.bands, dataset.product, statistics=f'sentinel2:{level}', strict=True
            )
            vegetation = normalize(dataset[4]['image'])
            assert vegetation.median(-1).values.median(-1).values.abs().max() < 3

    def test_options(self) -> None:
        with pytest.raises(ConfigError, match="'l2b'"):
            SentinelPairs('l2b')
        with pytest.raises(ConfigError, match="'north'"):
            SentinelPairs(half='north')
        with pytest.raises(BandError, match='B10'):
            SentinelPairs('l2a', bands='B10')
        with pytest.raises(IndexError):
            SentinelPairs()[5]

    def test_plot(self) -> None:
        dataset = SentinelPairs(bands=['B08', 'B11'])  # no true color
        sample = dataset[0]
        sample['mask'][:9] = 255
        figure = dataset.plot({**sample, 'prediction': sample['mask']}, suptitle='title')
        assert [axes.get_title() for axes in figure.axes] == ['image', 'mask', 'prediction']
        assert 'no label' in [text.get_text() for text in figure.legends[0].get_texts()]


class TestFiles:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(SAMPLES, tmp_path / 'samples'))

    def test_size_and_license(self) -> None:
        files = [path for path in SAMPLES.rglob('*') if path.is_file()]
        assert len([path for path in files if path.suffix == '.tif']) == 215
        assert sum(path.stat().st_size for path in files) < 15.1 * 2**20
        text = (SAMPLES / 'ATTRIBUTION.md').read_text()
        for words in ('Copyright (c) 2023 Patrick Helber', 'CC BY 4.0', 'Apache License 2.0'):
            assert words in text
        assert 'contains modified Copernicus Sentinel data' in text

    def test_every_file_names_its_bands_and_place(self) -> None:
        for path in SAMPLES.rglob('*.tif'):
            with rasterio.open(path) as file:
                assert file.crs.is_projected
                assert abs(file.res[0] - 10) < 0.1
                if 'lulc' not in path.parts:
                    assert set(file.descriptions) <= {b.name for b in resolve_bands('sentinel2')}

    def test_missing(self, copy: Path) -> None:
        (copy / 'eurosat200/River/River_7.tif').unlink()
        with pytest.raises(DataError, match=r'River_7\.tif is missing'):
            EuroSAT200(root=copy)
        dataset = SentinelPairs(root=copy)
        (copy / 'sentinel2_pairs/lulc/38D_378R_2_3.tif').unlink()
        assert dataset[0]
        with pytest.raises(DataError, match=r'38D_378R_2_3\.tif is missing'):
            dataset[1]
        (copy / 'sentinel2_pairs/places.csv').unlink()
        with pytest.raises(DataError, match=r'places\.csv is missing'):
            SentinelPairs(root=copy)

    def test_damaged(self, copy: Path) -> None:
        dataset = EuroSAT200(root=copy)
        path = dataset.files[3]
        content = path.read_bytes()
        path.write_bytes(content[:9000] + bytes(9000) + content[18_000:])
        with pytest.raises(DataError, match=r'AnnualCrop_4\.tif is damaged'):
            dataset[3]
        path.write_bytes(content[:9000])
        with pytest.raises(DataError, match=r'AnnualCrop_4\.tif cannot be opened'):
            dataset[3]
        shutil.copy(copy / 'sentinel2_pairs/l2a/38D_378R_2_3.tif', path)
        with pytest.raises(DataError, match=r'AnnualCrop_4\.tif is not the file it should be'):
            dataset[3]

    def test_undeclared_product(self, copy: Path) -> None:
        table = copy / 'sentinel2_pairs/places.csv'
        table.write_text(table.read_text().replace('l2a_2022', 'unknown'))
        with pytest.raises(DataError, match="433D_629L_3_1' declares no known product for l2a"):
            SentinelPairs(root=copy)


def test_composite() -> None:
    image = torch.rand(3, 8, 9)
    bands = ['sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02']
    rgb = composite(image, bands)
    assert rgb.shape == (8, 9, 3)
    assert rgb.min() == 0
    assert rgb.max() == 1
    assert np.array_equal(composite(image.flip(0), bands[::-1]), rgb)  # by name
    assert not np.array_equal(composite(image, bands[::-1]), rgb)
    gray = composite(image[:1], ['sentinel2:B08'])
    assert np.array_equal(gray[..., 0], gray[..., 2])


def test_composite_takes_bands_as_everything_does() -> None:
    image = torch.rand(7, 8, 9)
    listed = [f'landsat8:B{k}' for k in range(1, 8)]
    picture = composite(image, listed)
    assert np.array_equal(composite(image, 'landsat8'), picture)
    assert np.array_equal(composite(image, resolve_bands('landsat8')), picture)
    assert np.array_equal(composite(image[[3, 2, 1]], 'landsat8:rgb'), picture)
    with pytest.raises(BandError, match='13 bands were named but the image has 7 channels'):
        composite(image, 'sentinel2')
    with pytest.raises(BandError, match=r"unknown band or preset 'landsat88'.*did you mean"):
        composite(image, 'landsat88')
    with pytest.raises(InputError, match=r'one image \(C, H, W\), got shape \(1, 7, 8, 9\)'):
        composite(image[None], 'landsat8')
