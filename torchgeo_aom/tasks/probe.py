"""Probes of frozen features: logistic regression and nearest neighbors on fixed divisions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, InputError, suggest
from .baselines import band_statistics
from .divisions import Division, check_groups
from .feature_cache import content
from .features import Features, extract_features
from .knn import knn_scores
from .probe_scores import METRICS, rate, score
from .scikit_learn import scikit_learn

__all__ = (
    'Features',
    'ProbeResult',
    'band_statistics',
    'content',
    'extract_features',
    'fit_linear',
    'fit_probe',
    'linear_probe',
    'run_probe',
)

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
#: values above which a fit is in float32: twice as fast, and half the memory
LARGE = 1 << 25


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a probe.

    Attributes:
        metric: ``'accuracy'``, or ``'mAP'`` (macro) where samples have several labels.
        scores: the metric on the test part of each division.
        strengths: inverse regularization strength C chosen for each division; for nearest
            neighbors their number.
        predictions: prediction for each sample by the model that has not seen it: class of shape
            (N,), or scores of shape (N, K); -1, or NaN, where a sample is never tested on.
        metrics: all metrics, each on every division.

    .. versionadded:: 0.1
    """

    metric: str
    scores: tuple[float, ...]
    strengths: tuple[float, ...]
    predictions: NDArray[Any]
    metrics: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over divisions."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation over divisions; 0 where there is only one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


def linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    folds: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    inner_folds: int = 3,
) -> ProbeResult:
    """Measure how well classes can be told apart by a linear model, on each fold in turn.

    Args:
        features: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K) where there are several.
        folds: fold of each sample, at least two different ones.
        groups: group of each sample, such as its place; a group must not be in two folds.
        strengths: values of C to choose from.
        inner_folds: number of parts of the inner split.

    Returns:
        Scores by fold and predictions; see :func:`run_probe`.

    Raises:
        ConfigError: if scikit-learn is missing, there are fewer than two folds, a group is in two
            folds, or a training part has a single class.
        InputError: if shapes do not fit or features are not finite.
    """
    fold_of = np.asarray(folds)
    if len(np.unique(fold_of)) < 2:
        raise ConfigError('A probe needs at least two folds: one to test on, one to train on.')
    nobody = np.empty(0, dtype=np.int64)
    divisions = [
        Division(np.flatnonzero(fold_of != fold), nobody, np.flatnonzero(fold_of == fold))
        for fold in np.unique(fold_of)
    ]
    if len(fold_of) == len(np.asarray(labels)) and groups is not None:
        names = np.unique(groups, return_inverse=True)[1]
        torn = [g for g in np.unique(names) if len(np.unique(fold_of[names == g])) > 1]
        if torn:
            raise ConfigError(
                f'{len(torn)} groups are in more than one fold, so training would see test places; '
                'assign whole groups to folds.'
            )
    return run_probe(
        features, labels, divisions, groups, strengths=strengths, inner_folds=inner_folds
    )


def run_probe(
    features: ArrayLike,
    labels: ArrayLike,
    divisions: Sequence[Division],
    groups: Sequence[Any] | NDArray[Any] | None = None,
    probe: str = 'linear',
    strengths: Sequence[float] = STRENGTHS,
    inner_folds: int = 3,
    refit: bool = False,
) -> ProbeResult:
    """Measure how well frozen features tell classes apart, on each division in turn.

    Features are standardized by the mean and standard deviation of the training samples. The linear
    probe is a logistic regression with L2 penalty; its strength is chosen on the samples to
    validate on or, where there are none, by an inner split of the training samples that keeps
    groups together; the strongest penalty on a tie. Nearest neighbors vote as in
    :func:`~torchgeo_aom.tasks.knn.knn_scores`.

    Args:
        features: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K) where there are several.
        divisions: what to train, validate and test on, see
            :func:`~torchgeo_aom.tasks.divisions.given_division` and
            :func:`~torchgeo_aom.tasks.divisions.fold_divisions`.
        groups: group of each sample, such as its place; a group must not be in two parts.
        probe: ``'linear'``, or ``'knn5'``, ``'knn20'`` ... with the number of neighbors.
        strengths: values of C to choose from.
        inner_folds: number of parts of the inner split.
        refit: fit once more on training and validation samples together, with the chosen strength.

    Returns:
        Scores by division and predictions.

    Raises:
        ConfigError: if scikit-learn is missing, a group is in two parts, a training part has a
            single class, or the probe is unknown.
        InputError: if shapes do not fit or features are not finite.

    .. versionadded:: 0.1
    """
    x, y = np.asarray(features), np.asarray(labels)
    x = x if x.dtype == np.float32 else x.astype(np.float64)
    group_of = _group_numbers(groups, len(x))
    _check(x, y, divisions, group_of)
    several = y.ndim == 2
    predictions = np.full(y.shape, np.nan if several else -1, dtype=float if several else y.dtype)
    chosen, rated = [], []
    for division in divisions:
        if groups is not None:
            check_groups(division, np.asarray(groups))
        predict, best = fit_probe(x, y, division, groups, probe, strengths, inner_folds, refit)
        predictions[division.test] = predict(x[division.test])
        rated.append(rate(y[division.test], predictions[division.test]))
        chosen.append(best)
    metrics = {name: tuple(scores[name] for scores in rated) for name in METRICS[y.ndim]}
    metric = METRICS[y.ndim][0]
    return ProbeResult(metric, metrics[metric], tuple(chosen), predictions, metrics)


def fit_probe(
    features: NDArray[Any],
    labels: NDArray[Any],
    division: Division,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    probe: str = 'linear',
    strengths: Sequence[float] = STRENGTHS,
    inner_folds: int = 3,
    refit: bool = False,
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], float]:
    """Fit the probe of one division, for features of any samples; see :func:`run_probe`.

    Args:
        features: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K).
        division: what to train and validate on.
        groups: group of each sample.
        probe: ``'linear'``, ``'knn5'`` ...
        strengths: values of C to choose from; a single one is taken as it is.
        inner_folds: number of parts of the inner split.
        refit: fit once more on training and validation samples together.

    Returns:
        Function from features to classes, or to scores of shape (N, K); and the strength chosen, or
        the number of neighbors.

    Raises:
        ConfigError: if scikit-learn is missing, or the probe is unknown.
    """
    train, val = division.train, division.val
    best: float = _neighbors(probe)
    fit = _fit_neighbors if best else fit_linear
    if not best:
        group_of = _group_numbers(groups, len(features))
        inner = [(train, val)] if len(val) else _inner(labels, group_of, train, inner_folds)
        best = _choose(features, labels, inner, sorted(strengths), train)
    if refit:
        train = np.concatenate([train, val])
    return fit(features[train], labels[train], best), best


def _group_numbers(groups: Sequence[Any] | NDArray[Any] | None, count: int) -> NDArray[Any]:
    if groups is None:
        return np.arange(count)
    return np.asarray(np.unique(groups, return_inverse=True)[1])


def _neighbors(probe: str) -> int:
    """Number of neighbors of a probe by name; 0 for the linear one."""
    if probe == 'linear':
        return 0
    found = re.fullmatch(r'knn([1-9]\d*)', probe)
    if not found:
        raise ConfigError(
            f"probe must be 'linear' or 'knn' with a number, such as 'knn5', got {probe!r}"
            f'{suggest(probe, ["linear", "knn5", "knn20"])}'
        )
    return int(found[1])


def _check(
    x: NDArray[Any], y: NDArray[Any], divisions: Sequence[Division], group_of: NDArray[Any]
) -> None:
    if x.ndim != 2 or y.ndim not in (1, 2) or not len(x) == len(y) == len(group_of):
        raise InputError(
            'A probe takes features (N, D) and N labels and groups, got shapes '
            f'{x.shape}, {y.shape} and {group_of.shape}.'
        )
    if not np.isfinite(x).all():
        raise InputError(f'{int((~np.isfinite(x)).sum())} feature values are NaN or infinite.')
    if y.ndim == 2 and not np.isin(y, (0, 1)).all():
        raise InputError(
            'several labels of a sample are zeros and ones, (N, K); got other numbers.'
        )
    if not divisions:
        raise ConfigError('A probe needs at least one division into training and test samples.')
    for division in divisions:
        every = np.concatenate(list(division.parts().values()))
        if len(every) and (every.min() < 0 or every.max() >= len(x)):
            raise InputError(f'a division names samples beyond the {len(x)} there are.')
        if len(np.unique(every)) < len(every):
            raise ConfigError('a sample is in two parts of a division.')
        if not len(division.train) or not len(division.test):
            raise ConfigError('a division has no samples to train or to test on.')
        if y.ndim == 1 and len(np.unique(y[division.train])) < 2:
            raise ConfigError('A training part has a single class; use other folds.')


def fit_linear(
    features: NDArray[Any], labels: NDArray[Any], strength: float = 1.0
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Fit a standardization and a logistic regression.

    Args:
        features: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K).
        strength: inverse regularization strength C.

    Returns:
        Function from features to classes, or to scores of shape (N, K).

    Raises:
        ConfigError: if scikit-learn is missing.
    """
    linear_model = scikit_learn('sklearn.linear_model')
    dtype = np.float32 if features.size > LARGE else np.float64
    features = features.astype(dtype, copy=False)
    scaler = scikit_learn('sklearn.preprocessing').StandardScaler().fit(features)
    several = labels.ndim == 2
    # Several times faster here than the default solver, with the same result; where there is much
    # data it is the other way round.
    solver = 'lbfgs' if features.size > LARGE else 'newton-cg'
    classifier = linear_model.LogisticRegression(C=strength, solver=solver, max_iter=500)
    if several:
        classifier = scikit_learn('sklearn.multiclass').OneVsRestClassifier(classifier)
    # So small a problem only gets slower when threads share it.
    threads = None if features.size > LARGE else 1
    limited = scikit_learn('threadpoolctl').threadpool_limits(threads)
    with warnings.catch_warnings(), limited:
        # A label that no, or every, training sample has: a constant answer is right.
        warnings.filterwarnings('ignore', 'Label .* is present in|Label not')
        classifier.fit(scaler.transform(features), labels)
    function = classifier.predict_proba if several else classifier.predict
    return lambda new: np.asarray(function(scaler.transform(new.astype(dtype, copy=False))))


def _fit_neighbors(
    features: NDArray[Any], labels: NDArray[Any], k: float
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Standardize, as for the linear probe: the bands' statistics are of different sizes."""
    scaler = scikit_learn('sklearn.preprocessing').StandardScaler().fit(features)
    known = scaler.transform(features)

    def predict(new: NDArray[Any]) -> NDArray[Any]:
        shares = knn_scores(known, labels, scaler.transform(new), int(k)).numpy()
        return shares if labels.ndim == 2 else np.asarray(shares.argmax(1))

    return predict


def _inner(
    y: NDArray[Any], group_of: NDArray[Any], train: NDArray[Any], folds: int
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Inner splits of the training samples that keep groups together; none if there are none."""
    parts = min(folds, len(np.unique(group_of[train])))
    if parts < 2:
        return []
    splitter = scikit_learn('sklearn.model_selection').GroupKFold(parts)
    return [(train[a], train[b]) for a, b in splitter.split(train, y[train], group_of[train])]


def _choose(
    x: NDArray[Any],
    y: NDArray[Any],
    inner: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    strengths: list[float],
    train: NDArray[Any],
) -> float:
    """Strength that suits the inner splits best; the middle one if there are none."""
    scores = []
    for fitted, checked in inner if len(strengths) > 1 else ():
        if y.ndim == 2 or len(np.unique(y[fitted])) > 1:
            fits = (fit_linear(x[fitted], y[fitted], strength) for strength in strengths)
            scores.append([score(y[checked], predict(x[checked])) for predict in fits])
    known = [row for row in scores if np.isfinite(row).all()]
    if not known:
        return strengths[len(strengths) // 2]
    return strengths[int(np.argmax(np.mean(known, axis=0)))]
