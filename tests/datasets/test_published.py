"""SPARCS, HLS Burn Scars, HLS water: files in the true format, and what is said of wrong ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import true_files
from true_files import write

from torchgeo_aom.datamodules import BandDataModule
from torchgeo_aom.datasets import SPARCS, BandDataset, HLSBurnScars, HLSWater, WorldCoverPatches
from torchgeo_aom.errors import BandError, ConfigError, DataError
from torchgeo_aom.tasks.dataset_bands import dataset_bands


@pytest.fixture(scope='session')
def sparcs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.sparcs(tmp_path_factory.mktemp('sparcs'))


@pytest.fixture(scope='session')
def burn_scars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.burn_scars(tmp_path_factory.mktemp('burn_scars'))


@pytest.fixture(scope='session')
def hls_water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.hls_water(tmp_path_factory.mktemp('hls_water'))


SETS: dict[str, tuple[Callable[..., BandDataset], str]] = {
    'sparcs': (lambda *args, **options: SPARCS(*args, folds=3, **options), '*_data.tif'),
    'burn_scars': (HLSBurnScars, '*_merged.tif'),
    'hls_water': (HLSWater, 'images/*.tif'),
    'patches': (WorldCoverPatches, 'images/*.tif'),
}


@pytest.fixture(params=SETS)
def both(request: pytest.FixtureRequest) -> tuple[Callable[..., BandDataset], Path]:
    """A class, and a folder for it."""
    name = {'patches': 'hls_water'}.get(request.param, request.param)
    return SETS[request.param][0], request.getfixturevalue(name)


def test_samples_and_splits(both: tuple[Callable[..., BandDataset], Path]) -> None:
    make, root = both
    owner: dict[str, str] = {}
    total = 0
    for split in ('train', 'val', 'test'):
        data = make(root, split)
        total += len(data)
        assert data.groups is not None and len(data.groups) == len(data) > 0
        for group in set(data.groups):
            assert owner.setdefault(group, split) == split  # no place is in two splits
        sample = data[len(data) - 1]
        assert sample['image'].shape[0] == len(data.bands) == len(data.band_objects)
        assert data.num_classes > 1 and dataset_bands(data) == data.band_objects
        if data.target == 'mask':
            assert sample['mask'].shape == sample['image'].shape[1:]
            allowed = {*range(data.num_classes), data.ignore_index}
            assert set(sample['mask'].unique().tolist()) <= allowed
        else:
            assert 0 <= int(sample['label']) < data.num_classes
        assert data.plot(sample) is not None
    assert len(make(root, 'all')) == total


def test_errors_say_what_to_do(
    both: tuple[Callable[..., BandDataset], Path], tmp_path: Path
) -> None:
    make, root = both
    with pytest.raises(ConfigError, match="split must be one of .*got 'tset'; did you mean 'test'"):
        make(root, 'tset')
    with pytest.raises(BandError, match=r'sentinel2:B10.* is not in these files.*They hold'):
        make(root, bands=['sentinel2:B10'])
    with pytest.raises(DataError, match=r'missing: there is no .*(Get |Root must hold)'):
        make(tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match='cannot be downloaded'):
        make(root, download=True)


def test_truncated_files_are_named(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for name, (make, pattern) in SETS.items():
        root = tmp_path / name
        root.mkdir()
        getattr(true_files, {'patches': 'hls_water'}.get(name, name))(root)
        for path in root.rglob(pattern.rpartition('/')[2]):
            if path.parent.name != 'masks':
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=r'\.tif'):
            data = make(root, 'test')
            for index in range(len(data)):
                data[index]


def test_sparcs_values(sparcs: Path) -> None:
    data = SPARCS(sparcs, 'train', folds=3)
    assert data.bands[-3:] == ('landsat8:B9', 'landsat8:B10', 'landsat8:B11')  # no B8
    assert len(data) == 2 * 16 * len(set(data.groups))
    raw = SPARCS(sparcs, 'train', folds=3, calibrate=False)
    assert raw.product.name == 'c2l1' and data.product.quantity == 'toa'
    one, two = data[5], raw[5]
    sun = 30 + 10 * ['001081', '002053', '009058', '012047'].index(data.groups[5])
    expected = (two['image'][3] * 2e-5 - 0.1) / math.sin(math.radians(sun))
    np.testing.assert_allclose(one['image'][3], expected, rtol=1e-4, atol=1e-5)
    assert 2.5 < float(one['image'][8].mean()) < 3.2  # about 280 kelvins
    assert data[0]['image'][:, :10, :10].isnan().all()
    assert not data[5]['image'].isnan().any()
    # Statistics exist for the reflective bands; the thermal ones want measured ones.
    subset = SPARCS(sparcs, 'train', ['nir08', 'red'], folds=3)
    assert subset.bands == ('landsat8:B5', 'landsat8:B4')
    assert subset.normalize().mean == (0.223, 0.0719)
    with pytest.raises(ConfigError, match='no mean and std are known for landsat8:B10'):
        data.normalize()


def test_sparcs_tiles_cover_each_scene(sparcs: Path) -> None:
    for tile, count in ((250, 16), (1000, 1), (256, 16), (400, 9)):
        data = SPARCS(sparcs, 'all', ['B2'], tile=tile, folds=3)
        assert len(data) == 8 * count
        seen = np.zeros((1000, 1000), bool)
        for row, column, height, width in data._parts:
            seen[row : row + height, column : column + width] = True
        assert seen.all()
    with pytest.raises(ConfigError, match='tile must be from 1 to 1000'):
        SPARCS(sparcs, tile=1001)


def test_sparcs_trains_with_measured_statistics(sparcs: Path, tmp_path: Path) -> None:
    module = BandDataModule(
        SPARCS,
        {'root': str(sparcs), 'folds': 3, 'tile': 500},
        normalization='measured',
        cache_dir=str(tmp_path),
        batch_size=2,
        crop=64,
    )
    module.setup('fit')
    batch = module.prepare(next(iter(module.train_dataloader())), training=True)
    assert batch['image'].shape == (2, 10, 64, 64) and batch['image'].isfinite().all()
    assert batch['image'].abs().max() < 50


@pytest.mark.parametrize(
    ('damage', 'message'),
    [('mtl', 'give calibrate=False'), ('mask', 'mask.png'), ('sun', 'has no SUN_ELEVATION')],
)
def test_sparcs_incomplete(damage: str, message: str, tmp_path: Path) -> None:
    true_files.sparcs(tmp_path, ('001081', '002053', '009058'))
    for path in tmp_path.rglob('*mask.png' if damage == 'mask' else '*mtl.txt'):
        if damage == 'sun':
            path.write_text(path.read_text().replace('SUN_ELEVATION', 'MOON'))
        else:
            path.unlink()
    with pytest.raises(DataError, match=message):
        SPARCS(tmp_path, 'all', folds=3)[0]


def test_burn_scars_values(burn_scars: Path) -> None:
    data = HLSBurnScars(burn_scars, 'test')
    assert len(data) == 4 and set(data.groups or ()) == {'T11TPF', 'T12SUG'}
    assert data.bands == tuple(
        f'hls:{name}' for name in ('blue', 'green', 'red', 'nir08', 'swir16', 'swir22')
    )
    sample = data[0]
    assert sample['image'].shape == (6, 512, 512)
    assert set(sample['mask'].unique().tolist()) == {0, 1, 255}
    assert (sample['mask'][:8, :8] == 255).all()
    normalized = data.normalize(nodata_fill=True)(sample)['image']
    assert (normalized[:, :8, :8] == 0).all() and normalized.abs().max() < 20
    train, val = HLSBurnScars(burn_scars), HLSBurnScars(burn_scars, 'val')
    assert (len(train), len(val)) == (18, 2)  # a tenth of the tiles, two years each
    everything = HLSBurnScars(burn_scars, val_share=0.0)
    assert len(everything) == 20
    assert HLSBurnScars(burn_scars, 'val', val_share=0.0).images == data.images
    with pytest.raises(ConfigError, match='val_share must be'):
        HLSBurnScars(burn_scars, val_share=1.0)


def test_burn_scars_incomplete(tmp_path: Path) -> None:
    true_files.burn_scars(tmp_path)
    mask = sorted((tmp_path / 'validation').glob('*.mask.tif'))[0]
    write(mask, np.full((1, 512, 512), 7, 'int16'))
    with pytest.raises(DataError, match='no mask of -1, 0 and 1'):
        HLSBurnScars(tmp_path, 'test')[0]
    mask.unlink()
    with pytest.raises(DataError, match='the mask of .*_merged.tif is missing'):
        HLSBurnScars(tmp_path, 'test')


def test_hls_water_values(hls_water: Path) -> None:
    data = HLSWater(hls_water, 'test')
    sample = data[0]
    assert (sample['image'][:, -4:] == -9999).all() and (sample['mask'][-4:] == 255).all()
    water = sample['image'][4, :-4] < 1500
    assert (water == (sample['mask'][:-4] == 1)).all()
    assert data.normalize(nodata_fill=True)(sample)['image'].abs().max() < 20
    with pytest.raises(ConfigError, match='fold must be'):
        HLSWater(hls_water, fold=7)


def test_hls_water_files_that_declare_their_fill(tmp_path: Path) -> None:
    root = true_files.hls_water(tmp_path)
    data = HLSWater(root, 'test')
    mask = data[0]['mask']
    with rasterio.open(data.files[0], 'r+') as file:
        file.nodata = -9999
    sample = HLSWater(root, 'test')[0]
    assert sample['image'].isnan().any() and (sample['mask'] == mask).all()


def test_hls_water_masks_are_files_too(tmp_path: Path) -> None:
    root = true_files.hls_water(tmp_path)
    data = HLSWater(root, 'test')
    before, path = data.fingerprint(), data.masks[0]
    os.utime(path, (0, 0))
    assert HLSWater(root, 'test').fingerprint() != before
    path.unlink()
    with pytest.raises(DataError, match=rf'a mask is missing: there is no .*{path.name}'):
        HLSWater(root, 'test')


def test_worldcover_patches(hls_water: Path) -> None:
    everything = WorldCoverPatches(hls_water, 'all')
    assert len(everything) == 12 * 3  # built-up has too few
    assert [everything.classes[k] for k in sorted(set(everything.labels))] == [
        'tree', 'grass', 'crop',
    ]  # fmt: skip
    whole = HLSWater(hls_water, 'all', ['nir08'])[0]['image']
    patch = WorldCoverPatches(hls_water, 'all', ['nir08'])[1]
    assert patch['image'].shape == (1, 32, 32)
    assert (patch['image'] == whole[:, 32:64, 32:64]).all()
    assert len(WorldCoverPatches(hls_water, 'all', min_purity=0.7)) == 24
    with pytest.raises(ConfigError, match='no patch has a purity'):
        WorldCoverPatches(hls_water, min_purity=0.99)


def test_declared_bands_are_compared_with_those_of_the_files(tmp_path: Path) -> None:
    true_files.hls_water(tmp_path)
    names = ('blue', 'green', 'red', 'nir08', 'swir16', 'swir22', 'fmask')
    for path in (tmp_path / 'images').glob('*.tif'):
        write(path, np.ones((7, 128, 128), 'int16'), names)
    with pytest.raises(BandError, match='hls:coastal declared, but the file names its channels'):
        HLSWater(tmp_path)


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    true_files.hls_water(tmp_path)
    before = HLSWater(tmp_path).fingerprint()
    assert HLSWater(tmp_path).fingerprint() == before
    assert HLSWater(tmp_path, bands=['red']).fingerprint() != before
    path: Any = HLSWater(tmp_path).files[0]
    write(Path(path), np.ones((7, 128, 128), 'int16'))
    assert HLSWater(tmp_path).fingerprint() != before
