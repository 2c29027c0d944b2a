"""Land cover: metrics against slow references, windows put back in place, heads reused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from torchgeo_aom.data.samples import SentinelPairs
from torchgeo_aom.tasks import SemanticSegmentationTask
from torchgeo_aom.tasks.landcover import (
    HeadSettings,
    load_half,
    pixel_regression,
    predict,
    rate,
    train_head,
)


def test_rate_equals_reference() -> None:
    random = np.random.default_rng(0)
    masks = [random.choice([0, 1, 3, 255], (40, 30)) for _ in range(2)]
    masks[0][0, 0] = 2  # one pixel of a class: not counted
    said = [random.choice([0, 1, 3, 5], (40, 30)) for _ in range(2)]
    result = rate(masks, said)
    truth, guess = np.stack(masks), np.stack(said)
    known = truth != 255
    expected = {}
    for k in (0, 1, 3):
        both = ((truth == k) & (guess == k)).sum()
        expected[SentinelPairs.classes[k]] = both / (
            (truth == k).sum() + ((guess == k) & known).sum() - both
        )
    assert result['IoU'] == pytest.approx(expected)
    assert result['mean IoU'] == pytest.approx(np.mean(list(expected.values())))
    assert result['pixel accuracy'] == pytest.approx((truth == guess)[known].mean())
    assert rate(masks, [m % 8 for m in masks])['mean IoU'] == 1


def test_windows_are_put_back() -> None:
    class Brightest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1:] == (8, 56, 56)
            return x

    image = torch.rand(8, 224, 112)
    task: Any = Brightest()
    assert np.array_equal(predict(task, image, 56), image.argmax(0).numpy())


def test_halves_are_normalized() -> None:
    west, east = (load_half('l2a', 'sentinel2:rgb', half) for half in ('west', 'east'))
    assert len(west) == len(east) == 5
    assert west[0]['image'].shape == (3, 224, 112)
    assert west[4]['image'].mean().abs() < 2


def test_pixel_regression_knows_snow() -> None:
    classify = pixel_regression('l2a', 'sentinel2:10m', seed=0)
    (snow,) = [p for p in load_half('l2a', 'sentinel2:10m', 'east') if (p['mask'] == 6).all()]
    assert (classify(snow['image']) == 6).mean() > 0.9


def test_head(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    backbone: Any = timm.create_model('aom_vitt', bands='sentinel2')
    settings = HeadSettings(patch_size=28, steps=2, batch_size=64, context='weak')
    path, reused = train_head(backbone, 'aom_vitt', settings, tmp_path)
    assert not reused
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing else is left
    assert train_head(backbone, 'aom_vitt', settings, tmp_path) == (path, True)
    assert not [w for w in recwarn if 'workers' in str(w.message)]

    # The backbone was frozen, and other bands run with the same parameters.
    states = []
    for bands in ('sentinel2:l2a', 'sentinel2:rgb', 'sentinel2:l1c'):
        task = SemanticSegmentationTask.load_from_checkpoint(path, bands=bands).eval()
        states.append(task.model.state_dict())
        channels = len(task.model.encoder.bands)
        assert predict(task, torch.rand(channels, 56, 112), 56).shape == (56, 112)
    for name, value in backbone.state_dict().items():
        assert torch.equal(states[0][f'encoder.{name}'], value)
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())

    other, reused = train_head(
        backbone,
        'aom_vitt',
        HeadSettings(1, patch_size=28, steps=2, batch_size=64, context='weak'),
        tmp_path,
    )
    assert not reused
    assert other != path
