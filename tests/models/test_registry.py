"""Registration with timm, SMP and TorchGeo: names, tags, presets, clashes, missing frameworks."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchgeo.models
from common import close, image, perturb
from segmentation_models_pytorch.encoders import encoders, get_encoder
from torchgeo.models import api

import torchgeo_aom
from torchgeo_aom import (
    AOM,
    AOMBase_Weights,
    AOMTiny_Weights,
    aom_vitb,
    aom_vitl,
    aom_vits,
    aom_vitt,
    list_presets,
    register,
    resolve_bands,
)
from torchgeo_aom.errors import BandError, ConfigError
from torchgeo_aom.models.aom import SIZES
from torchgeo_aom.models.registry import BUILDERS, check_name, preset_tags

ROOT = Path(__file__).resolve().parents[2]


def in_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


class TestBuilders:
    @pytest.mark.parametrize(
        ('builder', 'width', 'depth', 'heads'),
        [(aom_vitt, 192, 12, 3), (aom_vits, 384, 12, 6), (aom_vitb, 768, 12, 12),
         (aom_vitl, 1024, 24, 16)],
    )  # fmt: skip
    def test_sizes(self, builder: Any, width: int, depth: int, heads: int) -> None:
        with torch.device('meta'):
            model = builder(bands='naip', num_classes=2)
        assert isinstance(model, AOM)
        assert model.embed_dim == width and len(model.blocks) == depth
        assert model.blocks[0].attn.num_heads == heads
        assert model(torch.empty(1, 4, 32, 32, device='meta')).shape == (1, 2)

    @pytest.mark.parametrize('name', SIZES)
    def test_every_framework_builds_the_same(self, name: str) -> None:
        with torch.device('meta'):
            models = [
                timm.create_model(name),
                torchgeo.models.get_model(name),
                get_encoder(name, in_channels=3, weights=None),
                BUILDERS[name][0](),
            ]
        shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in models]
        assert all(other == shapes[0] for other in shapes)

    def test_options_reach_the_model(self) -> None:
        model = aom_vitt(
            patch_size=8, kernel_sizes=(8, 16), channel_pool='attn', drop_path_rate=0.1, depth=3
        )
        assert model.patch_embed.patch_size == (8, 8) and len(model.blocks) == 3
        assert model.patch_embed.kernel_sizes == (8, 16)
        assert model.channel_pool.kind == 'attn'

    def test_features_only_of_another_depth(self) -> None:
        model = aom_vitt(depth=8, features_only=True, bands='rgb')
        assert model.feature_info.module_name() == [f'blocks.{i}' for i in (1, 3, 5, 7)]

    @pytest.mark.parametrize(
        ('arguments', 'error', 'match'),
        [
            ({'bands': 'sentinel2', 'in_chans': 3}, BandError, '13.*3|3.*13'),
            ({'in_chans': 0}, BandError, 'in_chans'),
            ({'bands': 'sentinel3'}, BandError, 'sentinel3'),
            ({'weights': 'AOMTiny_Weights.NOPE'}, ConfigError, 'NOPE'),
        ],
    )
    def test_conflicts(self, arguments: Any, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            aom_vitt(**arguments)


class TestTags:
    def test_every_preset_is_a_tag(self) -> None:
        tags = preset_tags()
        assert list(tags.values()) == list(list_presets())
        listed = set(timm.list_models('aom_*', include_tags=True))
        for name in SIZES:
            assert name in listed and name in encoders
            for tag in tags:
                assert f'{name}.{tag}' in listed
                assert f'{name}.{tag}' in encoders

    @pytest.mark.parametrize('tag', preset_tags())
    def test_tag_names_the_bands(self, tag: str) -> None:
        bands = resolve_bands(preset_tags()[tag])
        with torch.device('meta'):
            model = timm.create_model(f'aom_vitt.{tag}', in_chans=len(bands))
            encoder = get_encoder(f'aom_vitt.{tag}', in_channels=len(bands), weights=None)
        assert model.bands == encoder.bands == bands
        assert model.default_cfg['input_size'] == (len(bands), 224, 224)

    def test_wrong_number_of_channels(self) -> None:
        with pytest.raises(BandError, match='3.*4|4.*3'):
            timm.create_model('aom_vitt.sentinel2_rgb', in_chans=4)

    def test_tag_against_bands(self) -> None:
        with pytest.raises(ConfigError, match='names bands already'):
            timm.create_model('aom_vitt.sentinel2_rgb', bands='landsat8:rgb')
        model = timm.create_model('aom_vitt.sentinel2_rgb', bands='sentinel2:rgb')
        assert model.bands == resolve_bands('sentinel2:rgb')

    def test_unknown_tag(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'sentinel2_rgb'"):
            timm.create_model('aom_vitt.sentinel2_rbg')

    def test_one_checkpoint_serves_every_tag(self) -> None:
        model = perturb(timm.create_model('aom_vitt.sentinel2')).eval()
        other = timm.create_model('aom_vitt.landsat8_rgb').eval()
        other.load_state_dict(model.state_dict())
        x = image(3, 32, 32)
        close(other(x), model(x, bands='landsat8:rgb'))


class TestCheckName:
    @pytest.mark.parametrize('name', ['aom_vitb', 'aom_vitt.sentinel2_rgb', 'aom_vitl.naip'])
    def test_known(self, name: str) -> None:
        assert check_name(name) == name

    @pytest.mark.parametrize(
        ('name', 'match'),
        [
            ('aom_vitbb', "did you mean 'aom_vitb'"),
            ('AOM_ViTB', "did you mean 'aom_vitb'"),
            ('resnet50', 'Known: aom_vitt'),
            ('aom_vitb.sentinel2_rbg', "did you mean 'sentinel2_rgb'"),
            ('aom_vitb.xyzzy', 'not a band preset'),
        ],
    )
    def test_unknown_has_a_suggestion(self, name: str, match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            check_name(name)


class TestTorchGeo:
    @pytest.mark.parametrize('name', SIZES)
    def test_look_ups(self, name: str) -> None:
        assert name in torchgeo.models.list_models()
        assert torchgeo.models.get_model_weights(name) is BUILDERS[name][1]
        assert torchgeo.models.get_model_weights(BUILDERS[name][0]) is BUILDERS[name][1]

    def test_unknown_name(self) -> None:
        with pytest.raises((KeyError, ValueError), match='aom_vitx'):
            torchgeo.models.get_model('aom_vitx')


class TestTwice:
    def test_registering_again_changes_nothing(self) -> None:
        before = dict(encoders), dict(api._model), dict(api._model_weights)
        listed = timm.list_models('aom_*', include_tags=True)
        register()
        assert (dict(api._model), dict(api._model_weights)) == before[1:]
        assert {k: v['params'] for k, v in encoders.items()} == {
            k: v['params'] for k, v in before[0].items()
        }
        assert timm.list_models('aom_*', include_tags=True) == listed

    def test_no_warning_when_imported(self) -> None:
        out = in_fresh_process(
            'import warnings; warnings.simplefilter("error", UserWarning)\n'
            'import timm, torchgeo.models, segmentation_models_pytorch\n'
            'import torchgeo_aom; torchgeo_aom.register(); print(timm.is_model("aom_vitt"))'
        )
        assert out == 'True'

    def test_name_of_someone_else(self) -> None:
        """A model of the same name from another package is not overwritten."""
        out = in_fresh_process(
            'from timm.models import register_model, generate_default_cfgs\n'
            'default_cfgs = generate_default_cfgs({"aom_vitb": {}})\n'
            'def aom_vitb(pretrained=False, **kwargs): pass\n'
            'register_model(aom_vitb)\n'
            'try:\n    import torchgeo_aom\n'
            'except ValueError as error: print(type(error).__name__, error)'
        )
        assert out.startswith('ConfigError') and "another model named 'aom_vitb'" in out


@pytest.mark.parametrize(
    'missing', [('segmentation_models_pytorch',), ('torchgeo', 'lightning')], ids=lambda m: m[0]
)
def test_without_a_framework(missing: tuple[str, ...]) -> None:
    """Importing works where SMP, TorchGeo or Lightning is not installed; timm has the models."""
    out = in_fresh_process(
        f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {missing!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Missing())
import timm, torch, torchgeo_aom
model = timm.create_model('aom_vitt.sentinel2_rgb', depth=1)
print(tuple(model(torch.randn(1, 3, 20, 20)).shape), set({missing!r}) & set(sys.modules))
"""
    )
    assert out == '(1, 192) set()'


def test_models_pickle_and_copy_as_built_by_timm() -> None:
    model = perturb(timm.create_model('aom_vitt.naip', num_classes=2)).eval()
    x = image(4, 20, 20)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert twin.default_cfg == model.default_cfg


def test_weights_enums_survive_pickling() -> None:
    """An enum is itself after pickling; its members too, once there are any."""
    for enum in (AOMTiny_Weights, AOMBase_Weights):
        assert pickle.loads(pickle.dumps(enum)) is enum
        for member in enum:
            assert pickle.loads(pickle.dumps(member)) is member
            assert copy.deepcopy(member) is member


def test_public_names_exist() -> None:
    for name in torchgeo_aom.__all__:
        assert getattr(torchgeo_aom, name) is not None


def test_weights_by_path(tmp_path: Path) -> None:
    """A file of one's own, straight into a builder."""
    from torchgeo_aom.models.weights import save_weights

    model = perturb(aom_vitt(bands='sentinel2:rgb')).eval()
    path = tmp_path / 'own.safetensors'
    save_weights(model, path)
    other = aom_vitt(weights=str(path), bands='sentinel2:rgb').eval()
    x = image(3, 20, 20)
    close(other(x), model(x), 0)


def test_timm_lists_trained_models() -> None:
    names = in_fresh_process("""
import timm, torchgeo_aom
print(*timm.list_models('aom*', pretrained=True))
model = timm.create_model('aom_vitt.sentinel2_rgb', pretrained=True)
assert [band.name for band in model.bands] == ['B04', 'B03', 'B02']
""").split()
    assert names == timm.list_models('aom_vitt', include_tags=True)
    assert {'aom_vitt', 'aom_vitt.sentinel2_rgb'} <= set(names)
