"""The data module in configurations: that of the documentation, through TorchGeo's command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchgeo.main import main as torchgeo_main

from torchgeo_aom.datamodules import BandDataModule
from torchgeo_aom.errors import BandError

ROOT = Path(__file__).parents[2]
CHIPS = ROOT / 'torchgeo_aom' / 'data' / 'samples' / 'eurosat200'
pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore:LightningCLI:UserWarning'),
    pytest.mark.filterwarnings('ignore:.*num_workers'),
]


def documented() -> dict[str, Any]:
    """The configuration of the documentation, with real chips, one step."""
    text = (ROOT / 'docs' / 'downstream.md').read_text(encoding='utf-8')
    (block,) = (b for b in re.findall(r'```yaml\n(.*?)```', text, re.DOTALL) if 'RasterFolder' in b)
    config: dict[str, Any] = yaml.safe_load(block)
    config['data']['init_args']['dataset_args']['root'] = str(CHIPS)
    config['data']['init_args']['batch_size'] = 4
    config['trainer'] |= {
        'accelerator': 'cpu', 'max_steps': 1, 'limit_train_batches': 1, 'limit_val_batches': 1,
        'limit_test_batches': 1, 'logger': False, 'enable_progress_bar': False,
        'enable_model_summary': False, 'log_every_n_steps': 1,
    }  # fmt: skip
    return config


def write(folder: Path, bands: list[str]) -> str:
    config = documented()
    config['trainer']['default_root_dir'] = str(folder)
    config['model'] = {
        'class_path': 'torchgeo_aom.tasks.ClassificationTask',
        'init_args': {'model': 'aom_vitt', 'bands': bands, 'patch_size': 16, 'num_classes': 10},
    }
    path = folder / 'config.yaml'
    path.write_text(yaml.safe_dump(config))
    return f'--config={path}'


def test_the_documented_block_gives_batches() -> None:
    module = BandDataModule(**documented()['data']['init_args'])
    module.setup('fit')
    batch = module.prepare(next(iter(module.train_dataloader())), training=True)
    assert batch['image'].shape == (4, 3, 48, 48)
    assert module.num_classes == 10


def test_fit_and_test(tmp_path: Path) -> None:
    config = write(tmp_path, ['sentinel2:B8A', 'sentinel2:B04', 'sentinel2:B11'])
    torchgeo_main(['fit', config])
    (checkpoint,) = tmp_path.rglob('*.ckpt')
    torchgeo_main(['test', config, f'--ckpt_path={checkpoint}'])
    torch.load(checkpoint, weights_only=True)


def test_other_bands_stop_the_run(tmp_path: Path) -> None:
    config = write(tmp_path, ['sentinel2:B08', 'sentinel2:B04', 'sentinel2:B11'])
    with pytest.raises(BandError, match='first at channel 0'):
        torchgeo_main(['fit', config])
