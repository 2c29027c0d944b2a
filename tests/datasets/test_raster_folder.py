"""One's own images: three forms, declared bands, splits that keep neighbors together."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import true_files
from true_files import CHIPS, table, write

from torchgeo_aom.datasets import RasterFolder
from torchgeo_aom.errors import BandError, BandWarning, ConfigError, DataError, UnitError

S2: dict[str, Any] = {'sensor': 'sentinel2', 'file_bands': 'sentinel2:eurosat', 'product': 'l1c'}
NAMES = 'abcdefghijklmnopqrst'


@pytest.fixture(scope='session')
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of real chips of EuroSAT."""
    root = tmp_path_factory.mktemp('chips')
    for name in ('Forest', 'River', 'SeaLake'):
        shutil.copytree(CHIPS / name, root / name)
    return root


def masks(root: Path, images: str = 'images', folder: str = 'masks', suffix: str = '') -> Path:
    """Images of two bands with masks, 20 of them."""
    for k, name in enumerate(NAMES):
        image = np.full((2, 8, 8), 100 + k, 'uint8')
        mask = np.full((1, 8, 8), 10 * (k % 2), 'uint8')
        mask[:, 0] = 255
        write(root / images / f'{name}.tif', image)
        write(root / folder / f'{name}{suffix}.png', mask)
    return root


RG: dict[str, Any] = {'file_bands': ['red', 'green'], 'unit': 'uint8', 'classes': ['no', 'yes']}
MASKS: dict[str, Any] = {'class_values': [0, 10], 'ignore_values': [255], **RG}


def test_classes_in_folders(chips: Path) -> None:
    splits = {split: RasterFolder(chips, split, **S2) for split in ('train', 'val', 'test', 'all')}
    assert [len(data) for data in splits.values()] == [36, 12, 12, 60]
    assert len({str(item.path) for data in splits.values() for item in data.items}) == 60
    data = splits['train']
    assert data.classes == ('Forest', 'River', 'SeaLake') and data.target == 'class'
    labels = [int(data[k]['label']) for k in range(len(data))]
    assert [labels.count(k) for k in range(3)] == [12, 12, 12]  # each class by itself
    assert data.groups is None and data.product.nodata == 0.0
    subset = RasterFolder(chips, 'train', ['nir08', 'red'], **S2)
    assert (subset[0]['image'] == data[0]['image'][[12, 3]]).all()
    assert data.plot(data[0]) is not None


def test_names_in_the_files_win_over_their_order(chips: Path) -> None:
    declared = {**S2, 'file_bands': 'sentinel2'}  # B8A would be ninth: the files say thirteenth
    one = RasterFolder(chips, 'all', ['B8A'], **declared)[0]['image']
    assert (one == RasterFolder(chips, 'all', ['B8A'], **S2)[0]['image']).all()


def test_files_that_contradict_are_refused(chips: Path) -> None:
    with pytest.raises(BandError, match=r'hls:nir08.*declared, but the file names its channels'):
        RasterFolder(chips, sensor='hls', product='v2')
    with pytest.warns(BandWarning, match='name B12, B8A, which landsat8 does not have'):
        RasterFolder(chips, sensor='landsat8', product='c2l1')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        RasterFolder(chips, **S2)


def test_groups_by_cell_are_never_torn(chips: Path) -> None:
    owner: dict[str, str] = {}
    for split in ('train', 'val', 'test'):
        data = RasterFolder(chips, split, group_cell_m=100_000, **S2)
        assert data.groups is not None and len(data.groups) == len(data)
        assert all(owner.setdefault(group, split) == split for group in data.groups)
    first = RasterFolder(chips, 'test', group_cell_m=100_000, **S2)
    other = RasterFolder(chips, 'test', group_cell_m=100_000, fold=1, **S2)
    assert not set(first.groups or ()) & set(other.groups or ())


def test_groups_by_pattern(chips: Path) -> None:
    data = RasterFolder(chips, 'test', group_pattern=r'_(\d)', **S2)
    assert len(set(data.groups or ())) >= 1
    assert all(re.search(r'_(\d)', item.path.name) for item in data.items)
    for pattern, error in (('[', ConfigError), ('x', ConfigError), ('(x)', DataError)):
        with pytest.raises(error, match='group_pattern'):
            RasterFolder(chips, group_pattern=pattern, **S2)
    with pytest.raises(ConfigError, match='choose one'):
        RasterFolder(chips, group_pattern='(x)', group_cell_m=1.0, **S2)
    with pytest.raises(ConfigError, match='must be positive'):
        RasterFolder(chips, group_cell_m=-1.0, **S2)


def test_splits_are_the_same_wherever_the_folder_is(chips: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(chips, tmp_path / 'elsewhere')
    names = [item.path.name for item in RasterFolder(chips, 'test', **S2).items]
    assert names == [item.path.name for item in RasterFolder(copy, 'test', **S2).items]


def test_split_folders(tmp_path: Path) -> None:
    for split, count in (('train', 3), ('test', 1)):
        for name in ('land', 'train'):  # a class may be called so
            for k in range(count):
                write(tmp_path / split / name / f'{k}.png', np.full((3, 8, 8), k, 'uint8'))
    options: dict[str, Any] = {'sensor': 'rgb', 'unit': 'uint8'}
    assert len(RasterFolder(tmp_path, **options)) == 6
    assert len(RasterFolder(tmp_path, 'test', **options)) == 2
    with pytest.raises(DataError, match="split 'val' of .* is empty: 8 samples are in test, train"):
        RasterFolder(tmp_path, 'val', **options)


def test_masks_in_their_own_folder(tmp_path: Path) -> None:
    masks(tmp_path)
    data = RasterFolder(tmp_path, images='images', masks='masks', **MASKS)
    assert len(data) == 12 and data.target == 'mask' and data.ignore_index == 255
    for k in range(len(data)):
        sample = data[k]
        assert (sample['mask'][0] == 255).all()
        assert (sample['mask'][1:] == int(sample['image'][0, 0, 0]) % 2).all()  # its own mask
    assert len(data.files) == 24


def test_masks_beside_images(tmp_path: Path) -> None:
    masks(tmp_path, 'all', 'all', '_mask')
    options = {'images': 'all', 'masks': 'all', 'mask_suffix': '_mask'}
    assert len(RasterFolder(tmp_path, 'all', **options, **MASKS)) == 20
    flat = masks(tmp_path / 'flat', '', '', '_mask')
    assert len(RasterFolder(flat, 'all', masks='', mask_suffix='_mask', **MASKS)) == 20
    with pytest.raises(ConfigError, match='tell them apart by mask_suffix='):
        RasterFolder(tmp_path, images='all', masks='all', **MASKS)


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    masks(tmp_path)
    options: dict[str, Any] = {'images': 'images', 'masks': 'masks'}
    with pytest.raises(
        DataError, match=r'values \[255\], which are no classes: known are \[0, 1\]'
    ):
        data = RasterFolder(tmp_path, 'all', **options, **RG)
        for index in range(20):
            data[index]
    with pytest.raises(ConfigError, match='give classes='):
        RasterFolder(tmp_path, **options, **{**MASKS, 'classes': None})
    with pytest.raises(ConfigError, match='one value for each of the 2 classes'):
        RasterFolder(tmp_path, **options, **{**MASKS, 'class_values': [0, 255]})
    write(tmp_path / 'masks' / 'a.png', np.zeros((1, 4, 8), 'uint8'))
    with pytest.raises(DataError, match=r'has \(4, 8\) px, its image .* \(8, 8\)'):
        RasterFolder(tmp_path, 'all', **options, **MASKS)[0]
    (tmp_path / 'masks' / 'a.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'a.png cannot be read'):
        RasterFolder(tmp_path, 'all', **options, **MASKS)[0]
    (tmp_path / 'masks' / 'b.png').unlink()
    with pytest.raises(DataError, match='1 names have no mask or no image: b'):
        RasterFolder(tmp_path, **options, **MASKS)
    with pytest.raises(DataError, match='folder of the masks is missing'):
        RasterFolder(tmp_path, images='images', masks='labels', **MASKS)


def test_table_with_splits_and_groups(chips: Path) -> None:
    rows: list[dict[str, Any]] = [
        {'path': f'River/River_{k}.tif', 'label': 'wet' if k % 2 else 'dry', 'group': k % 4}
        for k in range(1, 13)
    ]
    table(chips / 'groups.csv', rows)
    parts = [RasterFolder(chips, s, table='groups.csv', folds=4, **S2) for s in RasterFolder.splits]
    assert [len(data) for data in parts] == [6, 3, 3, 12]
    assert parts[0].classes == ('dry', 'wet') and len(set(parts[2].groups or ())) == 1
    for k, row in enumerate(rows):
        row['split'] = ('train', 'val', 'test')[k % 3]
    table(chips / 'splits.csv', rows)
    assert len(RasterFolder(chips, 'val', table='splits.csv', **S2)) == 4
    rows[0]['split'] = 'dev'
    table(chips / 'wrong.csv', rows)
    with pytest.raises(ConfigError, match="got 'dev'"):
        RasterFolder(chips, table='wrong.csv', **S2)
    with pytest.raises(ConfigError, match=r"\['wet'\] are not among \['dry'\]"):
        RasterFolder(chips, table='splits.csv', classes=['dry'], **S2)


def test_table_with_several_labels(chips: Path) -> None:
    rows = [
        {'path': f'River/River_{k}.tif', 'label': label}
        for k, label in enumerate(('water|land', 'land', '', 'ice') * 3, 1)
    ]
    table(chips / 'several.csv', rows)
    data = RasterFolder(chips, 'all', table='several.csv', multilabel=True, **S2)
    assert data.target == 'classes' and data.classes == ('ice', 'land', 'water')
    assert [data[k]['label'].tolist() for k in range(4)] == [
        [0, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0],
    ]  # fmt: skip


def test_tables_that_are_wrong(chips: Path) -> None:
    for rows, message in (
        ([{'file': 'a.tif', 'label': 'x'}], 'must have the columns path, and label or mask'),
        ([{'path': 'River/River_1.tif', 'label': ''}], 'line 2: label is empty'),
        ([{'path': 'River/nothing.tif', 'label': 'x'}], 'image of line 2 is missing'),
    ):
        table(chips / 'wrong.csv', rows)
        with pytest.raises(DataError, match=message):
            RasterFolder(chips, table='wrong.csv', **S2)
    with pytest.raises(DataError, match='the table is missing'):
        RasterFolder(chips, table='nothing.csv', **S2)
    with pytest.raises(ConfigError, match='leave images= and masks= out'):
        RasterFolder(chips, table='groups.csv', masks='masks', **S2)
    with pytest.raises(ConfigError, match='multilabel=True needs table='):
        RasterFolder(chips, multilabel=True, **S2)


def test_what_has_to_be_declared(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='does not say what its channels are'):
        RasterFolder(chips, product='l1c')
    with pytest.raises(ConfigError, match='say how the values are stored'):
        RasterFolder(chips, sensor='sentinel2')
    with pytest.raises(ConfigError, match="'train', 'val', 'test', 'all', got 'valid'"):
        RasterFolder(chips, 'valid', **S2)
    with pytest.raises(DataError, match='folder of the data is missing'):
        RasterFolder(tmp_path / 'nothing', **S2)
    with pytest.raises(DataError, match='one folder for each class'):
        RasterFolder(tmp_path, **S2)


def test_nodata_and_scales_of_the_files(tmp_path: Path) -> None:
    for k in range(5):
        image = np.full((2, 8, 8), 50, 'int16')
        image[:, :2] = -1
        write(tmp_path / 'x' / f'{k}.tif', image, nodata=-1)
    options: dict[str, Any] = {'file_bands': ['red', 'green']}
    data = RasterFolder(tmp_path, product={'scale': 0.01, 'offset': 0.0}, **options)
    assert data[0]['image'][:, :2].isnan().all() and (data[0]['image'][:, 2:] == 50).all()
    out = data.normalize(mean=0.5, std=0.1, nodata_fill=True)(data[0])['image']
    assert out.abs().max() < 1e-5
    assert data.plot(data[0]) is not None
    import rasterio

    for path in (tmp_path / 'x').glob('*.tif'):
        with rasterio.open(path, 'r+') as file:
            file.scales = (0.01, 0.01)
    with pytest.raises(UnitError, match=r'value \* 0.01'):
        RasterFolder(tmp_path, unit='reflectance', **options)
    scaled = RasterFolder(tmp_path, product='file', **options)
    np.testing.assert_allclose(scaled[0]['image'][:, 2:], 0.5, rtol=1e-6)
    assert scaled.product.unit == 'reflectance'


def test_a_vrt_in_disguise_is_not_opened(tmp_path: Path) -> None:
    for k in range(5):
        path = tmp_path / 'x' / f'{k}.tif'
        path.parent.mkdir(exist_ok=True)
        path.write_text('<VRTDataset rasterXSize="8" rasterYSize="8"></VRTDataset>')
    with pytest.raises(DataError):
        RasterFolder(tmp_path, sensor='rgb', unit='uint8')


def test_the_real_chips_of_the_package() -> None:
    """The 200 chips that ship with it, split by cells of 100 km."""
    sizes = [
        len(RasterFolder(true_files.CHIPS, split, group_cell_m=100_000, **S2))
        for split in ('train', 'val', 'test')
    ]
    assert sizes == [120, 40, 40]
