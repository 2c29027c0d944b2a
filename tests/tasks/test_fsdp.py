"""Pretraining with sharded weights (FSDP2): two processes step as one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes

from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.schedule import decay_groups

OPTIONS: dict[str, Any] = {
    'model': 'aom_vitt', 'patch_sizes': (8, 16), 'kernel_sizes': (8,), 'embed_dim': 48, 'depth': 2,
    'num_heads': 2, 'decoder_width': 32, 'decoder_depth': 1, 'projector_dim': 16, 'batch_size': 4,
    'negatives': 'batch',
}  # fmt: skip
RATE = 0.1


def made(dtype: torch.dtype) -> PretrainTask:
    torch.manual_seed(0)
    return PretrainTask(**OPTIONS).to(dtype).train()


def images(first: int, last: int, dtype: torch.dtype) -> dict[str, Any]:
    """Part of a batch of four images, with missing pixels in the first two."""
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(4, 2, 16, 16, generator=draw, dtype=torch.float64).to(dtype)
    valid = torch.ones_like(image, dtype=torch.bool)
    valid[0, 0, :5] = valid[1, 1, :, 7:] = False
    return {
        'image': image[first:last],
        'valid': valid[first:last],
        'bands': ['sentinel2:B04', 'sentinel2:B08'],
        'key': torch.arange(first, last),
    }


def step(task: PretrainTask, batch: dict[str, Any]) -> Tensor:
    """One step of plain gradient descent: Adam would hide the size of a gradient."""
    loss = task.losses(batch, 0).loss
    loss.backward()
    torch.optim.SGD(task.parameters(), lr=RATE).step()
    return loss.detach()


def plain(task: PretrainTask) -> dict[str, Tensor]:
    state = task.state_dict()
    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}


def shard(task: PretrainTask) -> None:
    """Blocks by themselves, the rest together; its weights are gathered while `losses` runs."""
    mesh = init_device_mesh('cpu', (2,))
    for module in list(task.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(task, mesh=mesh)
    register_fsdp_forward_method(task, 'losses')


def compare(rank: int, folder: str) -> None:
    """What each process does: the step of one process alone, then its half of that step."""
    torch.set_num_threads(1)
    kinds = (torch.float32, torch.float64)
    alone = {}
    for dtype in kinds:
        task = made(dtype)
        loss = step(task, images(0, 4, dtype))
        alone[dtype] = float(loss), task.state_dict()
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    found = {}
    for dtype in kinds:
        wanted_loss, wanted = alone[dtype]
        task = made(dtype)
        start = {k: v.clone() for k, v in task.state_dict().items()}
        groups = [len(group['params']) for group in decay_groups(task, 0.05)]
        names = [k for k, _ in task.named_parameters()]
        total = sum(p.numel() for p in task.parameters())
        shard(task)
        held = sum(p.to_local().numel() for p in task.parameters() if isinstance(p, DTensor))
        loss = step(task, images(2 * rank, 2 * rank + 2, dtype))
        distributed.all_reduce(loss)
        state = plain(task)
        found[str(dtype)] = {
            'held': held / total,
            'groups': groups == [len(group['params']) for group in decay_groups(task, 0.05)],
            'names': set(state) == set(wanted),
            'loss': abs(float(loss) / 2 - wanted_loss),
            'weights': max(float((state[k] - wanted[k]).abs().max()) for k in wanted),
            'moved': min(float((wanted[k] - start[k]).abs().max()) for k in names),
        }
    Path(folder, f'rank{rank}.json').write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='the processes are forked')
def test_two_processes_step_as_one(tmp_path: Path) -> None:
    """Each process holds half of the weights; loss and weights are those of one process."""
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True, timeout=1200)
    for rank in range(2):
        found = json.loads((tmp_path / f'rank{rank}.json').read_text())
        for dtype, bound in (('torch.float32', 1e-5), ('torch.float64', 1e-12)):
            result = found[dtype]
            assert 0.4 < result['held'] < 0.6
            assert result['groups'] and result['names']
            assert result['loss'] < bound
            assert result['weights'] < bound
            assert result['moved'] > 0  # no weight was left out


if __name__ == '__main__':
    start_processes(compare, (sys.argv[1],), 2, start_method='fork')
