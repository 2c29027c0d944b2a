"""Chips in one file: what is stored is what the images hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.pretraining.packed import PackedCorpus, pack, tiles
from torchgeo_aom.transforms import Normalize


def test_chips_are_normalized_as_images_are(corpus: PackedCorpus, blocks: list[dict]) -> None:
    source = corpus.source('coarse')
    assert (source.size, len(source.bands)) == (64, 5)
    path = sorted(Path(blocks[0]['path']).glob('*.tif'))[0]
    with rasterio.open(path) as file:
        values = file.read()[:, :64, :64]
    normalize = Normalize(['B02', 'B03', 'B04', 'B08', 'B11'], product='l2a', sensor='sentinel2')
    chips, valid = corpus.read('coarse', [0])
    assert valid is None
    torch.testing.assert_close(chips[0], normalize(values).clamp(-8, 8), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        source.reflectance(normalize(values)[None])[0],
        torch.from_numpy(values.astype(np.float32) * 1e-4),
        rtol=1e-4,
        atol=1e-5,
    )


def test_fine_images_give_large_chips_and_overlap_only_where_few(corpus: PackedCorpus) -> None:
    assert corpus.source('fine').size == 256
    assert corpus.source('fine').count == 9
    # 80 x 96 px: corners at 0 and 16, and at 0 and 32; half of one image is empty
    assert 12 * 4 - 4 <= corpus.source('coarse').count < 12 * 4


def test_empty_pixels_are_known(corpus: PackedCorpus) -> None:
    chips, valid = corpus.read('coarse', range(corpus.source('coarse').count))
    assert valid is not None
    assert not valid.all()
    assert (chips[~valid] == 0).all()


@pytest.mark.parametrize(
    ('height', 'width', 'stride', 'corners'),
    [
        (64, 64, 64, [(0, 0)]),
        (65, 64, 64, [(0, 0), (1, 0)]),
        (63, 64, 64, []),
        (64, 128, 32, [(0, 0), (0, 32), (0, 64)]),
    ],
)
def test_tiles(height: int, width: int, stride: int, corners: list[tuple[int, int]]) -> None:
    assert list(tiles(height, width, 64, stride)) == corners


def test_a_source_without_chips_is_refused(blocks: list[dict], tmp_path: Path) -> None:
    with pytest.raises(DataError, match='gives no chip of 128 px'):
        pack(blocks[:1], tmp_path / 'x.safetensors', sides=(256, 128))
    assert list(tmp_path.glob('*.safetensors')) == []


def test_a_source_twice_is_refused(blocks: list[dict], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='coarse'):
        pack([blocks[0], blocks[0]], tmp_path / 'x.safetensors')


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({'x': torch.zeros(1)}, tmp_path / 'other.safetensors')
    with pytest.raises(DataError, match='no packed corpus of version 1'):
        PackedCorpus(tmp_path / 'other.safetensors')
    (tmp_path / 'broken').write_bytes(b'x' * 50)
    with pytest.raises(DataError, match='cannot be read'):
        PackedCorpus(tmp_path / 'broken')
