"""Mistakes of real scenes that were once taken without a word, and what is right."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin
from scene_tools import pixels, write
from test_inputs import landsat, safe

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import open_scene


@pytest.mark.parametrize('kind', ['complex64', 'complex128'])
def test_complex_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / 'slc.tif', (pixels(4) * 1e-4 + 0.1j).astype(kind))
    with pytest.raises(DataError, match=f'complex numbers.*{kind}'):
        open_scene(path, sensor='sentinel2', product='reflectance')


@pytest.mark.parametrize(
    ('crs', 'x', 'y', 'step', 'meters'),
    [
        # EPSG:3857: meters at the equator; at 60 N a pixel of 20 covers 10 m (OSGeo/gdal 5532)
        ('EPSG:3857', 1_000_000, 8_399_737, 20, 10.0),
        ('EPSG:3857', 1_000_000, 0, 20, 20.0),
        ('EPSG:32631', 500_000, 6_650_000, 20, 20.0),
        ('EPSG:2154', 700_000, 6_600_000, 5, 5.0),
    ],
)
def test_meters_are_those_on_the_ground(
    tmp_path: Path, crs: str, x: float, y: float, step: float, meters: float
) -> None:
    path = write(tmp_path / 'x.tif', pixels(4), transform=from_origin(x, y, step, step), crs=crs)
    scene = open_scene(path, sensor='sentinel2', product='l2a')
    assert scene.grid.gsd_m == pytest.approx(meters, rel=0.005)
    same = open_scene(path, sensor='sentinel2', product='l2a', gsd_m=meters)
    assert same.grid.width == pytest.approx(scene.grid.width, abs=1)


def test_national_grids_keep_the_meters_that_they_state(tmp_path: Path) -> None:
    """Else a scene of 10 m in UTM would be resampled by ``gsd_m=10``."""
    path = write(tmp_path / 'x.tif', pixels(4), transform=from_origin(3e5, 5e6, 10, 10))
    assert open_scene(path, sensor='sentinel2', product='l2a').grid.gsd_m == 10


def test_resolutions_that_no_sensor_has_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / 'x.tif', pixels(4))
    with pytest.raises(ConfigError, match=r'enlarge a scene of 10 m 10,000 times'):
        open_scene(path, sensor='sentinel2', product='l2a', gsd_m=0.001)


def test_two_granules_are_named(tmp_path: Path) -> None:
    product = safe(tmp_path)
    granule = product / 'GRANULE' / 'L2A_T31'
    shutil.copytree(granule, granule.with_name('L2A_T32'))
    with pytest.raises(DataError, match='2 granules, L2A_T31, L2A_T32'):
        open_scene(product)


def test_metadata_files_stand_for_their_product(tmp_path: Path) -> None:
    product = safe(tmp_path)
    scene = open_scene(product / 'MTD_MSIL2A.xml')
    assert scene.bands == open_scene(product).bands
    folder = landsat(tmp_path, True)
    mtl = next(path for path in folder.iterdir() if path.name.upper().endswith('_MTL.TXT'))
    assert np.array_equal(open_scene(mtl).files, open_scene(folder).files)
