"""Detection on real imagery: losses fall, objects are found, checkpoints give the same boxes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from task_tools import MODEL, quick_trainer
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_aom import tasks
from torchgeo_aom.data.samples import SentinelPairs
from torchgeo_aom.errors import ConfigError, InputError
from torchgeo_aom.transforms import Normalize, NormalizeSample

BANDS = ['sentinel2:B04', 'sentinel2:B08', 'sentinel2:B11']
SIDE = 84  # no multiple of the patch size
BOXES = torch.tensor([[8.0, 12.0, 32.0, 30.0], [40.0, 44.0, 60.0, 76.0]])
MODELS = ['faster-rcnn', 'retinanet', 'fcos', 'mask-rcnn']


def sample() -> dict[str, Tensor]:
    """A real chip with two bright objects on it, as ships are on water."""
    places = SentinelPairs('l2a', BANDS, 'west')
    normalize = Normalize(places.bands, product=places.product, statistics='sentinel2:l2a')
    places.transforms = NormalizeSample(normalize)
    image = places[1]['image'][:, :SIDE, :SIDE].clone()
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, BOXES.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
        image[:, top:bottom, left:right] += 4
    return {
        'image': image, 'bbox_xyxy': BOXES, 'label': torch.tensor([1, 1]), 'mask': masks,
    }  # fmt: skip


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    lists: dict[str, Any] = {key: [s[key] for s in samples] for key in samples[0]}
    return {**lists, 'image': torch.stack(lists['image'])}


def data(count: int = 2, batch_size: int = 2) -> DataLoader[Any]:
    samples: Any = [sample()] * count
    return DataLoader(samples, batch_size, collate_fn=collate)


def build(model: str, **options: Any) -> Any:
    cls = tasks.InstanceSegmentationTask if model == 'mask-rcnn' else tasks.ObjectDetectionTask
    defaults = {'backbone': MODEL, 'bands': BANDS, 'patch_size': 12, 'anchor_scale': 0.5}
    return cls(model, **{**defaults, **options})


@pytest.mark.parametrize('model', MODELS)
def test_fit_and_reload(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = build(model)
    trainer = quick_trainer(tmp_path)
    trainer.fit(task, data(), data())
    assert torch.isfinite(trainer.callback_metrics['train_loss'])
    trainer.save_checkpoint(tmp_path / 'task.ckpt')
    torch.load(tmp_path / 'task.ckpt', weights_only=True)
    again = type(task).load_from_checkpoint(tmp_path / 'task.ckpt')
    assert [band.label for band in again.backbones[0].bands] == BANDS
    assert again.hparams['patch_size'] == 12
    task.model.score_thresh = again.model.score_thresh = 0.0
    images = [torch.randn(3, 50, 70), torch.randn(3, 64, 41)]  # of any size
    with torch.no_grad():
        ours, theirs = task.eval()(images), again.eval()(images)
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize(
    ('model', 'steps'),
    [('faster-rcnn', 40), pytest.param('mask-rcnn', 60, marks=pytest.mark.slow)],
)
def test_overfit(model: str, steps: int, tmp_path: Path) -> None:
    """On the image that it is trained on, a detector finds the objects."""
    torch.manual_seed(0)
    task = build(model, freeze_backbone=True, lr=1e-3, schedule='poly', warmup_steps=5)
    # As many boxes as such an image needs: the usual hundreds take ten times as long.
    task.model.roi_heads.fg_bg_sampler.batch_size_per_image = 32
    task.model.rpn._pre_nms_top_n = {'training': 100, 'testing': 100}
    task.model.rpn._post_nms_top_n = {'training': 50, 'testing': 50}
    losses: list[float] = []
    task.on_train_batch_end = lambda outputs, *a: losses.append(float(outputs['loss']))
    trainer = quick_trainer(
        tmp_path, fast_dev_run=False, max_epochs=1, num_sanity_val_steps=0, limit_val_batches=1
    )
    trainer.fit(task, data(steps, 1), data(1, 1))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    logged = trainer.callback_metrics
    assert logged['val_segm_map' if model == 'mask-rcnn' else 'val_map'] > 0.5


def test_images_are_not_changed_on_their_way() -> None:
    task = build('faster-rcnn').eval()
    seen: list[Tensor] = []
    task.model.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    image = 3 * torch.randn(3, SIDE, SIDE) + 7
    with torch.no_grad():
        task([image])
    assert torch.equal(seen[0][0, :, :SIDE, :SIDE], image)
    assert not seen[0][0, :, SIDE:].any() and not seen[0][0, :, :, SIDE:].any()


def test_freezing_leaves_the_pyramid_trainable() -> None:
    task = build('retinanet', freeze_backbone=True)
    backbone = task.model.backbone
    assert not any(p.requires_grad for p in backbone.encoder.parameters())
    assert all(p.requires_grad for p in backbone.fpn.parameters())


def test_weights_and_layers(weights: Any) -> None:
    task = build('faster-rcnn', weights=str(weights.path), layer_decay=0.5, lr=1.0)
    assert weights.loaded(task)
    task.trainer = quick_trainer(Path())
    chosen = task.configure_optimizers()
    rates = sorted({group['lr'] for group in chosen['optimizer'].param_groups})
    assert rates == [0.5**k for k in range(13, -1, -1)]
    assert chosen['lr_scheduler']['scheduler'].mode == 'max'  # mAP grows


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'faster-rcnn'"):
        build('faster_rcnn')
    with pytest.raises(ConfigError, match='at least 2'):
        build('fcos', num_classes=1)
    with pytest.raises(TypeError, match='trainable_layers'):
        build('fcos', trainable_layers=3)
    with pytest.raises(InputError, match='NaN'):
        build('fcos').eval()([torch.full((3, 64, 64), float('nan'))])
    for name in ('pycocotools', 'faster_coco_eval'):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr('torchmetrics.detection.mean_ap._PYCOCOTOOLS_AVAILABLE', False)
    monkeypatch.setattr('torchmetrics.detection.mean_ap._FASTER_COCO_EVAL_AVAILABLE', False)
    with pytest.raises(ConfigError, match=r'torchgeo_aom\[detection\]'):
        build('fcos')
