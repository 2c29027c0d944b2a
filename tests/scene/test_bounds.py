"""Scenes larger than the memory, files larger than 4 GB, and places that are no grid."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC
from rasterio.windows import Window
from scene_tools import UTM, pixels, run, scene_of, write

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import cog
from torchgeo_aom.scene.place import Grid
from torchgeo_aom.scene.reader import SceneReader

SIDE = 100_000


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """Nobody gets more memory than this beyond what is used, where the system can say that."""
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + more, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory cannot be limited')
def test_huge_scene(tmp_path: Path) -> None:
    """One band is 20 GB, and 40 as numbers of the model; a part of it needs 3 GB at most."""
    path = tmp_path / 'huge.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', dtype='uint16', count=1, height=SIDE, width=SIDE, tiled=True,
        blockxsize=512, blockysize=512, sparse_ok=True, bigtiff='YES', crs='EPSG:32631',
        transform=UTM,
    ) as file:  # fmt: skip
        file.set_band_description(1, 'B04')
        for row, column in ((0, 0), (49_664, 49_664), (99_500, 99_500)):
            file.write(pixels(1, 500, 500), window=Window(column, row, 500, 500))
    with little_memory(3 * 2**30):
        scene = scene_of(path)
        reader = SceneReader(scene)
        for at in (0, 49_664, 99_500):
            expected = pixels(1, 500, 500) * 1e-4
            np.testing.assert_allclose(reader.read((at, at, 500, 500)), expected, atol=1e-6)
        reader.close()
        calls = []

        def mean(x: Any) -> Any:
            calls.append(len(x))
            return x.mean(1, keepdim=True)

        options = {'chip': 512, 'overlap': 0, 'readers': 1, 'memory_mib': 8, 'shard': (0, 2000)}
        result = run(scene, tmp_path / 'o.tif', mean, 1, **options)
    assert not result.done
    assert sum(calls) == result.windows == 1  # all others of this part hold no data
    assert result.empty > 10
    assert not (tmp_path / 'o.tif').exists()


def test_more_than_four_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that may grow beyond 4 GB have the format that can."""
    seen: dict[str, Any] = {}

    def copy(raw: Path, part: Path, **options: Any) -> None:
        seen.update(options, head=Path(raw).read_bytes()[:4])
        raise OSError('seen enough')

    monkeypatch.setattr(rasterio.shutil, 'copy', copy)
    form = cog.CogFile(1, 'float32', float('nan'), ('v',))
    for side, head in ((100, b'II*\0'), (40_000, b'II+\0')):  # 42 and 43: TIFF and BigTIFF
        grid = Grid(side, side, UTM, rasterio.CRS.from_epsg(32631))
        with pytest.raises(DataError, match='seen enough'):
            cog.write_cog(tmp_path / 'o.tif', form, grid, [], {})
        assert seen['head'] == head
        assert seen['bigtiff'] == 'IF_SAFER'


def test_rational_polynomials_only(tmp_path: Path) -> None:
    """Pixels that only a sensor model places lie on no grid."""
    path = write(tmp_path / 'in.tif', pixels(), transform=type(UTM).identity(), crs=None)
    ones = [1.0, *[0.0] * 19]
    with rasterio.open(path, 'r+') as file:
        file.rpcs = RPC(
            height_off=0, height_scale=1, lat_off=42, lat_scale=0.1, long_off=3, long_scale=0.1,
            line_off=35, line_scale=35, samp_off=45, samp_scale=45, line_den_coeff=ones,
            line_num_coeff=ones, samp_den_coeff=ones, samp_num_coeff=ones,
        )  # fmt: skip
    with pytest.raises(ConfigError, match='RPC'):
        scene_of(path)
