"""Accelerators give what the CPU gives; skipped where there is none."""

import copy

import pytest
import torch
from common import RGB, close, image, tiny

THERE = {'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}


@pytest.mark.parametrize('device', ['cpu', *(name for name, there in THERE.items() if there)])
@pytest.mark.parametrize('patch', [16, 24])
def test_device(device: str, patch: int) -> None:
    """Moved there after a first run, built there, and moved back: nothing stays behind."""
    model = tiny(bands=RGB, num_classes=3)
    x = image()
    expected = model(x, patch_size=patch)
    moved = copy.deepcopy(model).to(device)
    close(moved(x.to(device), patch_size=patch).cpu(), expected, 1e-3)
    with torch.device(device):
        built = tiny(bands=RGB, num_classes=3)
    built.load_state_dict(model.state_dict())
    assert built(x.to(device), patch_size=patch).device.type == device
    close(built(x.to(device), patch_size=patch).cpu(), expected, 1e-3)
    moved(x.to(device), patch_size=patch).sum().backward()
    kernel = moved.patch_embed.kernels['16'].weight
    assert kernel.grad.device.type == device
    close(moved.cpu()(x, patch_size=patch), expected)
