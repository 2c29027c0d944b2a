"""Compiled blocks: the same losses, and no compilation for each patch size."""

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from torchgeo_aom.tasks.compiled import compile_blocks
from torchgeo_aom.tasks.pretrain import PretrainTask

BANDS = ['sentinel2:B02', 'sentinel2:B03', 'sentinel2:B04', 'sentinel2:B08']
SMALL: dict[str, Any] = {
    'model': 'aom_vitt', 'patch_sizes': (8, 12, 16), 'kernel_sizes': (8,), 'embed_dim': 32,
    'depth': 3, 'num_heads': 2, 'decoder_width': 64, 'decoder_depth': 2, 'projector_dim': 16,
}  # fmt: skip
SHAPES = ((4, 4, 32), (3, 3, 24), (4, 2, 48), (4, 4, 40))


def compare(backend: Any, tolerance: float) -> list[int]:
    """Losses of both over some steps; how often something was compiled after each."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = PretrainTask(**SMALL)
    compiled = PretrainTask(**SMALL)
    compiled.load_state_dict(eager.state_dict())
    assert compile_blocks(compiled, backend) == 3 + 3 * 2
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    optimizers = [torch.optim.AdamW(task.parameters(), lr=1e-3) for task in (eager, compiled)]
    counts = []
    for step, (count, channels, size) in enumerate(SHAPES):
        batch = {
            'image': torch.randn(count, channels, size, size), 'bands': BANDS[:channels],
            'key': torch.arange(count),
        }  # fmt: skip
        losses = [task.losses(batch, step).loss for task in (eager, compiled)]
        torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=tolerance)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        counts.append(getattr(backend, 'frame_count', 0))
    return counts


def test_same_losses_and_one_compilation() -> None:
    counts = compare(CompileCounterWithBackend('aot_eager'), 1e-6)
    assert counts[0] <= 6  # encoder and decoders, not one for each block and patch size
    assert counts[-1] == counts[0]


@pytest.mark.slow
def test_same_losses_by_inductor() -> None:
    compare('inductor', 1e-5)


def test_option_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr('torchgeo_aom.tasks.pretrain.compile_blocks', seen.append)
    PretrainTask(**SMALL)
    assert seen == []
    task = PretrainTask(compile=True, **SMALL)
    assert seen == [task]
