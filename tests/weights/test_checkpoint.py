"""Weights files: what is written comes back, from our files, old ones and those of tasks."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from weight_tools import nano, same, snapshot

from torchgeo_aom.bands import Product
from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.checkpoint import (
    export_checkpoint,
    file_sha256,
    load_into,
    read_state_dict,
    save_weights,
    strip_prefix,
)
from torchgeo_aom.models.weights import load_backbone
from torchgeo_aom.transforms import Normalize

GOLDEN = Path(__file__).parent / 'golden'
OUR_METADATA = {
    'arch', 'bands', 'channel_encoding', 'channel_pool', 'depth', 'embed_dim', 'format_version',
    'kernel_sizes', 'num_heads', 'tensors_sha256', 'torchgeo_aom_version',
}  # fmt: skip


class TestRoundTrip:
    def test_every_format(self, saved: Path, model: AOM) -> None:
        other = nano()
        assert not same(snapshot(other), snapshot(model))
        state, _ = read_state_dict(saved)
        report = load_into(other, state)
        assert same(snapshot(other), snapshot(model))
        assert set(report.loaded) == set(model.state_dict())
        assert (report.kept, report.dropped, report.resized) == ((), (), {})
        assert report.prefix == ('model.' if saved.suffix == '.ckpt' else '')

    @pytest.mark.parametrize('patch_size', [8, 12, 16, 24, 48])
    def test_patch_sizes(self, model: AOM, tmp_path: Path, patch_size: int) -> None:
        save_weights(model, tmp_path / 'a.safetensors')
        other = nano()
        load_into(other, read_state_dict(tmp_path / 'a.safetensors')[0])
        x = torch.randn(1, 3, 48, 48)
        with torch.no_grad():
            assert torch.equal(other(x, patch_size=patch_size), model(x, patch_size=patch_size))

    def test_metadata(self, tmp_path: Path) -> None:
        model = nano(bands=['sentinel2:B8A', 0.61])
        digest = save_weights(model, tmp_path / 'a.safetensors', {'dataset': 'none'})
        assert digest == file_sha256(tmp_path / 'a.safetensors')
        state, metadata = read_state_dict(tmp_path / 'a.safetensors', sha256=digest)
        assert set(metadata) == OUR_METADATA | {'dataset'}
        assert json.loads(metadata['kernel_sizes']) == [4, 8, 16]
        assert (metadata['num_heads'], metadata['channel_encoding']) == ('3', 'index')
        again = nano(bands=json.loads(metadata['bands']))
        assert [b.index for b in again.bands or ()] == [b.index for b in model.bands or ()]
        assert same(state, snapshot(model))

    def test_bands_keep_their_index(self, tmp_path: Path) -> None:
        """A band of a known name with an index of its own, and one of an unknown sensor."""
        bands = [
            {'name': 'B8A', 'sensor': 'sentinel2', 'index': 7.5},
            {'name': 'X', 'sensor': 'mysat', 'wavelength_um': 0.5},
        ]
        model = nano(bands=bands)
        save_weights(model, tmp_path / 'a.safetensors')
        again = load_backbone(tmp_path / 'a.safetensors')
        assert again.bands is not None and model.bands is not None
        assert [b.index for b in again.bands] == [b.index for b in model.bands]
        assert [b.label for b in again.bands] == ['sentinel2:B8A', 'mysat:X']

    def test_normalization(self, tmp_path: Path) -> None:
        """Unit and statistics travel with the file, also through an export."""
        path, again = tmp_path / 'a.safetensors', tmp_path / 'b.safetensors'
        model = nano(bands='sentinel2:rgb')
        normalize = Normalize('sentinel2:rgb', 'l2a', mean=[0.1, 0.2, 1 / 3], std=[0.5, 0, 0.1])
        save_weights(model, path, {'patch_sizes': '[8, 12]'}, normalize)
        export_checkpoint(path, again)
        for file in (path, again):
            _, metadata = read_state_dict(file)
            assert metadata['unit'] == 'sentinel2:l2a'
            assert json.loads(metadata['mean']) == [0.1, 0.2, 1 / 3]
            assert json.loads(metadata['std']) == [0.5, 1.0, 0.1]
            assert json.loads(metadata['patch_sizes']) == [8, 12]
        own = Product('mine', 0.5, 0.0, 'dn')
        for wrong, match in (
            (Normalize('naip:rgb', unit='uint8', mean=0.1, std=0.1), "the model's own bands"),
            (Normalize('sentinel2:rgb', own, mean=0.1, std=0.1), "'mine', which is not in the cat"),
        ):
            with pytest.raises(ConfigError, match=match):
                save_weights(model, path, None, wrong)
        with pytest.raises(ConfigError, match='the model has none'):
            save_weights(nano(bands=None), path, None, normalize)
        with pytest.raises(ConfigError, match=r"metadata\['mean'\]"):
            save_weights(model, path, {'mean': '[1]'}, normalize)

    def test_plain_permissions(self, model: AOM, tmp_path: Path) -> None:
        """Colleagues can read it: as readable as any other new file."""
        save_weights(model, tmp_path / 'a.safetensors')
        (tmp_path / 'plain').touch()
        modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ('a.safetensors', 'plain')]
        assert modes[0] == modes[1]

    def test_compiled(self, model: AOM, tmp_path: Path) -> None:
        compiled: Any = torch.compile(model)
        save_weights(compiled, tmp_path / 'a.safetensors')
        state, _ = read_state_dict(tmp_path / 'a.safetensors')
        assert same(state, snapshot(model))
        load_into(compiled, nano().state_dict())
        assert not same(state, snapshot(model))

    def test_names_are_frozen(self, model: AOM) -> None:
        """Renaming a parameter would break every file out there."""
        assert '\n'.join(model.state_dict()) == (GOLDEN / 'keys.txt').read_text().strip()

    def test_other_precision(self, model: AOM) -> None:
        state = {key: value.half() for key, value in model.state_dict().items()}
        other = nano()
        load_into(other, state)
        assert other.norm.weight.dtype == torch.float32
        assert torch.equal(other.blocks[0].mlp.fc1.weight, state['blocks.0.mlp.fc1.weight'].float())


class TestAtomicWrite:
    @pytest.mark.parametrize('step', ['fsync', 'replace'])
    def test_failure_keeps_the_old_file(
        self, step: str, model: AOM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / 'a.safetensors'
        old = save_weights(model, path)

        def full(*_: Any) -> None:
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(os, step, full)
        with pytest.raises(CheckpointError, match='No space left'):
            save_weights(nano(), path)
        assert file_sha256(path) == old
        assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors']

    def test_diverged(self, model: AOM, tmp_path: Path) -> None:
        with torch.no_grad():
            model.norm.bias[3] = float('nan')
        with pytest.raises(CheckpointError, match='norm.bias holds NaN'):
            save_weights(model, tmp_path / 'a.safetensors')
        assert not list(tmp_path.iterdir())

    def test_wrong_arguments(self, model: AOM, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='safetensors'):
            save_weights(model, tmp_path / 'a.pth')
        with pytest.raises(CheckpointError, match='does not exist'):
            save_weights(model, tmp_path / 'no' / 'a.safetensors')
        with pytest.raises(ConfigError, match='not an AOM'):
            save_weights(nn.Linear(1, 1), tmp_path / 'a.safetensors')
        for metadata in ({'epochs': 3}, {'bands': 'rgb'}):
            with pytest.raises(ConfigError, match='metadata'):
                save_weights(model, tmp_path / 'a.safetensors', metadata)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())


class TestStripPrefix:
    @pytest.mark.parametrize(
        'prefix',
        ['', 'model.', 'encoder.', 'model.encoder.', 'encoder.model.', 'model.encoder.model.',
         'backbone.', 'model.backbone.model.', 'module.', '_orig_mod.model.'],
    )  # fmt: skip
    def test_prefixes(self, model: AOM, prefix: str) -> None:
        state: dict[str, Tensor] = {f'{prefix}{key}': v for key, v in model.state_dict().items()}
        state |= {'decoder.weight': torch.ones(1), 'criterion.weight': torch.ones(1)}
        state |= {f'{prefix}head.weight': torch.ones(1)}
        assert set(strip_prefix(state)) == set(model.state_dict())
        assert set(strip_prefix(state, head=True)) == {*model.state_dict(), 'head.weight'}

    @pytest.mark.parametrize(
        ('main', 'copy'),
        [('backbone.', 'backbone_momentum.'), ('model.backbone.model.', 'model.target.model.')],
    )
    def test_slow_copies_are_left_out(self, model: AOM, main: str, copy: str) -> None:
        own = model.state_dict()
        state = {f'{copy}{key}': torch.zeros_like(v) for key, v in own.items()}
        state |= {f'{main}{key}': v for key, v in own.items()}
        assert same(dict(strip_prefix(state)), dict(own))

    def test_inner_names_survive(self, model: AOM) -> None:
        state = {f'model.{key}': v for key, v in model.state_dict().items()}
        state['model.blocks.0.model.encoder.weight'] = torch.ones(1)
        assert 'blocks.0.model.encoder.weight' in strip_prefix(state)

    def test_two_backbones(self, model: AOM) -> None:
        state = {f'{p}.{key}': v for p in 'ab' for key, v in model.state_dict().items()}
        with pytest.raises(CheckpointError, match=r"2 AOM backbones.*'a\.', 'b\.'"):
            strip_prefix(state)


class TestOldFiles:
    """Weights of every format version still load and still answer the same."""

    @pytest.mark.parametrize('version', sorted(path.name for path in GOLDEN.glob('v*')))
    def test_golden(self, version: str) -> None:
        state, metadata = read_state_dict(GOLDEN / version / 'aom_nano.safetensors')
        assert metadata['format_version'] == version.removeprefix('v')
        model = nano(bands=json.loads(metadata['bands']))
        load_into(model, state)
        golden = load_file(GOLDEN / version / 'outputs.safetensors')
        assert set(golden) == {'image', 'patch_8', 'patch_12'}
        for patch_size in (8, 12):
            with torch.no_grad():
                features = model.forward_features(golden['image'], patch_size=patch_size)
            torch.testing.assert_close(
                features, golden[f'patch_{patch_size}'], rtol=1e-3, atol=1e-4
            )


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::UserWarning')
class TestExport:
    @pytest.mark.parametrize(
        ('task', 'arguments'),
        [
            ('ClassificationTask', {'model': 'aom_vitt.sentinel2_rgb', 'num_classes': 3}),
            ('MoCoTask', {'model': 'aom_vitt', 'version': 2}),
            ('BYOLTask', {'model': 'aom_vitt'}),
            ('SemanticSegmentationTask',
             {'model': 'unet', 'backbone': 'aom_vitt.sentinel2_rgb', 'task': 'multiclass',
              'num_classes': 3}),
        ],
    )  # fmt: skip
    def test_torchgeo_tasks(self, task: str, arguments: dict[str, Any], tmp_path: Path) -> None:
        trainers = pytest.importorskip('torchgeo.trainers')
        from torchgeo_aom.models.registry import register

        register()
        module = getattr(trainers, task)(in_channels=3, **arguments)
        inner = {
            'ClassificationTask': 'model', 'MoCoTask': 'backbone',
            'BYOLTask': 'model.backbone.model', 'SemanticSegmentationTask': 'model.encoder',
        }[task]  # fmt: skip
        own = module.get_submodule(inner)
        hparams = {k: v for k, v in module.hparams.items() if isinstance(v, int | str | float)}
        torch.save(
            {'state_dict': module.state_dict(), 'hyper_parameters': hparams}, tmp_path / 'a.ckpt'
        )
        digest = export_checkpoint(tmp_path / 'a.ckpt', tmp_path / 'a.safetensors')
        state, metadata = read_state_dict(tmp_path / 'a.safetensors', sha256=digest)
        expected = {k: v for k, v in own.state_dict().items() if not k.startswith('head.')}
        assert same(state, expected)
        assert (metadata['arch'], metadata['num_heads']) == ('aom_vitt', '3')
        if 'sentinel2_rgb' in str(arguments):
            assert json.loads(metadata['bands']) == [f'sentinel2:B0{k}' for k in (4, 3, 2)]
        load_into(AOM(embed_dim=192, depth=12, num_heads=3), state)

    def test_no_backbone(self, tmp_path: Path) -> None:
        torch.save({'state_dict': {'model.x': torch.zeros(1)}}, tmp_path / 'a.ckpt')
        with pytest.raises(CheckpointError, match=r'no AOM backbone.*model\.x'):
            export_checkpoint(tmp_path / 'a.ckpt', tmp_path / 'a.safetensors')
        assert not (tmp_path / 'a.safetensors').exists()
