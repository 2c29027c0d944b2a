"""The scripts of ``examples/scenes`` run to their end, at tiny size."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from scene_tools import pixels, write

from torchgeo_aom.cli import main
from torchgeo_aom.tasks import SemanticSegmentationTask

sys.path.insert(0, str(Path(__file__).parents[1] / 'datasets'))
from true_files import hls_water

FOLDER = Path(__file__).parents[2] / 'examples' / 'scenes'


def start(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    runpy.run_path(str(FOLDER / name), run_name='__main__')


def test_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A place on two dates, the second brighter: it looks like itself to bands and encoder."""
    files, scenes = [], []
    for date, gain in (('one', 1), ('two', 2)):
        scenes.append(str(write(tmp_path / f'{date}.tif', gain * pixels(height=96, width=96))))
        files.append(str(tmp_path / f'{date}.parquet'))
        facts = ['--sensor', 'sentinel2', '--product', 'l2a', '--weights', 'random']
        windows = ['--chip', '32', '--overlap', '0', '--patch', '16', '--vectors', files[-1]]
        out = str(tmp_path / f'{date}_embedding.tif')
        assert main(['scene', 'embed', scenes[-1], out, *facts, *windows]) == 0
    facts = ['--sensor', 'sentinel2', '--product', 'l2a', '--out', str(tmp_path / 'out')]
    start(monkeypatch, 'dates.py', *files, '--scenes', *scenes, *facts)
    assert 'embeddings: 2 dates, 9 windows' in capsys.readouterr().out
    found = json.loads((tmp_path / 'out' / 'dates.json').read_text())
    assert found['statistics']['right'] == 1
    assert found['embeddings']['chance'] == pytest.approx(1 / 9)


def test_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write(tmp_path / 'in.tif', pixels(height=64, width=64))
    facts = ['--sensor', 'sentinel2', '--product', 'l2a', '--chip', '32', '--patch', '16']
    start(monkeypatch, 'bench.py', 'speed', str(scene), *facts)
    assert 'windows of 32 x 32 px, 4 bands, patch 16 px: pipeline' in capsys.readouterr().out


def test_memory(capsys: pytest.CaptureFixture[str]) -> None:
    script: dict[str, Any] = runpy.run_path(str(FOLDER / 'bench.py'))
    memory = script['memory']
    memory.__globals__['SIDE'] = 1024
    memory(type('Options', (), {'chip': 128})())
    said = capsys.readouterr().out
    assert said.count(' MiB more than before') == 2


def test_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that never sees water, and chips whose left half is: what is wrong is known."""
    hls_water(tmp_path / 'hls')
    for path in (tmp_path / 'hls' / 'masks').iterdir():
        Image.fromarray(np.repeat([[1, 0]], 64, axis=1).repeat(128, axis=0).astype('uint8')).save(
            path
        )
    names = ['coastal', 'blue', 'green', 'red', 'nir08', 'swir16', 'swir22']
    task = SemanticSegmentationTask(
        'upernet', 'aom_vitt', bands=names, num_classes=2, decoder_channels=16
    )
    for layer in task.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.out_channels == 2:
            torch.nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            layer.bias.data = torch.tensor([1.0, 0.0])
    options: dict[str, Any] = {'accelerator': 'cpu', 'max_epochs': 0, 'logger': False}
    trainer = Trainer(default_root_dir=tmp_path, enable_checkpointing=False, **options)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / 'water.ckpt')
    arguments = ['--root', str(tmp_path / 'hls'), '--every', '2']
    start(monkeypatch, 'agreement.py', str(tmp_path / 'water.ckpt'), *arguments)
    said = capsys.readouterr().out
    # IoU: none of the water, and half of all that has data, which is not the last four rows.
    assert '16 cells of 32 px: mean IoU 25.0%, 50.0% of the pixels right' in said
    assert '50.0% of the cells with more than a quarter wrong' in said
    assert said.count('ROC AUC for cells with more than a quarter wrong') == 2
