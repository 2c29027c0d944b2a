"""ONNX: one graph for every batch, height and width, run by onnxruntime and equal to the model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from common import RGB, image, perturb, tiny
from torch import nn

from torchgeo_aom.clients import onnx
from torchgeo_aom.clients.onnx import export_onnx, read_metadata
from torchgeo_aom.errors import AOMWarning, ConfigError
from torchgeo_aom.layers.checks import ceil_div
from torchgeo_aom.models.smp_encoder import AOMEncoder
from torchgeo_aom.tasks.readout import read_out

# Sizes that no graph was made with, none of which the export compares.
SIZES = ((2, 33, 40), (1, 50, 71), (3, 64, 64), (2, 17, 100), (4, 100, 18), (1, 224, 30))


class Pyramid(nn.Module):
    """The maps of an encoder without the image and the empty level."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = AOMEncoder(embed_dim=24, num_heads=3, blocks=4, bands=RGB)
        perturb(self)
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.encoder(x)[2:]


class Readout(nn.Module):
    """A model with the feature that ``--readout pyramid`` gives a probe."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny(depth=4, bands=RGB, patch_size=10)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return read_out(self.model, x, readout='pyramid')


def check(model: nn.Module, path: Path, sizes: Any = SIZES) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for batch, height, width in sizes:
        x = image(3, height, width, batch)
        with torch.no_grad():
            expected = model(x)
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        got = session.run(None, {'image': x.numpy()})
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope='module')
def exported(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[nn.Module, Path, dict[str, str], bool]:
    """A model, its file, its facts, and whether we warned; at a patch size that no kernel has."""
    needs()
    model = tiny(depth=1, bands=RGB, num_classes=3, patch_size=10)
    path = tmp_path_factory.mktemp('onnx') / 'aom.onnx'
    # torch and onnxscript warn, too
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        metadata = export_onnx(model, path)
    return model, path, metadata, any(issubclass(one.category, AOMWarning) for one in caught)


def needs() -> None:
    for name in ('onnxruntime', 'onnxscript'):
        pytest.importorskip(name, reason="needs pip install 'torchgeo_aom[onnx]'")


def test_any_size(exported: Any) -> None:
    model, path, *_ = exported
    check(model, path)


def test_speed_modes(tmp_path: Path) -> None:
    """Merged bands are in the graph, and the file says so."""
    needs()
    model = tiny(depth=3, bands=RGB, speed=((0, 2), (1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        metadata = export_onnx(model, tmp_path / 'fast.onnx')
    assert metadata['speed'] == '0:2,1:1'
    check(model, tmp_path / 'fast.onnx', SIZES[:3])


def test_smaller_than_a_patch(exported: Any) -> None:
    """The graph was made with several patches along both sides."""
    model, path, _, warned = exported
    sizes = [(2, 7, 40), (1, 5, 4)]
    if warned:  # as of files of PyTorch 2.8
        with pytest.raises(AssertionError):
            check(model, path, sizes)
    else:
        check(model, path, sizes)


def test_file_says_what_it_takes(exported: Any) -> None:
    _, path, metadata, _ = exported
    assert metadata == read_metadata(path)
    assert json.loads(metadata['bands']) == list(RGB)
    assert json.loads(metadata['patch_size']) == [10, 10]


def test_whole_or_absent(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that computes something else is found out, and leaves no file."""
    _, path, *_ = exported
    assert [file.name for file in path.parent.iterdir()] == ['aom.onnx']
    other = tiny(depth=1, bands=RGB, num_classes=3, patch_size=10)

    class Program:
        model = SimpleNamespace(metadata_props={})

        def save(self, target: Path) -> None:
            target.write_bytes(path.read_bytes())

    monkeypatch.setattr(torch.onnx, 'export', lambda *args, **kwargs: Program())
    with pytest.raises(ConfigError, match='computes something else'):
        export_onnx(other, tmp_path / 'other.onnx')
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match='exists'):
        export_onnx(other, path)


def test_wrong_for_tiny_images_is_said(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path, *_ = exported

    class Program:
        model = SimpleNamespace(metadata_props={})

        def save(self, target: Path) -> None:
            target.write_bytes(path.read_bytes())

    def difference(model: nn.Module, path: Path, images: torch.Tensor, tolerance: float) -> str:
        return 'computes something else' if images.shape[2] < 10 else ''

    monkeypatch.setattr(torch.onnx, 'export', lambda *args, **kwargs: Program())
    monkeypatch.setattr(onnx, '_difference', difference)
    with pytest.warns(AOMWarning, match='smaller than a patch of 10 x 10 px'):
        export_onnx(model, tmp_path / 'aom.onnx')
    assert (tmp_path / 'aom.onnx').read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_pyramid(tmp_path: Path) -> None:
    needs()
    model = Pyramid()
    export_onnx(model, tmp_path / 'pyramid.onnx')
    check(model, tmp_path / 'pyramid.onnx')


@pytest.mark.filterwarnings('ignore')
def test_readout_of_the_pyramid(tmp_path: Path) -> None:
    needs()
    model = Readout()
    metadata = export_onnx(model, tmp_path / 'readout.onnx')
    assert json.loads(metadata['bands']) == list(RGB)
    check(model, tmp_path / 'readout.onnx')


def test_what_is_refused(tmp_path: Path) -> None:
    model = tiny(depth=1)
    cases: list[tuple[nn.Module, str, str]] = [
        (model, 'aom.pt', 'must end in .onnx'),
        (nn.Linear(2, 2), 'aom.onnx', 'Linear holds 0 AOM encoders'),
        (tiny(depth=1).train(), 'aom.onnx', 'training mode'),
        (tiny(depth=1).double(), 'aom.onnx', r'float64 on cpu.*model\.cpu'),
    ]
    for wrong, name, match in cases:
        with pytest.raises(ConfigError, match=match):
            export_onnx(wrong, tmp_path / name)


@pytest.mark.parametrize('length', [1, 15, 16, 17, 224])
@pytest.mark.parametrize('step', [1, 2, 16, 24])
def test_ceil_div(length: int, step: int) -> None:
    """ONNX rounds quotients of negative numbers toward zero, so none is taken."""
    assert ceil_div(length, step) == -(-length // step)
