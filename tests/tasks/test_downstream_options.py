"""Options of downstream tasks: patch size by rule, decay by layer, schedules, heads, metrics."""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, jaccard_score
from task_tools import CLASSES, MODEL, SIZE, fit, label, loader, mask, quick_trainer
from torchmetrics import MetricCollection

from torchgeo_aom import describe, tasks
from torchgeo_aom.cli import main
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.tasks.metrics import MeanIoU, add_multilabel

CHIPS = {'mask': mask()}


def segmentation(**options: Any) -> Any:
    defaults = {'backbone': MODEL, 'bands': 'rgb', 'num_classes': CLASSES}
    return tasks.SemanticSegmentationTask(**{**defaults, **options})


def classification(**options: Any) -> Any:
    defaults = {'model': MODEL, 'bands': 'rgb', 'num_classes': CLASSES}
    return tasks.ClassificationTask(**{**defaults, **options})


def reloaded(task: Any, trainer: Any, folder: Path) -> Any:
    trainer.save_checkpoint(folder / 'task.ckpt')
    torch.load(folder / 'task.ckpt', weights_only=True)
    return type(task).load_from_checkpoint(folder / 'task.ckpt')


class TestPatchSize:
    def test_resolved_and_saved(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        with caplog.at_level(logging.INFO, 'lightning.pytorch.utilities.rank_zero'):
            task = classification(patch_size='auto', image_size=[400, 400])
        assert task.hparams['patch_size'] == 24
        assert "patch_size='auto': 24 px for images of 400 x 400 px" in caplog.text
        assert task.backbones[0].patch_embed.patch_size == (24, 24)
        trainer = quick_trainer(tmp_path)
        trainer.strategy.connect(task)
        again = reloaded(task, trainer, tmp_path)
        assert again.hparams['patch_size'] == 24

    @pytest.mark.parametrize('cls', [tasks.SemanticSegmentationTask, tasks.PixelwiseRegressionTask])
    def test_dense(self, cls: Any) -> None:
        options = {'num_classes': 2} if cls is tasks.SemanticSegmentationTask else {}
        task = cls(backbone=MODEL, bands='rgb', patch_size='auto', gsd_m=5, **options)
        assert task.hparams['patch_size'] == 32

    def test_errors(self) -> None:
        with pytest.raises(ConfigError, match='give image_size'):
            classification(patch_size='auto')
        with pytest.raises(ConfigError, match="or 'auto', got 'best'"):
            classification(patch_size='best')
        with pytest.raises(ConfigError, match="gsd_m=5 counts with patch_size='auto' only"):
            classification(gsd_m=5)

    def test_plan(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert describe(MODEL, 'rgb', 500, 'auto').patch_size == (32, 32)
        assert describe(MODEL, 'rgb', 512, 'auto', gsd_m=10).patch_size == (16, 16)
        assert main(['plan', '--model', MODEL, '--size', '400', '--patch', 'auto']) == 0
        assert re.search(r'patch +24 x 24 px', capsys.readouterr().out)
        assert main(['plan', '--patch', 'best']) == 2
        for patch_size in (None, 16):
            with pytest.raises(ConfigError, match='gsd_m=10 counts with'):
                describe(MODEL, 'rgb', 512, patch_size, gsd_m=10)


class TestFineTuning:
    def rates(self, task: Any) -> dict[str, tuple[float, float]]:
        """Learning rate and weight decay of each trainable parameter."""
        task.trainer = quick_trainer(Path())
        chosen = task.configure_optimizers()
        names = {id(p): k for k, p in task.named_parameters()}
        found = {
            names[id(p)]: (group['lr'], group['weight_decay'])
            for group in chosen['optimizer'].param_groups
            for p in group['params']
        }
        wanted = {k for k, p in task.named_parameters() if p.requires_grad}
        assert set(found) >= wanted
        return found

    @pytest.mark.parametrize('build', [classification, segmentation])
    def test_layers(self, build: Any) -> None:
        task = build(layer_decay=0.5, lr=1.0)
        rates = self.rates(task)
        backbone = 'model' if build is classification else 'model.encoder'
        layers = [rates[f'{backbone}.blocks.{k}.attn.qkv.weight'][0] for k in range(12)]
        assert layers == [0.5 ** (12 - k) for k in range(12)]
        assert rates[f'{backbone}.patch_embed.kernels.16.weight'] == (0.5**13, 0.0)
        assert rates[f'{backbone}.norm.weight'] == (0.5, 0.0)
        assert rates[f'{backbone}.blocks.0.attn.qkv.weight'][1] == 0.05
        heads = {k: v for k, v in rates.items() if not k.startswith(f'{backbone}.')}
        heads |= {k: v for k, v in rates.items() if '.head.' in k}
        assert heads and {rate for rate, _ in heads.values()} == {1.0}
        assert not any(decay for k, (_, decay) in heads.items() if k.endswith('bias'))

    def test_defaults_are_torchgeos(self) -> None:
        task = classification()
        assert set(self.rates(task).values()) == {(1e-3, 0.01)}
        assert 'monitor' in task.configure_optimizers()['lr_scheduler']

    @pytest.mark.parametrize('schedule', ['cosine', 'poly', 'constant'])
    def test_schedules(self, schedule: str, tmp_path: Path) -> None:
        task = segmentation(
            freeze_backbone=True, schedule=schedule, warmup_steps=2, lr=1.0, weight_decay=0.1
        )
        seen: list[float] = []
        task.on_train_batch_end = lambda *a, **k: seen.append(
            task.optimizers().param_groups[0]['lr']
        )
        data = loader(3, SIZE, SIZE, **CHIPS)
        fit(task, data, tmp_path, fast_dev_run=False, max_epochs=5, limit_val_batches=0)
        expected = {'cosine': [1, 1, 0.75, 0.25, 0], 'poly': [1, 1, 2 / 3, 1 / 3, 0]}
        assert seen == pytest.approx(expected.get(schedule, [1, 1, 1, 1, 1]), abs=1e-6)

    def test_errors(self) -> None:
        with pytest.raises(ConfigError, match='layer_decay'):
            classification(layer_decay=1.5)
        with pytest.raises(ConfigError, match='weight_decay'):
            segmentation(weight_decay=-1)
        with pytest.raises(ConfigError, match='schedule must be one of'):
            segmentation(schedule='step')
        with pytest.raises(ConfigError, match="not possible with schedule='plateau'"):
            segmentation(warmup_steps=3)


class TestHeads:
    @pytest.mark.parametrize(
        'options',
        [
            {'aux_weight': 0.4},
            {'decoder_channels': 64, 'levels': 'last'},
            {'decoder_variant': 'dofa', 'decoder_channels': 32, 'aux_weight': 0.4},
            {'decoder_variant': 'spectralgpt', 'decoder_channels': 32, 'levels': 'last'},
        ],
        ids=lambda o: '-'.join(map(str, o.values())),
    )
    def test_fit_and_reload(self, options: dict[str, Any], tmp_path: Path) -> None:
        task = segmentation(freeze_backbone=True, **options)
        before = copy.deepcopy(task.state_dict())
        trainer = fit(task, loader(3, SIZE, SIZE, **CHIPS), tmp_path)
        changed = {k for k, v in task.state_dict().items() if not torch.equal(v, before[k])}
        assert not any(k.startswith('model.encoder') for k in changed)
        parameters = {k for k, p in task.named_parameters() if p.requires_grad}
        # Nothing but what no gradient reaches in a single step stays as it was.
        assert len(parameters - changed) <= 0.1 * len(parameters)
        again = reloaded(task, trainer, tmp_path)
        assert all(again.hparams[key] == value for key, value in options.items())
        images = torch.randn(2, 3, SIZE + 2, SIZE + 20)
        with torch.no_grad():
            out = task.eval()(images)
            assert out.shape == (2, CLASSES, SIZE + 2, SIZE + 20)
            assert torch.equal(out, again.eval()(images))

    def test_aux_loss_counts(self, tmp_path: Path) -> None:
        task = segmentation(aux_weight=0.4, ignore_index=0)
        trainer = fit(task, loader(3, SIZE, SIZE, **CHIPS), tmp_path)
        assert torch.isfinite(trainer.callback_metrics['train_aux_loss'])
        batch = next(
            iter(loader(3, SIZE + 2, SIZE, mask=lambda: torch.ones(SIZE + 2, SIZE).long()))
        )
        task.log = task.log_dict = lambda *a, **k: None
        losses = []
        for weight in (0.0, 0.4, 0.8):
            task.hparams['aux_weight'] = weight
            torch.manual_seed(0)
            losses.append(float(task.train().training_step(batch, 0).detach()))
        assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)
        assert losses[1] - losses[0] > 0.1

    def test_maps_come_from_the_last_block(self) -> None:
        task = segmentation(levels='last').eval()
        images = torch.randn(1, 3, SIZE, SIZE)
        maps = task.model.encoder(images)
        full = task.model.encoder.forward_features(images)[:, 1:]
        assert torch.allclose(maps[4].flatten(2).mT, full, atol=1e-5)
        assert torch.allclose(maps[2].mean((2, 3)), full.mean(1), atol=0.2)

    def test_errors(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'dofa'"):
            segmentation(decoder_variant='dofas')
        with pytest.raises(ConfigError, match="options of model='upernet'"):
            segmentation(model='unet', decoder_variant='dofa')
        with pytest.raises(ConfigError, match='multiple of 8 px'):
            segmentation(decoder_variant='spectralgpt', patch_size=20)
        with pytest.raises(ConfigError, match='square patches'):
            segmentation(decoder_variant='dofa', patch_size=[16, 32])
        with pytest.raises(ConfigError, match='multiple of 16, got 40'):
            segmentation(decoder_channels=40)
        with pytest.raises(ConfigError, match='aux_weight'):
            segmentation(aux_weight=-0.4)
        with pytest.raises(ConfigError, match='DPT'):
            segmentation(model='dpt', aux_weight=0.4)


class TestMeanIoU:
    def test_equals_scikit_learn(self) -> None:
        random = torch.Generator().manual_seed(0)
        target = torch.randint(0, 5, (4, 16, 16), generator=random)  # class 5 is absent
        predicted = torch.where(
            torch.rand(4, 16, 16, generator=random) < 0.6,
            target,
            torch.randint(0, 5, (4, 16, 16), generator=random),
        )
        target[0, :4] = 255
        metric = MeanIoU(6, ignored=[1], ignore_index=255)
        for one, other in zip(predicted, target, strict=True):  # batch by batch
            metric.update(one[None], other[None])
        known = target != 255
        expected = jaccard_score(
            target[known], predicted[known], labels=[0, 2, 3, 4], average='macro'
        )
        assert float(metric.compute()) == pytest.approx(expected, abs=1e-6)

    def test_two_processes_are_one(self) -> None:
        """What torchmetrics adds up over processes is all that the mean depends on."""
        target, predicted = torch.randint(0, 4, (2, 2, 8, 8)).unbind()
        parts = [MeanIoU(4, [0]), MeanIoU(4, [0])]
        whole = MeanIoU(4, [0])
        whole.update(predicted, target)
        for k, part in enumerate(parts):
            part.update(predicted[k : k + 1], target[k : k + 1])
        assert {r.__name__ for r in whole._reductions.values()} == {'dim_zero_sum'}
        for name, reduce in whole._reductions.items():
            states = torch.stack([getattr(part, name) for part in parts])
            setattr(parts[0], name, reduce(states))
        assert torch.equal(parts[0].compute(), whole.compute())

    def test_nothing_that_counts(self) -> None:
        metric = MeanIoU(3, ignored=[0])
        metric.update(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long())
        assert metric.compute() == 0

    def test_named_in_the_output(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        task = segmentation(ignored_classes=[0], ignore_index=2)
        with caplog.at_level(logging.INFO, 'lightning.pytorch.utilities.rank_zero'):
            trainer = fit(task, loader(3, SIZE, SIZE, **CHIPS), tmp_path)
        assert 'mean IoU (AverageJaccardIndex) leaves out: 0, 2' in caplog.text
        logged = trainer.callback_metrics
        assert torch.equal(logged['val_AverageJaccardIndex'], logged['val_ClasswiseJaccardIndex_1'])

    def test_errors(self) -> None:
        with pytest.raises(ConfigError, match='not classes 0 to 2'):
            segmentation(ignored_classes=[3])
        with pytest.raises(ConfigError, match='leaves no class'):
            segmentation(ignored_classes=[0, 1], ignore_index=2)
        with pytest.raises(ConfigError, match='of a multiclass'):
            segmentation(task='binary', num_classes=None, ignored_classes=[0])


class TestMultilabel:
    def test_equals_scikit_learn(self) -> None:
        random = torch.Generator().manual_seed(0)
        logits = torch.randn(40, 5, generator=random)
        logits[:8] = logits[:8].sigmoid()  # a batch that could be taken for scores
        target = torch.randint(0, 2, (40, 5), generator=random)
        target[:, 4] = 0  # a label without a positive sample
        metrics = MetricCollection({}, prefix='val_')
        add_multilabel(metrics, 5)
        for k in range(0, 40, 8):
            metrics.update(logits[k : k + 8], target[k : k + 8])
        found = {key: float(value) for key, value in metrics.compute().items()}
        y, scores = target.numpy(), logits.sigmoid().numpy()
        assert found['val_mAP'] == pytest.approx(
            average_precision_score(y[:, :4], scores[:, :4]), abs=1e-6
        )
        assert found['val_micro_mAP'] == pytest.approx(
            average_precision_score(y, scores, average='micro'), abs=1e-6
        )
        metrics.reset()
        metrics.update(logits[8:], target[8:])  # unmistakable logits
        found = {key: float(value) for key, value in metrics.compute().items()}
        for name, average in {'OverallF1Score': 'micro', 'AverageF1Score': 'macro'}.items():
            expected = f1_score(y[8:], scores[8:] > 0.5, average=average, zero_division=0)
            assert found[f'val_{name}'] == pytest.approx(expected, abs=1e-6)

    def test_logged(self, tmp_path: Path) -> None:
        task = classification(task='multilabel', num_classes=None, num_labels=4, loss='bce')
        data = loader(3, SIZE, SIZE, label=lambda: torch.randint(0, 2, (4,)))
        logged = fit(task, data, tmp_path).callback_metrics
        names = ('mAP', 'micro_mAP', 'OverallF1Score', 'AverageF1Score')
        assert all(torch.isfinite(logged[f'val_{name}']) for name in names)
        assert 'train_mAP' not in logged

    def test_one_label_task_has_none(self, tmp_path: Path) -> None:
        logged = fit(
            classification(), loader(3, SIZE, SIZE, label=label), tmp_path
        ).callback_metrics
        assert 'val_mAP' not in logged
