"""Corpus of the weights: what is evaluated on is never in it, and folders are whole."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from torchgeo_aom.data.loader import PretrainDataModule
from torchgeo_aom.data.source import Source

FOLDER = Path(__file__).parents[1] / 'examples' / 'weights'


@pytest.fixture(scope='module')
def corpus() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    import corpus as module

    return module


@pytest.fixture(scope='module')
def rules(corpus: ModuleType) -> ModuleType:
    return sys.modules['rules']


def image(path: Path, bands: int, lon: float | None = None, dtype: str = 'uint8') -> None:
    """Write an image of 8 x 8 px, at 50 degrees north if *lon* is given."""
    side = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    place = (
        {} if lon is None else {'crs': 'EPSG:4326', 'transform': from_origin(lon, 50, 1e-4, 1e-4)}
    )
    with rasterio.open(
        path, 'w', driver='GTiff', width=side, height=side, count=bands, dtype=dtype, **place
    ) as file:
        file.write(rng.integers(1, 255, (bands, side, side)).astype(dtype))


def test_ucmerced_split(rules: ModuleType) -> None:
    names = [f'{kind}{n:02d}.tif' for kind in ('beach', 'river') for n in range(100)]
    split = rules.ucmerced_split(names)
    for kind in ('beach', 'river'):
        own = [s for name, s in zip(names, split, strict=True) if name.startswith(kind)]
        assert [own.count(s) for s in ('train', 'val', 'test')] == [60, 20, 20]
    # whatever the folder, and in whatever order, a name keeps its split
    again = rules.ucmerced_split([f'Images/{name}' for name in reversed(names)])
    assert again == split[::-1]


def test_hls_split_by_place(rules: ModuleType) -> None:
    sites = [n // 3 for n in range(90)]
    split = rules.hls_split(sites)
    assert all(len({split[i] for i in range(90) if sites[i] == site}) == 1 for site in set(sites))
    assert split.count('train') == 45
    assert rules.hls_split([str(site) for site in sites]) == split


def test_without_evaluation(rules: ModuleType) -> None:
    paths = ['a/eurosat200/River/River_1.tif', 'a/sentinel2_pairs/l2a/1.tif', 'a/naip/x.tif']
    assert rules.without_evaluation(paths) == ['a/naip/x.tif']
    assert rules.without_evaluation(['C:\\eurosat_samples\\Forest_1.tif']) == []


@pytest.mark.parametrize(
    ('place', 'far'),
    [((10.0, 50.0), False), ((10.1, 50.0), False), ((10.2, 50.0), True), ((10.0, 50.1), True)],
)
def test_far_from(rules: ModuleType, place: tuple[float, float], far: bool) -> None:
    assert rules.far_from(place, [(10.0, 50.0), (-60.0, 0.0)]) is far
    assert rules.far_from(place, [])


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """A little of everything that has a rule."""
    data, out = tmp_path / 'data', tmp_path / 'out'
    for n in range(10):
        image(tmp_path / 'ucm' / 'beach' / f'beach{n:02d}.tif', 3)
        image(data / 'hls_water' / 'images' / f'{n}.tif', 7, dtype='int16')
    with (data / 'hls_water' / 'derived_meta.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(('id', 'hls_product_guess', 'site_group'))
        writer.writerows((n, 'S30' if n < 8 else 'L30', n // 2) for n in range(10))
    image(data / 'eurosat200' / 'River' / 'River_1.tif', 13, lon=10.0)
    for n, lon in enumerate((10.05, 11.0, 12.0)):
        image(data / 'sentinel2_ports' / f'{n}.tif', 12, lon=lon, dtype='int16')
    chips = tmp_path / 'chips'
    chips.mkdir()
    rng = np.random.default_rng(0)
    for n in range(130):
        top = 300 if n < 120 else 5000
        np.save(chips / f'test_{n}.npy', rng.integers(top - 20, top, (4, 4, 12)).astype('uint16'))
    np.save(chips / 'test_200.npy', np.zeros((4, 4, 12), 'uint16'))
    np.save(chips / 'test_129.npy', rng.integers(0, 9000, (4, 4, 12)).astype('uint16'))
    oam = tmp_path / 'packed' / 'oam_rgb'
    oam.mkdir(parents=True)
    values = np.arange(6, dtype='uint8').reshape(2, 3, 1, 1) * np.ones((4, 4), 'uint8')
    np.save(oam / 'chips.npy', values)
    (oam / 'meta.json').write_text('{"bands": ["rgb:red", "rgb:green", "rgb:blue"]}')
    given = {'data': data, 'ucmerced': tmp_path / 'ucm', 'chips': chips, 'out': out}
    given['packed'] = tmp_path / 'packed'
    return [text for key, path in given.items() for text in (f'--{key}', str(path))]


def names_of(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob('*.tif'))


def test_build(
    corpus: ModuleType,
    rules: ModuleType,
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert corpus.main(folders) == 0
    said = capsys.readouterr().out
    out = tmp_path / 'out'
    assert 'landsat5: left out, --raw is not given' in said
    assert names_of(out / 'oam_rgb') == ['oam_rgb_0000', 'oam_rgb_0001']
    with rasterio.open(out / 'oam_rgb' / 'oam_rgb_0001.tif') as file:
        assert file.descriptions == ('red', 'green', 'blue')
        assert file.read(2).min() == file.read(2).max() == 4
    assert 'sentinel2_ports: 0 left out, it lies beside an evaluated image' in said
    names = {path.name: sorted(f.stem for f in path.glob('*.tif')) for path in out.glob('[!.]*')}
    assert names['sentinel2_ports'] == ['1', '2']
    every = [f'beach{n:02d}.tif' for n in range(10)]
    train = [n for n, s in zip(every, rules.ucmerced_split(every), strict=True) if s == 'train']
    assert names['ucmerced'] == [name.removesuffix('.tif') for name in train]
    split = rules.hls_split([n // 2 for n in range(10)])
    assert names['hls_s30'] == [str(n) for n in range(8) if split[n] == 'train']
    assert names['hls_l30'] == [str(n) for n in (8, 9) if split[n] == 'train']
    assert not {'eurosat200', 'eurosat_samples', 'sentinel2_pairs'} & set(names)
    # 10 others and 100 of 120 chips of dark water; the empty chip is dark and may be drawn
    assert 109 <= len(names['sentinel2_chips']) <= 110

    with rasterio.open(out / 'hls_s30' / f'{names["hls_s30"][0]}.tif') as file:
        assert file.descriptions == ('B01', 'B02', 'B03', 'B04', 'B8A', 'B11', 'B12')
        stored = file.read()
    with rasterio.open(
        Path(folders[1]) / 'hls_water' / 'images' / f'{names["hls_s30"][0]}.tif'
    ) as file:
        assert np.array_equal(stored, file.read())

    blocks = yaml.safe_load((out / 'corpus.yaml').read_text())['sources']
    assert {'ucmerced', 'sentinel2_chips', 'sentinel2_places'} <= {b['name'] for b in blocks}
    loader = PretrainDataModule([blocks[0]], batch_size=4)
    loader.setup()
    assert len(loader.readers[0]) == len(train)


def test_built_once_and_again_if_rules_change(
    corpus: ModuleType, folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.main(folders)
    folder = tmp_path / 'out' / 'ucmerced'
    names = sorted(path.name for path in folder.glob('*.tif'))
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    corpus.main(folders)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    (folder / names[0]).rename(folder / 'beach99.tif')  # as another rule would have chosen
    capsys.readouterr()
    corpus.main(folders)
    assert 'ucmerced: built again' in capsys.readouterr().out
    assert sorted(path.name for path in folder.glob('*.tif')) == names


def test_interrupted(corpus: ModuleType, tmp_path: Path) -> None:
    def fail() -> np.ndarray:
        raise KeyboardInterrupt

    def chip(n: int, read: object) -> object:
        return corpus.Chip(f'{n}', Path(f'{n}.npy'), ('red',), read)

    good = [chip(n, lambda: np.ones((1, 4, 4), 'uint8')) for n in range(2)]
    with pytest.raises(KeyboardInterrupt):
        corpus.build('x', [good[0], chip(1, fail)], tmp_path)
    assert not (tmp_path / 'x').exists()
    assert corpus.build('x', [chip(0, fail), good[1]], tmp_path) == 2  # 0 is not read again
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x']


def test_sources_are_valid(corpus: ModuleType) -> None:
    blocks = yaml.safe_load((FOLDER / 'corpus.yaml').read_text())['sources']
    sources = [Source.parse(block) for block in blocks]
    folders = [Path(path).name for source in sources for path in source.path]
    assert set(folders) == set(corpus.SOURCES)
