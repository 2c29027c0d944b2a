"""The data module of GEO-Bench: arguments arrive, statistics are those of the task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from torchgeo_aom.datamodules import BandDataModule, GeoBenchDataModule
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.tasks import BandCheck, SemanticSegmentationTask

sys.path.insert(0, str(Path(__file__).parents[1] / 'datasets'))
from make_geobench import unpack, write_task


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp('geobench')
    write_task(top, 'm-chesapeake', size=32)
    write_task(top, 'm-SA-crop-type', size=32)
    write_task(top, 'm-so2sat', size=8)
    return top


def test_statistics_of_the_task(root: Path) -> None:
    found = GeoBenchDataModule('m-SA-crop-type', str(root), ['B04', 'B8A'], batch_size=4)
    assert found.bands == ('sentinel2:B04', 'sentinel2:B8A')
    assert (found.num_classes, found.ignore_index) == (10, 255)
    found.setup('fit')
    batch = found.prepare(next(iter(found.train_dataloader())))
    assert batch['image'].shape == (4, 2, 32, 32) and batch['image'].mean().abs() < 0.2
    assert batch['mask'].shape == (4, 32, 32)
    same = BandDataModule(
        'GeoBench',
        {'task': 'm-SA-crop-type', 'root': str(root)},
        ['B04', 'B8A'],
        normalization='geobench:task',
    )
    same.setup('fit')
    torch.testing.assert_close(same.normalize.shift, found.normalize.shift)


def test_other_statistics(root: Path, tmp_path: Path) -> None:
    measured = GeoBenchDataModule(
        'm-so2sat', str(root), normalization='measured', cache_dir=str(tmp_path), batch_size=4
    )
    measured.setup('fit')
    images = measured.prepare(next(iter(measured.train_dataloader())))['image']
    assert images.mean((0, 2, 3)).abs().max() < 1e-2
    catalogue = GeoBenchDataModule('m-so2sat', str(root), normalization='catalogue')
    catalogue.setup('test')
    assert catalogue.normalize.mean[0] == pytest.approx(0.13976)
    with pytest.raises(ConfigError, match="statistics='task'"):
        wrong = GeoBenchDataModule('m-SA-crop-type', str(root), normalization='catalogue')
        wrong.setup('fit')


def test_arguments_arrive(root: Path) -> None:
    found = GeoBenchDataModule(
        'm-chesapeake', str(root), 'rgb', '0.01x_train', ignore_no_data=True, crop=16, resize=24
    )
    found.setup('fit')
    assert len(found.train_dataset) == 1 and found.ignore_index == 0
    assert found.prepare(next(iter(found.train_dataloader())))['image'].shape == (1, 3, 24, 24)
    with pytest.raises(ConfigError, match="'naip' is not|unknown product 'l2a'"):
        GeoBenchDataModule('m-chesapeake', str(root), product='l2a').setup('fit')


def test_training_on_genuine_images(tmp_path: Path) -> None:
    unpack(tmp_path, 'cvpr_chesapeake_landcover')
    data = GeoBenchDataModule(
        'm-chesapeake', str(tmp_path), partition='small', batch_size=2, crop=64, eval_crop=64
    )
    task = SemanticSegmentationTask(
        'upernet',
        'aom_vitt',
        bands='naip',
        num_classes=7,
        ignore_index=255,
        freeze_backbone=True,
        lr=1e-3,
    )
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[BandCheck()],
        default_root_dir=tmp_path,
    )
    trainer.fit(task, datamodule=data)
    scores: Any = trainer.callback_metrics
    assert torch.isfinite(scores['train_loss']) and torch.isfinite(scores['val_loss'])


def test_from_yaml(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchgeo_aom.cli import main

    config = {
        'model': {
            'class_path': 'torchgeo_aom.tasks.SemanticSegmentationTask',
            'init_args': {
                'model': 'upernet',
                'backbone': 'aom_vitt',
                'bands': ['naip:NIR', 'naip:R'],
                'num_classes': 7,
                'ignore_index': 255,
            },
        },
        'data': {
            'class_path': 'torchgeo_aom.datamodules.GeoBenchDataModule',
            'init_args': {
                'task': 'm-chesapeake',
                'root': str(root),
                'bands': ['NIR', 'R'],
                'batch_size': 2,
            },
        },
        'trainer': {
            'max_steps': 1,
            'limit_val_batches': 1,
            'logger': False,
            'enable_checkpointing': False,
            'default_root_dir': str(tmp_path),
            'callbacks': [{'class_path': 'torchgeo_aom.tasks.BandCheck'}],
        },
    }
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    assert main(['fit', '--config', str(path)]) == 0
