"""Weights of their own for every test, and files of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from weight_tools import nano

from torchgeo_aom.models import loading
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.registry import register
from torchgeo_aom.models.weights import AOMWeights, register_weights, save_weights
from torchgeo_aom.models.weights_enum import ENUMS
from torchgeo_aom.transforms import Normalize


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without any weights, forget what a test registers, and that it was warned."""
    register()
    monkeypatch.setattr(loading, '_positional_warned', False)
    before = {cls: (dict(cls._member_map_), list(cls._member_names_)) for cls in ENUMS.values()}
    for cls in before:
        cls._member_map_.clear()
        cls._member_names_.clear()
    yield
    for cls, (mapped, names) in before.items():
        for name in set(cls._member_map_) - set(mapped):
            type.__delattr__(cls, name)
        cls._member_map_.clear()
        cls._member_map_.update(mapped)
        cls._member_names_[:] = names


@pytest.fixture(scope='module')
def tiny() -> AOM:
    return AOM(**SIZES['aom_vitt'], kernel_sizes=(8, 16), bands='sentinel2:rgb').eval()


@pytest.fixture(scope='module')
def tiny_file(tiny: AOM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    facts = {'dataset': 'random numbers', 'licence': 'CC0-1.0', 'patch_sizes': '[8, 16]'}
    normalize = Normalize('sentinel2:rgb', 'l2a', mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.125])
    save_weights(tiny, path, facts, normalize)
    return path


@pytest.fixture
def member(tiny_file: Path) -> AOMWeights:
    return register_weights('MY_RUN', tiny_file)


@pytest.fixture
def model() -> AOM:
    return nano()


@pytest.fixture(params=['safetensors', 'pth', 'ckpt'])
def saved(request: pytest.FixtureRequest, model: AOM, tmp_path: Path) -> Path:
    """The model in each format that is read."""
    path = tmp_path / f'nano.{request.param}'
    if request.param == 'safetensors':
        save_weights(model, path)
    elif request.param == 'pth':
        torch.save(model.state_dict(), path)
    else:
        state = {f'model.{key}': value for key, value in model.state_dict().items()}
        torch.save({'state_dict': state, 'hyper_parameters': {'bands': [1, 2, 3]}}, path)
    return path
