"""Speed modes and precision of scenes: what files say, and that they are no others' pieces."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene_tools import pixels, read, scene_of, tiny_weights, write

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.scene import RunOptions, embed_scene

OPTIONS = RunOptions(chip=32, overlap=8, progress=False)
SCHEDULE = ((0, 2),)


@pytest.mark.filterwarnings('ignore:speed=:torchgeo_aom.errors.AOMWarning')
def test_embeddings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(write(tmp_path / 'in.tif', pixels()))
    common: dict[str, Any] = {
        'weights': tiny_weights(tmp_path / 'w.safetensors'), 'patch_size': 8, 'dtype': 'float32',
    }  # fmt: skip
    made = {}
    with caplog.at_level(logging.INFO, 'torchgeo_aom.scene'):
        for name, more in {
            'exact': {}, 'merged': {'speed': SCHEDULE}, 'auto': {'precision': 'auto'},
        }.items():  # fmt: skip
            options = replace(OPTIONS, **more)
            made[name] = embed_scene(scene, tmp_path / f'{name}.tif', options=options, **common)
    speeds = {name: result.tags['AOM_SPEED'] for name, result in made.items()}
    assert speeds == {'exact': 'exact', 'merged': '0:2', 'auto': 'exact'}
    assert made['exact'].tags['AOM_PRECISION'] == 'float32'
    assert made['auto'].tags['AOM_PRECISION'] in ('float32', 'bfloat16')
    assert made['exact'].tags['AOM_RUN'] != made['merged'].tags['AOM_RUN']
    assert 'speed 0:2' in caplog.text and 'computing in float32' in caplog.text
    exact, merged, auto = (read(tmp_path / f'{name}.tif') for name in made)
    assert np.abs(exact - merged).max() > 1e-3
    cosine = (exact * auto).sum(0) / np.linalg.norm(exact, axis=0) / np.linalg.norm(auto, axis=0)
    assert cosine.min() > 0.999


def test_refused() -> None:
    with pytest.raises(ConfigError, match='balanced'):
        RunOptions(speed='quick')
    with pytest.raises(ConfigError, match='precision'):
        RunOptions(precision='half')
