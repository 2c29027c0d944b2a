"""Intersection over union, averaged over classes and of each class, where TorchGeo logs neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchmetrics import JaccardIndex, Metric, MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex, MultilabelJaccardIndex

__all__ = ('add_class_iou',)

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


def add_class_iou(metrics: MetricCollection, hparams: Mapping[str, Any]) -> None:
    """Add macro-averaged and per-class IoU to the metrics of a task, where they are missing.

    The average leaves out *ignore_index*, and classes that occur neither in targets nor in
    predictions.

    Args:
        metrics: the collection of a stage, changed in place.
        hparams: ``task``, ``num_classes`` or ``num_labels``, and ``ignore_index`` of the task.
    """
    if AVERAGE in metrics.keys(keep_base=True):
        return
    task, ignore = hparams['task'], hparams.get('ignore_index')
    classes, labels = hparams['num_classes'], hparams['num_labels']
    added: dict[str, Metric] = {
        AVERAGE: JaccardIndex(
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
