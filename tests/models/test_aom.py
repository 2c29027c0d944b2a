"""AOM and its variants pass every check of a backbone; plus what is AOM's alone."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backbone_checks import CHECKS, check_backbone
from common import RGB, TINY, Builder, close, default_dtype, differ, image, tiny
from safetensors.torch import load_file

from torchgeo_aom import AOM, collate_bands
from torchgeo_aom.errors import BandError, BandWarning, ConfigError, InputError, SizeError
from torchgeo_aom.models.aom import SIZES, pyramid_blocks

GOLDEN = Path(__file__).parent / 'golden'


def variant(**fixed: Any) -> Builder:
    """A builder of small models with some options fixed."""

    def build(**kwargs: Any) -> AOM:
        return tiny(**{**fixed, **kwargs})

    return build


VARIANTS = {
    'index': variant(),
    'wavelength': variant(channel_encoding='wavelength'),
    'max': variant(channel_pool='max'),
    'attn': variant(channel_pool='attn'),
    'layer-scale': variant(init_values=0.5, qkv_bias=False, mlp_ratio=2.0),
}


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('check', CHECKS, ids=lambda check: check.__name__.removeprefix('check_'))
def test_check(check: Any, name: str) -> None:
    check(VARIANTS[name])


def test_checks_find_a_broken_backbone() -> None:
    """The checks are not empty: a backbone that mixes samples, or forgets the bands, fails."""

    class Mixing(AOM):
        def forward_features(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().forward_features(x - x.mean(0), *args, **kwargs)

    class Nameless(AOM):
        def forward_features(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().forward_features(x, torch.zeros(x.shape[1]), kwargs.get('patch_size'))

    for broken in (Mixing, Nameless):
        with pytest.raises(AssertionError):
            check_backbone(lambda broken=broken, **kwargs: broken(**{**TINY, **kwargs}).eval())


class TestGolden:
    """What the model of today computes is what yesterday's computed."""

    make = runpy.run_path(str(GOLDEN / 'make.py'))

    @pytest.mark.parametrize('name', make['PATCH_SIZES'])
    def test_output(self, name: str) -> None:
        golden = load_file(GOLDEN / 'tiny.safetensors')
        model, patch_size = self.make['golden_model'](), self.make['PATCH_SIZES'][name]
        x = golden['input']
        torch.testing.assert_close(x, self.make['golden_image'](), rtol=1e-5, atol=1e-5)
        features = model.forward_features(x, patch_size=patch_size)
        torch.testing.assert_close(features, golden[f'features.{name}'], rtol=1e-3, atol=1e-4)
        logits = model(x, patch_size=patch_size)
        torch.testing.assert_close(logits, golden[f'logits.{name}'], rtol=1e-3, atol=1e-4)
        assert golden[f'features.{name}'].std() > 0.3  # not a degenerate example

    def test_patch_sizes_differ(self) -> None:
        golden = load_file(GOLDEN / 'tiny.safetensors')
        differ(golden['logits.16'], golden['logits.24'], 1e-2)

    def test_parameter_names(self) -> None:
        """Names and shapes are the format of checkpoints: change them only with a conversion."""
        frozen = (GOLDEN / 'state_dict.txt').read_text(encoding='utf-8')
        assert self.make['state_names']() == frozen


def test_sizes_are_the_papers() -> None:
    """Parameter counts of the four sizes: those of ViT plus the kernel bank."""
    with torch.device('meta'):
        counts = {
            name: sum(p.numel() for p in AOM(**size).parameters()) for name, size in SIZES.items()
        }
    bank = 16 * 16 + 32 * 32 + 64 * 64 + 3
    for name, width, depth in (
        ('aom_vitt', 192, 12),
        ('aom_vits', 384, 12),
        ('aom_vitb', 768, 12),
        ('aom_vitl', 1024, 24),
    ):
        block = 12 * width * width + 13 * width
        assert counts[name] == depth * block + bank * width + 2 * width


def test_no_parameter_belongs_to_a_sensor() -> None:
    model = AOM(**TINY, bands='sentinel2')
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    assert {name for name, _ in model.named_buffers()} == {
        'patch_embed.channel',
        'patch_embed.position',
    }


def test_pyramid_blocks() -> None:
    assert pyramid_blocks(12) == (2, 5, 8, 11)
    assert pyramid_blocks(24) == (5, 11, 17, 23)
    assert pyramid_blocks(4) == (0, 1, 2, 3)


def test_image_feature_is_the_mean_of_all_tokens() -> None:
    """The paper: global average pooling over the tokens, then LayerNorm; no class token."""
    model = tiny(bands=RGB)
    x = image(3, 40, 33)
    tokens, _ = model.patch_embed(x)
    sequence = tokens.flatten(1, 3)
    for block in model.blocks:
        sequence = block(sequence)
    features = model.forward_features(x)
    close(features[:, 0], model.norm(sequence.mean(1)))
    maps = sequence.unflatten(1, (3, 9)).mean(1)
    close(features[:, 1:], model.norm(maps))
    close(model.forward_band_tokens(x).flatten(1, 3), model.norm(sequence))


def test_attention_pooling_starts_as_the_mean() -> None:
    torch.manual_seed(3)
    mean = AOM(**TINY).eval()
    attn = AOM(**TINY, channel_pool='attn').eval()
    attn.load_state_dict(mean.state_dict(), strict=False)
    x = image()
    close(attn(x), mean(x), 1e-6)
    attn.channel_pool.query.data.normal_()
    differ(attn(x), mean(x))


def test_every_option_is_used() -> None:
    torch.manual_seed(3)
    x = image()
    for option, value in (
        ('drop_rate', 0.9),
        ('proj_drop_rate', 0.9),
        ('attn_drop_rate', 0.9),
        ('drop_path_rate', 0.9),
    ):
        model = AOM(**TINY, num_classes=3, **{option: value}).train()
        outputs = [model(x) for _ in range(8)]
        assert any(not torch.equal(outputs[0], other) for other in outputs[1:]), option
        model.eval()
        assert torch.equal(model(x), model(x)), option


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'channel_pool': 'sum'}, ConfigError, 'mean'),
        ({'channel_encoding': 'name'}, ConfigError, 'wavelength'),
        ({'global_pool': 'token'}, ConfigError, 'avg'),
        ({'dynamic_img_size': False}, ConfigError, 'any image size'),
        ({'num_heads': 5}, ConfigError, '24 and 5'),
        ({'num_heads': 0}, ConfigError, 'num_heads'),
        ({'depth': 0}, ConfigError, 'depth'),
        ({'num_classes': -1}, ConfigError, 'num_classes'),
        ({'embed_dim': 30}, ConfigError, 'multiple of 4'),
        ({'in_chans': 0}, BandError, 'in_chans'),
        ({'in_chans': -2}, BandError, 'in_chans'),
        ({'in_chans': 4, 'bands': RGB}, BandError, '4'),
        ({'bands': 'sentinel2:nope'}, BandError, 'nope'),
        ({'bands': ('sentinel2:B04',) * 2}, BandError, 'B04'),
        ({'patch_size': 0}, SizeError, 'patch_size'),
        ({'patch_size': 129}, SizeError, '128'),
        ({'img_size': 0}, SizeError, 'img_size'),
        ({'img_size': (224, 224, 3)}, SizeError, 'img_size'),
        ({'kernel_sizes': ()}, SizeError, 'bank is empty'),
        ({'kernel_sizes': (16, -1)}, SizeError, 'kernel_sizes'),
    ],
)
def test_constructor_refuses(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        AOM(**{**TINY, **options})


def test_unknown_option_is_not_swallowed() -> None:
    with pytest.raises(TypeError, match='patchsize'):
        AOM(**TINY, patchsize=8)


def test_numpy_integers_are_integers() -> None:
    model = tiny()
    x = image()
    assert torch.equal(model(x, patch_size=np.int64(8)), model(x, patch_size=8))
    assert torch.equal(model(x, patch_size=[8, np.int32(8)]), model(x, patch_size=8))
    assert AOM(**TINY, patch_size=np.int64(8)).patch_embed.patch_size == (8, 8)


def test_bands_in_all_their_forms() -> None:
    """Names, Band objects, indices and wavelengths of the same bands give the same."""
    model = tiny(bands=RGB)
    x = image()
    expected = model(x)
    for bands in (
        'sentinel2:rgb',
        list(RGB),
        model.bands,
        [3, 2, 1],
        torch.tensor([3.0, 2.0, 1.0]),
        torch.tensor([3, 2, 1]),
        torch.tensor([[3.0, 2.0, 1.0]] * 2, dtype=torch.float64),
        torch.tensor([3.0, 2.0, 1.0], dtype=torch.float16),
    ):
        close(model(x, bands=bands), expected)
    # 865 nm is Sentinel-2's B8A; a landsat8:B5 at 865 nm is the same light.
    close(model(x[:, :1], bands=['sentinel2:B8A']), model(x[:, :1], bands=[865]), 2e-2)
    differ(model(x, bands='sentinel2:rgb'), model(x, bands=[1, 2, 3]))


def test_wavelength_tensor_for_an_index_model_is_refused() -> None:
    """nm read as channel indices would give features of no band, in silence."""
    model = tiny()
    with pytest.raises(BandError, match=r'channel indices.*665'):
        model(image(), bands=torch.tensor([665.0, 560.0, 490.0]))
    other = tiny(channel_encoding='wavelength')
    other(image(), bands=torch.tensor([665.0, 560.0, 490.0]))
    with pytest.raises(BandError, match='nm'):
        other(image(), bands=torch.tensor([3.0, 2.0, 1.0]))
    with pytest.raises(BandError, match='nm'):
        other(image(), bands=torch.tensor([0.665, 0.560, 0.490]))


def test_hyperspectral_cube() -> None:
    wavelengths = [0.41 + 0.01 * k for k in range(200)]
    model = tiny(bands=wavelengths)
    assert model(image(200, 16, 16, batch=1)).shape == (1, 24)


def test_collated_samples_equal_each_alone() -> None:
    model = tiny()
    images = [image(c, 24, 40, batch=1)[0] for c in (3, 1, 5)]
    bands = ['sentinel2:rgb', ['landsat8:B5'], [443, 490, 560, 665, 865]]
    before = [x.clone() for x in images]
    x, index = collate_bands(images, bands)
    assert x.shape == (3, 5, 24, 40) and index.shape == (3, 5)
    mixed = model(x, bands=index)
    for k in range(3):
        close(mixed[k : k + 1], model(images[k][None], bands=bands[k]))
        assert torch.equal(images[k], before[k])
    with pytest.raises(InputError, match='sizes'):
        collate_bands([images[0], image(3, 24, 24, batch=1)[0]], bands[:2])
    with pytest.raises(InputError, match='bands each'):
        collate_bands(images, bands[:2])
    with pytest.raises(BandError, match='3'):
        collate_bands(images, [bands[1], bands[0], bands[2]])


@pytest.mark.parametrize('height', [1, 15, 16, 17, 50])
@pytest.mark.parametrize('patch', [1, 5, 16, 37, 128])
def test_padding_is_zeros_at_the_right_and_bottom(height: int, patch: int) -> None:
    """Padding by hand to the next multiple gives the same: less than a patch, and zeros."""
    model = tiny()
    x = image(3, height, 21)
    pads = (0, -21 % patch, 0, -height % patch)
    assert max(pads) < patch
    padded = torch.nn.functional.pad(x, pads)
    close(model(padded, patch_size=patch), model(x, patch_size=patch), 1e-6)


@pytest.mark.parametrize('broken', [float('nan'), float('inf'), float('-inf')])
def test_broken_pixels_are_refused(broken: float) -> None:
    x = image(batch=3)
    x[1, 0, 0, 0] = broken
    with pytest.raises(InputError, match='nodata_fill'):
        tiny()(x)


def test_arrays_are_refused() -> None:
    with pytest.raises(InputError, match='ndarray'):
        tiny()(image().numpy())


def test_tensor_of_micrometers_is_noticed() -> None:
    model, x = tiny(), image()[:, :3]
    with pytest.warns(BandWarning, match='wavelengths in um'):
        model(x, bands=torch.tensor([0.665, 0.56, 0.49]))


def test_too_many_positions() -> None:
    with pytest.raises(BandError, match='wavelengths'):
        AOM(embed_dim=24, depth=2, num_heads=3, in_chans=150)


def test_load_under_another_default_dtype_and_deepcopied_bank() -> None:
    """Kernels that were resized are not remembered: new parameters give new output at once."""
    model, other = tiny(), tiny()
    x = image()
    model(x, patch_size=24)
    model.load_state_dict(other.state_dict())
    close(model(x, patch_size=24), other(x, patch_size=24), 0)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.patch_embed.kernels['16'].weight.mul_(2)
    differ(twin(x, patch_size=24), model(x, patch_size=24))
    with default_dtype(torch.float64):
        twin.load_state_dict(model.state_dict())
    assert twin(x, patch_size=24).dtype == torch.float32
    close(twin(x, patch_size=24), model(x, patch_size=24), 1e-6)


def test_compiled_model_saves_its_own_names(tmp_path: Path) -> None:
    """A checkpoint of ``torch.compile(model)`` loads like any other."""
    from torchgeo_aom.models.checkpoint import load_into, read_state_dict

    model = tiny(num_classes=3)
    compiled = torch.compile(model, backend='eager')
    torch.save(compiled.state_dict(), tmp_path / 'compiled.pth')
    state_dict, _ = read_state_dict(tmp_path / 'compiled.pth')
    assert all(key.startswith('_orig_mod.') for key in state_dict)
    other = tiny(num_classes=3)
    load_into(other, state_dict)
    x = image()
    torch.testing.assert_close(other.forward_features(x), model.forward_features(x))
