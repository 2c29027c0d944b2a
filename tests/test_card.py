"""The model card of an export, and the exported file as weights of every task."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

import torchgeo_aom
import torchgeo_aom.tasks
from torchgeo_aom import tasks
from torchgeo_aom.cli import main
from torchgeo_aom.data.loader import PretrainDataModule
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.card import model_card
from torchgeo_aom.tasks import PretrainTask

SMALL = {'hidden_dim': 8, 'output_dim': 8}
SMALL_PRETRAIN: dict[str, Any] = {
    'decoder_width': 24,
    'decoder_depth': 1,
    'decoder_heads': 2,
    'projector_dim': 8,
}
TASKS: dict[str, dict[str, Any]] = {
    'ClassificationTask': {'model': 'aom_vitt', 'num_classes': 3},
    'RegressionTask': {'model': 'aom_vitt', 'num_outputs': 1},
    'SemanticSegmentationTask': {'model': 'upernet', 'backbone': 'aom_vitt', 'num_classes': 3},
    'PixelwiseRegressionTask': {'model': 'upernet', 'backbone': 'aom_vitt', 'num_outputs': 1},
    'ChangeDetectionTask': {'model': 'upernet', 'backbone': 'aom_vitt'},
    'MoCoTask': {'model': 'aom_vitt', **SMALL},
    'SimCLRTask': {'model': 'aom_vitt', **SMALL},
    'BYOLTask': {'model': 'aom_vitt'},
}


def save(task: PretrainTask, path: Path) -> Path:
    """A checkpoint of a task that has not run."""
    trainer = Trainer(accelerator='cpu', logger=False, default_root_dir=path.parent)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of one epoch over eight images."""
    folder = tmp_path_factory.mktemp('run')
    rng = np.random.default_rng(0)
    profile = {'driver': 'GTiff', 'dtype': 'uint16', 'count': 3, 'height': 32, 'width': 32}
    for k in range(8):
        with rasterio.open(folder / f'{k}.tif', 'w', **profile) as file:
            file.write(rng.integers(200, 4000, (3, 32, 32), dtype=np.uint16))
    block = {
        'name': 'my|chips',
        'path': str(folder),
        'pattern': '*.tif',
        'bands': 'sentinel2:rgb',
        'product': 'sentinel2:l1c',
        'statistics': 'measured',
    }
    module = PretrainDataModule([block], batch_size=4, statistics_dir=str(folder / 'statistics'))
    task = PretrainTask(
        embed_dim=24, depth=1, num_heads=3, kernel_sizes=(16,), patch_sizes=(8, 16), batch_size=4,
        base_lr=1e-3, metrics_every=1, **SMALL_PRETRAIN,
    )  # fmt: skip
    trainer = Trainer(
        accelerator='cpu', max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(task, module)
    trainer.save_checkpoint(folder / 'last.ckpt')
    return folder / 'last.ckpt'


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder of the tiny size out of a pretraining task, with its card."""
    folder = tmp_path_factory.mktemp('exported')
    torch.manual_seed(1)
    task = PretrainTask('aom_vitt', patch_sizes=(16, 32), bands='sentinel2:rgb', **SMALL_PRETRAIN)
    ckpt, out = save(task, folder / 'last.ckpt'), folder / 'encoder.safetensors'
    assert main(['weights', 'export', str(ckpt), str(out)]) == 0
    return out


class TestCard:
    def test_of_a_run(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / 'encoder.safetensors'
        assert main(['weights', 'export', str(run), str(out)]) == 0
        assert str(tmp_path / 'encoder.md') in capsys.readouterr().out
        card = (tmp_path / 'encoder.md').read_text(encoding='utf-8')
        for line in (
            f'| SHA-256 | {torchgeo_aom.models.checkpoint.file_sha256(out)} |',
            '| Width | 24 |',
            '| Patch sizes trained, in px | 8, 16 |',
            r'| my\|chips | 8 | sentinel2:l1c | measured |',
            '| 0 | sentinel2:B04 | 3 | not recorded | not recorded |',
            '| Optimizer steps | 2 |',
            '| align_weight | 0.8 |',
            '| mask_ratio | 0.75 |',
            f'| torch, at export | {version("torch")} |',
            '| not measured | not measured | not measured |',
        ):
            assert line in card, line
        for title in ('Licence', 'Intended use', 'Measured metrics'):
            assert f'\n## {title}\n' in card
        assert str(run.parent) not in card  # nobody else's business
        assert 'ClassificationTask(' not in card  # which has no such size

    def test_is_not_overwritten(self, run: Path, tmp_path: Path) -> None:
        card, out = tmp_path / 'encoder.md', tmp_path / 'encoder.safetensors'
        card.write_text('written by hand')
        assert main(['weights', 'export', str(run), str(out)]) == 1
        assert card.read_text() == 'written by hand' and not out.exists()
        assert main(['weights', 'export', str(run), str(out), '--overwrite']) == 0
        assert 'SHA-256' in card.read_text()

    def test_its_lines_load_the_weights(
        self, exported: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(exported.parent)
        lines = exported.with_suffix('.md').read_text().splitlines()
        expected = load_file(exported)['blocks.0.attn.qkv.weight']
        found = [
            eval(line.partition(' = ')[2])
            for line in lines
            if line.startswith(('model = ', 'task = '))
        ]
        assert [type(item).__name__ for item in found] == ['AOM', 'ClassificationTask']
        for item in found:
            backbone = next(m for m in item.modules() if isinstance(m, AOM))
            assert torch.equal(backbone.state_dict()['blocks.0.attn.qkv.weight'], expected)

    def test_of_nothing_known(self) -> None:
        card = model_card({'file': 'a.safetensors', 'sha256': '0' * 64})
        assert '| Optimizer steps | not recorded |' in card
        assert 'Data sources: not recorded' in card
        assert 'not measured' in card


@pytest.mark.parametrize('name', TASKS)
def test_as_weights_of_a_task(name: str, exported: Path) -> None:
    task = getattr(tasks, name)(weights=str(exported), bands='sentinel2:rgb', **TASKS[name])
    key = 'blocks.0.attn.qkv.weight'
    expected = load_file(exported)[key]
    found = [m for m in task.modules() if isinstance(m, AOM)]
    assert found
    assert all(torch.equal(m.state_dict()[key], expected) for m in found)
