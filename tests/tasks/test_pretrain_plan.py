"""What a pretraining run is said to cost, against what is counted."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from torchgeo_aom.errors import BandError, ConfigError
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.pretrain_plan import (
    Corpus,
    image_cost,
    main,
    report,
    state_bytes,
    table,
)

BANDS = ['sentinel2:B02', 'sentinel2:B03', 'sentinel2:B04', 'sentinel2:B08']
SMALL: dict[str, Any] = {
    'model': 'aom_vitt', 'patch_sizes': (8, 12, 16), 'kernel_sizes': (8,), 'embed_dim': 64,
    'depth': 3, 'num_heads': 2, 'decoder_width': 64, 'decoder_depth': 2, 'projector_dim': 16,
}  # fmt: skip


def batch(count: int = 2) -> dict[str, Any]:
    return {'image': torch.randn(count, 4, 64, 48), 'bands': BANDS, 'key': torch.arange(count)}


@pytest.mark.parametrize('kind', ['token', 'spatial'])
def test_operations_are_those_that_run(kind: str) -> None:
    """Within 5 %: the first layer needs no gradient of its input, and kernels are resized."""
    task = PretrainTask(mask_kind=kind, **SMALL)
    cost = image_cost(task, 4, (64, 48))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.losses(batch(), 0).loss.backward()
    assert 2 * cost.model == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert cost.run == cost.model
    assert [scale.tokens for scale in cost.scales] == [4 * 48, 4 * 24, 4 * 12]
    assert [scale.visible for scale in cost.scales] == [48, 24, 12]


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('checkpointing', [False, True])
def test_memory_is_what_is_kept(precision: str, checkpointing: bool) -> None:
    """Bytes kept for the backward pass, counted; checkpoints need one block more while they run."""
    task = PretrainTask(grad_checkpointing=checkpointing, **SMALL)
    own = {p.untyped_storage().data_ptr() for p in task.parameters()}
    held: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'),
    ):
        result = task.losses(batch(8), 0)
    assert result.loss.isfinite()
    cost = image_cost(task, 4, (64, 48), precision)
    low, high = (0.25, 1.1) if checkpointing else (0.7, 1.4)
    assert low < sum(held.values()) / (8 * cost.kept) < high


def test_what_is_done_twice() -> None:
    with torch.device('meta'):
        once = PretrainTask(**SMALL)
        twice = PretrainTask(memory='scale', **SMALL)
        pairs = PretrainTask(scales_per_step=2, **SMALL)
    cost, frugal, half = (image_cost(task, 4, (64, 64)) for task in (once, twice, pairs))
    assert frugal.model == cost.model
    assert frugal.run == pytest.approx(cost.run * 4 / 3)
    assert frugal.kept == max(scale.kept for scale in cost.scales) < cost.kept
    assert half.model == pytest.approx(cost.model * 2 / 3)
    assert state_bytes(once) == 16 * sum(p.numel() for p in once.parameters())


def test_report_is_arithmetic() -> None:
    with torch.device('meta'):
        task = PretrainTask(**SMALL)
    corpora = [Corpus.parse('sentinel2:10m@64=3000'), Corpus.parse('rgb@32x64=1000')]
    assert corpora[1] == Corpus('rgb', (32, 64), 1000)
    found = report(task, corpora, epochs=10, batch=100, devices=4, speeds=[2.0, 4.0])
    costs = [image_cost(task, 4, (64, 64), 'bfloat16'), image_cost(task, 3, (32, 64), 'bfloat16')]
    flops = 10 * (3000 * costs[0].run + 1000 * costs[1].run)
    assert found['flops'] == pytest.approx(flops)
    assert found['steps'] == 400
    slow, fast = found['speeds']
    assert slow['gpu_hours'] == pytest.approx(flops / 2e12 / 3600)
    assert fast['gpu_hours'] == pytest.approx(slow['gpu_hours'] / 2)
    assert slow['hours'] * 3600 * slow['files_per_second'] == pytest.approx(10 * 4000)
    assert found['kept_bytes'] == pytest.approx(25 * costs[0].kept)
    assert 'not a measurement' in table(found)


@pytest.mark.parametrize(
    'text', ['sentinel2', 'sentinel2@264', 'rgb@0=5', 'rgb@8=0', 'rgb@8x8x8=1', 'rgb@a=1']
)
def test_corpus_refuses(text: str) -> None:
    with pytest.raises(ConfigError, match='BANDS@SIZE=IMAGES'):
        Corpus.parse(text)


def test_refusals() -> None:
    with torch.device('meta'):
        task = PretrainTask(**SMALL)
    with pytest.raises(BandError):
        Corpus.parse('sentinel9@8=1')
    for options in ({'epochs': 0}, {'batch': 10, 'devices': 3}, {'speeds': [0.0]}):
        with pytest.raises(ConfigError):
            report(task, [], **{'batch': 64, 'devices': 64, **options})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='precision'):
        image_cost(task, 3, (8, 8), 'fp8')


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    from torchgeo_aom.cli import main as cli

    assert main(['--model', 'aom_vits', '--corpus', 'rgb@64=100', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['images'] == 100
    assert cli(['plan', '--pretrain']) == 0
    assert '1,258,000 images x 220 epochs' in capsys.readouterr().out
