"""Speed modes through tasks, YAML and commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from torchgeo_aom.cli import main as cli
from torchgeo_aom.errors import AOMWarning, CheckpointError, ConfigError
from torchgeo_aom.models.registry import random_backbone
from torchgeo_aom.models.weights import load_backbone, save_weights
from torchgeo_aom.tasks import ClassificationTask, SemanticSegmentationTask

SCHEDULE = ((0, 6), (2, 1))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file that says what merging costs."""
    path = tmp_path / 'weights.safetensors'
    loss = {'0:6,2:1': {'points': 3.25, 'data': 'toy'}, '0:6': {'points': 0.1, 'data': 'toy'}}
    model = load_free()
    save_weights(model, path, {'speed_loss': json.dumps(loss)})
    return path


def load_free() -> Any:
    """An AOM with random weights and bands."""
    from torchgeo_aom.bands import resolve_bands

    return random_backbone('aom_vitt', resolve_bands('sentinel2'))


def test_task(tmp_path: Path) -> None:
    """The mode reaches the encoder, is kept with the task, and can be changed at loading."""
    for speed in ('balanced', [[0, 6], [2, 1]]):
        task = ClassificationTask('aom_vitt', bands='sentinel2', num_classes=3, speed=speed)
        assert task.hparams['speed'] == speed
        assert task.model.schedule() == task.backbones[0].schedule(speed) != ()
        exact = ClassificationTask('aom_vitt', bands='sentinel2', num_classes=3)
        assert exact.hparams['speed'] == 'exact' and exact.model.schedule() == ()
    dense = SemanticSegmentationTask(
        'upernet', 'aom_vitt', bands='sentinel2', num_classes=3, speed=SCHEDULE, loss='ce'
    )
    assert dense.hparams['speed'] == [[0, 6], [2, 1]]
    assert dense.backbones[0].schedule() == SCHEDULE
    with torch.inference_mode():
        assert dense.eval()(torch.randn(1, 13, 32, 32)).shape == (1, 3, 32, 32)
    with pytest.raises(ConfigError, match='balanced'):
        ClassificationTask('aom_vitt', bands='sentinel2', speed='quick')


def test_dates_are_not_averaged() -> None:
    task = SemanticSegmentationTask(
        'upernet', 'aom_vitt', bands='rgb', in_channels=6, num_classes=2, speed=[[1, 2]], loss='ce'
    )
    with pytest.raises(ConfigError, match='2 dates.*exact'):
        task(torch.randn(1, 6, 32, 32))


def test_plan_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(['plan', '--bands', 'sentinel2', '--speed', '1:4,4:1']) == 0
    assert '1:4,4:1: 2,548 tokens in 1 block, 784 tokens' in capsys.readouterr().out
    assert cli(['plan', '--bands', 'sentinel2', '--speed', 'quick']) == 1
    assert 'balanced' in capsys.readouterr().err
    for speed in ('exact', 'balanced', 'fast'):
        assert cli(['plan', '--bands', 'sentinel2', '--json', '--speed', speed]) == 0
        assert json.loads(capsys.readouterr().out)['speed'] == speed


class TestLoss:
    """What is known of the loss of a mode is said when weights are loaded."""

    def test_known(self, weights: Path) -> None:
        with pytest.warns(AOMWarning, match=r'0:6,2:1.*loses 3\.2 points.*toy'):
            load_backbone(weights, speed=SCHEDULE)

    def test_unknown(self, weights: Path) -> None:
        with pytest.warns(AOMWarning, match='never measured.*study speed'):
            load_backbone(weights, speed=((3, 2),))

    def test_later(self, weights: Path) -> None:
        model = load_backbone(weights)
        with pytest.warns(AOMWarning, match='loses'):
            model.set_speed(SCHEDULE)

    @pytest.mark.parametrize('text', ['[1]', '{"0:6": 3}', '{"0:6": {"points": "x", "data": "y"}}'])
    def test_damaged(self, text: str, tmp_path: Path) -> None:
        save_weights(load_free(), tmp_path / 'w.safetensors', {'speed_loss': text})
        with pytest.raises(CheckpointError, match='speed_loss'):
            load_backbone(tmp_path / 'w.safetensors')

    @pytest.mark.filterwarnings('error::torchgeo_aom.errors.AOMWarning')
    def test_nothing_to_say(self, weights: Path) -> None:
        load_backbone(weights)
        load_backbone(weights, speed=((0, 6),))
        load_free().set_speed('fast')
