"""Trained tasks from their checkpoints, for the bands of a scene."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningModule
from torch import Tensor

from torchgeo_aom.bands import Band, resolve_bands
from torchgeo_aom.errors import AOMError, AOMWarning, BandError, CheckpointError, ConfigError
from torchgeo_aom.models.checkpoint import band_specs, file_sha256, read_state_dict
from torchgeo_aom.models.registry import register
from torchgeo_aom.models.speed import Speed, speed_text
from torchgeo_aom.tasks.bands import ClassificationTask, PixelwiseRegressionTask, RegressionTask
from torchgeo_aom.tasks.mixin import spec_of
from torchgeo_aom.tasks.segmentation import SemanticSegmentationTask

from .layers import match
from .pipeline import Output
from .runner import Runner

__all__ = ('Trained', 'load_task', 'load_trained')

_UNREADABLE = (RuntimeError, TypeError, KeyError, ValueError, OSError)
Task = TypeVar('Task', bound=LightningModule)


class Trained:
    """A trained task, and what its values are.

    Args:
        task: the task.
        path: its checkpoint.
        bands: what the channels are.
    """

    def __init__(self, task: LightningModule, path: Path, bands: Sequence[Band]) -> None:
        """Find out what the values are."""
        self.task, self.path, self.bands = task, path, tuple(bands)
        options: Any = task.hparams
        self.dense = isinstance(task, SemanticSegmentationTask | PixelwiseRegressionTask)
        self.regression = isinstance(task, RegressionTask | PixelwiseRegressionTask)
        self.kind = 'regression' if self.regression else str(options['task'])
        outputs = options['num_outputs'] if self.regression else None
        self.channels = int(outputs or options.get('num_classes') or options.get('num_labels') or 1)
        if self.kind == 'binary':
            self.channels = 1

    def values(self, task: LightningModule) -> Callable[[Tensor], Tensor]:
        """Function of normalized images to probabilities or values (B, K, h, w)."""

        def run(x: Tensor) -> Tensor:
            y: Tensor = task(x)
            if y.ndim == 2:
                y = y[:, :, None, None]
            if self.kind == 'multiclass':
                return y.float().softmax(1)
            return y if self.regression else y.float().sigmoid()

        return run

    def runner(self) -> Runner:
        """The task as a runner."""
        function = self.values(self.task)
        patch = self.task.backbones[0].patch_embed.patch_size  # type: ignore[index, union-attr]
        tags = {
            'AOM_PATCH_SIZE': f'{patch[0]}' if patch[0] == patch[1] else f'{patch[0]} x {patch[1]}',
            'AOM_SPEED': speed_text(self.task.backbones[0].speed),  # type: ignore[index, union-attr]
            'AOM_TASK': f'{type(self.task).__name__} ({self.kind})',
        }
        return Runner(
            self.task, lambda x: Output(function(x)), self.bands, 1 if self.dense else 0,
            self.channels, 0, tags, (self.kind, patch),
        )  # fmt: skip

    def at(self, patch_size: int) -> Callable[[Tensor], Tensor]:
        """The same task at another patch size."""
        task = load_task(
            self.path, type(self.task), self.bands, patch_size, self.task.hparams['speed']
        )
        return self.values(task.to(next(self.task.parameters()).device))

    def sha256(self) -> str:
        """Hash of the checkpoint."""
        return file_sha256(self.path)


def _kind(options: dict[str, Any], path: Path) -> type[LightningModule]:
    """The task that a checkpoint is of, by its hyperparameters."""
    if 'decoder_variant' in options:
        return SemanticSegmentationTask
    if 'patch_sizes' in options or 'model' not in options:
        what = 'one of pretraining' if 'patch_sizes' in options else 'none of a task'
        raise CheckpointError(
            f'{path} is {what}, which predicts no map: give the checkpoint of a classification, '
            f'regression or segmentation task, or use scene embed or scene complete'
        )
    if 'num_outputs' in options:
        dense = str(options.get('backbone', '')).startswith(('aom_', 'tu-aom_'))
        return PixelwiseRegressionTask if dense else RegressionTask
    if 'backbone' not in options and 'num_classes' in options:
        return ClassificationTask
    raise CheckpointError(
        f'{path} is of a task that has no map of one date: possible are classification, '
        f'regression, semantic segmentation and pixelwise regression of torchgeo_aom.tasks'
    )


def load_task(
    path: str | Path,
    kind: type[Task],
    bands: Sequence[Band] | None = None,
    patch_size: int | None = None,
    speed: Speed | None = None,
) -> Task:
    """Load a task from a checkpoint, without running anything in it.

    Args:
        path: the checkpoint.
        kind: class of the task.
        bands: bands to run it on; its own where not given.
        patch_size: patch size in px; its own where not given.
        speed: speed mode or merge schedule; its own where not given.

    Returns:
        The task, in evaluation mode.

    Raises:
        CheckpointError: if it cannot be read or is of another task.
    """
    path = Path(path)
    read_state_dict(path)  # checks: a zip bomb, a script or a damaged file ends here
    given: dict[str, Any] = {}
    if bands is not None:
        given['bands'] = band_specs(bands)
    if patch_size is not None:
        given['patch_size'] = patch_size
    if speed is not None:
        given['speed'] = speed
    try:
        task = kind.load_from_checkpoint(path, map_location='cpu', weights_only=True, **given)
    except AOMError:
        raise
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{path} is no checkpoint of {kind.__name__}: {error}') from error
    return task.eval().requires_grad_(False)


def load_trained(
    path: str | Path,
    there: Sequence[Band],
    patch_size: int | None,
    missing: str,
    speed: Speed | None = None,
) -> Trained:
    """Load a trained task for a scene.

    The task sees its own bands, in its own order, whatever else the scene has. A scene that lacks
    some, or has those of another sensor, is refused unless that is asked for.

    Args:
        path: the checkpoint.
        there: bands of the scene.
        patch_size: patch size in px; that of the checkpoint where not given.
        missing: ``'refuse'``, or ``'use'`` to run on the bands of the scene.
        speed: speed mode or merge schedule; that of the checkpoint where not given.

    Returns:
        The task and its bands.

    Raises:
        BandError: if the scene lacks bands of the task.
        CheckpointError: if the checkpoint cannot be read, or is of another task.
        ConfigError: if *missing* is something else.
    """
    if missing not in ('refuse', 'use'):
        raise ConfigError(f"missing must be 'refuse' or 'use', got {missing!r}")
    path = Path(path)
    register()
    _, options = read_state_dict(path)
    kind = _kind(options, path)
    named = options['backbone' if 'decoder_variant' in options else 'model']
    if kind is PixelwiseRegressionTask:
        named = options['backbone']
    spec = spec_of(str(named), options.get('bands'))
    trained = resolve_bands(spec) if spec is not None else tuple(there)
    found = [match(band, there) for band in trained]
    lacking = [b.label for b, own in zip(trained, found, strict=True) if own is None]
    if spec is None:
        warnings.warn(
            f'{path} does not say which bands it was trained with; those of the scene are taken: '
            f'{", ".join(band.label for band in there)}',
            AOMWarning,
            stacklevel=2,
        )
    bands: Sequence[Band] = trained
    if lacking:
        text = (
            f'{path} was trained with {", ".join(band.label for band in trained)}; the scene has '
            f'no {", ".join(lacking)}, but {", ".join(band.label for band in there)}'
        )
        if missing == 'refuse':
            raise BandError(
                f"{text}. Give missing='use' (--missing use) to run on what the scene has: the "
                f'model takes any bands, but nobody has measured how well it does on these'
            )
        bands = [own for own in found if own is not None] or there
        used = ', '.join(band.label for band in bands)
        warnings.warn(f'{text}. It runs on {used}', AOMWarning, stacklevel=2)
    task = load_task(path, kind, bands, patch_size, speed)
    return Trained(task, path, bands)
