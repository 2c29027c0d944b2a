"""The precision of the machine: chosen by hardware, and close to float32."""

from __future__ import annotations

import pytest
import torch
from common import image, tiny

from torchgeo_aom.models.precision import best_precision, explain, mixed_precision, resolve

CPU = torch.device('cpu')


@pytest.mark.parametrize(
    ('amx', 'avx', 'expected'),
    [(True, True, 'AMX'), (False, True, 'AVX512'), (False, False, 'no bfloat16')],
)
def test_cpu(amx: bool, avx: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx)
    chosen, why = best_precision(CPU)
    assert expected in why and chosen == ('bfloat16' if amx or avx else 'float32')
    assert resolve('auto', CPU) == chosen
    assert resolve('float16', CPU) == explain('float16', CPU) == 'float16'
    assert explain('auto', CPU) == f'{chosen} ({why})'


def test_older_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that cannot be asked computes in float32."""
    monkeypatch.delattr(torch.cpu, '_is_amx_tile_supported')
    monkeypatch.delattr(torch.cpu, '_is_avx512_bf16_supported')
    assert best_precision(CPU)[0] == 'float32'


def test_other_devices() -> None:
    assert best_precision(torch.device('meta'))[0] == 'float32'
    if not torch.cuda.is_available():
        assert best_precision(torch.device('cuda'))[0] == 'float32'


@torch.no_grad()
@pytest.mark.parametrize('speed', ['exact', 'balanced', 'fast'])
def test_features_stay(speed: str) -> None:
    """The tolerance that is stated: a cosine above 0.999."""
    model, x = tiny(depth=6, bands='sentinel2', speed=speed, embed_dim=96), image(13)
    exact = model.forward_features(x)
    with mixed_precision(CPU, 'bfloat16'):
        half = model.forward_features(x).float()
    cosine = torch.cosine_similarity(exact, half, dim=-1)
    assert 0.999 < cosine.min() < 1
