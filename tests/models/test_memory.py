"""Peak memory of the largest request that the documentation promises, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchgeo_aom import describe

ROOT = Path(__file__).resolve().parents[2]

# All 12 blocks are built and in memory; one is run: every block needs the same moment of memory,
# and twelve take minutes on two cores. `AOM_BLOCKS=12` runs the whole model.
SCRIPT = """
import json, resource, sys, time
import torch
from torchgeo_aom import aom_vitb

blocks = int(sys.argv[1])
model = aom_vitb(bands='sentinel2').eval()
imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = torch.randn(1, 13, 512, 512)
start = time.perf_counter()
with torch.inference_mode():
    if blocks == 12:
        features = model.forward_features(x)[:, 1:]
    else:
        features = model.forward_intermediates(
            x, [blocks - 1], stop_early=True, norm=True, output_fmt='NLC', intermediates_only=True
        )[0]
print(json.dumps({
    'shape': list(features.shape),
    'finite': bool(torch.isfinite(features).all()),
    'built': imported * 1024,
    'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    'seconds': time.perf_counter() - start,
}))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='ru_maxrss has other units elsewhere')
def test_vit_b_13_bands_512_px() -> None:
    """13,312 tokens through ViT-B on a CPU: under 4 GiB, the frameworks included."""
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, os.environ.get('AOM_BLOCKS', '1')],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, 'OMP_NUM_THREADS': '2'},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['shape'] == [1, 1024, 768] and found['finite']
    assert found['peak'] < 4 * 2**30
    # What the plan promises is near what was needed beside the frameworks and the parameters.
    plan = describe('aom_vitb', 'sentinel2', 512, 16)
    assert plan.tokens == 13312
    activations = found['peak'] - found['built']
    assert activations < 1.5 * (plan.inference_bytes - 4 * plan.parameters)
