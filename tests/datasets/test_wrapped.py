"""TorchGeo's EuroSAT, UC Merced and BigEarthNet: same values, right bands and units."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import torchgeo.datasets as tg
import true_files

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.datasets import BigEarthNet, EuroSAT, UCMerced
from torchgeo_aom.errors import BandError, ConfigError, DataError


@pytest.fixture(scope='session')
def eurosat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.eurosat(tmp_path_factory.mktemp('eurosat'))


@pytest.fixture(scope='session')
def ucmerced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.ucmerced(tmp_path_factory.mktemp('ucmerced'))


def test_eurosat_has_the_values_of_torchgeo_and_b8a_where_it_is(eurosat: Path) -> None:
    data, theirs = EuroSAT(eurosat), tg.EuroSAT(eurosat)
    assert data.bands[-1] == 'sentinel2:B8A' and data.classes == tuple(theirs.classes)
    assert len(data) == len(theirs) == 20
    for index in (0, 7):
        assert torch.equal(data[index]['image'], theirs[index]['image'])
        assert int(data[index]['label']) == int(theirs[index]['label'])
    subset = EuroSAT(eurosat, bands=['B8A', 'B08', 'B11'])
    assert torch.equal(subset[3]['image'], data[3]['image'][[12, 7, 10]])
    # Statistics follow the bands, not their positions: those of the L1C product.
    b8a = resolve_bands('sentinel2:B8A')[0]
    mean, std = subset.normalize().mean[0], subset.normalize().std[0]
    assert (mean, std) == (data.normalize().mean[12], data.normalize().std[12])
    assert subset.band_objects[0] == b8a and data.product.name == 'l1c'
    normalized = data.normalize()(data[0])['image']
    assert normalized.abs().max() < 10


def test_eurosat_errors(eurosat: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'Dataset not found.*EuroSATallBands.zip'):
        EuroSAT(tmp_path)
    with pytest.raises(ConfigError, match="split must be one of .*, got 'dev'"):
        EuroSAT(eurosat, 'dev')
    with pytest.raises(BandError, match='landsat8:B5'):
        EuroSAT(eurosat, bands=['landsat8:B5'])
    with pytest.raises(ConfigError, match='variant must be one of standard, spatial, 100'):
        EuroSAT(eurosat, variant='200')  # type: ignore[arg-type]
    with pytest.raises(DataError, match='eurosat-spatial-train.txt|Dataset not found'):
        EuroSAT(eurosat, variant='spatial')
    true_files.eurosat(tmp_path)
    path = next(tmp_path.rglob('River_1.tif'))
    path.write_bytes(path.read_bytes()[:5000])
    data = EuroSAT(tmp_path)
    with pytest.raises(DataError, match='River_1.tif'):
        for index in range(len(data)):
            data[index]
    for name in ('Forest_2', 'River_1'):
        next(tmp_path.rglob(f'{name}.tif')).unlink()
    with pytest.raises(DataError, match=r'2 of the 20 images .* are missing: Forest_2, River_1'):
        EuroSAT(tmp_path)


def test_ucmerced_has_the_values_of_torchgeo(ucmerced: Path) -> None:
    data, theirs = UCMerced(ucmerced), tg.UCMerced(ucmerced)
    assert data.classes == ('agricultural', 'beach') and len(data) == len(theirs) == 12
    for index in (0, 1):  # the first is resized
        torch.testing.assert_close(data[index]['image'], theirs[index]['image'])
        assert data[index]['image'].shape == (3, 256, 256)
    assert torch.equal(UCMerced(ucmerced, bands=['blue'])[1]['image'], data[1]['image'][2:])
    with pytest.raises(DataError, match="split_rule='hash'"):
        UCMerced(ucmerced.parent)


def test_ucmerced_white_stays_white(tmp_path: Path) -> None:
    """Resizing leaves the range of the unit alone: 255.00002 was reported as no 8-bit value."""
    root = true_files.ucmerced(tmp_path)
    path = next(root.rglob('agricultural00.tif'))
    white = np.full((3, 257, 258), 255, 'uint8')
    true_files.write(path, white, photometric='RGB')
    data = UCMerced(root)
    index = [Path(file).name for file in data.files].index(path.name)
    assert data[index]['image'].shape == (3, 256, 256) and data[index]['image'].max() == 255
    data.normalize(strict=True)(data[index])


def test_ucmerced_errors(tmp_path: Path) -> None:
    root = true_files.ucmerced(tmp_path)
    with pytest.raises(DataError, match='Dataset not found|is missing'):
        UCMerced(tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match="split must be one of .*got 'valid'"):
        UCMerced(root, 'valid')
    with pytest.raises(BandError, match=r'nir.* is not in these files|nir'):
        UCMerced(root, bands=['nir'])
    path = next(root.rglob('beach03.tif'))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match='beach03.tif'):
        data = UCMerced(root)
        for index in range(len(data)):
            data[index]
    path.unlink()
    with pytest.raises(DataError, match=r'1 of the 12 images .* are missing: beach03. Unpack'):
        UCMerced(root)


def test_ucmerced_without_lists(tmp_path: Path) -> None:
    root = true_files.ucmerced(tmp_path, lists=False)
    with pytest.raises(DataError, match="without the lists give split_rule='hash'"):
        UCMerced(root)
    splits = [UCMerced(root, split, split_rule='hash') for split in ('train', 'val', 'test')]
    assert [len(data) for data in splits] == [12, 4, 4]
    assert len({path for data in splits for path in data.files}) == 20
    assert splits[1].labels == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="'torchgeo' or 'hash'"):
        UCMerced(root, split_rule='random')  # type: ignore[arg-type]


def test_bigearthnet_1(tmp_path: Path) -> None:
    root = true_files.bigearthnet_v1(tmp_path)
    data = BigEarthNet(root, 'val', version=1)
    assert data.num_classes == 19 and data.target == 'classes'
    assert data.bands[8:10] == ('sentinel2:B8A', 'sentinel2:B09') and len(data.bands) == 12
    sample = data[0]
    assert sample['image'].shape == (12, 120, 120)
    assert sample['image'][:, 0, 0].tolist() == [101.0 + 100 * k for k in range(12)]
    names = {data.classes[k] for k in sample['label'].nonzero().flatten().tolist()}
    assert names == {'Coniferous forest', 'Inland wetlands'}
    all_classes = BigEarthNet(root, 'test', ['B8A', 'B11'], version=1, num_classes=43)
    sample = all_classes[0]
    assert sample['image'][:, 0, 0].tolist() == [902.0, 1102.0]
    names = {all_classes.classes[k] for k in sample['label'].nonzero().flatten().tolist()}
    assert names == {'Pastures', 'Airports'} and sample['label'].shape == (43,)
    assert all_classes.groups == ['S2A_MSIL2A_20170617T113321']
    assert 'Pastures' in str(all_classes.plot(sample).axes[0].get_title())
    next(root.rglob('*_2_55_B05.tif')).unlink()
    with pytest.raises(DataError, match='has 11 files of bands instead of 12: unpack it again'):
        all_classes[0]
    for path in root.rglob('*_2_55_B*.tif'):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match='damaged or incomplete'):
        all_classes[0]


def test_genuine_bigearthnet_patch(tmp_path: Path) -> None:
    """Bands by the names of the files; labels as the old ones are mapped to the 19 new ones."""
    name = 'S2A_MSIL2A_20171221T112501_56_35'
    with tarfile.open(Path(__file__).parent / 'bigearthnet_sample' / f'{name}.tar.xz') as archive:
        archive.extractall(tmp_path / 'BigEarthNet-v1.0', filter='data')
    for split in ('train', 'val', 'test'):
        (tmp_path / f'bigearthnet-{split}.csv').write_text(f'{name},S1A_{name}')
    data = BigEarthNet(tmp_path, 'test', ['B8A', 'B04', 'B12', 'B08'], version=1)
    image = data[0]['image']
    for channel, band in zip(image, ('B8A', 'B04', 'B12', 'B08'), strict=True):
        with rasterio.open(tmp_path / 'BigEarthNet-v1.0' / name / f'{name}_{band}.tif') as file:
            stored = torch.from_numpy(file.read(1).astype('float32'))
        if len(stored) == 120:
            assert torch.equal(channel, stored)
        else:  # of 20 m
            assert channel.mean() == pytest.approx(float(stored.mean()), rel=1e-2)
    assert image[0].mean() > 3 * image[1].mean()  # leaves
    assert image[0].mean() == pytest.approx(float(image[3].mean()), rel=0.1)  # neighbors
    labels = {data.classes[k] for k in data[0]['label'].nonzero().flatten().tolist()}
    assert 'Broad-leaved forest' in labels and 'Transitional woodland, shrub' in labels
    assert len(labels) == 4 and data.normalize()(data[0])['image'].abs().max() < 10
    assert BigEarthNet(tmp_path, 'test', version=1, num_classes=43)[0]['label'].sum() == 4


def test_bigearthnet_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, rows = true_files.bigearthnet_v2(tmp_path)
    # Reading the table itself needs pyarrow, which is not among the requirements.
    monkeypatch.setattr(pd, 'read_parquet', lambda *args, **kwargs: pd.DataFrame(rows))
    data = BigEarthNet(root, 'val', ['red', 'nir08'])
    sample = data[0]
    assert set(sample) == {'image', 'label'}
    assert sample['image'][:, 0, 0].tolist() == [401.0, 901.0]
    names = {data.classes[k] for k in sample['label'].nonzero().flatten().tolist()}
    assert names == {'Coniferous forest', 'Marine waters'}
    assert data.groups == ['S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP']
    assert len(BigEarthNet(root, 'train')) == 1
    assert data.fingerprint() != BigEarthNet(root, 'train', ['red', 'nir08']).fingerprint()

    def missing(*args: Any, **kwargs: Any) -> None:
        raise ImportError('Unable to find a usable engine')

    monkeypatch.setattr(pd, 'read_parquet', missing)
    with pytest.raises(DataError, match='pip install pyarrow'):
        BigEarthNet(root)


def test_bigearthnet_errors(tmp_path: Path) -> None:
    for version in (1, 2):
        with pytest.raises(DataError, match=r'Dataset not found.*bigearth.net'):
            BigEarthNet(tmp_path, version=version)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='version=2 has 19; got version=2, num_classes=43'):
        BigEarthNet(tmp_path, num_classes=43)
    with pytest.raises(BandError, match='B10'):
        BigEarthNet(tmp_path, bands=['B10'])


def test_uint8_is_declared(ucmerced: Path) -> None:
    data = UCMerced(ucmerced)
    assert data.product.unit == 'uint8'
    image = data.normalize()(data[2]['image'])
    mean, std = np.array(data.normalize().mean), np.array(data.normalize().std)
    expected = (data[2]['image'].numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-4)
