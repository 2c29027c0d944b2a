"""Maps, attention and components of an AOM."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.cli import main as cli
from torchgeo_aom.models.registry import register
from torchgeo_aom.studies.look import (
    attention,
    band_maps,
    likeness,
    region_maps,
    token_components,
)

BANDS = resolve_bands('sentinel2:10m')


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    register()
    torch.manual_seed(0)
    return timm.create_model('aom_vitt', bands=list(BANDS), depth=2).eval()


def test_band_maps(model: torch.nn.Module) -> None:
    """A token is long where its band is not even, and each band is by itself."""
    image = torch.zeros(4, 48, 64)
    image[2, 16:32, 32:48] = 5.0
    maps = band_maps(model, image, 16)
    assert maps.shape == (4, 3, 4)
    assert np.argwhere(maps > 1e-4).tolist() == [[2, 1, 2]]


def test_likeness() -> None:
    maps = np.stack([np.eye(4), np.eye(4), 1 - np.eye(4)]).astype(np.float32)
    np.testing.assert_allclose(likeness(maps)[0], [1, 1, -1], atol=1e-6)


def test_region_maps(model: torch.nn.Module) -> None:
    image = torch.randn(4, 64, 48, generator=torch.Generator().manual_seed(0))
    maps, cosine = region_maps(model, image, (16, 24))
    assert {size: own.shape for size, own in maps.items()} == {16: (4, 3), 24: (3, 2)}
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-5)


def test_attention_is_that_of_the_block(model: torch.nn.Module) -> None:
    image = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = attention(model, image, 16)
    assert weights.shape == (4, 4, 4, 4)
    np.testing.assert_allclose(weights.sum((2, 3)), 1, atol=1e-5)
    seen = []
    block = model.blocks[-1]
    hooks = [
        block.attn.register_forward_hook(lambda m, i, o: seen.append((i[0], o))),
    ]
    with torch.inference_mode():
        model.forward_features(image[None], patch_size=16)
    hooks[0].remove()
    inside, out = (value.clone() for value in seen[0])
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(inside).reshape(1, 16, 3, heads, -1).permute(2, 0, 3, 1, 4)
    full = (q @ k.transpose(-2, -1) * block.attn.scale).softmax(-1)
    mixed = block.attn.proj((full @ v).transpose(1, 2).reshape(1, 16, -1))
    assert torch.allclose(mixed, out, atol=1e-5)
    np.testing.assert_allclose(weights.reshape(16, 16), full.mean(1)[0].detach().numpy(), atol=1e-5)


def test_components(model: torch.nn.Module) -> None:
    images = torch.randn(6, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    found, share = token_components(model, images, 16, batch_size=4)
    assert found.shape == (6, 4, 2)
    assert 1 >= share[0] >= share[1] > 0
    np.testing.assert_allclose(found.mean((0, 1)), 0, atol=1e-9)


def test_command(tmp_path: Path) -> None:
    argv = ['study', 'figures', '--patch-size', '32', '--scales', '56', '64', '--chips', '4',
            '--output', str(tmp_path)]  # fmt: skip
    assert cli(argv) == 0
    for name in ('figure4', 'figure6', 'attention', 'tokens'):
        assert (tmp_path / f'{name}.png').stat().st_size > 5000
    assert 'aom_vitt (random)' in (tmp_path / 'report.md').read_text()
    assert cli([*argv, '--place', '9']) == 1
