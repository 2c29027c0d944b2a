"""Metrics that TorchGeo does not log, or not in both versions: IoU by class, mAP, F1."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import JaccardIndex, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassJaccardIndex,
    MultilabelAveragePrecision,
    MultilabelF1Score,
    MultilabelJaccardIndex,
)
from torchmetrics.utilities import dim_zero_cat

__all__ = ('MeanIoU', 'add_class_iou', 'add_multilabel')

# Names that TorchGeo 0.10 logs, so that both ends of the supported versions have the same.
AVERAGE = 'AverageJaccardIndex'
CLASSWISE = 'ClasswiseJaccardIndex'


class _MulticlassIoU(MulticlassJaccardIndex):
    """Intersection over union of one class; a collection shares the confusion matrix of all."""

    def __init__(self, index: int, num_classes: int, ignore_index: int | None) -> None:
        super().__init__(num_classes, average='none', ignore_index=ignore_index)
        self.index = index

    def compute(self) -> Tensor:
        """IoU of the class; 0 where it is in neither targets nor predictions."""
        return super().compute()[self.index]


class _MultilabelIoU(MultilabelJaccardIndex):
    """Intersection over union of one label."""

    def __init__(self, index: int, num_labels: int, ignore_index: int | None) -> None:
        super().__init__(num_labels, average='none', ignore_index=ignore_index)
        self.index = index

    def compute(self) -> Tensor:
        """IoU of the label; 0 where it is in neither targets nor predictions."""
        return super().compute()[self.index]


class MeanIoU(MulticlassJaccardIndex):
    """Intersection over union, averaged over the classes that count.

    Classes that occur neither in targets nor in predictions do not enter the mean. Pixels whose
    target is a class that does not count still speak against what was predicted there; only
    *ignore_index* takes pixels out altogether.
    """

    def __init__(
        self, num_classes: int, ignored: Sequence[int] = (), ignore_index: int | None = None
    ) -> None:
        """Initialize the metric.

        Args:
            num_classes: number of classes.
            ignored: classes whose IoU is left out of the mean.
            ignore_index: target of pixels that count nowhere.
        """
        super().__init__(num_classes, average='none', ignore_index=ignore_index)
        left_out = {*ignored, ignore_index}
        self.counted = [k for k in range(num_classes) if k not in left_out]

    def compute(self) -> Tensor:
        """Mean IoU; 0 where no class that counts occurs."""
        iou = super().compute()
        matrix: Tensor = self.confmat
        occurring = (matrix.sum(0) + matrix.sum(1))[self.counted] > 0
        return iou[self.counted][occurring].mean() if occurring.any() else torch.zeros_like(iou[0])


class _MicroAP(MultilabelAveragePrecision):
    """Average precision of logits, over all pairs of sample and label."""

    def __init__(self, num_labels: int, average: Literal['micro', 'none'] = 'micro') -> None:
        super().__init__(num_labels, average=average)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take a batch of logits, which torchmetrics would guess batch by batch to be scores."""
        super().update(preds.sigmoid(), target)


class _MacroAP(_MicroAP):
    """Average precision of logits, averaged over the labels that some sample has."""

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average='none')

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean; 0 where there is no positive sample at all."""
        with warnings.catch_warnings():  # of labels without one, which are left out here
            warnings.simplefilter('ignore', UserWarning)
            scores: Tensor = super().compute()
        occurring = dim_zero_cat(self.target).any(0)
        return scores[occurring].mean() if occurring.any() else torch.zeros_like(scores[0])


def add_multilabel(metrics: MetricCollection, num_labels: int) -> None:
    """Add mAP (not in training) and F1, macro and micro, where they are missing.

    Args:
        metrics: the collection of a stage, changed in place.
        num_labels: number of labels.
    """
    present = set(metrics.keys(keep_base=True))
    names = {'OverallF1Score': 'micro', 'AverageF1Score': 'macro'}
    added: dict[str, Any] = {
        name: MultilabelF1Score(num_labels, average=average)  # type: ignore[arg-type]
        for name, average in names.items()
        if name not in present
    }
    if not str(metrics.prefix).startswith('train'):  # it keeps all scores until the epoch ends
        added |= {'mAP': _MacroAP(num_labels), 'micro_mAP': _MicroAP(num_labels)}
    metrics.add_metrics(added)


def add_class_iou(metrics: MetricCollection, hparams: Mapping[str, Any]) -> None:
    """Add macro-averaged and per-class IoU to the metrics of a task, where they are missing.

    The average leaves out *ignore_index*, *ignored_classes*, and classes that occur neither in
    targets nor in predictions.

    Args:
        metrics: the collection of a stage, changed in place.
        hparams: ``task``, ``num_classes`` or ``num_labels``, ``ignore_index`` and
            ``ignored_classes`` of the task.
    """
    task, ignore = hparams['task'], hparams.get('ignore_index')
    classes, labels = hparams['num_classes'], hparams['num_labels']
    ignored = hparams.get('ignored_classes') or ()
    if AVERAGE in metrics.keys(keep_base=True):
        if ignored:  # under the same name, so that monitors and tables find it
            metrics[AVERAGE] = MeanIoU(classes, ignored, ignore)
        return
    added: dict[str, Metric] = {
        AVERAGE: MeanIoU(classes, ignored, ignore)
        if ignored
        else JaccardIndex(
            task, num_classes=classes, num_labels=labels, average='macro', ignore_index=ignore
        )
    }
    if task == 'multiclass':
        for k in range(classes):
            if k != ignore:
                added[f'{CLASSWISE}_{k}'] = _MulticlassIoU(k, classes, ignore)
    elif task == 'multilabel':
        for k in range(labels):
            added[f'{CLASSWISE}_{k}'] = _MultilabelIoU(k, labels, ignore)
    metrics.add_metrics(added)  # type: ignore[arg-type]
