"""AOM under every dense decoder: shapes, loading, freezing, dates, strides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from common import RGB, TINY, close, differ, image, perturb
from segmentation_models_pytorch.encoders import encoders, get_encoder
from torch import nn

from torchgeo_aom import AOM
from torchgeo_aom.errors import (
    BandError,
    BandWarning,
    CheckpointError,
    ConfigError,
    UnsupportedError,
)
from torchgeo_aom.models.smp_encoder import AOMEncoder

SMALL = {'embed_dim': 24, 'num_heads': 3, 'blocks': 4}
STRIDES = (4, 8, 16, 32)
DECODERS = {
    'upernet': smp.UPerNet,
    'unet': smp.Unet,
    'segformer': smp.Segformer,
    'deeplabv3+': smp.DeepLabV3Plus,
    'fpn': smp.FPN,
}


def encoder(**kwargs: Any) -> AOMEncoder:
    """A small encoder with no parameter at its start."""
    model = AOMEncoder(**{**SMALL, **kwargs})
    perturb(model)
    return model.eval()


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small encoder under a name of SMP's table, as registration writes it."""
    entry = {**encoders['aom_vitt'], 'params': {**SMALL, 'bands': None}}
    monkeypatch.setitem(encoders, 'aom_small', entry)
    return 'aom_small'


class TestDecoders:
    @pytest.mark.parametrize('decoder', DECODERS)
    def test_train_step(self, name: str, decoder: str) -> None:
        """Masks of the image's size; every parameter of the encoder learns, so DDP works."""
        model = DECODERS[decoder](name, encoder_weights=None, in_channels=6, classes=3).train()
        x = image(6, 64, 96)
        output = model(x)
        assert output.shape == (2, 3, 64, 96)
        output.square().mean().backward()
        for key, parameter in model.encoder.named_parameters():
            assert parameter.grad is not None, key
            unused = 'kernels.32' in key or 'kernels.64' in key
            assert bool((parameter.grad != 0).any()) != unused, key

    @pytest.mark.parametrize('size', [(400, 400), (500, 500), (100, 36), (512, 64)])
    def test_sizes_of_upernet(self, name: str, size: tuple[int, int]) -> None:
        model = smp.UPerNet(name, encoder_weights=None, in_channels=1, classes=2).eval()
        with torch.inference_mode():
            output = model(image(1, *size, batch=1))
        assert output.shape == (1, 2, *size)
        assert torch.isfinite(output).all()

    @pytest.mark.parametrize('decoder', ['unet', 'segformer', 'deeplabv3+'])
    def test_400_px(self, name: str, decoder: str) -> None:
        model = DECODERS[decoder](name, encoder_weights=None, in_channels=1, classes=2).eval()
        with torch.inference_mode():
            assert model(image(1, 400, 400, batch=1)).shape == (1, 2, 400, 400)

    def test_fpn_doubles(self, name: str) -> None:
        """SMP's FPN doubles each level, so it takes multiples of 32 px with any encoder."""
        model = smp.FPN(name, encoder_weights=None, in_channels=1, classes=2).eval()
        with torch.inference_mode():
            assert model(image(1, 384, 416, batch=1)).shape == (1, 2, 384, 416)

    def test_size_that_decoders_cannot_enlarge_to(self, name: str) -> None:
        model = smp.UPerNet(name, encoder_weights=None, in_channels=3, classes=2).eval()
        with pytest.raises(RuntimeError, match='divisible by 4'):
            model(image(3, 63, 64))

    def test_frozen(self, name: str) -> None:
        """Nothing of the pyramid can be trained, so nothing is left at a random start."""
        model = smp.UPerNet(name, encoder_weights=None, in_channels=3, classes=2).train()
        model.encoder.requires_grad_(False)
        before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model(image(3, 64, 64)).square().mean().backward()
        optimizer.step()
        for key, value in model.encoder.state_dict().items():
            assert torch.equal(value, before[key]), key
        assert {key.split('.')[0] for key in before} <= {'patch_embed', 'blocks', 'norm'}

    def test_dpt_through_timm(self) -> None:
        model = smp.DPT('tu-aom_vitt.sentinel2_rgb', encoder_weights=None, in_channels=3, classes=2)
        output = model.train()(image(3, 64, 96))
        assert output.shape == (2, 2, 64, 96)
        output.mean().backward()

    def test_saved_model_is_restored(self, tmp_path: Any) -> None:
        model = smp.FPN('aom_vitt.sentinel2_10m', encoder_weights=None, in_channels=4, classes=2)
        perturb(model).eval()
        model.save_pretrained(str(tmp_path))
        restored = smp.from_pretrained(str(tmp_path)).eval()
        assert restored.encoder.bands == model.encoder.bands
        x = image(4, 32, 32)
        with torch.inference_mode():
            close(restored(x), model(x), 0)


class TestPyramid:
    @pytest.mark.parametrize('size', [(333, 400), (500, 333), (64, 64), (5, 90)])
    @pytest.mark.parametrize('patch', [16, 24, 14, 8, 5])
    def test_shapes(self, size: tuple[int, int], patch: int) -> None:
        if size[0] * size[1] / patch**2 > 2500:
            size = (size[0] // 3, size[1] // 3)  # the same remainders, fewer tokens
        model = encoder(patch_size=patch, in_chans=1)
        x = image(1, *size, batch=1)
        with torch.inference_mode():
            levels = model(x)
        assert levels[0] is x
        assert levels[1].shape == (1, 0, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
        for level, stride in zip(levels[2:], STRIDES, strict=True):
            rows, cols = math.ceil(size[0] / stride), math.ceil(size[1] / stride)
            assert level.shape == (1, 24, rows, cols)
            assert torch.isfinite(level).all()
        assert [level.shape[1] for level in levels] == model.out_channels

    def test_levels_are_the_normed_maps_of_four_blocks(self) -> None:
        model = encoder()
        x = image(3, 64, 48)
        maps = model.forward_intermediates(x, norm=True, intermediates_only=True)
        levels = model(x)
        close(levels[4], maps[2], 1e-6)  # stride 16 at patch 16: the map itself
        differ(levels[4], maps[1], 1e-2)

    def test_content_stays_in_its_place(self) -> None:
        """A bright square moves every level most where it is, at any patch size and stride."""
        torch.manual_seed(0)
        model = encoder(in_chans=1)
        # Without attention between places, a place only sees its own pixels.
        for block in model.blocks:
            nn.init.zeros_(block.attn.proj.weight)
        x = torch.randn(1, 1, 160, 224)
        bright = x.clone()
        bright[:, :, 64:96, 96:128] += 3  # around (80, 112)
        for patch in (8, 14, 16, 24, 32):
            with torch.inference_mode():
                before, after = model(x, patch_size=patch), model(bright, patch_size=patch)
            for stride, one, other in zip(STRIDES, before[2:], after[2:], strict=True):
                change = (one - other).norm(dim=1)[0]
                y = (torch.arange(change.shape[0]) + 0.5) * stride
                z = (torch.arange(change.shape[1]) + 0.5) * stride
                # Patches that the square cuts count as a whole.
                slack = 2 if 32 % patch == 0 else patch / 2
                assert abs(float((change.sum(1) * y).sum() / change.sum()) - 80) < slack
                assert abs(float((change.sum(0) * z).sum() / change.sum()) - 112) < slack

    @pytest.mark.parametrize('depth', [3, 4, 5])
    def test_depth(self, depth: int) -> None:
        model = encoder(depth=depth)
        levels = model(image(3, 32, 32))
        assert len(levels) == depth + 1 == len(model.out_channels)

    @pytest.mark.parametrize('depth', [0, 2, 6])
    def test_impossible_depth(self, depth: int) -> None:
        with pytest.raises(ConfigError, match='3, 4 or 5'):
            encoder(depth=depth)

    def test_too_few_blocks(self) -> None:
        with pytest.raises(ConfigError, match='4 blocks.*3'):
            encoder(blocks=3)

    def test_dilated(self) -> None:
        model = encoder()
        assert model.output_stride == 4
        model.make_dilated(16)
        assert model.output_stride == 16
        levels = model(image(3, 64, 64))
        assert [level.shape[-1] for level in levels[2:]] == [16, 8, 4, 4]
        model.make_dilated(8)
        assert [level.shape[-1] for level in model(image(3, 64, 64))[2:]] == [16, 8, 8, 8]
        with pytest.raises(ConfigError, match='8, 16 or 32'):
            model.make_dilated(4)


class TestNames:
    @pytest.mark.parametrize('name', ['aom_vitt', 'aom_vits', 'aom_vitb', 'aom_vitl'])
    def test_size_is_that_of_timm(self, name: str) -> None:
        """The SMP encoder of a size has the parameters of timm's model of that size."""
        with torch.device('meta'):
            ours = get_encoder(name, in_channels=3, depth=5, weights=None)
            timms = timm.create_model(name)
        shapes = {key: value.shape for key, value in timms.state_dict().items()}
        assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
        depth = len(timms.blocks)
        assert ours._take == tuple((k + 1) * depth // 4 - 1 for k in range(4))

    def test_tag_names_the_bands(self) -> None:
        model = get_encoder('aom_vitt.sentinel2_rgb', in_channels=3, weights=None)
        assert [band.name for band in model.bands] == ['B04', 'B03', 'B02']
        with pytest.raises(BandError, match='4'):
            get_encoder('aom_vitt.sentinel2_rgb', in_channels=4, weights=None)

    def test_no_weights_by_name(self) -> None:
        with pytest.raises(KeyError, match='imagenet'):
            get_encoder('aom_vitt', in_channels=3, weights='imagenet')

    def test_error_says_what_to_do(self) -> None:
        with pytest.raises(ConfigError, match=r'encoder_weights=None.*AOMTiny_Weights\.OPTICAL'):
            smp.Unet('aom_vitt')  # SMP means imagenet
        with pytest.raises(ConfigError, match='load a weights file by'):
            smp.Unet('aom_vits')
        assert not list(encoders['aom_vitt']['pretrained_settings'])

    def test_no_scripting(self) -> None:
        """Of a model by itself, and of one within another."""
        for model in (AOM(**TINY), smp.UPerNet('aom_vitt', encoder_weights=None)):
            with pytest.raises(UnsupportedError, match=r'torch\.export') as caught:
                torch.jit.script(model)
            assert isinstance(caught.value, RuntimeError)


class TestChannels:
    @pytest.mark.parametrize('channels', [1, 3, 12])
    def test_positions(self, channels: int) -> None:
        model = encoder()
        keys = model.state_dict().keys()
        model.set_in_channels(channels)
        assert model.out_channels[0] == channels
        assert model(image(channels, 32, 32))[2].shape == (2, 24, 8, 8)
        assert model.state_dict().keys() == keys

    def test_dates_of_the_same_bands(self) -> None:
        """Change detection stacks two dates as channels: the bands repeat, with a warning."""
        model = encoder(bands=RGB)
        with pytest.warns(BandWarning, match='2 dates of the 3 bands'):
            model.set_in_channels(6)
        x = image(3, 32, 32)
        twice = model(torch.cat((x, x), 1))
        once = encoder(bands=RGB)
        once.load_state_dict(model.state_dict())
        close(twice[5], once(x)[5])
        with pytest.raises(BandError):
            model.set_in_channels(4)
        with pytest.raises(BandError, match='in_chans'):
            model.set_in_channels(0)

    def test_same_number_warns_of_nothing(self, recwarn: pytest.WarningsRecorder) -> None:
        encoder(bands=RGB).set_in_channels(3)
        assert not [w for w in recwarn if issubclass(w.category, BandWarning)]


class TestLoading:
    @pytest.mark.parametrize(
        'prefix', ['', 'model.', 'encoder.', 'model.encoder.', 'backbone.', '_orig_mod.']
    )
    def test_prefixes(self, prefix: str) -> None:
        """The backbone inside any checkpoint, strictly; heads and decoders are left out."""
        source = AOM(**{**TINY, 'depth': 4}, num_classes=5)
        perturb(source).eval()
        state_dict = {f'{prefix}{key}': value for key, value in source.state_dict().items()}
        state_dict['decoder.conv.weight'] = torch.ones(3)
        state_dict['segmentation_head.0.weight'] = torch.ones(3)
        model = encoder()
        report = model.load_state_dict(state_dict, strict=True)
        assert not report.missing_keys and not report.unexpected_keys
        x = image(3, 32, 32)
        close(model.forward_features(x), source.forward_features(x), 0)

    def test_missing_key_is_an_error(self) -> None:
        state_dict = dict(encoder().state_dict())
        del state_dict['blocks.1.mlp.fc1.bias']
        model = encoder()
        with pytest.raises(RuntimeError, match=r'blocks\.1\.mlp\.fc1\.bias'):
            model.load_state_dict(state_dict)

    def test_other_size_is_an_error(self) -> None:
        other = AOMEncoder(embed_dim=48, num_heads=3, blocks=4)
        with pytest.raises(RuntimeError, match=r'24.*48|48.*24'):
            encoder().load_state_dict(other.state_dict())

    def test_no_backbone_is_an_error(self) -> None:
        with pytest.raises(CheckpointError, match='no AOM backbone'):
            encoder().load_state_dict({'conv1.weight': torch.ones(3)})

    def test_inside_a_larger_model(self) -> None:
        """Loading the whole segmentation model does not go through the encoder's own loading."""
        make = {'encoder_weights': None, 'in_channels': 3, 'classes': 2}
        model, other = (smp.FPN('aom_vitt', **make).eval() for _ in range(2))
        other.load_state_dict(model.state_dict())
        x = image(3, 32, 32)
        with torch.inference_mode():
            close(other(x), model(x), 0)


class TestOwnTestsOfSMP:
    """SMP's tests of every encoder (its tests/encoders/base.py), by name through ``get_encoder``.

    One thing differs on purpose: ``output_stride`` is 4 where SMP expects that of the last map, as
    decoders only need multiples of 4, see :class:`TestDecoders`.
    """

    def test_forward_backward(self) -> None:
        features = get_encoder('aom_vitt', in_channels=3, weights=None)(image(3, 64, 64, 1))
        assert len(features) == 6
        features[-1].mean().backward()

    @pytest.mark.parametrize('channels', [1, 3, 4])
    def test_in_channels(self, name: str, channels: int) -> None:
        model = get_encoder(name, in_channels=channels, weights=None).eval()
        with torch.no_grad():
            assert model(image(channels, 64, 64))[0].shape[1] == channels

    @pytest.mark.parametrize('depth', [3, 4, 5])
    def test_depth(self, name: str, depth: int) -> None:
        model = get_encoder(name, in_channels=3, weights=None, depth=depth).eval()
        with torch.no_grad():
            features = model(image(3, 64, 64))
        assert [64 // level.shape[2] for level in features] == [2**k for k in range(depth + 1)]
        assert [64 // level.shape[3] for level in features] == [2**k for k in range(depth + 1)]
        assert [level.shape[1] for level in features] == model.out_channels
        assert model.output_stride == 4

    @pytest.mark.parametrize('stride', [8, 16])
    def test_dilated(self, name: str, stride: int) -> None:
        model = get_encoder(name, in_channels=3, weights=None, output_stride=stride).eval()
        with torch.no_grad():
            features = model(image(3, 64, 64))
        assert [64 // level.shape[2] for level in features] == [min(stride, 2**k) for k in range(6)]


def test_encoder_is_an_aom_in_all_else() -> None:
    """Features, heads and bands of the call: as of the backbone."""
    model = encoder(bands=RGB)
    backbone = AOM(**{**TINY, 'depth': 4}, bands=RGB).eval()
    backbone.load_state_dict(model.state_dict())
    x = image()
    close(model.forward_features(x), backbone.forward_features(x), 0)
    close(model.forward_band_maps(x), backbone.forward_band_maps(x), 0)


def test_unknown_option_is_not_swallowed() -> None:
    with pytest.raises(TypeError, match='nonsense'):
        AOMEncoder(**SMALL, nonsense=1)
