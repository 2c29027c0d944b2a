"""Configurations through TorchGeo's command line and ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from task_tools import SIZE
from torchgeo.main import main as torchgeo_main

from torchgeo_aom import tasks
from torchgeo_aom.cli import main
from torchgeo_aom.errors import BandError

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'tests' / 'conf').glob('*.yaml'))
EXAMPLES = [ROOT / 'examples' / name for name in ('classification.yaml', 'segmentation.yaml')]
pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore:LightningCLI:UserWarning'),
]


@pytest.fixture(scope='session')
def landcover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TorchGeo's LandCoverAI100 with random images."""
    root = tmp_path_factory.mktemp('landcover')
    (root / 'output').mkdir()
    random = np.random.default_rng(0)
    names = ['a_1', 'a_2']
    for name in names:
        image = random.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        mask = random.integers(0, 5, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(image).save(root / 'output' / f'{name}.jpg')
        Image.fromarray(mask).save(root / 'output' / f'{name}_m.png')
    for split in ('train', 'val', 'test'):
        (root / f'{split}.txt').write_text('\n'.join(names))
    return root


@pytest.fixture
def options(
    request: pytest.FixtureRequest, eurosat: Path, landcover: Path, tmp_path: Path
) -> list[str]:
    """A configuration, at its smallest, on the data of this test."""
    path: Path = request.param
    data = yaml.safe_load(path.read_text())['data']
    root = eurosat if 'EuroSAT' in data['class_path'] else landcover
    return [
        f'--config={path}',
        f'--data.dict_kwargs.root={root}',
        '--data.init_args.batch_size=2',
        '--data.init_args.num_workers=0',
        f'--trainer.default_root_dir={tmp_path}',
        '--trainer.accelerator=cpu',
        '--trainer.max_epochs=1',
        '--trainer.max_steps=1',
        '--trainer.limit_train_batches=1',
        '--trainer.limit_val_batches=1',
        '--trainer.limit_test_batches=1',
        '--trainer.log_every_n_steps=1',
        '--trainer.enable_progress_bar=false',
        '--trainer.enable_model_summary=false',
        '--trainer.logger=false',
    ]


@pytest.mark.parametrize('options', [*CONFIGS, *EXAMPLES], indirect=True, ids=lambda p: p.stem)
def test_fit_and_test(options: list[str], tmp_path: Path) -> None:
    torchgeo_main(['fit', *options])
    (checkpoint,) = tmp_path.rglob('*.ckpt')
    torchgeo_main(['test', *options, f'--ckpt_path={checkpoint}'])
    torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize('options', CONFIGS[:1], indirect=True)
def test_own_command(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['torchgeo-aom'])
    assert main(['fit', *options]) == 0
    (checkpoint,) = tmp_path.rglob('*.ckpt')
    task = tasks.ClassificationTask.load_from_checkpoint(checkpoint)
    assert [band.index for band in task.backbones[0].bands or ()] == [3, 8, 2, 11]
    assert task.hparams['patch_size'] == [16, 32]


@pytest.mark.parametrize('options', CONFIGS[:1], indirect=True)
def test_mismatch_stops(options: list[str], tmp_path: Path) -> None:
    with pytest.raises(BandError, match='another order, first at channel 0'):
        torchgeo_main(['fit', *options, '--data.dict_kwargs.bands=[B11, B8A, B03, B04]'])
    assert not list(tmp_path.rglob('*.ckpt'))


@pytest.mark.parametrize('options', CONFIGS[-1:], indirect=True)
def test_fresh_process(options: list[str], tmp_path: Path) -> None:
    """Nobody imports this package but the configuration; the facts come first."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        [sys.executable, '-m', 'torchgeo', 'fit', *options],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob('*.ckpt'))
