"""Weights enums: torchvision's and TorchGeo's form, a user's own runs, and checks at every use."""

import copy
import http.server
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, WeightsEnum

from torchgeo_aom.errors import BandWarning, CheckpointError, CheckpointWarning, ConfigError
from torchgeo_aom.models import loading
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.checkpoint import file_sha256
from torchgeo_aom.models.download import cache_path
from torchgeo_aom.models.registry import BUILDERS, register
from torchgeo_aom.models.weights import (
    AOMBase_Weights,
    AOMTiny_Weights,
    AOMWeights,
    default_weights,
    find_weights,
    load_backbone,
    load_state,
    register_weights,
    save_weights,
    validate_meta,
)
from torchgeo_aom.models.weights_enum import ENUMS
from torchgeo_aom.transforms import Normalize

ROOT = Path(__file__).resolve().parents[1]


def nano(**kwargs: Any) -> AOM:
    options: dict[str, Any] = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'bands': [1, 2, 3]}
    return AOM(**{'kernel_sizes': (4, 8), 'patch_size': 8, **options, **kwargs}).eval()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


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


class TestEnums:
    @pytest.mark.parametrize('model', ENUMS)
    def test_form(self, model: str) -> None:
        from torchgeo.models import get_model_weights

        cls = ENUMS[model]
        assert issubclass(cls, WeightsEnum) and cls.__name__.endswith('_Weights')
        assert get_model_weights(model) is cls
        assert get_model_weights(BUILDERS[model][0]) is cls
        assert len(cls) == len(list(cls))

    def test_no_weights_yet(self) -> None:
        from torchgeo.models import get_weight

        with pytest.raises(ValueError, match='not a valid WeightsEnum'):
            get_weight('AOMTiny_Weights.NO')
        with pytest.raises(ConfigError, match='neither a file nor known weights'):
            find_weights('AOMTiny_Weights.NO')

    @pytest.mark.parametrize('model', ENUMS)
    def test_no_default_yet(self, model: str) -> None:
        if 'DEFAULT' not in ENUMS[model].__members__:
            with pytest.raises(CheckpointError, match=r'no published weights.*register_weights'):
                default_weights(f'{model}.sentinel2_rgb')

    def test_unknown_name(self, member: AOMWeights) -> None:
        for error in (ConfigError, KeyError):
            with pytest.raises(error, match=r"^AOMTiny_Weights has no weights 'NOPE'.*: MY_RUN"):
                AOMTiny_Weights['NOPE']
        for look_up in (AOMTiny_Weights.verify, find_weights):
            with pytest.raises(ConfigError, match=r"did you mean '(AOMTiny_Weights\.)?MY_RUN'"):
                look_up('AOMTiny_Weights.MY_RUM')
        with pytest.raises(ConfigError, match='none yet; see register_weights'):
            AOMBase_Weights['NOPE']

    def test_unknown_model(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'aom_vitb'"):
            default_weights('aom_vitbb')

    @pytest.mark.parametrize('model', ENUMS)
    def test_schema_of_published_members(self, model: str) -> None:
        for weights in ENUMS[model]:
            validate_meta(weights.meta, model)
            assert weights.meta['licence'] != 'not stated'


class TestRegister:
    def test_real_member(self, member: AOMWeights) -> None:
        from torchgeo.models import get_weight

        assert isinstance(member, AOMTiny_Weights)
        assert str(member) == repr(member) == 'AOMTiny_Weights.MY_RUN'
        assert (member.name, list(AOMTiny_Weights)) == ('MY_RUN', [member])
        assert AOMTiny_Weights.MY_RUN is member  # type: ignore[attr-defined]
        assert AOMTiny_Weights['MY_RUN'] is member
        assert AOMTiny_Weights(member.value) is member
        assert member in AOMTiny_Weights
        assert AOMTiny_Weights.verify('AOMTiny_Weights.MY_RUN') is member
        assert get_weight('AOMTiny_Weights.MY_RUN') is member
        assert find_weights('AOMTiny_Weights.MY_RUN') is member
        assert not list(AOMBase_Weights)
        with pytest.raises(ValueError, match='not a valid'):
            AOMTiny_Weights('something')

    def test_copies_are_the_same(self, member: AOMWeights) -> None:
        assert copy.copy(member) is member
        assert copy.deepcopy([member])[0] is member
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(member, protocol)) is member

    def test_pickle_in_another_process(self, member: AOMWeights, tmp_path: Path) -> None:
        """Workers that are spawned have registered nothing."""
        (tmp_path / 'member.pkl').write_bytes(pickle.dumps(member))
        code = (
            'import pickle, pathlib, sys\n'
            'member = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n'
            'print(member, member is type(member).MY_RUN, len(member.get_state_dict()))'
        )
        done = subprocess.run(
            [sys.executable, '-c', code, str(tmp_path / 'member.pkl')],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.split() == ['AOMTiny_Weights.MY_RUN', 'True', '150']

    def test_meta_from_the_file(self, member: AOMWeights, tiny: AOM, tiny_file: Path) -> None:
        meta = member.meta
        assert meta['bands'] == ['sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02']
        assert meta['channel_index'] == [3, 2, 1]
        assert (meta['in_chans'], meta['gsd']) == (3, [10, 10, 10])
        assert meta['kernel_sizes'] == meta['patch_sizes'] == [8, 16]
        assert meta['num_params'] == sum(p.numel() for p in tiny.parameters())
        assert meta['sha256'] == file_sha256(tiny_file)
        assert (meta['dataset'], meta['licence']) == ('random numbers', 'CC0-1.0')
        assert meta['metrics'] == []
        assert meta['unit'] == 'sentinel2:l2a'
        assert (meta['mean'], meta['std']) == ([0.1, 0.2, 0.3], [0.5, 0.25, 0.125])

    def test_transforms_run(self, member: AOMWeights) -> None:
        x = 1 + 9999 * torch.rand(2, 3, 4, 4)
        y = member.transforms(x)
        mean, std = (torch.tensor(member.meta[k])[:, None, None] for k in ('mean', 'std'))
        torch.testing.assert_close(y, (x * 1e-4 - mean) / std)
        assert not torch.equal(x, y)

    def test_nothing_is_invented(self, tiny: AOM, tmp_path: Path) -> None:
        """Weights that do not say what they were normalized with load, but do not normalize."""
        save_weights(tiny, tmp_path / 'a.safetensors')
        plain = register_weights('PLAIN', tmp_path / 'a.safetensors')
        assert [plain.meta[key] for key in ('unit', 'mean', 'std', 'patch_sizes')] == [None] * 4
        assert same(plain.get_state_dict(), tiny.state_dict())
        assert pickle.loads(pickle.dumps(plain)) is plain
        with pytest.raises(ConfigError, match=r'PLAIN does not state.*unit, mean, std.*normalize='):
            _ = plain.transforms
        # A unit alone does not say which statistics.
        unit = register_weights('UNIT', tmp_path / 'a.safetensors', meta={'unit': 'reflectance'})
        with pytest.raises(ConfigError, match='with: mean, std unknown'):
            _ = unit.transforms
        given = {'unit': 'reflectance', 'mean': [0.1] * 3, 'std': [0.5] * 3}
        stated = register_weights('STATED', tmp_path / 'a.safetensors', meta=given)
        assert torch.equal(stated.transforms(torch.full((3, 2, 2), 0.6)), torch.ones(3, 2, 2))
        with pytest.raises(ConfigError, match=r'misstates: std = None'):
            register_weights('HALF', tmp_path / 'a.safetensors', meta={'mean': [0.1] * 3})

    def test_twice_is_once(self, member: AOMWeights, tiny_file: Path, tmp_path: Path) -> None:
        assert register_weights('MY_RUN', str(tiny_file)) is member
        moved = tmp_path / 'moved.safetensors'
        moved.write_bytes(tiny_file.read_bytes())
        assert register_weights('MY_RUN', moved) is member
        assert member.url == moved.as_uri()
        assert list(AOMTiny_Weights) == [member]

    def test_same_name_for_something_else(self, member: AOMWeights, tiny_file: Path) -> None:
        with pytest.raises(ConfigError, match=r'already registered.*\(dataset\)'):
            register_weights('MY_RUN', tiny_file, meta={'dataset': 'other'})
        assert member.meta['dataset'] == 'random numbers'

    def test_default(self, tiny_file: Path) -> None:
        first = register_weights('FIRST', tiny_file, default=True)
        assert default_weights('aom_vitt') is first is AOMTiny_Weights.DEFAULT  # type: ignore[attr-defined]
        second = register_weights('SECOND', tiny_file, default=True)
        assert default_weights('aom_vitt.sentinel2') is second
        assert [str(w) for w in AOMTiny_Weights] == [
            'AOMTiny_Weights.FIRST',
            'AOMTiny_Weights.SECOND',
        ]

    @pytest.mark.parametrize('name', ['my_run', 'DEFAULT', '1RUN', 'A B', 'A.B', '', '_A'])
    def test_bad_name(self, name: str, tiny_file: Path) -> None:
        with pytest.raises(ConfigError, match='upper-case'):
            register_weights(name, tiny_file)

    def test_other_size(self, tiny_file: Path) -> None:
        with pytest.raises(
            CheckpointError,
            match='192 and 12 blocks of 3 heads, aom_vitb has 768',
        ):
            register_weights('MY_RUN', tiny_file, model='aom_vitb')
        assert not list(AOMBase_Weights)

    def test_other_heads(self, tmp_path: Path) -> None:
        model = AOM(**{**SIZES['aom_vitt'], 'num_heads': 6}, kernel_sizes=(8,), bands='naip')
        save_weights(model, tmp_path / 'a.safetensors')
        with pytest.raises(CheckpointError, match='12 blocks of 6 heads'):
            register_weights('MY_RUN', tmp_path / 'a.safetensors')

    def test_no_bands(self, tmp_path: Path) -> None:
        model = AOM(**SIZES['aom_vitt'], kernel_sizes=(8,))
        save_weights(model, tmp_path / 'a.safetensors')
        with pytest.raises(ConfigError, match='which bands'):
            register_weights('MY_RUN', tmp_path / 'a.safetensors')
        given = register_weights(
            'MY_RUN', tmp_path / 'a.safetensors', meta={'bands': 'rgb', 'gsd': 0.3}
        )
        assert (given.meta['channel_index'], given.meta['gsd']) == ([3, 2, 1], 0.3)
        assert given.meta['unit'] is given.meta['mean'] is None

    def test_a_checkpoint_of_a_task(self, tiny: AOM, tmp_path: Path) -> None:
        state = {f'model.{key}': value for key, value in tiny.state_dict().items()}
        hparams = {'model': 'aom_vitt', 'bands': 'sentinel2:rgb'}
        torch.save({'state_dict': state, 'hyper_parameters': hparams}, tmp_path / 'last.ckpt')
        weights = register_weights('MY_RUN', tmp_path / 'last.ckpt')
        assert same(weights.get_state_dict(), tiny.state_dict())

    def test_unknown_scheme(self) -> None:
        with pytest.raises(ConfigError, match="scheme 's3'"):
            register_weights('MY_RUN', 's3://bucket/a.safetensors')


class TestMeta:
    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('channel_index', [3, 2]), ('channel_index', [1, 2, 3]), ('mean', [0.1, 0.1]),
            ('mean', [0.1, 0.1, float('nan')]), ('std', [0.1, 0.1, 0.0]), ('gsd', 0),
            ('gsd', [10, 10]), ('patch_sizes', []), ('patch_sizes', [16.5]), ('patch_sizes', [400]),
            ('kernel_sizes', 16), ('num_params', 0), ('sha256', 'abc'), ('licence', ''),
            ('dataset', None), ('unit', 3), ('metrics', 'good'),
            ('metrics', [{'name': 'OA', 'value': 0.9}]),
            ('metrics', [{'name': 'OA', 'value': 0.9, 'command': ' '}]),
        ],
    )  # fmt: skip
    def test_wrong_entry(self, member: AOMWeights, key: str, value: Any) -> None:
        validate_meta(member.meta, 'aom_vitt')
        with pytest.raises(ConfigError, match=f'lacks or misstates: {key} = .*, expected: '):
            validate_meta({**member.meta, key: value})

    def test_missing_entries(self, member: AOMWeights) -> None:
        for key in ('bands', 'licence', 'sha256', 'metrics', 'std'):
            meta = {k: v for k, v in member.meta.items() if k != key}
            with pytest.raises(ConfigError, match=f'{key} = None'):
                validate_meta(meta)

    def test_unknown_bands(self, member: AOMWeights) -> None:
        with pytest.raises(ConfigError, match=r'bands are unknown here.*B99'):
            validate_meta({**member.meta, 'bands': ['sentinel2:B99']})

    def test_num_params_against_the_model(self, member: AOMWeights) -> None:
        with pytest.raises(ConfigError, match=r'num_params is .* has 5,'):
            validate_meta({**member.meta, 'num_params': 7}, 'aom_vitt')

    def test_measured_figures(self, tiny_file: Path) -> None:
        metrics = [{'name': 'OA', 'value': 0.9, 'command': 'torchgeo-aom probe'}]
        weights = register_weights('MY_RUN', tiny_file, meta={'metrics': metrics, 'epochs': 3})
        assert (weights.meta['metrics'], weights.meta['epochs']) == (metrics, 3)


class TestStateDict:
    def test_arguments_of_torchgeo(self, member: AOMWeights, tiny: AOM) -> None:
        for kwargs in (
            {},
            {'progress': True},
            {'progress': True, 'check_hash': True, 'weights_only': True},
            {'check_hash': False, 'map_location': 'cpu'},
        ):
            state = member.get_state_dict(**kwargs)
            assert same(state, tiny.state_dict())

    def test_what_is_never_done(self, member: AOMWeights) -> None:
        with pytest.raises(ConfigError, match='weights_only=False'):
            member.get_state_dict(weights_only=False)
        with pytest.raises(ConfigError, match="file_name='a'"):
            member.get_state_dict(file_name='a')
        with pytest.raises(TypeError, match='nonsense'):
            member.get_state_dict(nonsense=1)

    def test_file_changed_after_registration(self, tiny_file: Path, tmp_path: Path) -> None:
        path = tmp_path / 'a.safetensors'
        path.write_bytes(tiny_file.read_bytes())
        weights = register_weights('MY_RUN', path)
        save_weights(AOM(**SIZES['aom_vitt'], kernel_sizes=(8, 16)), path)
        with pytest.raises(CheckpointError, match='SHA-256'):
            weights.get_state_dict(check_hash=False)
        path.unlink()
        with pytest.raises(CheckpointError, match='does not exist'):
            weights.get_state_dict()

    def test_file_of_a_package(
        self, tiny_file: Path, tiny: AOM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / 'someones_weights' / 'data').mkdir(parents=True)
        (tmp_path / 'someones_weights' / '__init__.py').touch()
        (tmp_path / 'someones_weights/data/a.safetensors').write_bytes(tiny_file.read_bytes())
        monkeypatch.syspath_prepend(tmp_path)
        weights = register_weights('MY_RUN', 'package://someones_weights/data/a.safetensors')
        assert same(weights.get_state_dict(), tiny.state_dict())


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file: whole, changed, cut off, or not at all."""

    content = b''
    mode = 'whole'
    requests = 0

    def do_GET(self) -> None:
        Server.requests += 1
        if self.mode == 'missing':
            self.send_error(404)
            return
        content = self.content if self.mode != 'changed' else self.content[:-1] + b'!'
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.mode == 'cut' else content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server(tiny_file: Path) -> Iterator[type[Server]]:
    Server.content, Server.mode, Server.requests = tiny_file.read_bytes(), 'whole', 0
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server) as running:
        Server.url = f'http://127.0.0.1:{running.server_port}/tiny.safetensors'  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield Server
        running.shutdown()


@pytest.fixture
def remote(server: Any, member: AOMWeights) -> AOMWeights:
    return register_weights('REMOTE', server.url, meta=member.meta)


class TestDownload:
    def cached(self, remote: AOMWeights) -> Path:
        return cache_path(remote.url, remote.meta['sha256'])

    def nothing_left(self, remote: AOMWeights) -> bool:
        return not any(self.cached(remote).parent.iterdir())

    def test_once(self, remote: AOMWeights, tiny: AOM, server: Any) -> None:
        assert server.requests == 0
        for _ in range(2):
            assert same(remote.get_state_dict(progress=False), tiny.state_dict())
        assert server.requests == 1
        path = self.cached(remote)
        assert path.name == f'tiny-{remote.meta["sha256"][:8]}.safetensors'
        assert path.is_relative_to(torch.hub.get_dir())
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_other_folder(self, remote: AOMWeights, tmp_path: Path) -> None:
        remote.get_state_dict(tmp_path / 'mine', progress=False)
        assert len(list((tmp_path / 'mine').iterdir())) == 1

    def test_tampered_cache_is_fetched_again(
        self, remote: AOMWeights, tiny: AOM, server: Any
    ) -> None:
        remote.get_state_dict(progress=False)
        path = self.cached(remote)
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        assert same(remote.get_state_dict(progress=False, check_hash=False), tiny.state_dict())
        assert server.requests == 2

    def test_tampered_cache_without_connection(self, remote: AOMWeights, server: Any) -> None:
        path = self.cached(remote)
        path.parent.mkdir(parents=True)
        path.write_bytes(b'something else')
        server.mode = 'missing'
        with pytest.raises(CheckpointError, match='copy in the cache was damaged'):
            remote.get_state_dict(progress=False)
        assert self.nothing_left(remote)

    @pytest.mark.parametrize('mode', ['changed', 'cut', 'missing'])
    def test_bad_download_leaves_nothing(self, remote: AOMWeights, server: Any, mode: str) -> None:
        server.mode = mode
        with pytest.raises(CheckpointError) as caught:
            remote.get_state_dict(progress=False)
        assert remote.url in str(caught.value)
        assert remote.meta['sha256'] in str(caught.value)
        assert self.nothing_left(remote)
        server.mode = 'whole'
        remote.get_state_dict(progress=False)

    def test_interrupt_leaves_nothing(
        self, remote: AOMWeights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr('os.fsync', stop)
        with pytest.raises(KeyboardInterrupt):
            remote.get_state_dict(progress=False)
        assert self.nothing_left(remote)

    def test_offline(
        self, remote: AOMWeights, tiny: AOM, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message says where to put the file; it then works without a connection."""

        def offline(*_: Any, **__: Any) -> None:
            raise OSError('Network is unreachable')

        monkeypatch.setattr('urllib.request.urlopen', offline)
        path = self.cached(remote)
        with pytest.raises(CheckpointError, match='Network is unreachable') as caught:
            remote.get_state_dict()
        assert str(path) in str(caught.value)
        path.write_bytes(tiny_file.read_bytes())
        assert same(remote.get_state_dict(), tiny.state_dict())

    def test_nothing_is_known_without_a_hash(self, server: Any, member: AOMWeights) -> None:
        meta = {key: value for key, value in member.meta.items() if key != 'sha256'}
        with pytest.raises(ConfigError, match='sha256 = None'):
            register_weights('REMOTE', server.url, meta=meta)
        assert server.requests == 0


class TestLoadState:
    @pytest.mark.parametrize('form', ['member', 'name', 'path', 'text', 'state'])
    def test_sources(self, form: str, member: AOMWeights, tiny: AOM, tiny_file: Path) -> None:
        source: Any = {
            'member': member, 'name': str(member), 'path': tiny_file, 'text': str(tiny_file),
            'state': {f'encoder.{k}': v for k, v in tiny.state_dict().items()},
        }[form]  # fmt: skip
        model = AOM(**SIZES['aom_vitt'], kernel_sizes=(8, 16), bands='naip')
        report = load_state(model, source)
        assert same(dict(model.state_dict()), dict(tiny.state_dict()))
        assert len(report.loaded) == 150

    def test_refusals_leave_the_model_alone(self, member: AOMWeights, tmp_path: Path) -> None:
        model = nano()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        save_weights(nano(num_heads=2), tmp_path / 'heads.safetensors')
        save_weights(nano(channel_encoding='wavelength'), tmp_path / 'codes.safetensors')
        save_weights(nano(channel_pool='max'), tmp_path / 'pool.safetensors')
        (tmp_path / 'cut.ckpt').write_bytes(b'PK\x03\x04 and no more')
        for source, match in (
            (member, r'aom_vitt weights \(192 wide, 12 deep\), the model is an AOM \(24 wide, 2'),
            (tmp_path / 'heads.safetensors', 'trained with num_heads=2, the model has num_heads=3'),
            (tmp_path / 'codes.safetensors', 'channel_encoding=wavelength'),
            (tmp_path / 'pool.safetensors', 'trained with channel_pool=max, the model has .*=mean'),
            (tmp_path / 'cut.ckpt', '16 bytes'),
            ({'fc.weight': torch.ones(1)}, 'no AOM backbone'),
        ):
            with pytest.raises(CheckpointError, match=match):
                load_state(model, source)
            assert same(dict(model.state_dict()), before)

    def test_weights_of_another_model(self) -> None:
        with pytest.raises(ConfigError, match=r'ResNet18_Weights\.IMAGENET1K_V1.*another model'):
            load_state(nano(), ResNet18_Weights.IMAGENET1K_V1)
        with pytest.raises(ConfigError, match='neither a file nor known'):
            load_state(nano(), 'ResNet18_Weights.IMAGENET1K_V1')

    def test_positional_bands_warn_once(self, tmp_path: Path, recwarn: Any) -> None:
        save_weights(nano(), tmp_path / 'a.safetensors')
        load_state(nano(), tmp_path / 'a.safetensors')
        assert not [w for w in recwarn if w.category is BandWarning]
        for _ in range(2):
            load_state(nano(bands=None), tmp_path / 'a.safetensors')
        (warning,) = [w for w in recwarn if w.category is BandWarning]
        assert 'give bands=' in str(warning.message)
        assert warning.filename == __file__

    def test_positional_bands_warn_in_stock_frameworks(self, member: AOMWeights) -> None:
        """They call get_state_dict and load_state_dict themselves."""
        options = {**SIZES['aom_vitt'], 'kernel_sizes': (8, 16)}
        named, positional = AOM(**options, bands='naip'), AOM(**options)
        named.load_state_dict(member.get_state_dict())
        with pytest.warns(BandWarning, match='give bands='):
            positional.load_state_dict(member.get_state_dict())
        wrong = AOM(**{**options, 'num_heads': 4}, bands='naip')
        with pytest.raises(CheckpointError, match='num_heads=3, the model has num_heads=4'):
            wrong.load_state_dict(member.get_state_dict(), strict=False)

    def test_facts_in_stock_frameworks(self, member: AOMWeights, tiny: AOM) -> None:
        options = {**SIZES['aom_vitt'], 'kernel_sizes': (8, 16), 'bands': 'naip'}
        state = member.get_state_dict()
        with pytest.raises(CheckpointError, match='channel_pool=mean, the model has .*=max'):
            AOM(**options, channel_pool='max').load_state_dict(state, strict=False)
        # Attention pooling starts as the mean, and an old file says nothing.
        AOM(**options, channel_pool='attn').load_state_dict(state, strict=False)
        AOM(**options, channel_pool='max').load_state_dict(tiny.state_dict())
        with pytest.raises(CheckpointError, match=r'aom_vitt weights \(192 wide.*is an AOM \(24'):
            nano().load_state_dict(state, strict=False)

    def test_file_loaded_by_a_framework_warns_once(self, recwarn: Any) -> None:
        """TorchGeo's trainers take the parameters out of a checkpoint as a plain dictionary."""

        def warned() -> int:
            return len([w for w in recwarn if w.category is BandWarning])

        model = nano(bands=None)
        foreign = dict(nano().state_dict())
        copy.deepcopy(model)
        model.load_state_dict(model.state_dict())
        task = nn.ModuleDict({'model': model})
        task.load_state_dict(dict(task.state_dict()))
        nano().load_state_dict(foreign)
        loading.load_into(model, foreign)
        assert warned() == 0
        for _ in range(2):
            model.load_state_dict(foreign)
        assert warned() == 1

    def test_features_only(self, tiny_file: Path, tiny: AOM) -> None:
        """timm takes away blocks and norm before weights can be loaded."""
        import timm

        register_weights('MY_RUN', tiny_file, default=True)
        maps = timm.create_model(
            'aom_vitt.sentinel2_rgb', pretrained=True, features_only=True, out_indices=(1, 3),
            kernel_sizes=(8, 16),
        )  # fmt: skip
        assert len(maps.model.blocks) == 4
        assert torch.equal(maps.model.blocks[3].norm1.bias, tiny.blocks[3].norm1.bias)

    @pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::UserWarning')
    @pytest.mark.parametrize('by_name', [False, True])
    def test_torchgeo_tasks(self, member: AOMWeights, tiny: AOM, by_name: bool) -> None:
        from torchgeo.trainers import ClassificationTask, SemanticSegmentationTask

        weights: Any = str(member) if by_name else member
        kernel = tiny.blocks[11].mlp.fc2.weight
        task = ClassificationTask('aom_vitt.sentinel2_rgb', weights, 3, num_classes=4)
        assert torch.equal(task.model.blocks[11].mlp.fc2.weight, kernel)
        task = SemanticSegmentationTask(
            'unet', 'aom_vitt.sentinel2_rgb', weights, 3, task='multiclass', num_classes=4
        )
        assert torch.equal(task.model.encoder.blocks[11].mlp.fc2.weight, kernel)


class TestNewSensors:
    def test_their_presets_are_tags(self, tmp_path: Path) -> None:
        """In a process of its own: sensors and timm's tags stay for good."""
        (tmp_path / 'mine.toml').write_text(
            '[sensors.mycam]\ntitle = "Mine"\nbands = [{ name = "one", wavelength_um = 0.705 },'
            ' { name = "two", wavelength_um = 0.842 }]\ngroups = { last = ["two"] }\n'
        )
        code = (
            'import sys, timm, torchgeo_aom as t\n'
            'from timm.models import list_models\n'
            't.load_sensors(sys.argv[1])\n'
            'before = list_models("aom_*", include_tags=True)\n'
            't.register(); t.register()\n'
            'after = list_models("aom_*", include_tags=True)\n'
            'print(len(after) - len(before), len(after) == len(set(after)))\n'
            'from timm.models._registry import _model_with_tags as tags\n'
            'print(tags["aom_vitt"].count("aom_vitt.mycam"))\n'
            'model = timm.create_model("aom_vitt.mycam", kernel_sizes=(8,), depth=1)\n'
            'print(len(model.bands), model.pretrained_cfg["tag"])\n'
        )
        done = subprocess.run(
            [sys.executable, '-W', 'error::UserWarning', '-c', code, str(tmp_path / 'mine.toml')],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        new, once, listed, bands, tag = done.stdout.split()
        assert int(new) > 0 and int(new) % 4 == 0 and once == 'True'
        assert (listed, bands, tag) == ('1', '2', 'mycam')
        assert 'No pretrained configuration' not in done.stderr


class TestBuilders:
    @pytest.mark.parametrize('form', ['pretrained', 'true', 'member', 'name', 'path', 'text'])
    def test_bands_of_the_weights(
        self, form: str, tiny_file: Path, tiny: AOM, recwarn: Any
    ) -> None:
        """Channels of a model without bands= are those that the weights were trained with."""
        import timm

        member = register_weights('MY_RUN', tiny_file, default=True)
        given: dict[str, Any] = {
            'pretrained': {'pretrained': True}, 'true': {'weights': True},
            'member': {'weights': member}, 'name': {'weights': str(member)},
            'path': {'weights': tiny_file}, 'text': {'weights': str(tiny_file)},
        }[form]  # fmt: skip
        for build in (timm.create_model, lambda name, **kwargs: BUILDERS[name][0](**kwargs)):
            model = build('aom_vitt', kernel_sizes=(8, 16), **given)
            assert model.bands == tiny.bands
            assert [band.index for band in model.bands] == [3, 2, 1]
            assert same(dict(model.state_dict()), dict(tiny.state_dict()))
        assert not [w for w in recwarn if w.category is BandWarning]

    def test_bands_of_the_caller_go_first(self, tiny_file: Path) -> None:
        import timm

        register_weights('MY_RUN', tiny_file, default=True)
        options: dict[str, Any] = {'pretrained': True, 'kernel_sizes': (8, 16)}
        model = timm.create_model('aom_vitt', bands='naip', **options)
        assert [band.sensor for band in model.bands] == ['naip'] * 4
        with pytest.warns(BandWarning, match='give bands='):
            assert timm.create_model('aom_vitt', in_chans=2, **options).bands is None

    @pytest.mark.parametrize(
        ('weights', 'error', 'match'),
        [
            (7, ConfigError, r'weights=7 \(int\).*AOMTiny_Weights.*True for the default'),
            (ResNet18_Weights.IMAGENET1K_V1, ConfigError, r'ResNet18.*member of AOMTiny_Weights'),
            ('', ConfigError, 'neither a file nor known weights'),
            ('AOMTiny_Weights.NO', ConfigError, 'neither a file nor known weights'),
            ('no.safetensors', CheckpointError, 'does not exist'),
            (True, CheckpointError, 'no published weights'),
        ],
    )
    def test_other_values_are_refused(
        self, weights: Any, error: type[Exception], match: str
    ) -> None:
        with pytest.raises(error, match=match):
            BUILDERS['aom_vitt'][0](weights=weights)


class TestLoadBackbone:
    def test_everything_from_the_file(self, tmp_path: Path) -> None:
        model = nano(bands=['sentinel2:B8A', 0.61], channel_encoding='wavelength')
        save_weights(model, tmp_path / 'a.safetensors')
        again = load_backbone(tmp_path / 'a.safetensors', patch_size=8)
        assert [b.label for b in again.bands or ()] == ['sentinel2:B8A', '0.61um']
        assert not again.training
        x = torch.randn(1, 2, 24, 24)
        with torch.no_grad():
            assert torch.equal(again(x), model(x))

    def test_other_bands(self, member: AOMWeights) -> None:
        model = load_backbone(member, bands='landsat8:rgb', num_classes=3)
        assert [b.sensor for b in model.bands or ()] == ['landsat8'] * 3
        assert model.head.out_features == 3

    def test_other_bank(self, member: AOMWeights) -> None:
        with pytest.warns(CheckpointWarning, match='24 from 16; left out: 8, 16'):
            model = load_backbone(str(member), kernel_sizes=(24,))
        assert model.patch_embed.kernel_sizes == (24,)

    def test_named_model(self, member: AOMWeights, tiny_file: Path) -> None:
        assert load_backbone(tiny_file, model='aom_vitt').embed_dim == 192
        with pytest.raises(
            CheckpointError, match=r'aom_vitt weights \(192 wide, 12 deep\), the model is aom_vits'
        ):
            load_backbone(tiny_file, model='aom_vits')
        with pytest.raises(ConfigError, match="did you mean 'aom_vitt'"):
            load_backbone(tiny_file, model='aom_vit')

    def test_options_that_contradict_the_weights(self, tmp_path: Path) -> None:
        save_weights(nano(), tmp_path / 'a.safetensors')
        for option in (
            {'num_heads': 2}, {'channel_encoding': 'wavelength'}, {'channel_pool': 'max'},
        ):  # fmt: skip
            with pytest.raises(CheckpointError, match=f'trained with {next(iter(option))}'):
                load_backbone(tmp_path / 'a.safetensors', **option)

    def test_heads_of_a_plain_file(self, tiny: AOM, tmp_path: Path) -> None:
        """A state_dict says nothing of heads: the size's own are assumed, others are possible."""
        torch.save(tiny.state_dict(), tmp_path / 'a.pth')
        for given, expected in (({}, 3), ({'num_heads': 6}, 6)):
            model = load_backbone(tmp_path / 'a.pth', bands='naip:rgb', **given)
            assert model.blocks[0].attn.num_heads == expected

    def test_unknown_heads(self) -> None:
        with pytest.raises(ConfigError, match='give num_heads='):
            load_backbone(nano().state_dict())
        model = load_backbone(nano().state_dict(), num_heads=3, bands=[1, 2, 3])
        assert isinstance(model, nn.Module)
