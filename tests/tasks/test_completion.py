"""Band completion: after a little training, better than the mean of the neighboring bands."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from torchgeo_aom.data.samples import EuroSAT200
from torchgeo_aom.tasks import PretrainTask
from torchgeo_aom.transforms import Normalize

ROOT = Path(__file__).parents[2]
CROP, BATCH, STEPS = 16, 16, 100


@pytest.fixture(scope='module')
def script() -> ModuleType:
    path = ROOT / 'examples' / 'pretrain' / 'completion.py'
    spec = importlib.util.spec_from_file_location('completion', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(split: str) -> tuple[Normalize, torch.Tensor]:
    data = EuroSAT200(split=split, fold=0)
    normalize = Normalize(data.bands, product=data.product)
    return normalize, torch.stack([normalize(data[k]['image']) for k in range(len(data))])


def test_neighbors_follow_the_wavelength(script: ModuleType) -> None:
    normalize, _ = images('test')
    names = [band.name for band in normalize.bands]
    found = {names[k]: (names[a], names[b]) for k, a, b in script.neighbors(normalize.bands)}
    assert found['B8A'] == ('B08', 'B09')  # stored last
    assert found['B10'] == ('B09', 'B11')
    assert set(names) - set(found) == {'B01', 'B12'}


def test_trained_model_beats_the_mean_of_the_neighbors(script: ModuleType) -> None:
    torch.manual_seed(0)
    task = PretrainTask(
        model='aom_vitt', embed_dim=96, depth=2, num_heads=3, decoder_width=96, decoder_depth=2,
        decoder_heads=3, patch_sizes=(4,), kernel_sizes=(16,), align_weight=0.0, recon_weight=1.0,
        mask_kind='channel', mask_ratio=0.25,
    )  # fmt: skip
    normalize, seen = images('train')
    _, unseen = images('test')
    unseen = unseen[:, :, :CROP, :CROP]
    bands = [band.label for band in normalize.bands]
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, STEPS, pct_start=0.1)
    rng = np.random.default_rng(0)

    def error() -> dict[str, float]:
        rows = script.completion(task.eval(), normalize, unseen)
        task.train()
        assert all(np.isfinite([row['model'], row['neighbors']]).all() for row in rows)
        return {key: script.mean_of(rows, key) for key in ('model', 'neighbors')}

    before = error()
    for step in range(STEPS):
        keys = rng.integers(len(seen), size=BATCH)
        top, left = rng.integers(64 - CROP + 1, size=2)
        crops = seen[keys, :, top : top + CROP, left : left + CROP]
        batch = {'image': crops, 'bands': bands, 'key': torch.from_numpy(keys)}
        optimizer.zero_grad()
        task.losses(batch, step).loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    after = error()
    assert before['model'] > before['neighbors']  # an untrained model knows nothing
    assert after['model'] < 0.8 * after['neighbors']
