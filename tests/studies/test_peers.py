"""Models of others behind the interface of studies: bands as their authors mean, own weights."""

import os
from typing import Any
from urllib.error import URLError

import pytest
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import BandError, ConfigError, DataError
from torchgeo_aom.studies import peers
from torchgeo_aom.studies.encoder import build_encoder
from torchgeo_aom.studies.peers import L1C, L2A, PEERS, RGB, Batch, build_peer

EUROSAT = resolve_bands('sentinel2:eurosat')
LARGE = ('large', 'base', 'panopticon')
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if any(t in name for t in LARGE) else [])
    for name in PEERS
]


def batch(bands: Any = EUROSAT, size: int = 32) -> Batch:
    count = len(bands)
    images = torch.randn(2, count, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(
        images, tuple(bands), torch.full((count, 1, 1), 0.2), torch.full((count, 1, 1), 0.1)
    )


@pytest.mark.parametrize('name', NAMES)
def test_features(name: str) -> None:
    encoder = build_encoder(name, 0, EUROSAT, (32, 32))
    assert encoder.label == f'{name} (random)'
    with torch.inference_mode():
        full = encoder.function(batch())
        some = encoder.function(batch(EUROSAT[:4]))
        again = build_encoder(name, 0, EUROSAT, (32, 32))
        assert torch.allclose(again.function(batch()), full, atol=1e-5)  # the seed says all
    assert again.facts == encoder.facts
    assert full.shape == some.shape == (2, full.shape[1])
    assert full.isfinite().all() and not torch.allclose(full, some)


def test_seeds_differ() -> None:
    one, other = (build_encoder('resnet50', seed, EUROSAT, (32, 32)) for seed in (0, 1))
    assert one.facts != other.facts


@pytest.mark.parametrize('name', ['aom_vitt', 'resnet50'])
def test_precision(name: str) -> None:
    """Products of half the width: nearly the same features, kept apart from those of float32."""
    full = build_encoder(name, 0, EUROSAT, (32, 32))
    half = build_encoder(name, 0, EUROSAT, (32, 32), precision='bfloat16')
    assert half.facts != full.facts and half.given == f'{full.given}; bfloat16'
    with torch.inference_mode():
        x, y = (encoder.function(batch()).flatten() for encoder in (full, half))
    assert y.dtype == torch.float32 and not torch.equal(x, y)
    assert torch.nn.functional.cosine_similarity(x, y, dim=0) > 0.99


def test_precision_of_baselines() -> None:
    assert (
        build_encoder('rcf', 0, EUROSAT, (32, 32), precision='bfloat16').facts
        == build_encoder('rcf', 0, EUROSAT, (32, 32)).facts
    )


def test_bands_go_to_their_places() -> None:
    """B8A is last in EuroSAT files and ninth in SSL4EO's order; others are zero."""
    red, nir = EUROSAT[3], EUROSAT[12]
    x = torch.ones(1, 2, 4, 4) * torch.tensor([1.0, 2.0])[:, None, None]
    filled = peers._in_slots(x, (red, nir), L1C)
    assert filled[0, :, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    landsat = resolve_bands(['landsat8:B4', 'landsat8:B5'])
    assert torch.equal(peers._in_slots(x, landsat, L1C), filled)
    assert peers._in_slots(x, (red, nir), RGB)[0, :, 0, 0].tolist() == [1, 0, 0]
    cirrus = EUROSAT[9]
    assert cirrus.name == 'B10'
    with pytest.raises(BandError, match='no place'):
        peers._in_slots(x[:, :1], (cirrus,), L2A)


def test_reflectance() -> None:
    assert batch().reflectance().mean().item() == pytest.approx(0.2, abs=0.01)


def test_size() -> None:
    assert build_peer('vit_small_patch16_224', (60, 60)).size == 64
    assert build_peer('vit_small_patch16_224', (8, 8)).size == 32
    with pytest.raises(ConfigError, match='multiple of 16'):
        build_peer('vit_small_patch16_224', (64, 64), peer_size=50)


class TestWeights:
    def test_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: dict[str, Any] = {}
        real = peers.get_model

        def get(name: str, **options: Any) -> torch.nn.Module:
            asked.update(options, safe=os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD'))
            options.pop('weights')
            return real(name, **options)

        monkeypatch.setattr(peers, 'get_model', get)
        encoder = build_encoder('vit_small_patch16_224', 0, EUROSAT, (64, 64), peer_weights=True)
        assert encoder.label == 'vit_small_patch16_224 (SENTINEL2_ALL_MOCO)'
        assert not encoder.seeded
        assert (asked['img_size'], asked['safe']) == (224, '1')
        assert str(asked['weights']).startswith('ViTSmall16_Weights')
        assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ

    def test_every_member_exists(self) -> None:
        for name, peer in PEERS.items():
            if peer.member is not None:
                assert peers.get_model_weights(name)[peer.member].url.startswith('https://')

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def get(name: str, **options: Any) -> torch.nn.Module:
            raise URLError('no route')

        monkeypatch.setattr(peers, 'get_model', get)
        with pytest.raises(DataError, match='cannot be downloaded'):
            build_encoder('resnet50', 0, EUROSAT, (64, 64), peer_weights=True)

    def test_nobody_has_any(self) -> None:
        with pytest.raises(ConfigError, match='nobody has published'):
            build_encoder('dofa_small_patch16_224', 0, EUROSAT, (64, 64), peer_weights=True)
