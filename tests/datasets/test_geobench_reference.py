"""The reader next to GEO-Bench's own package, where that is installed.

Its requirements conflict with those of TorchGeo, so it is installed by hand, apart and without
them: ``pip install --no-deps --target DIR geobench``, then ``PYTHONPATH=DIR pytest ...``.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from make_geobench import LAYOUT, unpack, write_task

from torchgeo_aom.datasets import GeoBench
from torchgeo_aom.datasets.geobench_tasks import TASKS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('geobench') is None,
    reason='geobench is not installed (pip install --no-deps geobench, in a folder of its own)',
)


@pytest.fixture
def geobench(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    # It makes this folder at import.
    monkeypatch.setenv('GEO_BENCH_DIR', str(tmp_path_factory.mktemp('own')))
    import geobench
    import geobench.dataset

    return geobench


def compare(geobench: ModuleType, folder: Path, dataset: GeoBench) -> None:
    """Both readers find the same values and labels, for the same samples in the same order."""
    split = {'val': 'valid'}.get(dataset.split, dataset.split)
    path = folder / f'{dataset.partition}_partition.json'
    names = geobench.dataset.Partition(json.loads(path.read_text())).partition_dict[split]
    assert len(names) == len(dataset)
    for k, name in enumerate(names):
        sample, ours = geobench.dataset.load_sample_hdf5(folder / f'{name}.hdf5'), dataset[k]
        bands = {band.band_info.name: band.data for band in sample.bands}
        for channel, stored in zip(ours['image'], dataset.task.stored.values(), strict=True):
            assert np.array_equal(channel.numpy(), bands[stored].astype(np.float32))
        if 'mask' in ours:
            assert np.array_equal(ours['mask'].numpy(), sample.label.data)
        else:
            assert np.array_equal(ours['label'].numpy(), sample.label)


@pytest.mark.parametrize('name', LAYOUT)
def test_fixtures_are_in_the_true_form(name: str, geobench: ModuleType, tmp_path: Path) -> None:
    folder = write_task(tmp_path, name, counts=(2, 2, 1))
    for split in ('train', 'val', 'test'):
        compare(geobench, folder, GeoBench(name, tmp_path, split))


@pytest.mark.parametrize(
    ('name', 'folder'),
    [('m-brick-kiln', 'brick_kiln_v1.0'), ('m-chesapeake', 'cvpr_chesapeake_landcover')],
)
def test_genuine_files(name: str, folder: str, geobench: ModuleType, tmp_path: Path) -> None:
    unpack(tmp_path, folder)
    compare(geobench, tmp_path / folder, GeoBench(name, tmp_path, partition='small'))


@pytest.mark.parametrize(
    'name', ['m-eurosat', 'm-bigearthnet', 'm-nz-cattle', 'm-forestnet', 'm-chesapeake']
)
def test_files_that_geobench_writes(name: str, geobench: ModuleType, tmp_path: Path) -> None:
    """Written by its own classes, with descriptions of bands, places and times."""
    own, task = geobench.dataset, TASKS[name]
    stored, kind, classes, date = LAYOUT[name]
    known = {band.name: band for band in own.sentinel2_13_bands}
    if name == 'm-forestnet':
        known = {band.name: band for band in own.landsat8_9_bands}
    known |= {band.name: band for band in own.make_rgb_bands(0.1)}
    known['NearInfrared'] = own.SpectralBand('NearInfrared', ('nir',), 1, 0.876)
    day = None if date is None else datetime.date.fromisoformat(date)
    folder = tmp_path / f'{task.collection}_v1.0' / name
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    partition = own.Partition()
    place = {'transform': (0.1, 0.0, 3.0, 0.0, -0.1, 4.0), 'crs': 'EPSG:4326'}
    for k, split in enumerate(('train', 'valid', 'test')):
        bands = [
            own.Band(random.integers(0, 99, (8, 8)).astype(kind), known[band], 10, day, **place)
            for band in stored
        ]
        label: Any = k
        if name == 'm-bigearthnet':
            label = np.isin(np.arange(classes), (k, k + 7)).astype(np.int64)
        if task.target == 'mask':
            described = own.SegmentationClasses('label', 1, classes)
            label = own.Band(np.full((8, 8), k % classes), described, 1, day)
        own.Sample(bands, label=label, sample_name=f's_{k}').write(str(folder))
        partition.add(split, f's_{k}')
    partition.save(str(folder), 'original', as_default=True)
    samples = [own.load_sample_hdf5(path) for path in folder.glob('*.hdf5')]
    numbers = own.compute_dataset_statistics(samples)[1]
    content = {key: value.to_dict() for key, value in numbers.items()}
    (folder / 'band_stats.json').write_text(json.dumps(content))
    for split in ('train', 'val', 'test'):
        ours = GeoBench(name, tmp_path, split)
        compare(geobench, folder, ours)
    first = ours.band_statistics()[ours.bands[0]]
    one = numbers[next(iter(task.stored.values()))]
    scale = ours.product.scale
    assert first == pytest.approx((one.mean * scale, one.std * scale))
