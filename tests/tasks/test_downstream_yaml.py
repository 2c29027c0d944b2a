"""Configurations of the paper's rows: they parse, and the task and its data agree on the bands."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.datamodules import BandDataModule
from torchgeo_aom.datasets.base import BandDataset
from torchgeo_aom.datasets.geobench_tasks import TASKS
from torchgeo_aom.models.patch_rule import choose_patch_size
from torchgeo_aom.tasks import SemanticSegmentationTask

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'examples' / 'downstream'
DENSE = (
    'burn_scars', 'cashew_plant', 'chesapeake', 'hls_water', 'neontree', 'nz_cattle', 'pv4ger_seg',
    'sa_crop_type', 'sparcs',
)  # fmt: skip
CONFIGS = [FOLDER / f'{name}.yaml' for name in DENSE]


def parsed(path: Path, *arguments: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, 'model')
    parser.add_subclass_arguments(LightningDataModule, 'data')
    content = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k in ('model', 'data')}
    return parser, parser.parse_object(content)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_task_and_data_agree(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    options = content['model']['init_args']
    parser, config = parsed(path)
    config.model.init_args.backbone = 'aom_vitt'
    config.model.init_args.decoder_channels = 32
    built = parser.instantiate_classes(config)
    task, data = built.model, built.data
    assert isinstance(task, SemanticSegmentationTask) and isinstance(data, BandDataModule)
    assert task.hparams['patch_size'] == choose_patch_size(options['image_size'])
    wanted = resolve_bands(options['bands'])
    assert resolve_bands(data.selected) == wanted
    assert task.backbones[0].bands == wanted
    cls: type[BandDataset] = data.dataset_class
    facts = TASKS[data.kwargs['task']] if 'task' in data.kwargs else cls
    assert task.hparams['num_classes'] == len(facts.classes)
    if facts is cls:
        assert cls.ignore_index in (255, None)
    else:
        assert {band.label for band in wanted} == {band.label for band in facts.bands}
        assert options['image_size'] == facts.size
    assert task.hparams['ignore_index'] == 255  # what padding is filled with


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_header(path: Path) -> None:
    """The command, the paper's number, the published one, and what was measured."""
    text = path.read_text()
    assert f'torchgeo-aom fit --config examples/downstream/{path.name}' in text
    assert 'paper' in text and 'TorchGeo' in text and 'measured' in text


def test_same_numbers_through_both_command_lines(tmp_path: Path) -> None:
    """`torchgeo-aom fit` and `python -m torchgeo fit` with one configuration, on real chips."""
    chips = ROOT / 'torchgeo_aom' / 'data' / 'samples' / 'eurosat200'
    config = {
        'seed_everything': 3,
        'trainer': {
            'accelerator': 'cpu', 'max_epochs': 1, 'limit_train_batches': 3, 'limit_val_batches': 2,
            'log_every_n_steps': 1, 'enable_progress_bar': False, 'enable_model_summary': False,
            'callbacks': [{'class_path': 'torchgeo_aom.tasks.BandCheck'}],
            'logger': {
                'class_path': 'lightning.pytorch.loggers.CSVLogger',
                'init_args': {'save_dir': 'logs', 'name': '', 'version': ''},
            },
        },
        'model': {
            'class_path': 'torchgeo_aom.tasks.ClassificationTask',
            'init_args': {
                'model': 'aom_vitt', 'bands': ['sentinel2:B8A', 'sentinel2:B04'],
                'num_classes': 10, 'patch_size': 16, 'layer_decay': 0.75, 'schedule': 'cosine',
            },
        },
        'data': {
            'class_path': 'torchgeo_aom.datamodules.BandDataModule',
            'init_args': {
                'dataset': 'RasterFolder', 'bands': ['B8A', 'B04'], 'batch_size': 8,
                'dataset_args': {
                    'root': str(chips), 'sensor': 'sentinel2', 'file_bands': 'sentinel2:eurosat',
                    'product': 'l1c',
                },
            },
        },
    }  # fmt: skip
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(config))
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    tables = []
    for module in ('torchgeo', 'torchgeo_aom'):
        folder = tmp_path / module
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, '-m', module, 'fit', '--config', str(tmp_path / 'config.yaml')],
            capture_output=True, text=True, env=environment, cwd=folder, timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-3000:]
        with (folder / 'logs' / 'metrics.csv').open(newline='') as file:
            tables.append(list(csv.DictReader(file)))
    assert tables[0] == tables[1]
    losses = [float(row['train_loss']) for row in tables[0] if row['train_loss']]
    assert len(losses) == 3 and len(set(losses)) == 3
    assert any(row.get('val_loss') for row in tables[0])
