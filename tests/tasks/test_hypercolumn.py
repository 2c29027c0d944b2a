"""The hypercolumn head and kept maps: exact, on other bands, in the task, as ONNX, from scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from torchgeo_aom.errors import ConfigError, InputError
from torchgeo_aom.models.feature_memory import FeatureMemory
from torchgeo_aom.models.hypercolumn import Hypercolumn, local_statistics
from torchgeo_aom.tasks import SemanticSegmentationTask, frozen_maps
from torchgeo_aom.tasks.pixel_training import (
    Chip,
    PixelSettings,
    class_weights,
    draw,
    gather,
    train_pixels,
)
from torchgeo_aom.tasks.segment_head import save_task, train_head


def build(**options: Any) -> Any:
    defaults: dict[str, Any] = {
        'bands': ['B02', 'B03', 'B04', 'B08'], 'patch_size': 8, 'num_classes': 3,
        'freeze_backbone': True, 'ignore_index': 255, 'schedule': 'poly',
    }  # fmt: skip
    defaults['bands'] = [f'sentinel2:{band}' for band in defaults['bands']]
    torch.manual_seed(0)
    return SemanticSegmentationTask('hypercolumn', 'aom_vitt', **{**defaults, **options})


def loader(count: int = 4, batch: int = 2, crops: bool = False) -> DataLoader[Any]:
    class Images(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            seed = int(torch.randint(1 << 30, ())) if crops else index
            random = torch.Generator().manual_seed(seed)
            image = torch.randn(4, 32, 32, generator=random)
            return {'image': image, 'mask': (image[0] > 0).long()}

    return DataLoader(Images(), batch)


def fit(task: Any, data: DataLoader[Any], epochs: int, folder: Path) -> None:
    trainer = Trainer(
        accelerator='cpu', max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=0, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(task, data)


def test_statistics_equal_slow_ones() -> None:
    image = torch.randn(1, 2, 30, 26)
    found = local_statistics(image)[0]
    assert found.shape == (2, 7, 30, 26)
    for row, column in ((0, 0), (13, 25), (29, 12)):
        for k, half in enumerate((2, 5, 10)):
            part = image[0, 1, max(0, row - half) : row + half + 1,
                         max(0, column - half) : column + half + 1]  # fmt: skip
            assert found[1, 1 + k, row, column] == pytest.approx(float(part.mean()), abs=1e-5)
            deviation = float(part.std(correction=0))
            assert found[1, 4 + k, row, column] == pytest.approx(deviation, abs=1e-3)


def test_rows_and_images_agree() -> None:
    """Training on single pixels and predicting images are the same function."""
    torch.manual_seed(0)
    head = Hypercolumn(24, 3, 'weak')
    chips = [Chip(torch.randn(2, 16, 24), torch.randint(3, (16, 24)), torch.randn(4, 6, 4, 6))
             for _ in range(3)]  # fmt: skip
    with pytest.raises(ConfigError, match='must be one of none, weak, strong'):
        Hypercolumn(24, 3, 'much')
    head = Hypercolumn(64, 3, 'weak')
    chips = [Chip(c.image, c.mask, torch.randn(4, 16, 4, 6)) for c in chips]
    every = [np.arange(16 * 24)] * 3
    pixels = gather(head, chips, (4, 4), every)
    codes = torch.tensor([1.0, 7.5])
    head.eval()
    rows = head.rows(pixels.statistics, codes, pixels.context).unflatten(0, (3, 16, 24))
    for k, chip in enumerate(chips):
        assert chip.maps is not None
        whole = head(chip.image[None], codes, list(chip.maps[:, None]), (4, 4))[0]
        torch.testing.assert_close(whole.movedim(0, 2), rows[k], atol=1e-4, rtol=1e-4)


def test_learns_and_runs_on_fewer_bands() -> None:
    """Of two bands, either alone says the class; a head trained on both runs on the second."""
    random = torch.Generator().manual_seed(0)
    masks = [torch.randint(2, (24, 24), generator=random) for _ in range(4)]
    chips = [Chip((m * 2.0 - 1 + 0.2 * torch.randn(2, 24, 24, generator=random)), m) for m in masks]
    head = Hypercolumn(4, 2, 'none')
    settings = PixelSettings(pixels=1000, steps=120, batch_size=128, band_dropout=0.5)
    pixels = gather(head, chips, (8, 8), draw(masks, 1000, 0, None))
    codes = torch.tensor([2.0, 9.0])
    train_pixels(head, pixels, codes, settings, 0)
    for bands in (slice(0, 2), slice(1, 2)):
        said = head(chips[0].image[None, bands], codes[bands], [], (8, 8)).argmax(1)[0]
        assert (said == masks[0]).float().mean() > 0.97


def test_weights_and_draw() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    weight = class_weights(labels, 3, 1.0)
    assert weight is not None and weight[2] == 0
    assert weight[1] / weight[0] == pytest.approx(9)
    assert (weight[labels]).mean() == pytest.approx(1)
    assert class_weights(labels, 3, 0) is None
    masks = [torch.full((8, 8), 255), torch.zeros(8, 8).long()]
    first, second = draw(masks, 20, 0, 255)
    assert not len(first) and len(second) == 20
    with pytest.raises(InputError, match='none of the 1 training masks has a labelled pixel'):
        draw(masks[:1], 20, 0, 255)


def test_masks_that_cannot_be_learned() -> None:
    facts = {'classes': ('a', 'b'), 'ignore_index': 255, 'ignored': ()}
    for mask, error, text in (
        (torch.full((16, 16), 7), InputError, r'hold \[7\], which are no classes'),
        (torch.ones(16, 16).long(), ConfigError, 'fewer than two classes'),
    ):
        places = {'train': [Chip(torch.randn(4, 16, 16), mask)]}
        with pytest.raises(error, match=text):
            train_head(None, places, PixelSettings(), 0, facts, ['none'])


def test_memory_is_exact_and_gives_up() -> None:
    calls = []

    def compute(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(len(x))
        return [x * 2, x.mean(1, keepdim=True)]

    memory = FeatureMemory(patience=6)
    x = torch.randn(3, 2, 4, 4)
    first = memory.maps(compute, x, 'a')
    again = memory.maps(compute, x.flip(0), 'a')
    assert all(torch.equal(p.flip(0), q) for p, q in zip(first, again, strict=True))
    assert calls == [3] and (memory.hits, memory.misses) == (3, 3)
    mirrored = memory.maps(compute, x[:1].flip(3), 'a')  # its own maps, not flipped ones
    assert torch.equal(mirrored[0], x[:1].flip(3) * 2) and calls == [3, 1]
    memory.maps(compute, x, 'b')
    assert calls[-1] == 3
    fresh = FeatureMemory(patience=6)
    for _ in range(4):
        fresh.maps(compute, torch.randn(3, 2, 4, 4), 'a')
    assert not fresh.active and not len(fresh)
    small = FeatureMemory(limit=3 * 4 * 4 * 4)  # of one image
    small.maps(compute, x, 'a')
    assert len(small) == 1
    assert torch.equal(small.maps(compute, x, 'a')[0], x * 2)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('model', ['hypercolumn', 'upernet'])
def test_task_computes_maps_once(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    task = build() if model == 'hypercolumn' else SemanticSegmentationTask(
        'upernet', 'aom_vitt', bands='sentinel2:10m', patch_size=8, num_classes=3,
        freeze_backbone=True, decoder_channels=16, schedule='poly',
    )  # fmt: skip
    seen = []
    encoder = task.model.encoder
    own = encoder.forward_intermediates

    def counted(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(x))
        return own(x, *args, **kwargs)

    monkeypatch.setattr(encoder, 'forward_intermediates', counted)
    fit(task, loader(), 5, tmp_path)
    assert sum(seen) == 4  # images, not 20
    assert encoder.memory is None
    seen.clear()
    trained = build(freeze_backbone=False)
    monkeypatch.setattr(trained.model.encoder, 'forward_intermediates', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(trained, loader(), 1, tmp_path)


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_task_says_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr(frozen_maps, 'rank_zero_info', said.append)
    fit(build(), loader(crops=True), 3, tmp_path)
    assert 'computed once and kept' in said[0] and 'computed every time' in said[-1]


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_batches_are_checked(tmp_path: Path) -> None:
    upernet = SemanticSegmentationTask(
        'upernet', 'aom_vitt', bands='sentinel2:10m', patch_size=8, num_classes=3,
        freeze_backbone=True, decoder_channels=16, schedule='poly', aux_weight=0.4,
    )  # fmt: skip
    assert upernet.aux_head is None  # it would train nothing
    with pytest.raises(ConfigError, match='batch norms, which need batches of two images'):
        fit(upernet, loader(batch=1), 1, tmp_path)
    fit(build(), loader(batch=1), 1, tmp_path)
    image = torch.randn(2, 4, 16, 16)
    task = build()
    with pytest.raises(InputError, match=r'masks hold \[9\], which are no classes \(0 to 2\)'):
        task.training_step({'image': image, 'mask': torch.full((2, 16, 16), 9)}, 0)
    with pytest.raises(InputError, match=r'masks of \(8, 8\) px'):
        task.training_step({'image': image, 'mask': torch.zeros(2, 8, 8).long()}, 0)


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_checkpoint_other_bands_and_onnx(tmp_path: Path) -> None:
    task = build()
    fit(task, loader(), 1, tmp_path)
    assert bool(task.model.decoder.fitted)
    save_task(task, tmp_path / 'head.ckpt')
    image = torch.randn(1, 4, 40, 48)
    same = SemanticSegmentationTask.load_from_checkpoint(tmp_path / 'head.ckpt').eval()
    torch.testing.assert_close(same(image), task.eval()(image))
    rgb = SemanticSegmentationTask.load_from_checkpoint(
        tmp_path / 'head.ckpt', bands='sentinel2:rgb'
    ).eval()
    assert rgb(image[:, :3]).shape == (1, 3, 40, 48)
    pytest.importorskip('onnxruntime')
    from torchgeo_aom.clients.onnx import export_onnx

    export_onnx(same.model, tmp_path / 'head.onnx')
    assert (tmp_path / 'head.onnx').stat().st_size > 1000
