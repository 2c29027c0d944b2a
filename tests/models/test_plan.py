"""The plan against what really happens: parameters, grid, kernel, operations, memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from common import image, tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from torchgeo_aom import AOM, Plan, describe, resolve_bands
from torchgeo_aom.errors import BandError, ConfigError, SizeError
from torchgeo_aom.models.aom import SIZES


@pytest.mark.parametrize('name', SIZES)
def test_parameters(name: str) -> None:
    with torch.device('meta'):
        model = AOM(**SIZES[name])
    count = sum(p.numel() for p in model.parameters())
    assert describe(name).parameters == describe(model).parameters == count


@pytest.mark.parametrize(
    ('bands', 'size', 'patch'),
    [
        ('sentinel2', 512, 16),
        ('naip', (500, 400), 24),
        ([0.49, 0.56, 0.665], (7, 90), (8, 30)),
        ('rgb', 224, 128),
    ],
)
def test_grid_and_kernel_are_the_models(bands: Any, size: Any, patch: Any) -> None:
    model = tiny(bands=bands)
    plan = describe('aom_vitb', bands, size, patch)
    height, width = plan.image_size
    with torch.no_grad():
        tokens, _ = model.to('meta').patch_embed(
            torch.empty(1, len(plan.bands), height, width, device='meta'), patch_size=patch
        )
    assert tokens.shape[:4] == (1, len(plan.bands), *plan.grid)
    assert plan.tokens == tokens[0, ..., 0].numel()
    assert plan.kernel_size == model.patch_embed.nearest_kernel(plan.patch_size)
    assert plan.bands == resolve_bands(bands)


@pytest.mark.parametrize('patch', [8, 16, 24])
def test_operations(patch: int) -> None:
    """Within 2 % of what PyTorch counts, without the resizing of the kernel: once a batch."""
    model = tiny(bands='sentinel2:10m')
    # As plain products: not every release of PyTorch counts fused attention on a CPU.
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        model(image(4, 96, 80), patch_size=patch)
    plan = describe(model, size=(96, 80), patch_size=patch, batch_size=2)
    resizing = 0 if patch == 16 else 2 * 24 * (patch * 16 * 16 + patch * 16 * patch)
    assert plan.flops == pytest.approx(counter.get_total_flops() - resizing, rel=0.02)


@pytest.mark.parametrize('speed', ['exact', 'balanced', 'fast', ((0, 4), (2, 2)), ((1, 3),)])
def test_operations_of_speed_modes(speed: Any) -> None:
    """What is counted is what runs, also where bands are merged; 2 % as above."""
    model = tiny(depth=6, bands='sentinel2', speed=speed, embed_dim=96)
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        model(image(13, 64, 64))
    plan = describe(model, size=64, batch_size=2)
    assert plan.flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    named = describe(model, size=64, batch_size=2, speed='exact')
    assert (plan.flops < 0.9 * named.flops) is (speed != 'exact')
    assert plan.training_bytes <= named.training_bytes
    assert plan.inference_bytes <= named.inference_bytes


def test_text_of_speed_modes() -> None:
    plan = describe('aom_vitb', 'sentinel2', 224, 16, speed=((1, 4), (4, 1)))
    assert plan.block_tokens == (2548, *[784] * 3, *[196] * 8)
    assert '1:4,4:1: 2,548 tokens in 1 block, 784 tokens in 3 blocks, 196 tokens in' in str(plan)
    assert 'exact: all tokens in all blocks' in str(describe('aom_vitb', 'sentinel2'))
    with pytest.raises(ConfigError, match='balanced'):
        describe('aom_vitb', speed='balanecd')


def test_issue_example() -> None:
    """ViT-B, 13 bands, 512 px, patch 16: 13,312 tokens, under 4 GiB."""
    plan = describe('aom_vitb', 'sentinel2', 512, 16)
    assert plan.tokens == 13312 and plan.grid == (32, 32) and plan.fits
    assert plan.kernel_size == 16 and plan.kernel_loss == 0
    assert 0.5 * 2**30 < plan.inference_bytes < 4 * 2**30
    assert plan.training_bytes > 4 * plan.inference_bytes


def test_memory_grows_as_it_should() -> None:
    one = describe('aom_vitt', 'sentinel2', 256, 16)
    four = describe('aom_vitt', 'sentinel2', 256, 16, batch_size=4)
    half = describe('aom_vitt', 'sentinel2', 256, 16, dtype='bfloat16')
    weights = one.parameters * 4
    assert four.inference_bytes - weights == pytest.approx(4 * (one.inference_bytes - weights))
    assert four.flops == pytest.approx(4 * one.flops)
    assert half.inference_bytes == pytest.approx(one.inference_bytes / 2)
    assert half.training_bytes < one.training_bytes


def test_over_the_budget() -> None:
    plan = describe('aom_vitb', 'sentinel2', 1024, 4)
    assert not plan.fits and plan.tokens == 851968
    assert 'OVER the budget of 65,536' in str(plan)
    assert describe(tiny(bands='rgb', max_tokens=3), size=16).fits
    assert not describe(tiny(bands='rgb', max_tokens=2), size=16).fits


def test_text_and_data() -> None:
    plan = describe('aom_vitt', 'sentinel2:10m', 100, 24)
    assert isinstance(plan, Plan)
    text = str(plan)
    for part in ('aom_vitt', 'B08', '100 x 100 px, 4 bands', '24 x 24 px', '16 px',
                 '5 x 5', '100 an image', 'GFLOP', 'GiB'):  # fmt: skip
        assert part in text
    assert 'loses 44%' in str(describe('aom_vitt', 'rgb', 96, 12))
    data = json.loads(json.dumps(plan.as_dict()))
    assert data['tokens'] == 100 and data['fits'] is True
    assert data['bands'][0]['name'] == 'B02'


def test_bands_of_the_model() -> None:
    """Those named in the tag or in the constructor; positions count too."""
    assert len(describe('aom_vitb.sentinel2_10m').bands) == 4
    assert len(describe('aom_vitb.sentinel2_10m', 'rgb').bands) == 3
    assert len(describe('aom_vitb').bands) == 3
    assert describe(tiny(bands='landsat8')).bands == resolve_bands('landsat8')
    assert describe(tiny(in_chans=13), size=32).tokens == 13 * 4
    assert describe(tiny(bands='rgb', patch_size=8), size=32).grid == (4, 4)


@pytest.mark.parametrize(
    ('arguments', 'error', 'match'),
    [
        ({'model': 'aom_vitx'}, ConfigError, 'aom_vit'),
        ({'model': 'resnet50'}, ConfigError, 'resnet50'),
        ({'model': 'aom_vitb.sentinel2_rbg'}, ConfigError, 'sentinel2_rgb'),
        ({'dtype': 'float8'}, ConfigError, 'bfloat16'),
        ({'batch_size': 0}, ConfigError, 'batch_size'),
        ({'batch_size': True}, ConfigError, 'batch_size'),
        ({'size': 0}, SizeError, 'size'),
        ({'patch_size': 129}, SizeError, '128'),
        ({'bands': 'sentinel2:B99'}, BandError, 'B99'),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        describe(**arguments)
