"""GEO-Bench v1 on files in the true form and on genuine ones, and what is said of wrong ones."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from make_geobench import LAYOUT, MASKED, unpack, values, write_task
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from torchgeo_aom.bands import Product
from torchgeo_aom.datasets import GeoBench
from torchgeo_aom.datasets.geobench_tasks import TASKS
from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError, UnitWarning
from torchgeo_aom.tasks.probe_data import open_data
from torchgeo_aom.transforms import Normalize


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp('geobench')
    for name in LAYOUT:
        write_task(top, name, folder={'m-cashew-plant': 'm-cashew-plantation'}.get(name))
    return top


@pytest.fixture(scope='module')
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp('genuine')
    unpack(top, 'brick_kiln_v1.0')
    unpack(top, 'cvpr_chesapeake_landcover')
    return top


@pytest.mark.parametrize('name', LAYOUT)
def test_every_task(name: str, root: Path) -> None:
    train = GeoBench(name, root)
    assert (len(train), len(GeoBench(name, root, 'val')), len(GeoBench(name, root, 'test'))) == (
        4,
        2,
        2,
    )
    stored, kind, classes, _ = LAYOUT[name]
    for k in (0, 3):
        sample = train[k]
        image = sample['image']
        assert image.shape == (len(train.bands), 16, 16) and image.dtype == torch.float32
        for channel, band in zip(image, TASKS[name].stored.values(), strict=True):
            expected = values(name, kind, 16, stored.index(band), seed=k)
            assert np.array_equal(channel.numpy(), expected.astype(np.float32))
        if name in MASKED:
            assert sample['mask'].dtype == torch.int64 and set(sample) == {'image', 'mask'}
            assert sample['mask'].unique().tolist() == list(range(classes))
            assert train.ignore_index == 255
        elif name == 'm-bigearthnet':
            assert sample['label'].nonzero().flatten().tolist() == [k, k + 7]
        else:
            assert sample['label'].dtype == torch.int64 and sample['label'] == k % classes
    assert train.num_classes == classes and train.target == TASKS[name].target


@pytest.mark.parametrize('name', LAYOUT)
def test_statistics_and_normalization(name: str, root: Path) -> None:
    """Each image minus the mean, through its own statistics, and the subset follows the bands."""
    dataset = GeoBench(name, root)
    numbers = dataset.band_statistics()
    assert tuple(numbers) == dataset.bands
    raw = json.loads((dataset.root / 'band_stats.json').read_text())
    scale = dataset.product.scale
    for (mean, std), stored in zip(numbers.values(), TASKS[name].stored.values(), strict=True):
        assert mean == pytest.approx(raw[stored]['mean'] * scale)
        assert std == pytest.approx(raw[stored]['std'] * scale)
    normalize = dataset.normalize(statistics='task')
    images = torch.stack(
        [GeoBench(name, root, split)[k]['image'] for split in ('train', 'val') for k in range(2)]
    )
    out = normalize(images)
    assert out.mean((0, 2, 3)).abs().max() < 0.25
    assert (out.std((0, 2, 3)) - 1).abs().max() < 0.25
    few = GeoBench(name, root, bands=list(dataset.bands[2:0:-1]))
    assert torch.allclose(few.normalize(statistics='task')(images[:, [2, 1]]), out[:, [2, 1]])


def test_where_the_catalogue_has_statistics(root: Path) -> None:
    for name in LAYOUT:
        dataset = GeoBench(name, root)
        if name in ('m-forestnet', 'm-SA-crop-type'):
            with pytest.raises(
                ConfigError, match="brings statistics of its own: statistics='task'"
            ):
                dataset.normalize()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                assert isinstance(dataset.normalize(), Normalize)
    with pytest.raises(ConfigError, match='give either'):
        dataset.normalize(statistics='task', mean=[0.1] * 4, std=[0.1] * 4)


def test_bands_by_name(root: Path) -> None:
    everything = GeoBench('m-chesapeake', root)
    assert everything.bands == ('naip:R', 'naip:G', 'naip:B', 'naip:NIR')
    rgb = GeoBench('m-chesapeake', root, bands='rgb')
    assert torch.equal(rgb[0]['image'], everything[0]['image'][:3])
    turned = GeoBench('m-chesapeake', root, bands=['blue', 'nir'])
    assert torch.equal(turned[0]['image'], everything[0]['image'][[2, 3]])
    so2sat = GeoBench('m-so2sat', root, bands=['B02'])  # not '02 - VH.Imaginary'
    assert torch.equal(so2sat[0]['image'][0], GeoBench('m-so2sat', root)[0]['image'][0])
    forest = GeoBench('m-forestnet', root, bands=['nir', 'landsat8:B4'])
    assert forest.bands == ('landsat8:B5', 'landsat8:B4')
    with pytest.raises(BandError, match=r"'sentinel2:B10' is not in these files.* They hold"):
        GeoBench('m-brick-kiln', root, bands=['B10'])
    with pytest.raises(BandError, match="unknown band 'VH'"):
        GeoBench('m-so2sat', root, bands=['VH'])


def test_only_the_bands_wanted_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = h5py.Dataset.__getitem__

    def spy(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        read.append(self.name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, '__getitem__', spy)
    GeoBench('m-cashew-plant', root, bands=['B8A', 'B02'])[0]
    assert read == ['/08A - Vegetation Red Edge_2019-11-15', '/02 - Blue_2019-11-15', '/label']


def test_no_handle_stays_open_and_workers_read(root: Path) -> None:
    dataset = GeoBench('m-eurosat', root, bands='rgb')
    dataset[0]
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1]['image'], dataset[1]['image'])
    batches = list(DataLoader(dataset, 2, num_workers=2))
    assert torch.equal(batches[1]['image'][1], dataset[3]['image'])
    assert torch.equal(torch.cat([b['label'] for b in batches]), torch.arange(4))


@pytest.mark.parametrize('name', ['m-eurosat', 'm-bigearthnet', 'm-forestnet'])
def test_labels_from_tables(name: str, tmp_path: Path) -> None:
    folder = write_task(tmp_path, name, tables=True)
    from_table = [GeoBench(name, tmp_path)[k]['label'] for k in range(4)]
    for path in folder.glob('*.hdf5'):  # then the pickles are not even looked at
        with h5py.File(path, 'a') as file:
            file.attrs['pickle'] = 'nonsense'
    assert all(torch.equal(GeoBench(name, tmp_path)[k]['label'], from_table[k]) for k in range(4))
    for path in folder.glob('label_*.json'):
        path.unlink()
    with pytest.raises(DataError, match='label of .*id_0000,0.5.hdf5 was not read'):
        GeoBench(name, tmp_path)[0]


def test_a_table_that_lacks_an_image(tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-pv4ger')
    (folder / 'label_map.json').write_text(json.dumps({'1': ['id_0000,0.5']}))
    dataset = GeoBench('m-pv4ger', tmp_path)
    assert [int(dataset[k]['label']) for k in range(2)] == [1, 1]  # table, then pickle
    rows = {'id_0000,0.5': [0.0, 1.0], 'id_0002,2.5': [1.0, 0.0]}
    (folder / 'label_map.json').unlink()
    (folder / 'label_stats.json').write_text(json.dumps(rows))
    assert int(GeoBench('m-pv4ger', tmp_path)[0]['label']) == 1


def test_genuine_brick_kiln(genuine: Path) -> None:
    dataset = GeoBench('m-brick-kiln', genuine, partition='small')
    assert len(dataset) == 2 and dataset.names == ['examples_0_12', 'examples_0_9']
    sample = dataset[0]
    assert sample['image'].shape == (10, 64, 64) and int(sample['label']) == 0
    with h5py.File(genuine / 'brick_kiln_v1.0' / 'examples_0_12.hdf5') as file:
        assert np.allclose(sample['image'][-1], file['09 - Water vapour'][()])
    assert dataset.band_statistics()['sentinel2:B08'][0] == pytest.approx(0.2, abs=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        out = dataset.normalize()(sample)['image']
    assert out.abs().mean() < 2
    itself = GeoBench('m-brick-kiln', genuine / 'brick_kiln_v1.0', partition='small', bands='rgb')
    assert torch.equal(itself[0]['image'], sample['image'][[3, 2, 1]])


def test_genuine_chesapeake(genuine: Path) -> None:
    dataset = GeoBench('m-chesapeake', genuine, 'test', partition='small')
    water, town = dataset
    assert town['image'].shape == (4, 256, 256) and 0 <= town['image'].min()
    assert town['image'].max() <= 1 and town['mask'].shape == (256, 256)
    assert [dataset.classes[k] for k in water['mask'].unique()] == ['water', 'impervious, other']
    figure = dataset.plot({**town, 'prediction': town['mask']}, suptitle='town')
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    normalized = dataset.normalize(statistics='task')(town)
    assert isinstance(dataset.plot(normalized), Figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [dataset.classes[k] for k in (2, 3, 5, 6)]
    ignoring = GeoBench('m-chesapeake', genuine, partition='small', ignore_no_data=True)
    assert ignoring.ignore_index == 0


def test_values_that_contradict_the_product(root: Path) -> None:
    wrong = GeoBench('m-chesapeake', root, product='uint8')
    expected = r"'uint8'.* it holds about 0 to 255, the image holds 0 to [\d.]+ "
    with pytest.warns(UnitWarning, match=expected):
        wrong.normalize()(wrong[0])
    wrong = GeoBench('m-eurosat', root, product=Product('reflectance', 1.0, 0.0, 'reflectance'))
    with pytest.raises(UnitError, match=r'it holds about -0.5 to 10, the image holds 3 to 1115'):
        wrong.normalize(statistics='task', strict=True)(wrong[0])


def test_roots(root: Path) -> None:
    for top in (
        root,
        root / 'classification_v1.0',
        root / 'classification_v1.0' / 'm-eurosat',
        str(root),
    ):
        assert len(GeoBench('m-eurosat', top)) == 4
    assert GeoBench('m-cashew-plantation', root).root.name == 'm-cashew-plantation'
    assert len(GeoBench('m-eurosat', root, partition='0.01x_train')) == 1
    assert len(GeoBench('m-eurosat', root, 'valid')) == len(GeoBench('m-eurosat', root, 'val'))


def test_folds_take_each_sample_once(root: Path) -> None:
    data = open_data('GeoBench', {'task': 'm-eurosat', 'root': str(root)}, splits=None)
    assert len(set(data.names)) == len(data.names)
    assert len(data.names) == sum(
        len(GeoBench('m-eurosat', root, split)) for split in ('train', 'val', 'test')
    )


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    first = GeoBench('m-eurosat', root, bands='rgb').fingerprint()
    assert first == GeoBench('m-eurosat', root, bands='rgb').fingerprint()
    assert first != GeoBench('m-eurosat', root, bands=['red']).fingerprint()
    assert first != GeoBench('m-eurosat', root, 'val', bands='rgb').fingerprint()


def test_wrong_arguments(root: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({'task': 'm-eurosatt'}, ConfigError, "did you mean 'm-eurosat'"),
        ({'split': 'validation'}, ConfigError, "'train', 'val', 'test', got 'validation'"),
        ({'partition': '0.02x_train'}, ConfigError, "it has '0.01x_train', 'default'"),
        ({'download': True}, ConfigError, 'cannot be downloaded.* Get m-eurosat by hand'),
        ({'ignore_no_data': True}, ConfigError, 'has no class "no data"'),
        ({'product': 'l1d'}, ConfigError, "unknown product 'l1d'"),
        ({'root': tmp_path}, DataError, r'm-eurosat is missing: .* Get m-eurosat by hand'),
    ]
    for change, error, match in cases:
        with pytest.raises(error, match=match):
            GeoBench(**{'task': 'm-eurosat', 'root': root, **change})


def test_h5py_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ConfigError, match=r"pip install 'torchgeo_aom\[geobench\]'"):
        GeoBench('m-eurosat', root)
