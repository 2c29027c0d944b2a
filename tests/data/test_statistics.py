"""Statistics of sources: right, measured once, kept safely."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchgeo_aom.cli import main
from torchgeo_aom.data import statistics as module
from torchgeo_aom.data.adapter import open_reader
from torchgeo_aom.data.source import Source
from torchgeo_aom.data.statistics import SourceStatistics, measure, normalizer, statistics
from torchgeo_aom.errors import AOMWarning, ConfigError, DataError


@pytest.fixture
def values() -> np.ndarray[Any, Any]:
    """Twelve images of three bands, of very different levels."""
    rng = np.random.default_rng(0)
    level = np.array([100, 5000, 20000])[None, :, None, None]
    return (level + rng.integers(0, 3000, (12, 3, 10, 12))).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path, write: Any, values: np.ndarray[Any, Any]) -> Path:
    for k, image in enumerate(values):
        write(tmp_path / 'chips' / f'{k:02}.tif', image)
    return tmp_path / 'chips'


def source(folder: Path, **facts: Any) -> Source:
    block = {'sensor': 'sentinel2', 'bands': ['B04', 'B03', 'B02'], 'product': 'l2a_2022', **facts}
    return Source.parse({'path': str(folder), **block})


class TestMeasure:
    def test_equals_numpy(self, folder: Path, values: np.ndarray[Any, Any]) -> None:
        found = measure(source(folder))
        reflectance = values.astype(np.float64) * 1e-4 - 0.1
        axes = (0, 2, 3)
        np.testing.assert_allclose(found.mean, reflectance.mean(axes), rtol=1e-12)
        np.testing.assert_allclose(found.std, reflectance.std(axes), rtol=1e-12)
        np.testing.assert_allclose(found.minimum, reflectance.min(axes), rtol=1e-12)
        np.testing.assert_allclose(found.maximum, reflectance.max(axes), rtol=1e-12)
        assert found.valid == [1, 1, 1]
        assert (found.images, found.skipped, found.product) == (12, 0, 'l2a_2022')
        assert found.bands == ['sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02']

    def test_nodata_does_not_count(self, folder: Path, write: Any) -> None:
        image = np.full((3, 10, 12), 2000, np.uint16)
        image[0], image[1, :5] = 0, 0
        write(folder / 'extra.tif', image)
        write(folder / 'empty.tif', np.zeros((3, 10, 12), np.uint16))
        found = measure(source(folder, nodata=0))
        assert min(found.minimum) > -0.1
        np.testing.assert_allclose(found.valid, [12 / 14, 12.5 / 14, 13 / 14])

    def test_no_cancellation(self, tmp_path: Path, write: Any) -> None:
        """A sum of squares would lose everything here."""
        rng = np.random.default_rng(1)
        images = 1e8 + rng.integers(0, 3, (4, 1, 16, 16))
        for k, image in enumerate(images):
            write(tmp_path / f'{k}.tif', image.astype(np.float64))
        found = measure(source(tmp_path, bands=['B04'], product={'scale': 1, 'offset': 0}))
        np.testing.assert_allclose(found.std, images.std(), rtol=1e-9)

    def test_large_images_in_parts(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = measure(source(folder))
        monkeypatch.setattr(module, 'TILE', 7)
        parts = measure(source(folder))
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(parts.std, whole.std, rtol=1e-12)

    def test_limit(self, folder: Path) -> None:
        some = measure(source(folder), limit=4)
        assert some.images == 4
        assert measure(source(folder), limit=4) == some
        assert some.mean != measure(source(folder), limit=None).mean
        with pytest.raises(ConfigError, match='limit'):
            measure(source(folder), limit=0)

    def test_bad_files(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / 'torn.tif').write_bytes(b'II*\0')
        found = measure(source(folder), bad_limit=0.1)
        assert (found.images, found.skipped) == (12, 1)
        assert caplog.text.count('torn.tif') >= 1
        with pytest.raises(DataError, match='1 of 13'):
            measure(source(folder))

    def test_band_without_data(self, tmp_path: Path, write: Any) -> None:
        image = np.ones((3, 4, 4), np.uint16)
        image[2] = 0
        write(tmp_path / 'a.tif', image)
        with pytest.raises(DataError, match='sentinel2:B02'):
            measure(source(tmp_path, nodata=0))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that were really measured."""
    calls: list[str] = []

    def spy(source: Source, *args: Any) -> SourceStatistics:
        calls.append(source.name)
        return measure(source, *args)

    monkeypatch.setattr(module, 'measure', spy)
    return calls


class TestKept:
    def test_measured_once(self, folder: Path, tmp_path: Path, counted: list[str]) -> None:
        first, path = statistics(source(folder), folder=tmp_path / 'kept')
        again, same = statistics(source(folder), folder=tmp_path / 'kept')
        assert (first, path, counted) == (again, same, ['chips'])
        assert [p.name for p in (tmp_path / 'kept').iterdir()] == [path.name]
        assert json.loads(path.read_text())['mean'] == first.mean

    def test_anew_when_anything_changes(
        self, folder: Path, tmp_path: Path, write: Any, counted: list[str]
    ) -> None:
        kept = tmp_path / 'kept'
        old, _ = statistics(source(folder), folder=kept)
        write(folder / '00.tif', np.full((3, 10, 12), 9000, np.uint16))
        os.utime(folder / '00.tif', (5, 5))
        new, _ = statistics(source(folder), folder=kept)
        assert new.mean != old.mean
        statistics(source(folder, nodata=3), folder=kept)
        statistics(source(folder, product='l2a'), folder=kept)
        statistics(source(folder), limit=5, folder=kept)
        assert len(counted) == 5
        assert len(list(kept.iterdir())) == 5

    @pytest.mark.parametrize('content', ['', '{', '[]', '{"mean": [1]}'])
    def test_damaged_file(
        self, folder: Path, tmp_path: Path, counted: list[str], content: str
    ) -> None:
        first, path = statistics(source(folder), folder=tmp_path)
        path.write_text(content)
        assert statistics(source(folder), folder=tmp_path)[0] == first
        assert len(counted) == 2
        assert json.loads(path.read_text())['std'] == first.std

    def test_disk_full(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(json, 'dump', full)
        with pytest.warns(AOMWarning, match='No space left'):
            found, path = statistics(source(folder), folder=tmp_path / 'kept')
        assert len(found.mean) == 3
        assert list(path.parent.iterdir()) == []

    def test_in_the_cache_of_the_user(self, folder: Path) -> None:
        _, path = statistics(source(folder))
        assert path.is_relative_to(os.environ['XDG_CACHE_HOME'])


class TestNormalizer:
    def test_catalogue_first(self, folder: Path, counted: list[str]) -> None:
        one = source(folder, product='l2a')
        found = normalizer(one, open_reader(one))
        assert found.mean == pytest.approx([0.1182, 0.1041, 0.0795], abs=0.2)
        assert counted == []

    def test_measured_where_asked(self, folder: Path, counted: list[str]) -> None:
        one = source(folder, statistics='measured')
        reader = open_reader(one)
        found = normalizer(one, reader)
        assert counted == ['chips']
        images = np.stack([reader.read(k).values for k in range(12)]).astype(np.float32)
        out = found(images)
        assert out.mean((0, 2, 3)).abs().max() < 1e-4
        assert (out.std((0, 2, 3)) - 1).abs().max() < 1e-2

    def test_measured_where_nothing_is_known(self, folder: Path, counted: list[str]) -> None:
        bands = [{'name': f'x{k}', 'wavelength_um': 0.5 + k / 10} for k in range(3)]
        one = source(folder, sensor=None, bands=bands, product={'scale': 1e-4, 'offset': 0})
        normalizer(one, open_reader(one))
        assert counted == ['chips']

    def test_unknown_statistics(self, folder: Path) -> None:
        one = source(folder, statistics='sentinel2:l3')
        with pytest.raises(ConfigError, match='l3'):
            normalizer(one, open_reader(one))


class TestCommand:
    arguments = ('--sensor', 'sentinel2', '--bands', 'B04', 'B03', 'B02', '--product', 'l2a')

    def test_table(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['stats', str(folder), *self.arguments]) == 0
        text = capsys.readouterr().out
        assert 'sentinel2:B03' in text
        assert '12 images, 0 skipped' in text

    def test_json(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['stats', str(folder), *self.arguments, '--json']) == 0
        found = SourceStatistics(**json.loads(capsys.readouterr().out))
        assert found == measure(source(folder, product='l2a'))

    def test_errors(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['stats', str(folder), '--sensor', 'sentinel3', '--product', 'l2a']) == 1
        assert 'sentinel2' in capsys.readouterr().err
        assert main(['stats', str(folder / 'nowhere'), *self.arguments]) == 1
        assert 'nowhere' in capsys.readouterr().err
        assert main(['stats']) == 2
