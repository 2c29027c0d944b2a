"""Images, tiny models and comparisons that tests of models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_aom import AOM

TINY = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
RGB = ('sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02')
Builder = Callable[..., Any]
_seeds = count(1)


def image(channels: int = 3, height: int = 40, width: int = 33, batch: int = 2) -> Tensor:
    """A fresh normalised image batch; no two calls give the same."""
    generator = torch.Generator().manual_seed(next(_seeds))
    return torch.randn(batch, channels, height, width, generator=generator)


def perturb(model: nn.Module, scale: float = 0.05) -> nn.Module:
    """Move every parameter off its start: zero biases and unit norms hide mistakes."""
    generator = torch.Generator().manual_seed(next(_seeds))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_meta:
                continue
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def tiny(**kwargs: Any) -> AOM:
    """A small AOM in evaluation mode with no parameter at its start."""
    model = AOM(**{**TINY, **kwargs})
    perturb(model)
    return model.eval()


def is_wavelength(model: Any) -> bool:
    """Whether channel codes are wavelengths."""
    return model.patch_embed.channel_encoding == 'wavelength'


def codes(model: Any, index: list[Any]) -> Tensor:
    """Channel indices as what a tensor of bands holds for this model."""
    return 450 + 100 * torch.tensor(index) if is_wavelength(model) else torch.tensor(index)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal within a tolerance, absolute and relative, and finite."""
    assert torch.isfinite(actual).all()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def differ(actual: Tensor, expected: Tensor, least: float = 1e-3) -> None:
    """Not equal: somewhere at least this far apart."""
    assert (actual - expected).abs().max() > least


@contextmanager
def math_attention(model: nn.Module) -> Iterator[None]:
    """Attention of timm's blocks written out, without the fused kernel."""
    fused = [module for module in model.modules() if getattr(module, 'fused_attn', False)]
    assert fused
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Another default floating-point type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
