"""Weights files: what is written comes back, and no damaged or hostile file does any harm."""

import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from torchgeo_aom.bands import Product
from torchgeo_aom.errors import CheckpointError, CheckpointWarning, ConfigError
from torchgeo_aom.layers.pi_resize import pi_resize
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.checkpoint import (
    adapt_kernel_bank,
    export_checkpoint,
    file_sha256,
    load_into,
    read_state_dict,
    save_weights,
    strip_prefix,
)
from torchgeo_aom.transforms import Normalize

GOLDEN = Path(__file__).parent / 'golden'
OUR_METADATA = {
    'arch', 'bands', 'channel_encoding', 'channel_pool', 'depth', 'embed_dim', 'format_version',
    'kernel_sizes', 'num_heads', 'tensors_sha256', 'torchgeo_aom_version',
}  # fmt: skip


def nano(**kwargs: Any) -> AOM:
    options: dict[str, Any] = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'bands': [1, 2, 3]}
    return AOM(**{'kernel_sizes': (4, 8, 16), 'patch_size': 8, **options, **kwargs}).eval()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


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


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f'touch {self.marker}',))


class TestBadFiles:
    """Every message names the file, its size and what to do; the model stays as it was."""

    def refused(self, path: Path, match: str | None, **kwargs: Any) -> str:
        with pytest.raises(CheckpointError, match=match) as caught:
            read_state_dict(path, **kwargs)
        assert str(path) in str(caught.value)
        if path.is_file():
            assert f'{path.stat().st_size:,} bytes' in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize('share', [0.0, 0.0001, 0.01, 0.5, 0.999])
    def test_truncated(self, saved: Path, share: float) -> None:
        content = saved.read_bytes()
        saved.write_bytes(content[: int(len(content) * share)])
        self.refused(saved, 'again')

    @pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
    def test_bit_flip(self, saved: Path, share: float) -> None:
        """Neither format notices by itself; ours does even without a hash beside the file."""
        content = bytearray(saved.read_bytes())
        content[int(len(content) * share)] ^= 4
        saved.write_bytes(content)
        self.refused(saved, 'damaged')

    def test_tampered(self, saved: Path) -> None:
        digest = file_sha256(saved)
        read_state_dict(saved, sha256=digest)
        read_state_dict(saved, sha256=digest.upper())
        state = {key: value + 1 for key, value in read_state_dict(saved)[0].items()}
        if saved.suffix == '.safetensors':
            save_file(state, saved)
        else:
            torch.save(state, saved)
        read_state_dict(saved)  # well-formed, so that only the hash tells
        message = self.refused(saved, 'tampered', sha256=digest)
        assert file_sha256(saved) in message

    def test_missing_and_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path / 'no.pth', 'does not exist')
        self.refused(tmp_path, 'folder')

    def test_unknown_format(self, tmp_path: Path) -> None:
        (tmp_path / 'a.onnx').write_bytes(b'x')
        self.refused(tmp_path / 'a.onnx', 'unknown format')

    @pytest.mark.parametrize('protocol', ['zip', 'legacy', 'raw'])
    @pytest.mark.parametrize('suffix', ['.pth', '.pt', '.ckpt', '.bin', '.safetensors'])
    def test_malicious_pickle(self, tmp_path: Path, protocol: str, suffix: str) -> None:
        path, marker = tmp_path / f'a{suffix}', tmp_path / 'marker'
        evil = {'state_dict': {'x': torch.zeros(1)}, 'hyper_parameters': Payload(marker)}
        if protocol == 'raw':
            path.write_bytes(pickle.dumps(evil))
        else:
            torch.save(evil, path, _use_new_zipfile_serialization=protocol == 'zip')
        message = self.refused(path, None)
        assert not marker.exists()
        assert 'weights_only=False' not in message
        if protocol == 'zip' and suffix != '.safetensors':
            assert 'posix.system' in message and 'no fallback to pickle' in message

    def test_deflated_zip(self, tmp_path: Path) -> None:
        torch.save({'x': torch.zeros(1 << 20)}, tmp_path / 'plain.pth')
        with (
            zipfile.ZipFile(tmp_path / 'plain.pth') as plain,
            zipfile.ZipFile(tmp_path / 'a.pth', 'w', zipfile.ZIP_DEFLATED) as packed,
        ):
            for record in plain.infolist():
                packed.writestr(record.filename, plain.read(record))
        assert (tmp_path / 'a.pth').stat().st_size < 50_000
        self.refused(tmp_path / 'a.pth', 'compressed')

    def test_records_on_top_of_each_other(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
            archive.writestr('archive/data.pkl', bytes(4000))
            archive.filelist.extend(archive.filelist * 9)
        self.refused(tmp_path / 'a.pth', 'more bytes')

    def test_giant_shape_without_values(self, tmp_path: Path) -> None:
        torch.save({'x': torch.zeros(1).expand(10**10)}, tmp_path / 'a.pth')
        assert (tmp_path / 'a.pth').stat().st_size < 5000
        self.refused(tmp_path / 'a.pth', r'\(10000000000,\)')

    @pytest.mark.parametrize('length', [10**12, 2**63, 3])
    def test_header_bomb(self, tmp_path: Path, length: int) -> None:
        (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', length) + b'{}')
        self.refused(tmp_path / 'a.safetensors', 'not a whole safetensors')

    def test_giant_header_shape(self, tmp_path: Path) -> None:
        entry = {'dtype': 'F32', 'shape': [10**10], 'data_offsets': [0, 4]}
        header = json.dumps({'x': entry}).encode()
        path = tmp_path / 'a.safetensors'
        path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
        self.refused(path, 'not a whole safetensors')

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
            (b'<!DOCTYPE html><html></html>', 'web page'),
            (b'\x80\x02\x8a\nl\xfc', 'before PyTorch 1.6'),
        ],
    )
    def test_not_a_checkpoint(self, tmp_path: Path, content: bytes, match: str) -> None:
        (tmp_path / 'a.pth').write_bytes(content)
        self.refused(tmp_path / 'a.pth', match)

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            ([1, 2], 'holds a list'),
            ({'epoch': 1}, 'holds no parameters'),
            ({'state_dict': {}}, 'holds no parameters'),
            ({'a': torch.zeros(1), 'b': 'text'}, "'b' is a str"),
            ({1: torch.zeros(1)}, '1 is a Tensor'),
            ({'a': torch.eye(2).to_sparse()}, 'dense'),
            ({'a': torch.empty(2, device='meta')}, 'dense'),
        ],
    )
    @pytest.mark.filterwarnings('ignore:Validating sparse')
    def test_wrong_content(self, tmp_path: Path, content: Any, match: str) -> None:
        torch.save(content, tmp_path / 'a.pth')
        self.refused(tmp_path / 'a.pth', match)

    def test_newer_format(self, tmp_path: Path) -> None:
        save_file({'x': torch.zeros(1)}, tmp_path / 'a.safetensors', {'format_version': '999'})
        self.refused(tmp_path / 'a.safetensors', 'newer release')


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


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(key)


def with_(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__setitem__(key, value)


class TestLoadInto:
    @pytest.mark.parametrize(
        ('change', 'match'),
        [
            (without('norm.bias'), r"Missing: \['norm.bias'\]"),
            (with_('blocks.2.norm1.weight', torch.ones(24)), 'Unexpected.*blocks.2.norm1'),
            (with_('norm.bias', torch.ones(25)), r'norm.bias: checkpoint \(25,\), model \(24,\)'),
            (with_('norm.bias', torch.zeros(1).expand(10**12)), r'checkpoint \(1000000000000,\)'),
            (with_('patch_embed.kernels.8.weight', torch.ones(24, 3, 8, 8)), r'\(24, 3, 8, 8\)'),
            (with_('norm.bias', torch.full((24,), float('nan'))), 'norm.bias holds NaN'),
            (with_('norm.bias', torch.full((24,), float('inf'))), 'norm.bias holds NaN or inf'),
            (with_('norm.bias', torch.ones(24, dtype=torch.int64)), 'dtype torch.int64'),
            (with_('norm.bias', torch.ones(24, dtype=torch.complex64)), 'dtype torch.complex64'),
            (with_('channel_pool.query', torch.ones(24)), 'Unexpected.*channel_pool'),
        ],
    )
    def test_all_or_nothing(
        self, model: AOM, change: Callable[[dict[str, Tensor]], None], match: str
    ) -> None:
        state = snapshot(nano())
        change(state)
        given, before = dict(state), snapshot(model)
        with pytest.raises(CheckpointError, match=match):
            load_into(model, state)
        assert same(snapshot(model), before)
        assert state == given or all(state[key] is given[key] for key in given)

    def test_other_size(self, model: AOM) -> None:
        before = snapshot(model)
        with pytest.raises(
            CheckpointError, match=r'AOM weights \(48 wide, 3 deep\), the model is an AOM \(24'
        ):
            load_into(model, nano(embed_dim=48, depth=3).state_dict())
        assert same(snapshot(model), before)

    def test_not_ours(self, model: AOM) -> None:
        with pytest.raises(CheckpointError, match=r"no AOM backbone.*'weight'"):
            load_into(model, nn.Linear(2, 2).state_dict())
        with pytest.raises(ConfigError, match='Linear is not an AOM'):
            load_into(nn.Linear(2, 2), model.state_dict())
        with pytest.raises(ConfigError, match="'keep' or 'drop'"):
            load_into(model, model.state_dict(), head='maybe')

    def test_head_fits(self) -> None:
        source, target = nano(num_classes=4), nano(num_classes=4)
        report = load_into(target, source.state_dict())
        assert same(snapshot(target), snapshot(source))
        assert 'head.weight' in report.loaded

    def test_head_dropped_on_request(self) -> None:
        source, target = nano(num_classes=4), nano(num_classes=4)
        head = target.head.weight.clone()
        report = load_into(target, source.state_dict(), head='drop')
        assert torch.equal(target.head.weight, head)
        assert torch.equal(target.norm.weight, source.norm.weight)
        assert report.kept == report.dropped == ('head.weight', 'head.bias')

    @pytest.mark.parametrize('classes', [0, 5])
    def test_other_number_of_classes(self, classes: int) -> None:
        source, target = nano(num_classes=4), nano(num_classes=classes)
        with pytest.warns(
            CheckpointWarning, match=rf'\(4 classes\) is left out.* {classes} classes'
        ):
            report = load_into(target, source.state_dict())
        assert report.dropped == ('head.weight', 'head.bias')
        assert torch.equal(target.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)

    def test_no_head_in_the_checkpoint(self, model: AOM) -> None:
        target = nano(num_classes=5, channel_pool='attn')
        report = load_into(target, model.state_dict())
        assert set(report.kept) == {'head.weight', 'head.bias', 'channel_pool.query'}


class TestKernelBank:
    def test_resized_from_the_nearest(self, model: AOM) -> None:
        target = nano(kernel_sizes=(6, 8, 40))
        with pytest.warns(CheckpointWarning, match='6 from 4, 40 from 16; left out: 4, 16'):
            report = load_into(target, model.state_dict())
        assert report.resized == {6: 4, 40: 16}
        bank, own = target.patch_embed.kernels, model.patch_embed.kernels
        assert torch.equal(bank['8'].weight, own['8'].weight)
        assert torch.equal(bank['40'].weight, pi_resize(own['16'].weight, (40, 40)))
        assert torch.equal(bank['40'].bias, own['16'].bias)

    def test_same_function_where_nothing_is_lost(self, model: AOM) -> None:
        """A bank grown by PI-resize answers as the small bank did at the sizes of the small one."""
        target = nano(kernel_sizes=(4, 8, 16, 32))
        with pytest.warns(CheckpointWarning):
            load_into(target, model.state_dict())
        x = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(target(x, patch_size=32), model(x, patch_size=32))

    @pytest.mark.parametrize('nested', [False, True])
    def test_every_way_of_loading(self, model: AOM, nested: bool) -> None:
        target = nano(kernel_sizes=(8, 16))
        state = {f'0.{k}' if nested else k: v for k, v in model.state_dict().items()}
        with pytest.warns(CheckpointWarning, match='left out: 4'):
            (nn.Sequential(target) if nested else target).load_state_dict(state)
        assert torch.equal(target.patch_embed.kernels['8'].weight,
                           model.patch_embed.kernels['8'].weight)  # fmt: skip
        assert len(state) == len(model.state_dict())

    def test_equal_banks_are_left_alone(self, model: AOM) -> None:
        state = model.state_dict()
        assert adapt_kernel_bank(state, '', nano()) == {}
        assert set(state) == set(model.state_dict())


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
