"""Files are whole or absent, whatever happens; what is there already stays."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import rasterio
from scene_tools import UTM, pixels, read, run, scene_of, write
from torch import Tensor

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import outputs
from torchgeo_aom.scene.outputs import Store
from torchgeo_aom.scene.reader import SceneReader
from torchgeo_aom.scene.sinks import ClassSink, EmbeddingSink, ValueSink, class_colors

HERE = Path(__file__).parent


def mean(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / 'in.tif', pixels())


KILLED = """
import time
from pathlib import Path
from scene_tools import run, scene_of

def slow(x):
    time.sleep(0.3)
    return x.mean(1, keepdim=True)

run(scene_of(Path('in.tif')), Path('o.tif'), slow, 1, batch_size=1, readers=0, overwrite=True)
"""


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit on the size of files fails in the same places as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestStopped:
    def test_killed(self, path: Path) -> None:
        """The old file stays, and the run goes on."""
        folder = path.parent
        (folder / 'o.tif').write_text('old')
        options = {'batch_size': 1, 'readers': 0, 'overwrite': True}
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', KILLED], cwd=folder,
            env={
                **os.environ,
                'PYTHONPATH': os.pathsep.join([str(HERE), *sys.path]),
                'MPLCONFIGDIR': matplotlib.get_cachedir(),
            },
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while not list(folder.glob('.o.tif.*.parts/v_*.npy')) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert len(list(folder.glob('.o.tif.*.parts/v_*.npy'))) in (1, 2)
        assert (folder / 'o.tif').read_text() == 'old'
        result = run(scene_of(path), folder / 'o.tif', mean, 1, **options)
        assert result.windows <= 12  # the first row is done; it only leads in
        assert not list(folder.glob('.*'))
        run(scene_of(path), folder / 'again.tif', mean, 1)
        np.testing.assert_array_equal(read(folder / 'o.tif'), read(folder / 'again.tif'))

    @pytest.mark.parametrize(('size', 'pieces'), [(4000, 0), (60_000, 3)])
    def test_disk_full(self, path: Path, size: int, pieces: int) -> None:
        """In a piece, and in the final file."""
        out = path.parent / 'o.tif'
        out.write_text('old')
        scene = scene_of(path)
        with largest_file(size), pytest.raises(DataError, match='kept'):
            run(scene, out, lambda x: x, 4, overwrite=True)
        assert out.read_text() == 'old'
        left = [p.name for p in path.parent.rglob('.o.tif*/*.npy')]
        assert len(left) == pieces
        result = run(scene, out, lambda x: x, 4, overwrite=True)
        assert (result.windows == 0) == (pieces == 3)
        assert read(out).shape == (4, 70, 90)

    def test_exception(self, path: Path) -> None:
        def wrong(x: Tensor) -> Tensor:
            raise ValueError('broken model')

        with pytest.raises(ValueError, match='broken model'):
            run(scene_of(path), path.parent / 'o.tif', wrong, 1)
        assert not (path.parent / 'o.tif').exists()

    def test_threads_have_stopped_before_files_are_closed(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """GDAL does not survive a file that is closed while it is read."""
        reading: list[object] = []
        at_close: list[int] = []
        read_window, close = SceneReader.read, SceneReader.close

        def slow(self: SceneReader, part: Any) -> Any:
            reading.append(part)
            time.sleep(0.05)
            try:
                return read_window(self, part)
            finally:
                reading.pop()

        def closes(self: SceneReader) -> None:
            at_close.append(len(reading))
            close(self)

        def wrong(x: Tensor) -> Tensor:
            raise ValueError('broken model')

        monkeypatch.setattr(SceneReader, 'read', slow)
        monkeypatch.setattr(SceneReader, 'close', closes)
        with pytest.raises(ValueError, match='broken model'):
            run(scene_of(path), path.parent / 'o.tif', wrong, 1, readers=3, batch_size=1)
        assert at_close == [0]

    def test_pieces_of_others_are_swept_unless_they_work(self, tmp_path: Path) -> None:
        old = Store(tmp_path / 'o.tif', ['a'])
        busy = Store(tmp_path / 'o.tif', ['b'])
        assert old.folder.exists()
        old.close()
        new = Store(tmp_path / 'o.tif', ['c'])
        assert not old.folder.exists()
        assert busy.folder.exists()
        assert new.folder.exists()
        dead = tmp_path / f'.o.tif.{outputs.HOST}-4194303.part.tif'
        elsewhere = tmp_path / f'.o.tif.not{outputs.HOST}-4194303.part.tif'
        for part in (dead, elsewhere):
            part.write_text('')
        Store(tmp_path / 'o.tif', ['c'])
        assert not dead.exists()
        assert elsewhere.exists()  # nobody knows whether its process lives

    def test_damaged_piece(self, tmp_path: Path) -> None:
        store = Store(tmp_path / 'o.tif', ['a'])
        store.put('v', (0, 0), np.zeros((1, 2, 2)))
        store.path('v', (0, 0)).write_bytes(b'short')
        with pytest.raises(DataError, match='run the same again'):
            store.get('v', (0, 0))
        assert not store.has('v', (0, 0))


class TestRefused:
    def test_existing_file(self, path: Path) -> None:
        out = path.parent / 'o.tif'
        out.write_text('precious')
        with pytest.raises(ConfigError, match='--overwrite'):
            run(scene_of(path), out, mean, 1)
        assert out.read_text() == 'precious'
        assert not list(path.parent.glob('.*'))
        run(scene_of(path), out, mean, 1, overwrite=True)
        assert read(out).shape == (1, 70, 90)

    def test_existing_file_although_another_run_left_pieces(self, path: Path) -> None:
        out = path.parent / 'o.tif'
        Store(out, ['another']).close()
        out.write_text('precious')
        with pytest.raises(ConfigError, match='--overwrite'):
            run(scene_of(path), out, mean, 1)
        assert out.read_text() == 'precious'

    def test_input_as_output(self, path: Path) -> None:
        before = path.read_bytes()
        link = path.with_name('link.tif')
        link.symlink_to(path)
        for out in (path, link):
            with pytest.raises(ConfigError, match='input'):
                run(scene_of(path), out, mean, 1, overwrite=True)
        assert path.read_bytes() == before

    def test_no_folder(self, path: Path) -> None:
        with pytest.raises(ConfigError, match='folder'):
            run(scene_of(path), path.parent / 'nowhere' / 'o.tif', mean, 1)
        with pytest.raises(ConfigError, match='folder'):
            run(scene_of(path), path.parent, mean, 1)


def softmax(x: Tensor) -> Tensor:
    return (x * 50).softmax(1)


class TestForms:
    def test_map(self, path: Path, tmp_path: Path) -> None:
        sinks = [
            ClassSink('c', tmp_path / 'c.tif', 4, ('a', 'b', 'c', 'd')),
            ValueSink('p', tmp_path / 'p.tif', ['a', 'b', 'c', 'd']),
        ]
        run(scene_of(path), tmp_path / 'c.tif', softmax, 4, sinks=lambda _: sinks)
        probabilities = read(tmp_path / 'p.tif')
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
        with rasterio.open(tmp_path / 'c.tif') as file:
            assert file.dtypes == ('uint8',)
            assert file.nodata == 255
            assert file.colormap(1)[1] == (*class_colors(4)[1], 255)
            assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
            assert file.tags()['AOM_BANDS'].split()[0] == 'sentinel2:B04'
            np.testing.assert_array_equal(file.read(1), probabilities.argmax(0))

    @pytest.mark.parametrize(
        ('classes', 'dtype', 'nodata'), [(255, 'uint8', 255), (256, 'uint16', 65535)]
    )
    def test_type_of_a_map(self, classes: int, dtype: str, nodata: int) -> None:
        sink = ClassSink('c', Path('c.tif'), classes)
        assert (sink.form().dtype, sink.form().nodata) == (dtype, nodata)
        values = np.zeros((classes, 1, 2), np.float32)
        values[-1] = 1
        staged = sink.stage(values, np.array([[True, False]]))
        assert staged.dtype == dtype
        assert staged.tolist() == [[[classes - 1, nodata]]]

    def test_binary(self) -> None:
        sink = ClassSink('c', Path('c.tif'), 2, binary=True)
        values = np.array([[[0.2, 0.7, 0.7]]], np.float32)
        assert sink.stage(values, np.array([[True, True, False]])).tolist() == [[[0, 1, 255]]]

    def test_colors_are_different(self) -> None:
        assert len(set(class_colors(60).values())) == 60

    @pytest.mark.parametrize('dtype', ['float16', 'float32', 'int8'])
    @pytest.mark.parametrize('components', [None, 2])
    def test_embedding(
        self, path: Path, tmp_path: Path, dtype: str, components: int | None
    ) -> None:
        values = pixels()
        values[:, :20, :20] = 0
        write(path, values)
        out = tmp_path / 'e.tif'
        scene = scene_of(path)
        sink = EmbeddingSink('e', out, 4, dtype, components)
        run(scene, out, lambda x: x, 4, sinks=lambda _: [sink])
        run(scene, tmp_path / 'v.tif', lambda x: x, 4)
        exact = read(tmp_path / 'v.tif')
        with rasterio.open(out) as file:
            assert file.count == (components or 4)
            stored = file.read(masked=True).astype('float64')
            got = (stored * np.array(file.scales)[:, None, None]).filled(np.nan)
            assert file.dtypes[0].startswith('int8' if dtype == 'int8' else 'float')
        assert np.isnan(got[:, :20, :20]).all()
        assert np.isfinite(got[:, 20:]).all()
        step = np.abs(exact[np.isfinite(exact)]).max() / (127 if dtype == 'int8' else 1000)
        if components is None:
            np.testing.assert_allclose(got, exact, atol=step)
        else:
            rows = exact[:, np.isfinite(exact[0])]
            centered = rows - rows.mean(1, keepdims=True)
            variance = np.linalg.eigvalsh(np.cov(centered))[::-1][:2]
            there = got[:, np.isfinite(got[0])]
            np.testing.assert_allclose(there.var(1), variance, rtol=0.02)

    def test_overviews(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels(1, 1200, 1100), ('B04',))
        run(scene_of(path), tmp_path / 'o.tif', mean, 1, chip=600, overlap=0)
        with rasterio.open(tmp_path / 'o.tif') as file:
            assert file.overviews(1) == [2, 4]
            assert file.block_shapes == [(512, 512)]

    def test_wrong_options(self) -> None:
        for options in ({'dtype': 'float8'}, {'components': 5}):
            with pytest.raises(ConfigError):
                EmbeddingSink('e', Path('e.tif'), 4, **options)
        with pytest.raises(ConfigError, match='names'):
            ClassSink('c', Path('c.tif'), 4, ('a',))


class TestPlace:
    @pytest.mark.parametrize(
        ('transform', 'crs'),
        [
            (UTM @ UTM.rotation(30) if hasattr(UTM, '__matmul__') else UTM, 'EPSG:32631'),
            (type(UTM)(10, 0, 5e5, 0, 10, 4.6e6), 'EPSG:32631'),  # south-up
            (type(UTM)(7, 0, 5e5, 0, -13, 4.6e6), 'EPSG:32631'),  # not square
            (type(UTM)(1e-4, 0, 2.5, 0, -9e-5, 42), 'EPSG:4326'),
            (type(UTM).identity(), None),
        ],
        ids=['rotated', 'south-up', 'not square', 'degrees', 'none'],
    )
    def test_is_kept(self, tmp_path: Path, transform: object, crs: str | None) -> None:
        path = write(tmp_path / 'in.tif', pixels(), transform=transform, crs=crs)
        scene = scene_of(path)
        run(scene, tmp_path / 'o.tif', mean, 1)
        with rasterio.open(tmp_path / 'o.tif') as file:
            assert file.transform == transform
            assert file.crs == (None if crs is None else rasterio.CRS.from_string(crs))
        assert (scene.grid.gsd_m is None) == (crs is None)

    def test_degrees_become_meters(self, tmp_path: Path) -> None:
        transform = type(UTM)(1.2e-4, 0, 2.8, 0, -9e-5, 42.37)
        path = write(tmp_path / 'in.tif', pixels(), transform=transform, crs='EPSG:4326')
        assert scene_of(path).grid.gsd_m == pytest.approx(9.94, abs=0.02)

    def test_feet_become_meters(self, tmp_path: Path) -> None:
        inside = type(UTM)(10, 0, 980_000, 0, -10, 200_000)  # New York, where the feet are true
        path = write(tmp_path / 'in.tif', pixels(), transform=inside, crs='EPSG:2263')
        assert scene_of(path).grid.gsd_m == pytest.approx(3.048, abs=1e-3)

    def test_control_points_only(self, tmp_path: Path) -> None:
        from rasterio.control import GroundControlPoint

        path = write(tmp_path / 'in.tif', pixels(), transform=type(UTM).identity(), crs=None)
        with rasterio.open(path, 'r+') as file:
            points = [GroundControlPoint(r, c, c, r) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
            file.gcps = (points, rasterio.CRS.from_epsg(4326))
        with pytest.raises(ConfigError, match='control points'):
            scene_of(path)
