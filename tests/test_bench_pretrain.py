"""The speed of pretraining, measured in small."""

import json
from pathlib import Path
from typing import Any

import pytest

from torchgeo_aom.bench_pretrain import SHIPPED, Spread, _batch, measure
from torchgeo_aom.cli import main
from torchgeo_aom.errors import ConfigError

SMALL: dict[str, Any] = {
    'model': 'aom_vitt', 'patch_sizes': (16, 32), 'embed_dim': 32, 'depth': 1, 'num_heads': 2,
    'decoder_width': 32, 'decoder_depth': 1, 'projector_dim': 16,
}  # fmt: skip


@pytest.mark.parametrize('block', SHIPPED, ids=lambda block: str(block['name']))
def test_sources(block: dict[str, Any]) -> None:
    found = measure(block, SMALL, 2, 1, loader_seconds=0.01, side=64)
    side = {'eurosat200': 64, 'sentinel2_pairs': 224}[block['name']]
    assert found.image == (13, side, side)
    assert found.loader_images_per_s is not None
    assert found.loader_ratio is not None
    for value in (found.step_images_per_s, found.plain_ratio, found.peak_share):
        assert 0 < value.low <= value.median <= value.high
    assert found.memory_gib is None


def test_random_pixels() -> None:
    found = measure(('rgb', 32), SMALL, 2, 2, side=64)
    assert found.source == 'random'
    assert found.image == (3, 32, 32)
    assert found.batch_size == 2
    assert found.loader_ratio is None
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--random', 'rgb', '32', '--patch-sizes', '16', '32', '--runs', '1', '--batch', '2']
    options += ['--clock', 'cpu']
    assert main(['bench', '--pretrain', *options, '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['batch_size'] == 2
    assert main(['bench', '--pretrain', *options]) == 0
    printed = capsys.readouterr().out
    assert 'plain way / step' in printed
    assert 'cpu time' in printed


def test_refusals() -> None:
    with pytest.raises(ConfigError, match='runs'):
        measure(('rgb', 32), SMALL, 2, 0)
    with pytest.raises(ConfigError, match='clock must be one of wall, cpu'):
        measure(('rgb', 32), SMALL, 2, 1, clock='sun')
    with pytest.raises(ConfigError, match='2 workers'):
        measure(('rgb', 32), SMALL, 2, 1, workers=2, clock='cpu')
    assert main(['bench', '--pretrain', '--random', 'rgb', 'large']) == 1


def test_batch_follows_the_size(tmp_path: Path) -> None:
    batch, loader = _batch(SHIPPED[0], None, 0, str(tmp_path))
    assert batch['image'].shape == (16, 13, 64, 64)
    assert loader is not None
    assert len(_batch(('rgb', 224), None, 0, '')[0]['image']) == 2
