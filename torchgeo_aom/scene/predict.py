"""Maps of a scene from a trained task: classes, probabilities, values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torchgeo_aom.bands import BandSpec
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.layers.tokenizer import checked_patch_size

from .checkpoints import Trained, load_trained
from .layers import Scene
from .open import open_scene
from .options import RunOptions
from .run import SceneResult, execute, resized
from .runner import agreement
from .sinks import ClassSink, Sink, ValueSink

__all__ = ('predict_scene',)

logger = logging.getLogger('torchgeo_aom.scene')


def predict_scene(
    source: str | Path | Sequence[str | Path] | Scene,
    output: str | Path,
    *,
    weights: str | Path,
    bands: BandSpec | None = None,
    sensor: str | None = None,
    product: str | None = None,
    patch_size: int | None = None,
    statistics: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    missing: str = 'refuse',
    classes: Sequence[str] = (),
    probabilities: str | Path | None = None,
    agree: str | Path | None = None,
    agree_sizes: Sequence[int] = (16, 32),
    options: RunOptions | None = None,
) -> SceneResult:
    """Predict a scene with a trained task, as a Cloud-Optimized GeoTIFF on its grid.

    Segmentation gives one class a pixel, with color table; classification one class a window;
    several labels one band of probabilities each; regression its values.

    Args:
        source: the scene, or what :func:`~torchgeo_aom.scene.open_scene` takes.
        output: the GeoTIFF to write.
        weights: checkpoint of a segmentation, classification or regression task of
            `torchgeo_aom.tasks`.
        bands: bands, see :func:`~torchgeo_aom.scene.open_scene`. The task takes its own of them.
        sensor: sensor of the names that have none.
        product: how values are stored, where the scene does not say it.
        patch_size: px; that of the task where not given.
        statistics: of the catalogue: those that the task was trained with. Those of the product
            where not given.
        mean: mean of each of the task's bands in reflectance, instead.
        std: standard deviation of each band, together with *mean*.
        missing: ``'refuse'`` a scene that lacks bands of the task, or ``'use'`` what it has.
        classes: names of the classes.
        probabilities: GeoTIFF to write, one band a class, float32.
        agree: GeoTIFF to write, how far the results of several patch sizes agree: 1 where they
            give the same probabilities.
        agree_sizes: these patch sizes, px.
        options: windows, batches, device.

    Returns:
        What was done.

    Raises:
        BandError: if bands are not named, missing or contradictory.
        CheckpointError: if the checkpoint cannot be read, or is of another task.
        ConfigError: if a file exists, or something is not said.
        DataError: if a file cannot be read or written.
        SizeError: if sizes do not get on.

    .. versionadded:: 0.1
    """
    options = options or RunOptions()
    if not isinstance(source, Scene):
        source = open_scene(source, bands, sensor=sensor, product=product)
    trained = load_trained(weights, source.bands, patch_size, missing, options.speed)
    if trained.regression and agree is not None:
        raise ConfigError('agree compares probabilities, and a regression has none: leave it out')
    scene = source.select(trained.bands)
    normalize = scene.normalize(statistics, mean, std)
    runner = trained.runner()
    logger.info('scene %s: %s', scene.name, scene.grid)
    for note in scene.notes:
        logger.info('%s', note)
    logger.info(
        '%s on %s; patch %s px, speed %s', runner.tags['AOM_TASK'],
        ', '.join(band.label for band in scene.bands), runner.tags['AOM_PATCH_SIZE'],
        runner.tags['AOM_SPEED'],
    )  # fmt: skip
    tags = {'AOM_WEIGHTS': trained.path.name, 'AOM_WEIGHTS_SHA256': trained.sha256()}
    if classes:
        tags['AOM_CLASSES'] = ', '.join(classes)
    wanted = _sinks(trained, Path(output), classes, probabilities)
    later = None if agree is None else Path(agree)
    result = execute(scene, runner, normalize, lambda _: wanted, options, tags, later)
    if later is None:
        return result
    # A classification gives one value a window, whatever the patch size.
    cell = max(checked_patch_size(s)[0] for s in agree_sizes) if trained.dense else 0
    own = resized(options, cell) if cell else options
    compared = agreement(
        trained.at, agree_sizes, trained.task, scene.bands, cell, True,
    )  # fmt: skip
    sink = ValueSink('agreement', later, ['agreement between patch sizes'])
    after = execute(scene, compared, normalize, lambda _: [sink], own, tags)
    return SceneResult(
        (*result.files, *after.files), result.windows, result.empty, result.seconds, result.tags
    )


def _sinks(
    trained: Trained, output: Path, classes: Sequence[str], probabilities: str | Path | None
) -> list[Sink]:
    """Files of a task: its map, and the probabilities if they are wanted."""
    count = trained.channels
    if trained.regression:
        if classes or probabilities is not None:
            raise ConfigError('a regression has neither classes nor probabilities: leave them out')
        return [ValueSink('values', output, [f'value {k}' for k in range(count)])]
    binary = trained.kind == 'binary'
    names = [f'probability of {name}' for name in classes] or [
        f'probability of class {1 if binary else k}' for k in range(count)
    ]
    if trained.kind == 'multilabel':
        if probabilities is not None:
            raise ConfigError('several labels are written as probabilities: leave it out')
        return [ValueSink('probabilities', output, names)]
    total = 2 if binary else count
    wanted: list[Sink] = [ClassSink('classes', output, total, classes, binary)]
    if probabilities is not None:
        own = names[-1:] if binary else names
        wanted.append(ValueSink('probabilities', Path(probabilities), own))
    return wanted
