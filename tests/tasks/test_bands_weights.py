"""Weights of every kind in TorchGeo's tasks with bands, and what is frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bands_tools import TASKS, build, data, indices
from task_tools import Weights, fit, save
from torchvision.models import ResNet18_Weights

from torchgeo_aom.errors import BandWarning, CheckpointError, CheckpointWarning, ConfigError

pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]


FORMS = ('enum', 'string', 'true', 'safetensors', 'pth')
ALL = (*FORMS, 'classification', 'moco', 'simclr', 'segmentation')


class TestWeights:
    @pytest.mark.parametrize(
        ('name', 'how'),
        [
            *((name, how) for name in TASKS for how in ('enum', 'moco')),
            *(('classification', how) for how in ALL if how not in ('enum', 'moco')),
            *(('segmentation', how) for how in ALL if how not in ('enum', 'moco')),
        ],
    )
    @pytest.mark.filterwarnings('ignore::torchgeo_aom.errors.CheckpointWarning')
    def test_loaded(
        self, name: str, how: str, weights: Weights, checkpoints: dict[str, Path], tmp_path: Path
    ) -> None:
        """The matrix without holes: any task takes weights in any form, slow copies too."""
        given = str(checkpoints[how]) if how in checkpoints else weights.given(how, tmp_path)
        task = build(name, bands='sentinel2:rgb', weights=given)
        assert weights.loaded(task)
        assert indices(task) == [3, 2, 1]
        assert 'random' not in task.weights_from and 'SHA-256' in task.weights_from

    @pytest.mark.parametrize('name', TASKS)
    def test_own_checkpoints(self, name: str, weights: Weights, tmp_path: Path) -> None:
        path = save(build(name, bands='rgb', weights=weights.given('enum')), tmp_path)
        task = build('segmentation', bands='naip', weights=path)
        assert weights.loaded(task)

    def test_dpt(self, weights: Weights, tmp_path: Path) -> None:
        task = build('segmentation', model='dpt', bands='rgb', weights=weights.given('enum'))
        assert weights.loaded(task) and indices(task) == [3, 2, 1]
        fit(task, data('segmentation', 3), tmp_path)

    def test_none(self) -> None:
        task = build('classification', weights=False)
        assert task.weights_from == 'random initialization'
        with pytest.raises(CheckpointError, match='no published weights for aom_vits'):
            build('classification', model='aom_vits', weights=True)

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='neither a file nor known weights'):
            build('classification', weights='AOMTiny_Weights.NO')
        with pytest.raises(ConfigError, match='weights of another model'):
            build('classification', weights=ResNet18_Weights.DEFAULT)
        with pytest.raises(CheckpointError, match='does not exist'):
            build('classification', weights=str(tmp_path / 'no.ckpt'))

    def test_other_size(self, weights: Weights) -> None:
        with pytest.raises(CheckpointError, match='embed_dim|num_heads'):
            build('classification', name='aom_vits', weights=str(weights.path))

    def test_head(self, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
        source = build('classification', bands='rgb')
        path = save(source, tmp_path)
        task = build('classification', bands='rgb', weights=path)
        assert torch.equal(task.model.head.weight, source.model.head.weight)
        with pytest.warns(CheckpointWarning, match='head of the checkpoint'):
            build('classification', bands='rgb', weights=path, num_classes=7)

    def test_positional_is_said_once(self, weights: Weights) -> None:
        with pytest.warns(BandWarning, match='loaded into a model without bands') as caught:
            for name in ('classification', 'segmentation', 'moco'):
                build(name, weights=weights.given('enum'))
        assert len([w for w in caught if issubclass(w.category, BandWarning)]) == 1


class TestFreeze:
    def test_classification(self, tmp_path: Path, weights: Weights) -> None:
        task = build(
            'classification', bands='rgb', freeze_backbone=True, weights=weights.given('enum')
        )
        free = {name for name, p in task.model.named_parameters() if p.requires_grad}
        assert free == {'head.weight', 'head.bias'}
        fit(task, data('classification', 3), tmp_path)
        assert weights.loaded(task)

    @pytest.mark.parametrize(
        ('name', 'model'),
        [
            ('segmentation', 'upernet'),
            ('segmentation', 'dpt'),
            ('pixelwise', 'dpt'),
            ('change', 'changevit'),
        ],
    )
    def test_dense(self, name: str, model: str) -> None:
        task = build(name, model=model, bands='rgb', freeze_backbone=True, freeze_decoder=True)
        frozen = {n.split('.')[0] for n, p in task.model.named_parameters() if not p.requires_grad}
        free = {n.split('.')[0] for n, p in task.model.named_parameters() if p.requires_grad}
        assert frozen == {'encoder', 'decoder'} and not frozen & free
        task = build(name, model=model, bands='rgb', freeze_backbone=True)
        frozen = {n.split('.')[0] for n, p in task.model.named_parameters() if not p.requires_grad}
        assert frozen == {'encoder'}
