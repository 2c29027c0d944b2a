"""Scenes from strangers: nothing but what was named is opened."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scene_tools import pixels, scene_of, write

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import Scene, open_scene
from torchgeo_aom.scene.reader import SceneReader


def reflectance(scene: Scene) -> np.ndarray[Any, Any]:
    return SceneReader(scene).read((0, 0, scene.grid.height, scene.grid.width))


class TestUntrusted:
    def vrt(self, folder: Path, source: str, name: str = 'evil.tif') -> Path:
        path = folder / name
        path.write_text(
            f'<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="UInt16" '
            f'band="1"><SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename>'
            f'<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
        )
        return path

    def test_vrt_is_refused_whatever_its_name(self, tmp_path: Path) -> None:
        write(tmp_path / 'a.tif', pixels(1, 40, 40), None)
        for name in ('evil.tif', 'plain.vrt'):
            path = self.vrt(tmp_path, 'a.tif', name)
            with pytest.raises(DataError, match='--allow-drivers'):
                scene_of(path, bands='sentinel2:B04')
        scene = scene_of(path, bands='sentinel2:B04', drivers=['GTiff', 'VRT'])
        np.testing.assert_allclose(reflectance(scene), pixels(1, 40, 40) * 1e-4, rtol=1e-6)

    @pytest.mark.parametrize(
        'source', ['https://example.com/a.tif', '/vsicurl/https://example.com/a.tif', 's3://b/a']
    )
    def test_addresses_inside_a_vrt(self, tmp_path: Path, source: str) -> None:
        path = self.vrt(tmp_path, source)
        with pytest.raises(ConfigError, match='on this machine'):
            scene_of(path, bands='sentinel2:B04', drivers=['GTiff', 'VRT'])

    def test_other_formats_inside_a_vrt(self, tmp_path: Path) -> None:
        (tmp_path / 'a.asc').write_text('ncols 1\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n3')
        with pytest.raises(DataError, match='cannot be opened'):
            scene_of(self.vrt(tmp_path, 'a.asc'), bands='sentinel2:B04', drivers=['GTiff', 'VRT'])

    @pytest.mark.parametrize('source', ['https://example.com/a.tif', '/vsicurl/x', 'S3://b/k.tif'])
    def test_addresses(self, source: str) -> None:
        with pytest.raises(ConfigError, match='address'):
            open_scene(source, product='uint8')

    def test_block_bomb(self, tmp_path: Path) -> None:
        """Two megabytes that would take gigabytes of memory to read one pixel of."""
        path = tmp_path / 'bomb.tif'
        with rasterio.open(
            path, 'w', driver='GTiff', dtype='uint16', count=1, height=40_000, width=40_000,
            tiled=True, blockxsize=32768, blockysize=32768, sparse_ok=True, compress='deflate',
        ):  # fmt: skip
            pass
        assert os.path.getsize(path) < 10_000
        with pytest.raises(DataError, match=r'2,048 MiB each.*--max-block-mib'):
            scene_of(path, bands='sentinel2:B04')

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            open_scene(tmp_path / 'no.tif', product='uint8')
