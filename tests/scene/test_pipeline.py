"""Results do not depend on windows, batches, threads, processes or parts."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from scene_tools import as_is, pixels, pooled, read, run, scene_of, write
from torch import Tensor

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import RunOptions
from torchgeo_aom.scene.reader import SceneReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / 'in.tif', pixels())


def ratio(x: Tensor) -> Tensor:
    return (x[:, 3:] - x[:, :1]) / (x[:, 3:] + x[:, :1])


def position(x: Tensor) -> Tensor:
    """A model with seams: what it says depends on the place in the window."""
    rows = torch.arange(x.shape[2]).float()[:, None] + torch.arange(x.shape[3])
    return (x.mean(1) + rows)[:, None]


@pytest.mark.parametrize(('chip', 'overlap'), [(32, 8), (32, 0), (16, 12), (64, 16), (128, 0)])
def test_constant_model_gives_a_constant_map(
    path: Path, tmp_path: Path, chip: int, overlap: int
) -> None:
    run(
        scene_of(path), tmp_path / 'o.tif', lambda x: torch.full_like(x[:, :1], 0.3), 1,
        chip=chip, overlap=overlap,
    )  # fmt: skip
    np.testing.assert_allclose(read(tmp_path / 'o.tif'), 0.3, rtol=1e-5)


@pytest.mark.parametrize('chip', [16, 32, 70, 200])
def test_tiled_equals_whole_for_a_pointwise_model(path: Path, tmp_path: Path, chip: int) -> None:
    scene = scene_of(path)
    run(scene, tmp_path / 'o.tif', ratio, 1, chip=chip, overlap=5)
    whole = ratio(as_is(scene)(torch.from_numpy(SceneReader(scene).read((0, 0, 70, 90)))[None]))
    np.testing.assert_allclose(read(tmp_path / 'o.tif'), whole[0], atol=1e-6)


@pytest.mark.parametrize(
    'options',
    [{'batch_size': 1}, {'batch_size': 7, 'readers': 0}, {'readers': 5}, {'memory_mib': 1}],
)
def test_batches_threads_and_strips_change_nothing(
    path: Path, tmp_path: Path, options: dict
) -> None:
    scene = scene_of(path)
    run(scene, tmp_path / 'a.tif', position, 1)
    run(scene, tmp_path / 'b.tif', position, 1, **options)
    np.testing.assert_allclose(read(tmp_path / 'a.tif'), read(tmp_path / 'b.tif'), atol=1e-5)


def test_parts_make_the_same_file(path: Path, tmp_path: Path) -> None:
    scene = scene_of(path)
    run(scene, tmp_path / 'a.tif', position, 1)
    done = [run(scene, tmp_path / 'b.tif', position, 1, shard=(k, 3)).done for k in (2, 0, 1)]
    assert done == [False, False, True]
    np.testing.assert_array_equal(read(tmp_path / 'a.tif'), read(tmp_path / 'b.tif'))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.tif', 'b.tif', 'in.tif']


def test_ranks_of_torchrun_are_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RANK', '2')
    monkeypatch.setenv('WORLD_SIZE', '4')
    assert RunOptions().part == (2, 4)
    assert RunOptions(shard=(0, 1)).part == (0, 1)
    with pytest.raises(ConfigError, match='shard'):
        RunOptions(shard=(4, 4))


def test_a_stopped_run_goes_on(path: Path, tmp_path: Path) -> None:
    scene = scene_of(path)
    calls = 0

    def failing(x: Tensor) -> Tensor:
        nonlocal calls
        calls += len(x)
        if calls > 10:
            raise KeyboardInterrupt
        return position(x)

    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path / 'o.tif', failing, 1, batch_size=2)
    assert not (tmp_path / 'o.tif').exists()
    result = run(scene, tmp_path / 'o.tif', position, 1, batch_size=2)
    assert result.windows == 8  # the last row, and the one that leads in
    run(scene, tmp_path / 'again.tif', position, 1)
    np.testing.assert_array_equal(read(tmp_path / 'o.tif'), read(tmp_path / 'again.tif'))
    assert not list(tmp_path.glob('.*'))


def test_another_input_starts_anew(path: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match='stop'):
        run(scene_of(path), tmp_path / 'o.tif', _stop, 1)
    write(path, pixels(seed=1))
    result = run(scene_of(path), tmp_path / 'o.tif', ratio, 1)
    assert result.windows == 12
    assert not list(tmp_path.glob('.*'))


def _stop(x: Tensor) -> Tensor:
    raise RuntimeError('stop')


@pytest.mark.parametrize('cell', [1, 8, 16])
def test_cells_lie_where_the_pixels_are(path: Path, tmp_path: Path, cell: int) -> None:
    scene = scene_of(path)
    run(scene, tmp_path / 'o.tif', lambda x: pooled(x, cell), 4, cell=cell, overlap=16)
    values = read(tmp_path / 'o.tif')
    assert values.shape == (4, -(-70 // cell), -(-90 // cell))
    whole = SceneReader(scene).read((0, 0, 64, 80))
    expected = pooled(torch.from_numpy(whole), cell)
    np.testing.assert_allclose(values[:, : 64 // cell, : 80 // cell], expected, atol=1e-6)
    with rasterio.open(tmp_path / 'o.tif') as file, rasterio.open(path) as source:
        assert file.crs == source.crs
        t = source.transform
        assert file.transform == Affine(t.a * cell, t.b, t.c, t.d, t.e * cell, t.f)
        if cell == 1:
            assert file.bounds == source.bounds


class TestNoData:
    def test_windows_without_data_are_skipped(self, tmp_path: Path) -> None:
        values = pixels()
        values[:, :, 40:] = 0
        path = write(tmp_path / 'in.tif', values)
        result = run(scene_of(path), tmp_path / 'o.tif', ratio, 1)
        assert result.empty == 6  # those from columns 48 and 58 on
        out = read(tmp_path / 'o.tif')
        assert np.isfinite(out[:, :, :40]).all()
        assert np.isnan(out[:, :, 40:]).all()

    def test_nothing_at_all(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', np.zeros((4, 40, 40), 'uint16'))
        result = run(scene_of(path), tmp_path / 'o.tif', ratio, 1)
        assert result.windows == 0
        assert np.isnan(read(tmp_path / 'o.tif')).all()

    @pytest.mark.parametrize(('rule', 'count'), [('all', 1), ('any', 4)])
    def test_all_bands_or_any(self, tmp_path: Path, rule: str, count: int) -> None:
        values = pixels().astype('float32') / 1e4
        values[0, 3, 4:7] = np.nan
        values[:, 9, 9] = np.nan
        path = write(tmp_path / 'in.tif', values, nodata=np.nan)
        scene = scene_of(path, product='reflectance')
        run(scene, tmp_path / 'o.tif', lambda x: x[:, :1], 1, nodata=rule)
        assert np.isnan(read(tmp_path / 'o.tif')).sum() == count

    def test_internal_mask_and_alpha_and_value(self, tmp_path: Path) -> None:
        values = pixels()
        for kind in ('mask', 'alpha', 'value'):
            path = tmp_path / f'{kind}.tif'
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                options = {'nodata': 9} if kind == 'value' else {}
                stack = values.copy()
                stack[:, 5:9, 5:9] = 9
                if kind == 'alpha':
                    alpha = np.full((1, 70, 90), 65535, 'uint16')
                    alpha[:, 5:9, 5:9] = 0
                    stack = np.concatenate((stack[:3], alpha))
                    options = {'photometric': 'RGB', 'alpha': 'non-premultiplied'}
                write(path, stack, None, **options)
                if kind == 'mask':
                    with rasterio.open(path, 'r+') as file:
                        mask = np.full((70, 90), 255, 'uint8')
                        mask[5:9, 5:9] = 0
                        file.write_mask(mask)
            bands = ['B04', 'B03', 'B02'] if kind == 'alpha' else 'sentinel2:rgbn'
            scene = scene_of(path, bands=bands)
            out = tmp_path / f'{kind}_out.tif'
            run(scene, out, lambda x: x[:, :1], 1)
            assert np.isnan(read(out)).sum() == 16
            assert np.isnan(read(out)[0, 5:9, 5:9]).all()


class TestReader:
    def test_sticking_out(self, path: Path) -> None:
        reader = SceneReader(scene_of(path))
        part = reader.read((60, 80, 32, 32))
        assert np.isfinite(part[:, :10, :10]).all()
        assert np.isnan(part[:, 10:]).all()
        assert np.isnan(part[:, :, 10:]).all()
        assert np.isnan(reader.read((500, 500, 8, 8))).all()

    @pytest.mark.parametrize('method', [pytest.param('spawn', marks=pytest.mark.slow), 'fork'])
    def test_processes_open_their_own_files(self, path: Path, method: str) -> None:
        reader = SceneReader(scene_of(path))
        here = reader.read((0, 0, 70, 90))
        with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
            there = pool.submit(reader.read, (0, 0, 70, 90)).result()
        np.testing.assert_array_equal(here, there)
        np.testing.assert_array_equal(here, pickle.loads(pickle.dumps(reader)).read((0, 0, 70, 90)))

    def test_damaged_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels(height=300, width=300), compress='deflate')
        scene = scene_of(path)
        path.write_bytes(path.read_bytes()[:40_000])
        with pytest.raises(DataError, match=r'in\.tif'):
            run(scene, tmp_path / 'o.tif', ratio, 1)
        assert not (tmp_path / 'o.tif').exists()
