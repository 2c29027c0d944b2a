"""Weights enums: torchvision's and TorchGeo's form, a user's own runs, and checks at every use."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import _registry
from torchvision.models import WeightsEnum
from weight_tools import ROOT, same

from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.checkpoint import file_sha256
from torchgeo_aom.models.registry import BUILDERS
from torchgeo_aom.models.weights import (
    AOMBase_Weights,
    AOMTiny_Weights,
    AOMWeights,
    default_weights,
    find_weights,
    register_weights,
    save_weights,
    validate_meta,
)
from torchgeo_aom.models.weights_enum import ENUMS


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
        with pytest.raises(ConfigError, match="did you mean 'AOMTiny_Weights.MY_RUN'"):
            find_weights('MY_RUN')
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

    def test_timm_lists_it(self, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_registry, '_model_has_pretrained', set())
        register_weights('FIRST', tiny_file)
        assert timm.list_models('aom*', pretrained=True) == []
        register_weights('SECOND', tiny_file, default=True)
        assert timm.list_models('aom*', pretrained=True) == timm.list_models(
            'aom_vitt', include_tags=True
        )
        assert timm.is_model_pretrained('aom_vitt.sentinel2_rgb')

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
