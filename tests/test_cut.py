"""Cutting scenes into chips: values, bands, places and what is left out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

FOLDER = Path(__file__).parents[1] / 'examples' / 'weights'
MTL = """  REFLECTANCE_MULT_BAND_2 = 2.0000E-05
  REFLECTANCE_ADD_BAND_2 = -0.100000
  REFLECTANCE_MULT_BAND_4 = 4.0000E-05
  REFLECTANCE_ADD_BAND_4 = -0.200000
  SUN_ELEVATION = 30.0
"""


@pytest.fixture(scope='module')
def cut() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    import cut as module

    return module


def image(path: Path, values: Any, located: bool = True) -> None:
    """Write a band or bands, the upper left corner at 20 degrees east and 40 degrees north."""
    values = np.atleast_3d(np.asarray(values).T).T
    place = {'crs': 'EPSG:4326', 'transform': from_origin(20, 40, 0.1, 0.1)} if located else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, 'w', driver='GTiff', width=values.shape[2], height=values.shape[1],
        count=len(values), dtype=values.dtype, **place,
    ) as file:  # fmt: skip
        file.write(values)


def run(cut: ModuleType, folder: Path, *blocks: dict[str, Any], more: tuple[str, ...] = ()) -> None:
    (folder / 'sets.yaml').write_text(yaml.safe_dump(list(blocks)))
    given = ['--raw', str(folder), '--packed', str(folder / 'packed')]
    cut.main([*given, '--sets', str(folder / 'sets.yaml'), *more])


def packed(folder: Path, name: str) -> tuple[Any, dict[str, Any]]:
    out = folder / 'packed' / name
    return np.load(out / 'chips.npy'), json.loads((out / 'meta.json').read_text())


def test_one_file_for_each_band(cut: ModuleType, tmp_path: Path) -> None:
    fine = np.arange(1, 65, dtype='uint16').reshape(8, 8)
    coarse = np.array([[10, 20], [30, 40]], 'uint16')
    image(tmp_path / 'a' / 's_B02.tif', fine)
    image(tmp_path / 'a' / 's_B09.tif', coarse)
    image(tmp_path / 'a' / 'alone_B02.tif', fine)  # has no second band
    each = {'files': 'a/*_B02.tif', 'each': ['_B02', '_B09'], 'bands': ['B02', 'B09']}
    run(cut, tmp_path, {'name': 'x', **each, 'size': 4, 'scale': 0.01, 'offset': 0.1})
    chips, meta = packed(tmp_path, 'x')
    assert chips.shape == (4, 2, 4, 4)
    assert chips.dtype == np.uint16
    assert (chips[1, 0] == fine[:4, 4:] * 100 + 1000).all()  # the second lies to the right
    assert [np.unique(chip[1]).tolist() for chip in chips] == [[2000], [3000], [4000], [5000]]
    assert meta['bands'] == ['B02', 'B09']
    assert meta['places'] == [[20.2, 39.8], [20.6, 39.8], [20.2, 39.4], [20.6, 39.4]]
    assert meta['scenes'] == ['s_B02.tif'] * 4


def test_grids_that_divide_but_for_a_pixel(cut: ModuleType, tmp_path: Path) -> None:
    image(tmp_path / 's_B02.tif', np.ones((7, 8), 'uint16'))
    image(tmp_path / 's_B05.tif', np.arange(16, dtype='uint16').reshape(4, 4))
    values = cut.read([tmp_path / 's_B02.tif', tmp_path / 's_B05.tif']).values
    assert values.shape == (2, 7, 8)
    assert values[1, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert values[1, :, 0].tolist() == [0, 0, 4, 8, 8, 12, 12]
    image(tmp_path / 's_B09.tif', np.ones((5, 5), 'uint16'))
    with pytest.raises(SystemExit, match='does not divide'):
        cut.read([tmp_path / 's_B02.tif', tmp_path / 's_B09.tif'])


def test_empty_chips_and_eight_bits(cut: ModuleType, tmp_path: Path) -> None:
    values = np.full((4, 8, 8), 7, 'uint8')
    values[:, :4, :4] = 0
    values[:, 4:, :2] = 0  # half of the third chip
    image(tmp_path / 's.tif', values, located=False)
    block = {'files': 's.tif', 'bands': ['red', 'blue'], 'channels': [0, 2], 'size': 4}
    run(cut, tmp_path, {'name': 'half', **block, 'empty': 0.5}, {'name': 'few', **block})
    chips, meta = packed(tmp_path, 'half')
    assert chips.shape == (3, 2, 4, 4)
    assert chips.dtype == np.uint8
    assert meta['places'] == [None] * 3
    assert len(packed(tmp_path, 'few')[0]) == 2


def test_no_data(cut: ModuleType) -> None:
    values = np.array([[[0.2, np.nan, 0.0, 0.3]], [[0.1, 0.1, 0.1, -0.2]]])
    got = cut.convert(values, cut.Numbers(scale=1.0))
    assert got[:, 0].tolist() == [[2000, 0, 0, 3000], [1000, 0, 0, 1]]  # below 0 is still a value
    kept = cut.convert(np.array([[[5, 9]]], 'uint8'), cut.Numbers(nodata=9))
    assert kept.tolist() == [[[5, 0]]]


def test_metadata_of_landsat(cut: ModuleType, tmp_path: Path) -> None:
    for band in (2, 4):
        image(tmp_path / 'a' / f'L_B{band}.TIF', np.full((4, 4), 10000, 'uint16'))
    block = {'name': 'x', 'files': 'a/*_B2.TIF', 'each': ['_B2', '_B4'], 'bands': ['B2', 'B4']}
    block |= {'size': 4, 'scale': 'mtl'}
    with pytest.raises(SystemExit, match=r'no MTL\.txt'):
        run(cut, tmp_path, block)
    assert not (tmp_path / 'packed' / 'x').exists()
    (tmp_path / 'a' / 'L_MTL.txt').write_text(MTL)
    run(cut, tmp_path, block)
    # (2e-5 * 10000 - 0.1) / sin(30 degrees), and twice that
    assert packed(tmp_path, 'x')[0][0, :, 0, 0].tolist() == [2000, 4000]
    (tmp_path / 'a' / 'L_MTL.txt').write_text('SUN_ELEVATION = 30')
    with pytest.raises(SystemExit, match='REFLECTANCE_MULT_BAND_2'):
        run(cut, tmp_path, block, more=('--rebuild',))


def test_most_every_and_what_exists(
    cut: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(4):
        np.save(tmp_path / f's{n}.npy', np.full((8, 8, 1), n + 1, 'uint16'))
    block = {'name': 'x', 'files': ['s*.npy'], 'bands': ['B1'], 'size': 2, 'every': 2, 'most': 5}
    run(cut, tmp_path, block)
    chips, meta = packed(tmp_path, 'x')
    assert meta['scenes'] == ['s0.npy'] * 4 + ['s2.npy'] * 4  # 16 chips a scene, every fourth
    assert np.unique(chips).tolist() == [1, 3]
    run(cut, tmp_path, {**block, 'every': 1})
    assert 'x: kept as it is' in capsys.readouterr().out
    run(cut, tmp_path, {**block, 'every': 1}, more=('--rebuild',))
    assert len(set(packed(tmp_path, 'x')[1]['scenes'])) == 4


@pytest.mark.parametrize(
    ('block', 'said'),
    [
        ({'files': 's.tif', 'bands': ['B1']}, '2 channels, but 1 bands'),
        # the pattern finds the second band: all bands would be that file
        ({'files': 's.tif', 'each': ['_B1', '_B2'], 'bands': ['B1', 'B2']}, "'_B1' once"),
    ],
)
def test_wrong_sets(cut: ModuleType, tmp_path: Path, block: dict[str, Any], said: str) -> None:
    image(tmp_path / 's.tif', np.ones((2, 4, 4), 'uint16'))
    with pytest.raises(SystemExit, match=said):
        run(cut, tmp_path, {'name': 'x', **block, 'size': 4})


def test_unknown_set(cut: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(cut, tmp_path, {'name': 'x', 'files': 'a', 'bands': []}, more=('--only', 'y'))
    assert 'no sets y; there are x' in capsys.readouterr().err


def test_sets_are_valid(cut: ModuleType) -> None:
    known = {
        'name', 'files', 'each', 'every', 'bands', 'channels', 'scale', 'offset', 'nodata',
        'size', 'empty', 'most',
    }  # fmt: skip
    blocks = yaml.safe_load((FOLDER / 'packed.yaml').read_text())
    assert len({block['name'] for block in blocks}) == len(blocks)
    for block in blocks:
        assert set(block) <= known, block['name']
        chosen = block.get('channels', block.get('each', block['bands']))
        assert len(chosen) == len(block['bands']), block['name']
        assert isinstance(block.get('scale', 1.0), int | float) or block['scale'] == 'mtl'
