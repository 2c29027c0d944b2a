"""Facts about GEO-Bench v1, each with its evidence."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import make_geobench
import numpy as np
import pytest
from make_geobench import LAYOUT, MASKED, unpack
from torchgeo.datasets import BigEarthNet, So2Sat

from torchgeo_aom.bands import get_sensor
from torchgeo_aom.datasets.geobench_tasks import SENTINEL2, TASKS, find_task
from torchgeo_aom.errors import ConfigError

# Means of the released files, as torchgeo-bench publishes them (datasets/m_*.py).
EUROSAT_MEANS = dict(
    zip(
        make_geobench.S2,
        [
            float(mean)
            for mean in '1359.95 1125.53 1055 957.344 1219.67 2051.62 2433.6 2360.1 751.164 '
            '12.2881 1848.9 1131.27 2665.44'.split()
        ],
        strict=True,
    )
)
# The same by TorchGeo (EuroSATDataModule), by geobench_v2 and by torchgeo-bench.
TORCHGEO_MEANS = {
    'B01': 1354.4055, 'B02': 1118.2440, 'B03': 1042.9298, 'B04': 947.6262, 'B05': 1199.4728,
    'B06': 1999.7909, 'B07': 2369.2229, 'B08': 2296.8261, 'B09': 732.0834, 'B10': 12.1133,
    'B11': 1819.0103, 'B12': 1118.9239, 'B8A': 2594.1408,
}  # fmt: skip
SO2SAT_MEANS = {
    'B02': 0.1295, 'B03': 0.1173, 'B04': 0.1138, 'B05': 0.1272, 'B06': 0.1707, 'B07': 0.1928,
    'B08': 0.1855, 'B8A': 0.2073, 'B11': 0.1769, 'B12': 0.1285,
}  # fmt: skip
BIGEARTHNET_BLUE_MEANS = {'02 - Blue': 482.274, '08 - NIR': 2336.86}


def test_all_twelve() -> None:
    assert list(TASKS) == list(LAYOUT)
    assert [name for name, task in TASKS.items() if task.target == 'mask'] == MASKED
    for name, task in TASKS.items():
        bands, _, classes, _ = LAYOUT[name]
        assert len(task.classes) == len(set(task.classes)) == classes
        # Every stored band is either read under one name or left out on purpose.
        assert sorted([*task.stored.values(), *task.left_out]) == sorted(bands)
        assert len(task.bands) == len(task.stored) and task.bands[0].sensor == task.sensor
        assert task.collection == ('segmentation' if task.target == 'mask' else 'classification')
        assert task.doubt == task.doubt.strip() and not task.doubt.endswith('.')


def test_patch_size_hint_is_the_rule() -> None:
    for task in TASKS.values():
        sizes = (16, 24, 32, 48, 64)  # of pretraining, in the paper
        assert task.patch_size == min(sizes, key=lambda p: (abs(task.size / 16 - p), p))
    assert TASKS['m-nz-cattle'].patch_size == 32 and TASKS['m-NeonTree'].patch_size == 24


def test_names_and_aliases() -> None:
    assert find_task('m-cashew-plantation') is find_task('m-cashew-plant')
    assert find_task('m-chesapeake-landcover') is TASKS['m-chesapeake']
    with pytest.raises(ConfigError, match="no task 'm-eurosta'; did you mean 'm-eurosat'"):
        find_task('m-eurosta')
    names = [name for task in TASKS.values() for name in (task.name, *task.aliases)]
    assert len(names) == len(set(names))


def test_eurosat_names_follow_the_values() -> None:
    """Under our names the means are EuroSAT's; under those of the benchmark, five are not."""
    task = TASKS['m-eurosat']
    for name, stored in task.stored.items():
        assert EUROSAT_MEANS[stored] == pytest.approx(TORCHGEO_MEANS[name], rel=0.035)
    wrong = [
        name
        for name, stored in SENTINEL2.items()
        if EUROSAT_MEANS[stored] != pytest.approx(TORCHGEO_MEANS[name], rel=0.3)
    ]
    assert wrong == ['B8A', 'B09', 'B10', 'B11', 'B12']
    # The catalogue was measured on other chips of EuroSAT.
    table = get_sensor('sentinel2').statistics['eurosat'].mean
    for name, stored in task.stored.items():
        assert EUROSAT_MEANS[stored] / 1e4 == pytest.approx(table[name], rel=0.15)


def test_so2sat_values_are_reflectance_of_the_top_of_the_atmosphere() -> None:
    table = get_sensor('sentinel2').statistics
    for name, mean in SO2SAT_MEANS.items():
        assert mean == pytest.approx(table['l1c'].mean[name], rel=0.2)
    assert SO2SAT_MEANS['B02'] > 2 * table['l2a'].mean['B02']
    product = TASKS['m-so2sat'].product
    assert (product.unit, product.scale, product.quantity) == ('reflectance', 1, 'toa')


def test_bigearthnet_is_surface_reflectance() -> None:
    table = get_sensor('sentinel2').statistics
    blue, nir = (mean / 1e4 for mean in BIGEARTHNET_BLUE_MEANS.values())
    assert blue == pytest.approx(table['l2a'].mean['B02'], rel=0.15)
    assert nir == pytest.approx(table['l2a'].mean['B08'], rel=0.15)
    assert blue < table['l1c'].mean['B02'] / 2


def test_classes_are_those_of_torchgeo() -> None:
    assert list(TASKS['m-bigearthnet'].classes) == list(BigEarthNet.class_sets[43])
    assert list(TASKS['m-so2sat'].classes) == [name.lower() for name in So2Sat.classes]
    assert TASKS['m-eurosat'].classes == tuple(sorted(TASKS['m-eurosat'].classes))


def test_forestnet_is_landsat8() -> None:
    """Near infrared is '05', where the same number is red edge of Sentinel-2."""
    task = TASKS['m-forestnet']
    assert {band.label: band.common_name for band in task.bands} == {
        'landsat8:B2': 'blue',
        'landsat8:B3': 'green',
        'landsat8:B4': 'red',
        'landsat8:B5': 'nir08',
        'landsat8:B6': 'swir16',
        'landsat8:B7': 'swir22',
    }
    assert task.stored['B5'] == '05 - NIR' and task.product == 'uint8'


def test_genuine_brick_kiln_bands(tmp_path: Path) -> None:
    """Three 'bands' are the picture of red, green and blue; the others are shifted."""
    folder = unpack(tmp_path, 'brick_kiln_v1.0')
    numbers = json.loads((folder / 'band_stats.json').read_text())
    task = TASKS['m-brick-kiln']
    picture = dict(zip(task.left_out, ('B04', 'B03', 'B02'), strict=True))
    for path in folder.glob('*.hdf5'):
        with h5py.File(path) as file:
            planes = {name: file[name][()].ravel() for name in file}
        for stored, band in picture.items():
            assert numbers[stored]['max'] <= 255 < numbers['08 - NIR']['max']
            close = np.corrcoef(planes[stored], planes[task.stored[band]])[0, 1]
            assert close > 0.99
        names = [name for name in task.stored.values() if name not in task.left_out]
        means = {band: planes[name].mean() for band, name in task.stored.items() if name in names}
        # The plateau of vegetation: B07, B08 and B8A are nearly equal. Named as in the files,
        # '08A' would fall far from '08', and '09 - Water vapour' would be at 60 m.
        assert means['B8A'] == pytest.approx(means['B08'], rel=0.03)
        assert means['B07'] < means['B8A'] and means['B12'] < means['B11']

        def sharpness(name: str, planes: dict[str, np.ndarray] = planes) -> float:
            plane = planes[name].reshape(64, 64)
            return float(np.abs(np.diff(plane)).mean() / plane.std())

        # Bands of 60 m cannot be as sharp as those of 20 m beside them.
        assert sharpness('01 - Coastal aerosol') < 0.5 * sharpness('09 - Water vapour')


def test_genuine_chesapeake_classes(tmp_path: Path) -> None:
    """Value 1 is water and 6 are roads: the benchmark's own names begin one too late."""
    folder = unpack(tmp_path, 'cvpr_chesapeake_landcover')
    classes = TASKS['m-chesapeake'].classes
    near, ndvi, area = {}, {}, {}
    for path in folder.glob('*.hdf5'):
        with h5py.File(path) as file:
            red, nir, mask = (file[name][()] for name in ('Red', 'NearInfrared', 'label'))
        for value in np.unique(mask):
            here = mask == value
            name = classes[value]
            if area.get(name, 0) < here.sum():
                area[name] = here.sum()
                near[name] = nir[here].mean()
                ndvi[name] = ((nir - red) / (nir + red + 1e-6))[here].mean()
    assert near['water'] < 0.01 and area['water'] > 65_000
    assert ndvi['tree canopy, forest'] > ndvi['low vegetation, field'] > 0.1
    assert ndvi['impervious, other'] < 0 and ndvi['impervious, roads'] < 0
    assert 'no data' not in area  # it was 'water' in the benchmark's list
