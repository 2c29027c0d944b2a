"""Scores of a probe: accuracy, or average precision and F1 where samples have several labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scikit_learn import scikit_learn

__all__ = ('METRICS', 'rate', 'score')

#: all metrics of samples with one class and with several labels; the first is what is chosen by
METRICS = {
    1: ('accuracy', 'balanced accuracy'),
    2: ('mAP', 'mAP micro', 'F1 macro', 'F1 micro'),
}
THRESHOLD = 0.5


def rate(y: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
    """All metrics.

    Args:
        y: classes of shape (N,), or zeros and ones of shape (N, K).
        predictions: classes of shape (N,), or scores of shape (N, K); F1 takes 0.5 as threshold.

    Returns:
        Metrics by name. Macro averages are over the classes that occur in *y*; NaN where none does.
    """
    if y.ndim == 1:
        recalls = [float((predictions[y == k] == k).mean()) for k in np.unique(y)]
        both = (float((predictions == y).mean()), float(np.mean(recalls)))
        return dict(zip(METRICS[1], both, strict=True))
    if not y.any():
        return dict.fromkeys(METRICS[2], float('nan'))
    metrics = scikit_learn('sklearn.metrics')
    said = (predictions >= THRESHOLD).astype(y.dtype)
    occurring = y.any(axis=0)
    values = (
        score(y, predictions),
        metrics.average_precision_score(y, predictions, average='micro'),
        metrics.f1_score(y[:, occurring], said[:, occurring], average='macro', zero_division=0.0),
        metrics.f1_score(y, said, average='micro', zero_division=0.0),
    )
    return dict(zip(METRICS[2], map(float, values), strict=True))


def score(y: NDArray[Any], predictions: NDArray[Any]) -> float:
    """The metric that is chosen by: accuracy, or average precision averaged over labels."""
    if y.ndim == 1:
        return float((predictions == y).mean())
    occurring = y.any(axis=0)
    if not occurring.any():
        return float('nan')
    metrics = scikit_learn('sklearn.metrics')
    return float(metrics.average_precision_score(y[:, occurring], predictions[:, occurring]))
