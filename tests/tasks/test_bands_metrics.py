"""Metrics of the tasks with bands, and what a run says at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bands_tools import build, data
from sklearn.metrics import jaccard_score
from task_tools import MODEL, SIZE, Weights, fit, quick_trainer, save
from torchmetrics import Accuracy, MetricCollection

from torchgeo_aom import tasks
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.tasks.metrics import add_class_iou

pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]


class TestMetrics:
    @pytest.mark.parametrize('ignore', [None, 0, 255])
    def test_iou(self, ignore: int | None, tmp_path: Path) -> None:
        """Macro and per class as scikit-learn has them; class 3 occurs nowhere."""
        task = build('segmentation', bands='rgb', num_classes=4, ignore_index=ignore).eval()
        with torch.no_grad():
            task.model.segmentation_head[0].bias[3] = -1e6
        target = torch.randint(0, 3, (2, SIZE, SIZE))
        if ignore == 255:
            target[:, :5] = 255
        samples = [{'image': torch.randn(3, SIZE, SIZE), 'mask': y} for y in target]
        data = torch.utils.data.DataLoader(samples, 1)  # type: ignore[arg-type]
        (logged,) = quick_trainer(tmp_path, fast_dev_run=False).validate(task, data, verbose=False)
        with torch.inference_mode():
            predicted = torch.cat([task(s['image'][None]).argmax(1) for s in samples])
        counted = target != (-1 if ignore is None else ignore)
        y, p = target[counted].numpy(), predicted[counted].numpy()
        labels = [k for k in range(3) if k != ignore]
        classes = jaccard_score(y, p, labels=labels, average=None, zero_division=0)
        for k, iou in zip(labels, classes, strict=True):
            assert logged[f'val_ClasswiseJaccardIndex_{k}'] == pytest.approx(iou, abs=1e-5)
        present = [k for k in labels if (y == k).any() or (p == k).any()]
        average = jaccard_score(y, p, labels=present, average='macro', zero_division=0)
        assert logged['val_AverageJaccardIndex'] == pytest.approx(average, abs=1e-5)
        assert logged['val_ClasswiseJaccardIndex_3'] == 0

    @pytest.mark.parametrize(
        ('name', 'kwargs', 'classwise'),
        [
            ('classification', {'num_classes': 3}, 3),
            ('classification', {'task': 'multilabel', 'num_labels': 2, 'loss': 'bce'}, 2),
            ('change', {}, 0),
            ('change', {'task': 'multiclass', 'num_classes': 4, 'loss': 'ce'}, 4),
            ('segmentation', {'task': 'binary', 'num_classes': None, 'loss': 'bce'}, 0),
        ],
    )
    def test_names(self, name: str, kwargs: dict[str, Any], classwise: int) -> None:
        """The same names on TorchGeo 0.8 and 0.10."""
        task = build(name, bands='rgb', **kwargs)
        outputs = kwargs.get('num_classes') or kwargs.get('num_labels')
        scores = torch.rand(8, outputs) if outputs else torch.rand(8)
        target = torch.randint(2, (8, 2) if 'num_labels' in kwargs else (8,))
        for stage in ('train', 'val', 'test'):
            logged = getattr(task, f'{stage}_metrics')(scores, target)
            assert logged[f'{stage}_AverageJaccardIndex'].ndim == 0
            found = {key for key in logged if 'ClasswiseJaccardIndex' in key}
            assert found == {f'{stage}_ClasswiseJaccardIndex_{k}' for k in range(classwise)}

    def test_multilabel(self) -> None:
        metrics = MetricCollection({'OverallAccuracy': Accuracy('multilabel', num_labels=2)})
        hparams = {'task': 'multilabel', 'num_classes': None, 'num_labels': 2}
        add_class_iou(metrics, hparams)
        add_class_iou(metrics, hparams)  # changes nothing
        target = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]])
        predicted = torch.tensor([[0.9, 0.8], [0.2, 0.7], [0.1, 0.9], [0.9, 0.2]])
        result = metrics(predicted, target)
        assert result['ClasswiseJaccardIndex_0'] == pytest.approx(2 / 3)
        assert result['ClasswiseJaccardIndex_1'] == pytest.approx(2 / 3)
        assert result['AverageJaccardIndex'] == pytest.approx(2 / 3)


class TestReport:
    def lines(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from torchgeo_aom.tasks import mixin, report

        said: list[str] = []
        for module in (mixin, report):
            monkeypatch.setattr(module, 'rank_zero_info', said.append)
        return said

    def test_fit(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Weights) -> None:
        said = self.lines(monkeypatch)
        task = build(
            'segmentation', bands='sentinel2:rgb', patch_size=8, weights=weights.given('enum')
        )
        fit(task, data('segmentation', 3), tmp_path)
        sha256 = weights.member().meta['sha256'][:16]
        assert said == [
            f'AOM {MODEL}: bands sentinel2:B04 -> 3, sentinel2:B03 -> 2, sentinel2:B02 -> 1; patch '
            '8 x 8 px from the 16 px kernel, PI-resize loses 75% of its freedom; speed '
            'exact; weights: '
            f'AOMTiny_Weights.TEST_RUN (SHA-256 {sha256}...)',
            said[1],
        ]
        assert said[1].startswith(
            'AOM images of 64 x 64 px: grid 8 x 8, 192 tokens each (all tokens in all blocks); a '
            'batch of 2 takes about 0.0'
        )
        assert said[1].endswith('for training the whole backbone (float32)')

    @pytest.mark.parametrize('verb', ['validate', 'test', 'predict'])
    def test_other_runs(self, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        said = self.lines(monkeypatch)
        path = save(build('classification', bands='rgb'), tmp_path)
        task = build('classification', bands='rgb')
        run = getattr(quick_trainer(tmp_path, fast_dev_run=False), verb)
        run(task, data('classification', 3), ckpt_path=path)
        assert said[0].endswith('weights: random initialization')
        assert said[1] == f'AOM {MODEL}: weights now: checkpoint of epoch 0, step 0'
        assert 'grid 4 x 4, 48 tokens each' in said[2] and len(said) == 3

    def test_reloaded(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        said = self.lines(monkeypatch)
        path = save(build('change', model='unet', bands='rgb'), tmp_path)
        task = tasks.ChangeDetectionTask.load_from_checkpoint(path)
        trainer = quick_trainer(tmp_path)
        trainer.test(task, data('change', 3), verbose=False)
        assert 'rgb:blue -> 1, on each of 2 dates; ' in said[0]
        assert said[0].endswith('weights: checkpoint of epoch 0, step 0')
        assert 'grid 4 x 4, 96 tokens each' in said[1]

    def test_many_bands(self) -> None:
        from torchgeo_aom.tasks.report import facts_line

        bands = [0.4 + 0.01 * k for k in range(200)]
        line = facts_line('x', AOM(embed_dim=24, depth=1, num_heads=3, bands=bands), 'none')
        assert ', ... (180 more); ' in line and line.count('\n') == 0
        positional = AOM(embed_dim=24, depth=1, num_heads=3, in_chans=4)
        assert 'positional 0..3 (no bands named)' in facts_line('x', positional, 'none')
