"""Linear probe: features of a frozen encoder, once, then logistic regression on whole folds."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from torchgeo_aom import __version__
from torchgeo_aom.bands import BandSpec, resolve_bands
from torchgeo_aom.errors import AOMWarning, ConfigError, InputError
from torchgeo_aom.models.aom import AOM

__all__ = (
    'Features',
    'ProbeResult',
    'band_statistics',
    'content',
    'extract_features',
    'fit_linear',
    'linear_probe',
)

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Features:
    """Features of a data set.

    Attributes:
        values: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K) where there are several.
        key: hash of all that the features depend on.
        cached: whether they were read instead of computed.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    key: str
    cached: bool


def extract_features(
    model: AOM,
    dataset: Dataset[dict[str, Any]],
    bands: BandSpec | None = None,
    patch_size: int | None = None,
    *,
    batch_size: int = 16,
    cache_dir: str | Path | None = None,
    cache: bool = True,
    label: str = 'features',
    progress: bool | None = None,
) -> Features:
    """Run a frozen encoder over a data set, once.

    Features are kept in a cache: the same weights, model, data, bands and patch size are never
    computed twice, and a change of any of them is noticed, since the key is their content.

    Args:
        model: encoder, used in evaluation mode and left as it was.
        dataset: samples with a normalized ``image`` and a ``label``, all images of one size.
        bands: bands of the images' channels where not those of the model.
        patch_size: patch size in px where not that of the model.
        batch_size: images a batch.
        cache_dir: folder of the cache; that of the user where not given.
        cache: whether to use it.
        label: what the progress bar says.
        progress: whether to show it; None for only on a terminal.

    Returns:
        Features and labels, in the order of the data set.

    Raises:
        BandError: if the bands do not fit the images.
        InputError: if the data set is empty.
    """
    loader = DataLoader(dataset, batch_size=batch_size)
    key = _key(model, loader, bands, patch_size)
    path = Path(cache_dir or _user_cache()) / f'{key}.npz'
    if cache:
        found = _load(path)
        if found is not None:
            return Features(*found, key=key, cached=True)

    mode = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    outputs, labels = [], []
    bar = tqdm(
        total=len(dataset),  # type: ignore[arg-type]
        desc=label,
        unit='image',
        disable=None if progress is None else not progress,
    )
    model.eval()
    try:
        with torch.inference_mode(), bar:
            for batch in loader:
                image = batch['image'].to(device)
                tokens = model.forward_features(image, bands=bands, patch_size=patch_size)
                outputs.append(model.forward_head(tokens, pre_logits=True).float().cpu())
                labels.append(batch['label'])
                bar.update(len(image))
    finally:
        for module, training in mode.items():
            module.training = training
    values = torch.cat(outputs).numpy()
    classes = torch.cat(labels).numpy().astype(np.int64)
    if cache:
        _store(path, values, classes)
    return Features(values, classes, key=key, cached=False)


def _key(
    model: AOM, loader: DataLoader[Any], bands: BandSpec | None, patch_size: int | None
) -> str:
    """Hash of the content of everything that the features depend on."""
    digest = hashlib.sha256(f'{__version__} {patch_size}'.encode())
    for facts in _facts(model):
        digest.update(facts.encode())
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(name.encode())
        digest.update(content(value))
    if isinstance(bands, Tensor):
        digest.update(content(bands))
    elif bands is not None:
        digest.update(repr(resolve_bands(bands)).encode())
    count = 0
    for batch in loader:
        for image, label in zip(batch['image'], batch['label'], strict=True):
            count += 1
            digest.update(content(image) + content(label))
    if not count:
        raise InputError('The data set is empty: there is nothing to take features of.')
    return digest.hexdigest()


def _facts(model: AOM) -> Iterator[str]:
    """What the parameters do not say, such as the number of attention heads."""
    plain = (int, float, str, bool, tuple, type(None))
    for name, module in model.named_modules():
        own = {k: v for k, v in vars(module).items() if isinstance(v, plain) and k != 'training'}
        yield f'{name} {type(module).__qualname__} {sorted(own.items(), key=lambda item: item[0])}'


def content(value: Tensor) -> bytes:
    """All of a tensor as bytes: type, shape and values, to take a hash of."""
    value = value.detach().cpu().contiguous()
    facts = f'{value.dtype} {tuple(value.shape)}'.encode()
    return facts + value.reshape(-1).view(torch.uint8).numpy().tobytes()


def _user_cache() -> Path:
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home) / 'torchgeo_aom' / 'features'


def _load(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    try:
        with path.open('rb') as handle, np.load(handle, allow_pickle=False) as file:
            return file['values'], file['labels']
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged: computed again and replaced


def _store(path: Path, values: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Write a file that is whole or absent; a cache that cannot be written is no reason to fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix='.part')
        try:
            with os.fdopen(handle, 'wb') as file:
                np.savez(file, values=values, labels=labels)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        warnings.warn(f'Features are not kept: {error}', AOMWarning, stacklevel=3)


def band_statistics(images: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Features without a model: mean, standard deviation and five percentiles of each band.

    Args:
        images: images of shape (N, C, H, W).

    Returns:
        Features of shape (N, 7 * C).

    Raises:
        InputError: if the shape is another.
    """
    values = np.asarray(images, dtype=np.float64)
    if values.ndim != 4 or values.size == 0:
        raise InputError(f'Images must be (N, C, H, W) and not empty, got shape {values.shape}.')
    pixels = values.reshape(*values.shape[:2], -1)
    parts = [pixels.mean(-1), pixels.std(-1), *np.percentile(pixels, PERCENTILES, axis=-1)]
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a linear probe.

    Attributes:
        metric: ``'accuracy'``, or ``'mAP'`` (macro) where samples have several labels.
        scores: the metric on each fold.
        strengths: inverse regularization strength C chosen for each fold.
        predictions: prediction for each sample by the model that has not seen its fold: class of
            shape (N,), or scores of shape (N, K).
    """

    metric: str
    scores: tuple[float, ...]
    strengths: tuple[float, ...]
    predictions: NDArray[Any]

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation over folds."""
        return float(np.std(self.scores, ddof=1))


def linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    folds: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    inner_folds: int = 3,
) -> ProbeResult:
    """Measure how well classes can be told apart by a linear model of the features.

    For each fold, features are standardized and a logistic regression with L2 penalty is fitted on
    the other folds only. So is its strength: chosen by an inner split of the training folds that
    keeps groups together, the strongest penalty on a tie.

    Args:
        features: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K) where there are several.
        folds: fold of each sample, at least two different ones.
        groups: group of each sample, such as its place; a group must not be in two folds.
        strengths: values of C to choose from.
        inner_folds: number of parts of the inner split.

    Returns:
        Scores by fold and predictions.

    Raises:
        ConfigError: if scikit-learn is missing, there are fewer than two folds, a group is in two
            folds, or a training part has a single class.
        InputError: if shapes do not fit or features are not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    y, fold_of = np.asarray(labels), np.asarray(folds)
    group_of = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
    _check(x, y, fold_of, group_of)
    several = y.ndim == 2
    scores, chosen = [], []
    predictions = np.zeros(y.shape, dtype=np.float64 if several else y.dtype)
    for fold in np.unique(fold_of):
        train, test = fold_of != fold, fold_of == fold
        seen = x[train], y[train]
        best = _choose(*seen, group_of[train], sorted(strengths), inner_folds)
        predictions[test] = fit_linear(*seen, best)(x[test])
        scores.append(_score(y[test], predictions[test]))
        chosen.append(best)
    return ProbeResult('mAP' if several else 'accuracy', tuple(scores), tuple(chosen), predictions)


def _check(x: NDArray[Any], y: NDArray[Any], fold_of: NDArray[Any], group_of: NDArray[Any]) -> None:
    if x.ndim != 2 or y.ndim not in (1, 2) or not len(x) == len(y) == len(fold_of) == len(group_of):
        raise InputError(
            'A probe takes features (N, D) and N labels, folds and groups, got shapes '
            f'{x.shape}, {y.shape}, {fold_of.shape} and {group_of.shape}.'
        )
    if not np.isfinite(x).all():
        raise InputError(f'{int((~np.isfinite(x)).sum())} feature values are NaN or infinite.')
    if len(np.unique(fold_of)) < 2:
        raise ConfigError('A probe needs at least two folds: one to test on, one to train on.')
    torn = [g for g in np.unique(group_of) if len(np.unique(fold_of[group_of == g])) > 1]
    if torn:
        raise ConfigError(
            f'{len(torn)} groups are in more than one fold, so training would see test places; '
            'assign whole groups to folds.'
        )


def _scikit_learn(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            'The probe needs scikit-learn: pip install "torchgeo_aom[probe]".'
        ) from error


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
    linear_model = _scikit_learn('sklearn.linear_model')
    scaler = _scikit_learn('sklearn.preprocessing').StandardScaler().fit(features)
    several = labels.ndim == 2
    # Several times faster here than the default solver, with the same result.
    classifier = linear_model.LogisticRegression(C=strength, solver='newton-cg', max_iter=500)
    if several:
        classifier = _scikit_learn('sklearn.multiclass').OneVsRestClassifier(classifier)
    # So small a problem only gets slower when threads share it.
    one_thread = _scikit_learn('threadpoolctl').threadpool_limits(1)
    with warnings.catch_warnings(), one_thread:
        # A label that no, or every, training sample has: a constant answer is right.
        warnings.filterwarnings('ignore', 'Label .* is present in|Label not')
        classifier.fit(scaler.transform(features), labels)
    function = classifier.predict_proba if several else classifier.predict
    return lambda new: np.asarray(function(scaler.transform(new)))


def _choose(
    x: NDArray[Any],
    y: NDArray[Any],
    group_of: NDArray[Any],
    strengths: list[float],
    inner_folds: int,
) -> float:
    """Strength that suits the training samples best; the middle one if they cannot be split."""
    if y.ndim == 1 and len(np.unique(y)) < 2:
        raise ConfigError('A training part has a single class; use other folds.')
    parts = min(inner_folds, len(np.unique(group_of)))
    scores = []
    if parts > 1:
        splitter = _scikit_learn('sklearn.model_selection').GroupKFold(parts)
        for train, test in splitter.split(x, y, group_of):
            if y.ndim == 2 or len(np.unique(y[train])) > 1:
                fits = (fit_linear(x[train], y[train], strength) for strength in strengths)
                scores.append([_score(y[test], predict(x[test])) for predict in fits])
    if not scores:
        return strengths[len(strengths) // 2]
    return strengths[int(np.argmax(np.nanmean(scores, axis=0)))]


def _score(y: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Accuracy, or average precision averaged over the labels that occur."""
    if y.ndim == 1:
        return float((predictions == y).mean())
    occurring = y.any(axis=0)
    metrics = _scikit_learn('sklearn.metrics')
    if not occurring.any():
        return float('nan')
    return float(metrics.average_precision_score(y[:, occurring], predictions[:, occurring]))
