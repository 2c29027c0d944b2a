"""Trains an encoder for some minutes from a packed corpus and teachers' maps; goes on where it was.

    python examples/weights/pretrain.py --config examples/weights/vitt_6.yaml --minutes 60

State and log go to the folder of the run every few minutes. At the end, and with ``--export`` at
any time, the encoder is written in half precision, in pieces of at most 16 MiB if it is larger.
With glibc, ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000`` in the environment saves the
system from giving and taking memory at each step.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from torchgeo_aom.models.weights import save_weights
from torchgeo_aom.pretraining.engine import Engine, Run
from torchgeo_aom.pretraining.packed import PackedCorpus
from torchgeo_aom.pretraining.step import Weights
from torchgeo_aom.pretraining.targets import TargetMaps

PIECE = 15 * 2**20  # bytes


def pieces(engine: Engine, folder: Path) -> list[Path]:
    """Write the encoder as float16 in files of at most 16 MiB."""
    state = {k: v.half().contiguous() for k, v in engine.task.encoder.state_dict().items()}
    parts: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for key, value in state.items():
        size += value.numel() * 2
        if size > PIECE and parts[-1]:
            parts.append({})
            size = value.numel() * 2
        parts[-1][key] = value
    paths = []
    for k, part in enumerate(parts):
        paths.append(folder / f'encoder_{k}_of_{len(parts)}.safetensors')
        save_file(part, paths[-1])
    return paths


def build(config: dict[str, Any], device: str) -> Engine:
    """The run that a configuration describes."""
    settings = dict(config['run'])
    settings['weights'] = Weights(**settings.pop('weights', {}))
    settings['patch_sizes'] = tuple(settings.get('patch_sizes', (8, 16, 32)))
    teachers = {name: TargetMaps(folder) for name, folder in config['teachers'].items()}
    return Engine(Run(**settings), PackedCorpus(config['packed']), teachers, device)


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--config', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=math.inf, help='stop after so many')
    parser.add_argument('--every', type=float, default=3.0, help='minutes between two saves')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--export', action='store_true', help='write the encoder and stop')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    # The backward pass of fused attention on a CPU takes several times that of plain products.
    torch.backends.cuda.enable_flash_sdp(args.device != 'cpu')
    config = yaml.safe_load(args.config.read_text(encoding='utf-8'))
    engine = build(config, args.device)
    out = Path(config['out'])
    if args.export:
        engine.load(out / 'state.pt')
    else:
        engine.fit(out, args.minutes, args.every)
    save_weights(engine.task.encoder, out / 'encoder.safetensors')
    if args.device != 'cpu':
        print(*pieces(engine, out), sep='\n')
    print(f'{engine.step} steps, {engine.views_seen:,} views')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
