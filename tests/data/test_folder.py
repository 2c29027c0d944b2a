"""Sources and their readers: folders, images, data sets of TorchGeo."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from loader_tools import RGB, source
from rasterio.enums import ColorInterp

from torchgeo_aom.data.folder import FolderDataset, list_files
from torchgeo_aom.data.source import BadSampleError
from torchgeo_aom.errors import AOMWarning, BandError, DataError, UnitError

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


class TestListing:
    def test_order_names_and_loops(self, tmp_path: Path) -> None:
        names = ['b/ü x.TIF', 'a.tif', 'b/Ångström.png', 'c d/e.jpeg', 'B.jpg']
        for name in (*names, '.hidden.tif', 'b/.part/x.tif', 'notes.txt', 'a.vrt'):
            path = tmp_path / 'in' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / 'in/b/loop').symlink_to(tmp_path / 'in')
        (tmp_path / 'in/self').symlink_to('self')
        (tmp_path / 'in/other').symlink_to(tmp_path / 'far')
        (tmp_path / 'far').mkdir()
        (tmp_path / 'far/f.tif').touch()
        os.mkfifo(tmp_path / 'in/pipe.tif')
        found = list_files(str(tmp_path / 'in'))
        inside = [os.path.relpath(path, tmp_path / 'in') for path in found]
        assert inside == [*sorted(names), 'other/f.tif']
        assert found == list_files(str(tmp_path / 'in'))
        assert len(list_files(str(tmp_path / 'in'), 'b/*')) == 2

    def test_any_name_is_read(self, tmp_path: Path, write: Any) -> None:
        content = write(tmp_path / 'ü x' / 'Ångström 1.tif', 1).read_bytes()
        raw = os.path.join(os.fsencode(tmp_path), b'\xff.tif')  # no UTF-8
        try:
            Path(os.fsdecode(raw)).write_bytes(content)
        except OSError:
            pytest.skip('file names are UTF-8 here')
        reader = FolderDataset(source(tmp_path))
        assert len(reader) == 2
        read = 0
        for index in range(2):
            reader.name(index).encode()  # can be printed
            try:
                read += reader.read(index).values.shape == (3, 12, 12)
            except BadSampleError as error:
                assert '.tif' in error.name
        assert read >= 1

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match='no .tif'):
            FolderDataset(source(tmp_path))
        with pytest.raises(DataError, match='nowhere'):
            FolderDataset(source(tmp_path / 'nowhere'))
        (tmp_path / 'a.vrt').touch()
        with pytest.raises(DataError, match='nothing else is read'):
            FolderDataset(source(tmp_path / 'a.vrt'))

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: str) -> None:
            raise PermissionError(13, 'Permission denied', path)

        monkeypatch.setattr(os, 'scandir', refuse)
        with pytest.raises(DataError, match='Permission denied'):
            list_files(str(tmp_path))


class TestBands:
    def test_order_of_descriptions(self, tmp_path: Path, write: Any) -> None:
        path = write(tmp_path / 'a.tif', 1, ('B02', 'sentinel2:B8A', 'B3', 'B4'), (4, 9, 7))
        write(tmp_path / 'b.tif', 2, ('B04', 'B03', 'B02'), (3, 9, 7))
        reader = FolderDataset(source(tmp_path))
        with rasterio.open(path) as file:
            stored = file.read()
        pixels = reader.read(0)
        assert np.array_equal(pixels.values, stored[[3, 2, 0]])
        assert pixels.values.dtype == np.uint16
        assert pixels.valid is None
        assert reader.read(1).values.shape == (3, 9, 7)
        assert reader.size == (9, 7)

    def test_contradiction(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', 1, ('B02', 'B03', 'B08'))
        with pytest.raises(BandError, match=r'B04.*a\.tif|a\.tif.*B04'):
            FolderDataset(source(tmp_path))

    def test_contradiction_in_a_later_file(self, tmp_path: Path, write: Any) -> None:
        for k in range(40):
            write(tmp_path / f'{k:02}.tif', k, RGB)
        reader = FolderDataset(source(tmp_path))
        write(tmp_path / '01.tif', 1, ('B02', 'B03', 'B08'))
        with pytest.raises(BandError, match=r'01\.tif'):
            reader.read(1)

    def test_named_twice(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', 1, ('B04', 'B03', 'B3'))
        with pytest.raises(BandError, match='twice'):
            FolderDataset(source(tmp_path))

    def test_declared_order_without_names(self, tmp_path: Path, write: Any) -> None:
        values = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
        write(tmp_path / 'a.tif', values, ('Band 1', 'Gray', '1'))
        assert np.array_equal(FolderDataset(source(tmp_path)).read(0).values, values)
        with pytest.raises(BandError, match='3 channels, but 2'):
            FolderDataset(source(tmp_path, bands=['B04', 'B03']))

    def test_bands_without_sensor(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', np.ones((2, 3, 3), np.float32) * [[[1]], [[2]]], ('red', 'NIR08'))
        facts = {'sensor': None, 'bands': ['nir08', 'red'], 'product': 'reflectance'}
        assert FolderDataset(source(tmp_path, **facts)).read(0).values[:, 0, 0].tolist() == [2, 1]

    def test_near_infrared_that_claims_to_be_alpha(self, tmp_path: Path, write: Any) -> None:
        values = np.full((4, 6, 6), 9, np.uint8)
        values[3] = 0
        path = write(tmp_path / 'a.tif', values, photometric='RGB', ALPHA='YES')
        with rasterio.open(path) as file:
            assert file.colorinterp[3] == ColorInterp.alpha
        pixels = FolderDataset(source(tmp_path, sensor='naip', unit='uint8')).read(0)
        assert np.array_equal(pixels.values, values)
        assert pixels.valid is None


class TestImages:
    @pytest.mark.parametrize('ending', ['png', 'jpg', 'JPEG'])
    def test_formats(self, tmp_path: Path, write: Any, ending: str) -> None:
        values = np.full((3, 16, 20), 77, np.uint8)
        driver = 'PNG' if ending == 'png' else 'JPEG'
        write(tmp_path / f'a.{ending}', values, driver=driver)
        pixels = FolderDataset(source(tmp_path, sensor='rgb', unit='uint8')).read(0)
        assert pixels.values.shape == values.shape
        assert np.abs(pixels.values.astype(int) - 77).max() <= 2
        assert pixels.valid is None

    def test_alpha_is_no_band(self, tmp_path: Path, write: Any) -> None:
        values = np.full((4, 8, 8), 255, np.uint8)
        values[3, :2] = 0
        write(tmp_path / 'a.png', values, driver='PNG')
        pixels = FolderDataset(source(tmp_path, sensor='rgb', unit='uint8')).read(0)
        assert pixels.values.shape == (3, 8, 8)
        assert pixels.valid is not None
        assert not pixels.valid[:, :2].any()
        assert pixels.valid[:, 2:].all()

    def test_sizes_that_differ(self, tmp_path: Path, write: Any) -> None:
        for k, side in enumerate((8, 8, 9)):
            write(tmp_path / f'{k}.tif', k, shape=(3, side, 8))
        with pytest.warns(AOMWarning, match='different sizes'):
            assert FolderDataset(source(tmp_path)).size == (8, 8)
        assert FolderDataset(source(tmp_path, size=[5, 6])).size == (5, 6)

    def test_window(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', 5)
        reader = FolderDataset(source(tmp_path))
        seen = []

        def window(height: int, width: int) -> tuple[int, int, int, int]:
            seen.append((height, width))
            return 2, 3, 4, 5

        part = reader.read(0, window).values
        assert np.array_equal(part, reader.read(0).values[:, 2:6, 3:8])
        assert seen == [(12, 12)]


class TestValid:
    def test_nodata_of_the_file(self, tmp_path: Path, write: Any) -> None:
        values = np.arange(27, dtype=np.uint16).reshape(3, 3, 3)
        write(tmp_path / 'a.tif', values, nodata=4)
        valid = FolderDataset(source(tmp_path)).read(0).valid
        assert valid is not None
        assert np.array_equal(valid, values != 4)

    def test_nodata_that_is_nan(self, tmp_path: Path, write: Any) -> None:
        values = np.ones((3, 3, 3), np.float32)
        values[1, 0, 0], values[2, 2, 2] = np.nan, np.inf
        write(tmp_path / 'a.tif', values, nodata=np.nan)
        valid = FolderDataset(source(tmp_path, product='reflectance')).read(0).valid
        assert valid is not None
        assert np.argwhere(~valid).tolist() == [[1, 0, 0], [2, 2, 2]]

    def test_nodata_declared(self, tmp_path: Path, write: Any) -> None:
        values = np.ones((3, 3, 3), np.uint16)
        values[:, 0] = 0
        write(tmp_path / 'a.tif', values)
        assert FolderDataset(source(tmp_path, nodata='none')).read(0).valid is None
        valid = FolderDataset(source(tmp_path, nodata=0)).read(0).valid
        assert valid is not None
        assert valid.sum() == 18

    def test_mask_inside(self, tmp_path: Path, write: Any) -> None:
        mask = np.full((12, 12), 255, np.uint8)
        mask[:, 7] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            write(tmp_path / 'a.tif', 1, mask=mask)
        valid = FolderDataset(source(tmp_path)).read(0).valid
        assert valid is not None
        assert np.array_equal(valid, np.stack([mask > 0] * 3))


class TestScale:
    def test_once(self, tmp_path: Path, write: Any) -> None:
        """Sentinel-2 since 2022: reflectance = value / 10000 - 0.1, in the file and declared."""
        tags = {'scales': (1e-4,) * 3, 'offsets': (-0.1,) * 3}
        write(tmp_path / 'a.tif', np.full((3, 4, 4), 1500, np.uint16), **tags)
        declared = source(tmp_path, product={'scale': 1e-4, 'offset': -0.1})
        named = source(tmp_path, product='l2a_2022')
        for one in (declared, named):
            assert (FolderDataset(one).read(0).values == 1500).all()
            assert (one.product.scale, one.product.offset) == (1e-4, -0.1)
        from_file = source(tmp_path, product='file')
        values = FolderDataset(from_file).read(0).values
        assert from_file.product.scale == 1
        assert np.allclose(values, 0.05, atol=1e-7)

    def test_contradiction(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', 1, scales=(1e-4,) * 3, offsets=(-0.1,) * 3)
        with pytest.raises(UnitError, match=r'-0\.1.*l2a'):
            FolderDataset(source(tmp_path, product='l2a'))
        overruled = source(tmp_path, product={'scale': 1e-4, 'offset': 0})
        assert FolderDataset(overruled).read(0).values.dtype == np.uint16


def test_fingerprint(tmp_path: Path, write: Any) -> None:
    write(tmp_path / 'a.tif', 1)
    write(tmp_path / 'b.tif', 2)
    reader = FolderDataset(source(tmp_path))
    before = reader.fingerprint()
    assert FolderDataset(source(tmp_path)).fingerprint() == before
    os.utime(tmp_path / 'a.tif', (1, 1))
    changed = reader.fingerprint()
    assert changed != before
    (tmp_path / 'a.tif').rename(tmp_path / 'c.tif')
    assert FolderDataset(source(tmp_path)).fingerprint() != changed
