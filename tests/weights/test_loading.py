"""Weights in a model: every source and framework, and no change where they do not fit."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights
from weight_tools import ROOT, nano, same

from torchgeo_aom.errors import BandWarning, CheckpointError, CheckpointWarning, ConfigError
from torchgeo_aom.models import loading
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.registry import BUILDERS
from torchgeo_aom.models.weights import (
    AOMWeights,
    load_backbone,
    load_state,
    register_weights,
    save_weights,
)


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
