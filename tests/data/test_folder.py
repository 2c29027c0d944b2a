"""Sources and their readers: folders, images, data sets of TorchGeo."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.data.adapter import DatasetReader, open_reader
from torchgeo_aom.data.folder import FolderDataset, list_files
from torchgeo_aom.data.source import BadFiles, BadSampleError, Source, read_sources
from torchgeo_aom.errors import AOMWarning, BandError, ConfigError, DataError, UnitError

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')

RGB = ('B04', 'B03', 'B02')


def source(path: Path, **facts: Any) -> Source:
    if 'sensor' not in facts:
        facts = {'sensor': 'sentinel2', 'bands': RGB, **facts}
    if 'unit' not in facts:
        facts = {'product': 'l2a', **facts}
    return Source.parse({'path': str(path), **facts})


class TestSource:
    def test_is_parsed(self, tmp_path: Path) -> None:
        found = source(tmp_path, size=64, weight=2)
        assert found.name == tmp_path.name
        assert [b.label for b in found.bands] == [f'sentinel2:{name}' for name in RGB]
        assert (found.product.scale, found.size, found.weight) == (1e-4, (64, 64), 2)

    @pytest.mark.parametrize(
        ('facts', 'message'),
        [
            ({'wieght': 2}, "did you mean 'weight'"),
            ({'dataset': 'EuroSAT200'}, 'either path= or dataset='),
            ({'sensor': None, 'bands': None}, 'never guessed'),
            ({'product': None}, 'product='),
            ({'product': 'l2b'}, 'unknown product'),
            ({'product': {'scale': 2}}, 'scale: ..., offset: ...'),
            ({'product': {'scale': 0, 'offset': 0}}, 'scale: ..., offset: ...'),
            ({'size': 0}, 'size'),
            ({'size': [3, 4, 5]}, 'size'),
            ({'weight': 0}, 'weight'),
            ({'max_nodata': 1.5}, 'max_nodata'),
            ({'nodata': 'zero'}, 'nodata'),
            ({'args': {'root': 'x'}}, 'args'),
            ({'path': 3}, 'folder'),
            ({'name': ''}, 'name'),
        ],
    )
    def test_refuses(self, tmp_path: Path, facts: dict[str, Any], message: str) -> None:
        block = {'path': str(tmp_path), 'sensor': 'sentinel2', 'product': 'l2a', **facts}
        with pytest.raises(ConfigError, match=message):
            Source.parse(block)

    def test_unknown_band(self, tmp_path: Path) -> None:
        with pytest.raises(BandError, match='B8A'):
            source(tmp_path, bands=['B8B'])

    @pytest.mark.parametrize(
        'bands', ['sentinel2', ['nir08', 0.5, 7], [{'name': 'own', 'wavelength_um': 0.61}]]
    )
    def test_specs_mean_the_same_bands(self, tmp_path: Path, bands: Any) -> None:
        found = source(tmp_path, sensor=None, bands=bands, product={'scale': 1, 'offset': 0})
        again = resolve_bands(found.specs)
        assert [b.index for b in again] == [b.index for b in found.bands]
        assert [b.sensor for b in again] == [b.sensor for b in found.bands]

    def test_yaml(self, tmp_path: Path) -> None:
        file = tmp_path / 'sources.yaml'
        file.write_text('sources:\n  - {path: a, sensor: naip, unit: uint8}\n')
        assert read_sources(file) == [{'path': 'a', 'sensor': 'naip', 'unit': 'uint8'}]
        for text in ('sources: []', '- text', '- [', '3', '!!python/object:os.system {}'):
            file.write_text(text)
            with pytest.raises(ConfigError):
                read_sources(file)
        with pytest.raises(ConfigError, match=r'gone\.yaml'):
            read_sources(tmp_path / 'gone.yaml')


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


class Toy(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """What any TorchGeo data set looks like."""

    bands = ('B02', 'B03', 'B04', 'B08')

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == 4:
            raise FileNotFoundError('chip 4')
        image = torch.arange(4.0 * self.times)[:, None, None].expand(-1, 6, 6).clone()
        image[:, 0, 0] = torch.nan
        return {'image': image + 100 * index + 1000 * random.randrange(1000)}


class TestDatasets:
    def declared(self, **facts: Any) -> Source:
        return Source.parse(
            {'dataset': 'Toy', 'sensor': 'sentinel2', 'bands': RGB, 'product': 'l2a', **facts}
        )

    def test_bands_by_name(self) -> None:
        pixels = DatasetReader(self.declared(), Toy()).read(1)
        assert (pixels.values[:, 1, 1] % 100).tolist() == [2, 1, 0]
        assert pixels.valid is not None
        assert np.argwhere(~pixels.valid[0]).tolist() == [[0, 0]]

    def test_dates_are_drawn_by_the_seed(self) -> None:
        reader = DatasetReader(self.declared(), Toy(times=3))
        state = random.getstate()
        first = [int(reader.read(0, seed=k).values[0, 1, 1]) for k in range(20)]
        random.seed(8)
        assert [int(reader.read(0, seed=k).values[0, 1, 1]) for k in range(20)] == first
        assert {value % 100 for value in first} == {2, 6, 10}
        random.setstate(state)
        reader.read(0, seed=3)
        assert random.getstate() == state

    def test_damaged_sample(self) -> None:
        reader = DatasetReader(self.declared(), Toy())
        with pytest.raises(BadSampleError, match=r'Toy\[4\].*chip 4'):
            reader.read(4)
        assert len(reader.fingerprint()) == 64

    def test_contradiction(self) -> None:
        with pytest.raises(BandError, match='B11'):
            DatasetReader(self.declared(bands=['B11']), Toy())

    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'EuroSAT200'"):
            open_reader(self.declared(dataset='EuroSAT20'))
        with pytest.raises(ConfigError, match='nonsense'):
            open_reader(self.declared(dataset='EuroSAT200', args={'nonsense': 1}))

    def test_samples_of_the_package(self) -> None:
        reader = open_reader(self.declared(dataset='EuroSAT200', product='l1c'))
        assert (len(reader), reader.size) == (200, (64, 64))
        assert reader.read(0).values.shape == (3, 64, 64)
        assert reader.name(7) == 'EuroSAT200[7]'

    def test_ssl4eo(self, tmp_path: Path, write: Any) -> None:
        """TorchGeo's SSL4EOS12 draws its season from the global generator; here from the seed."""
        names = [f'B{k}' for k in (1, 2, 3, 4, 5, 6, 7, 8)] + ['B8A', 'B9', 'B10', 'B11', 'B12']
        for season in range(4):
            folder = tmp_path / 's2c' / '0000000' / f'2020010{season + 1}T101010_x_T32TQM'
            for k, name in enumerate(names):
                values = np.full((1, 6, 6), 100 * season + k, np.uint16)
                write(folder / f'{name}.tif', values)
        declared = Source.parse(
            {
                'dataset': 'SSL4EOS12',
                'args': {'root': str(tmp_path), 'split': 's2c'},
                'bands': 'sentinel2:rgb',
                'product': 'l1c',
            }
        )
        reader = open_reader(declared)
        seasons = {}
        for seed in range(12):
            values = reader.read(0, seed=seed).values
            assert values.shape == (3, 264, 264)
            assert (values[:, 0, 0] % 100).tolist() == [3, 2, 1]
            seasons[seed] = int(values[0, 0, 0]) // 100
        assert len(set(seasons.values())) > 1
        assert int(reader.read(0, seed=5).values[0, 0, 0]) // 100 == seasons[5]
        with pytest.raises(BadSampleError, match=r'SSL4EOS12\[1\]'):
            reader.read(1)
