"""Files and chips that the loader of pretraining leaves out, and when that ends a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_tools import equal, loader, module

from torchgeo_aom.errors import BandError, DataError


@pytest.fixture(scope='module')
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of one band."""
    import rasterio

    folder = tmp_path_factory.mktemp('template')
    rng = np.random.default_rng(1)
    facts = {'driver': 'GTiff', 'count': 1, 'height': 6, 'width': 6, 'dtype': 'uint16'}
    for k in range(120):
        transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
        with rasterio.open(
            folder / f'{k:03}.tif', 'w', nodata=0, transform=transform, **facts
        ) as file:
            file.write(rng.integers(200, 4000, (1, 6, 6), dtype=np.uint16))
    return folder


@pytest.fixture
def many(tmp_path: Path, template: Path) -> dict[str, Any]:
    """A source of 120 images that a test may damage."""
    folder = shutil.copytree(template, tmp_path / 'in')
    return {'path': str(folder), 'sensor': 'sentinel2', 'bands': 'B04', 'product': 'l2a'}


class TestBadFiles:
    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_skipped_counted_listed_once(
        self, many: dict[str, Any], caplog: pytest.LogCaptureFixture, num_workers: int
    ) -> None:
        one = module([many], batch_size=12, num_workers=num_workers)
        Path(many['path'], '033.tif').write_bytes(b'II*\0')
        found = one.train_dataloader()
        for _ in range(2):
            batches = list(found)
            assert [len(b['key']) for b in batches] == [12] * 10
            assert 33 not in torch.cat([b['key'] for b in batches])
        (path,) = one.bad_files['in']
        assert path.endswith('033.tif')
        assert caplog.text.count('033.tif') == 1
        assert len(caplog.records) == 1

    def test_replaced_by_the_same(self, many: dict[str, Any]) -> None:
        Path(many['path'], '033.tif').write_bytes(b'II*\0')
        one = loader([many], batch_size=12)
        for _ in zip(range(4), one, strict=False):
            pass
        state = one.state_dict()
        other = loader([many], batch_size=12, num_workers=1)
        other.load_state_dict(state)
        assert equal(list(other), list(loader([many], batch_size=12))[4:])

    def test_vanishing(self, many: dict[str, Any]) -> None:
        one = loader([many], batch_size=12)
        stream = iter(one)
        first = next(stream)
        gone = next(k for k in range(120) if k not in first['key'])
        Path(many['path'], f'{gone:03}.tif').unlink()
        assert sum(len(b['key']) for b in stream) == 108
        assert len(one.bad[0].reasons) == 1

    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_too_many(self, many: dict[str, Any], num_workers: int) -> None:
        for k in (5, 50, 100):
            Path(many['path'], f'{k:03}.tif').write_bytes(b'')
        with pytest.raises(DataError, match=r'2 of 120.*1\.00%'):
            list(loader([many], batch_size=12, num_workers=num_workers))
        found = loader([many], batch_size=12, bad_limit=0.05)
        assert len(list(found)) == 10
        assert len(found.bad[0].reasons) == 3

    def test_contradiction_ends_the_run(self, many: dict[str, Any], write: Any) -> None:
        found = loader([many], batch_size=12)
        write(Path(many['path'], '033.tif'), 1, ('B08',), (1, 6, 6))
        with pytest.raises(BandError, match=r'033\.tif'):
            list(found)


class TestNodata:
    def test_heavy_chips_are_dropped(self, many: dict[str, Any], write: Any) -> None:
        empty = np.zeros((1, 6, 6), np.uint16)
        empty[:, 0, 0] = 500
        content = write(Path(many['path'], '000.tif'), empty, nodata=0).read_bytes()
        for k in range(60):
            Path(many['path'], f'{k:03}.tif').write_bytes(content)
        one = loader([many], batch_size=12)
        keys = torch.cat([b['key'] for b in one])
        assert len(keys) == 120
        assert keys.min() >= 60
        assert one.dropped > 50
        assert not one.bad[0].reasons

    def test_all_empty(self, many: dict[str, Any], write: Any) -> None:
        empty = np.zeros((1, 6, 6), np.uint16)
        content = write(Path(many['path'], '000.tif'), empty, nodata=0).read_bytes()
        for k in range(120):
            Path(many['path'], f'{k:03}.tif').write_bytes(content)
        with pytest.raises(DataError, match='max_nodata'):
            list(loader([many], batch_size=12))

    def test_valid(self, tmp_path: Path, write: Any) -> None:
        image = np.full((2, 24, 24), 2000, np.uint16)
        image[0, :8] = 0
        for k in range(8):
            write(tmp_path / 'in' / f'{k}.tif', image, nodata=0)
        block = {'path': str(tmp_path / 'in'), 'sensor': 'sentinel2', 'bands': ['B04', 'B08'],
                 'product': 'l2a', 'max_nodata': 1.0}  # fmt: skip
        plain = next(iter(loader([block], crop_scale=(1, 1), crop_ratio=(1, 1), flip=False)))
        assert plain['valid'].dtype == torch.bool
        assert torch.equal(plain['valid'], torch.tensor(image > 0).expand(4, -1, -1, -1))
        for batch in loader([block]):
            assert batch['valid'].shape == batch['image'].shape
            assert batch['valid'][:, 1].all()
            assert (batch['image'][~batch['valid']] == 0).all()
            # What is left is untouched by the fill: the image is constant there.
            inside = batch['image'][:, 0][batch['valid'][:, 0]]
            assert inside.numel() > 0
            assert inside.std() < 2e-2 * inside.abs().mean()
