"""Small weights, small images and one short run for the tests of tasks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_aom import register_weights
from torchgeo_aom.models import loading
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.registry import register
from torchgeo_aom.models.weights import AOMTiny_Weights, AOMWeights, save_weights
from torchgeo_aom.tasks import upstream

MODEL = 'aom_vitt'
SIZE = 64
CLASSES = 3


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers, and that it was warned."""
    register()
    monkeypatch.setattr(loading, '_positional_warned', False)
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    cls = AOMTiny_Weights
    mapped, names = dict(cls._member_map_), list(cls._member_names_)
    yield
    for name in set(cls._member_map_) - set(mapped):
        type.__delattr__(cls, name)
    cls._member_map_.clear()
    cls._member_map_.update(mapped)
    cls._member_names_[:] = names


@dataclass(frozen=True)
class Weights:
    """The same parameters, in every form in which users have them."""

    path: Path
    parameters: dict[str, Tensor]

    def member(self, default: bool = False) -> AOMWeights:
        return register_weights('TEST_RUN', self.path, MODEL, default=default)

    def given(self, how: str, tmp_path: Path | None = None) -> Any:
        """Value for ``weights=``."""
        if how == 'none':
            return None
        if how == 'true':
            self.member(default=True)
            return True
        if how == 'enum':
            return self.member()
        if how == 'string':
            return str(self.member())
        if how == 'safetensors':
            return str(self.path)
        assert how == 'pth' and tmp_path is not None
        torch.save(self.parameters, tmp_path / 'weights.pth')
        return str(tmp_path / 'weights.pth')

    def loaded(self, *modules: torch.nn.Module) -> bool:
        """Whether all AOMs in the modules have these parameters."""
        found = [m for module in modules for m in module.modules() if isinstance(m, AOM)]
        assert found
        return all(
            torch.equal(value, model.state_dict()[key])
            for model in found
            for key, value in self.parameters.items()
        )


@pytest.fixture(scope='session')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Random weights of the tiny size, without a head."""
    torch.manual_seed(1)
    model = AOM(**SIZES[MODEL], bands='sentinel2')
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    save_weights(model, path, {'dataset': 'random numbers', 'licence': 'CC0-1.0'})
    return Weights(path, {k: v.clone() for k, v in model.state_dict().items()})


@pytest.fixture(scope='session')
def checkpoints(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each of TorchGeo's own tasks that holds these weights."""
    tasks: dict[str, tuple[type[LightningModule], dict[str, Any]]] = {
        'classification': (upstream.Classification, {'model': MODEL, 'num_classes': CLASSES}),
        'moco': (upstream.MoCo, {'model': MODEL, 'hidden_dim': 8, 'output_dim': 8}),
        'simclr': (upstream.SimCLR, {'model': MODEL, 'hidden_dim': 8, 'output_dim': 8}),
        'segmentation': (
            upstream.SemanticSegmentation,
            {'model': 'upernet', 'backbone': MODEL, 'num_classes': CLASSES},
        ),
    }
    folder = tmp_path_factory.mktemp('checkpoints')
    paths = {}
    for name, (cls, kwargs) in tasks.items():
        task = cls(**kwargs)
        for module in task.modules():
            if isinstance(module, AOM):
                module.load_state_dict({**module.state_dict(), **weights.parameters}, strict=True)
        trainer = quick_trainer(folder)
        trainer.strategy.connect(task)
        paths[name] = folder / f'{name}.ckpt'
        trainer.save_checkpoint(paths[name])
    return paths


def quick_trainer(folder: Path, **kwargs: Any) -> Trainer:
    """One batch of training and one of validation, quietly, with nothing written."""
    options: dict[str, Any] = {
        'accelerator': 'cpu',
        'default_root_dir': folder,
        'fast_dev_run': 1,
        'logger': False,
        'enable_progress_bar': False,
        'enable_model_summary': False,
        'enable_checkpointing': False,
    }
    return Trainer(**{**options, **kwargs})


def loader(*shape: int, count: int = 2, **labels: Any) -> DataLoader[Any]:
    """A batch of random images of a shape, each with labels."""
    samples = [
        {
            'image': torch.randn(*shape),
            **{key: make() if callable(make) else make for key, make in labels.items()},
        }
        for _ in range(count)
    ]
    return DataLoader(samples, batch_size=count)  # type: ignore[arg-type]


def label() -> Tensor:
    return torch.randint(CLASSES, ())


def mask(size: int = SIZE) -> Callable[[], Tensor]:
    return lambda: torch.randint(CLASSES, (size, size))


def change_mask() -> Tensor:
    return torch.randint(2, (1, SIZE, SIZE))


def save(task: LightningModule, folder: Path) -> Path:
    """A checkpoint of a task that has not run."""
    trainer = quick_trainer(folder)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(folder / 'task.ckpt')
    return folder / 'task.ckpt'


def fit(task: LightningModule, data: DataLoader[Any], folder: Path, **kwargs: Any) -> Trainer:
    """Run one step and check that it reached the patch kernel, unless the backbone is frozen."""
    backbone = next((m for m in task.modules() if isinstance(m, AOM)), None)
    before = None
    if backbone is not None:
        kernel = backbone.patch_embed.kernel(backbone.patch_embed.patch_size)[0]
        before = kernel.detach().clone()
    trainer = quick_trainer(folder, **kwargs)
    trainer.fit(task, data, data)
    assert torch.isfinite(trainer.callback_metrics['train_loss'])
    if backbone is not None and before is not None:
        after = backbone.patch_embed.kernel(backbone.patch_embed.patch_size)[0].detach()
        frozen = not next(backbone.blocks.parameters()).requires_grad
        assert torch.equal(before, after) == frozen
    return trainer


@pytest.fixture(scope='session')
def eurosat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TorchGeo's EuroSAT with the real chips of this package."""
    chips = Path(__file__).parents[2] / 'torchgeo_aom' / 'data' / 'samples' / 'eurosat200'
    root = tmp_path_factory.mktemp('eurosat')
    images = root / 'ds' / 'images' / 'remote_sensing' / 'otherDatasets' / 'sentinel_2' / 'tif'
    names = []
    for chip in sorted(chips.glob('*/*_1.tif')):
        (images / chip.parent.name).mkdir(parents=True)
        shutil.copy(chip, images / chip.parent.name)
        names.append(chip.with_suffix('.jpg').name)
    for split in ('train', 'val', 'test'):
        for name in ('eurosat', 'eurosat-100'):
            (root / f'{name}-{split}.txt').write_text('\n'.join(names))
    return root
