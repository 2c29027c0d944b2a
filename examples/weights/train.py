"""Runs `torchgeo-aom fit` the fastest way on a CPU core: short sequences, bfloat16.

Arguments are those of `torchgeo-aom fit`:
``python examples/weights/train.py --config examples/weights/aom_vitt.yaml``.

With glibc, ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000`` in the environment saves the
system from giving and taking memory at each step.
"""

from __future__ import annotations

import sys

import torch

from torchgeo_aom.cli import main

if __name__ == '__main__':
    torch.set_num_threads(1)
    # The backward pass of fused attention on a CPU takes several times that of plain products.
    torch.backends.cuda.enable_flash_sdp(False)
    raise SystemExit(main(['fit', *sys.argv[1:]]))
