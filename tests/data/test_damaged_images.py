"""Damaged images: found when they are read, counted, and no end of a run by themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from loader_tools import source

from torchgeo_aom.data.folder import FolderDataset
from torchgeo_aom.data.source import BadFiles, BadSampleError
from torchgeo_aom.errors import DataError

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


class TestDamaged:
    def good(self, folder: Path, write: Any, side: int = 12) -> FolderDataset:
        for k in range(2):
            write(folder / f'{k}.tif', k, shape=(3, side, side))
        return FolderDataset(source(folder))

    def refused(self, folder: Path, write: Any, name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        reader = FolderDataset(source(folder))
        index = [reader.path(i) for i in range(len(reader))].index(str(folder / name))
        with pytest.raises(BadSampleError) as caught:
            reader.read(index)
        assert caught.value.name == str(folder / name)
        assert caught.value.reason

    def test_truncated_is_found_at_read(self, tmp_path: Path, write: Any) -> None:
        path = write(tmp_path / 'x.tif', 1, shape=(3, 64, 64), compress='deflate')
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with rasterio.open(path) as file:  # opens, and fails only at read
            assert file.count == 3
        with pytest.raises(BadSampleError, match=r'x\.tif'):
            FolderDataset(source(tmp_path)).read(0)

    @pytest.mark.parametrize('name', ['2.tif', '2.png', '2.jpg'])
    @pytest.mark.parametrize('content', [b'', b'II*\0', b'no image' * 20])
    def test_no_image(self, tmp_path: Path, write: Any, name: str, content: bytes) -> None:
        self.good(tmp_path, write)
        self.refused(tmp_path, write, name, content)

    @pytest.mark.parametrize(('name', 'driver'), [('2.png', 'PNG'), ('2.jpg', 'JPEG')])
    def test_image_that_ends_early(
        self, tmp_path: Path, write: Any, name: str, driver: str
    ) -> None:
        values = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
        content = write(tmp_path / name, values, driver=driver).read_bytes()
        self.good(tmp_path, write, 64)
        self.refused(tmp_path, write, name, content[: len(content) // 2])

    def test_other_driver_in_disguise(self, tmp_path: Path, write: Any) -> None:
        self.good(tmp_path, write)
        text = (
            '<VRTDataset rasterXSize="12" rasterYSize="12"><VRTRasterBand dataType="UInt16" '
            f'band="1"><SimpleSource><SourceFilename>{tmp_path}/0.tif</SourceFilename>'
            '</SimpleSource></VRTRasterBand></VRTDataset>'
        )
        self.refused(tmp_path, write, '2.tif', text.encode())

    def test_channels_of_one_file(self, tmp_path: Path, write: Any) -> None:
        self.good(tmp_path, write)
        content = write(tmp_path / '2.tif', 1, shape=(2, 12, 12)).read_bytes()
        self.refused(tmp_path, write, '2.tif', content)

    def test_vanished(self, tmp_path: Path, write: Any) -> None:
        reader = self.good(tmp_path, write)
        (tmp_path / '1.tif').unlink()
        with pytest.raises(BadSampleError, match=r'1\.tif'):
            reader.read(1)

    def test_all_damaged(self, tmp_path: Path) -> None:
        (tmp_path / 'a.tif').write_bytes(b'nothing')
        with pytest.raises(DataError, match=r'a\.tif'):
            FolderDataset(source(tmp_path))

    def test_huge_declaration(self, tmp_path: Path, write: Any) -> None:
        """A small file that declares 60 GB is refused before anything is allocated."""
        with rasterio.open(
            tmp_path / 'a.tif', 'w', 'GTiff', 100_000, 100_000, 3, dtype='uint16', tiled=True,
            blockxsize=16384, blockysize=16384, sparse_ok=True, bigtiff='YES',
        ):  # fmt: skip
            pass
        reader = FolderDataset(source(tmp_path))
        with pytest.raises(BadSampleError, match='size='):
            reader.read(0)
        assert reader.size == (100_000, 100_000)

    def test_complex_pixels(self, tmp_path: Path, write: Any) -> None:
        write(tmp_path / 'a.tif', np.ones((3, 4, 4), np.complex64))
        with pytest.raises(BadSampleError, match='complex64'):
            FolderDataset(source(tmp_path)).read(0)

    def test_limit(self, caplog: pytest.LogCaptureFixture) -> None:
        bad = BadFiles('s', 200, 0.01)
        for name in ('a', 'a', 'b', 'a'):
            bad.add(name, 'torn')
        assert caplog.text.count('skipped a: torn') == 1
        with pytest.raises(DataError, match=r'3 of 200.*1\.00%.*bad_limit'):
            bad.add('c', 'torn')
