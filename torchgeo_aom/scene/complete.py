"""Bands that a scene lacks, predicted from those that it has, as GeoTIFF."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchgeo_aom.bands import Band, BandSpec, plain_band, resolve_bands
from torchgeo_aom.errors import BandError, CheckpointError, ConfigError
from torchgeo_aom.models.checkpoint import file_sha256, read_state_dict
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.transforms import Normalize

from .layers import Scene
from .open import open_scene
from .options import RunOptions
from .pipeline import Output
from .run import SceneResult, execute
from .runner import Runner
from .sinks import ValueSink

__all__ = ('complete_scene',)

logger = logging.getLogger('torchgeo_aom.scene')


def complete_scene(
    source: str | Path | Sequence[str | Path] | Scene,
    output: str | Path,
    missing: BandSpec,
    *,
    weights: str | Path,
    bands: BandSpec | None = None,
    sensor: str | None = None,
    product: str | None = None,
    patch_size: int | None = None,
    statistics: str | None = None,
    options: RunOptions | None = None,
) -> SceneResult:
    """Predict bands that a scene lacks, as reflectance in a GeoTIFF on the scene's grid.

    Args:
        source: the scene, or what :func:`~torchgeo_aom.scene.open_scene` takes.
        output: the GeoTIFF to write: float32, one band for each of *missing*, NaN without data.
        missing: bands to predict.
        weights: checkpoint of :class:`~torchgeo_aom.tasks.PretrainTask`, with its decoders.
        bands: bands to predict from; all of the scene where not given.
        sensor: sensor of the names that have none.
        product: how values are stored, where the scene does not say it.
        patch_size: whose decoder predicts; the smallest trained where not given.
        statistics: of the catalogue, where those of the product are not wanted.
        options: how to run.

    Returns:
        What was done.

    Raises:
        BandError: if a missing band is there, or bands are not known.
        CheckpointError: if the checkpoint has no decoders.
        ConfigError: if a file exists, or something is not said.
        DataError: if a file cannot be read or written.

    .. versionadded:: 0.1
    """
    if not isinstance(source, Scene):
        source = open_scene(source, bands, sensor=sensor, product=product)
    scene = source
    wanted = resolve_bands(missing, sensor)
    there = {(band.sensor, band.name) for band in scene.bands}
    twice = [band.label for band in wanted if (band.sensor, band.name) in there]
    if twice:
        raise BandError(
            f'{", ".join(twice)} cannot be completed: the scene has them. To compare a prediction '
            f'with what was measured, name the other bands only (bands=, --bands)'
        )
    normalize = scene.normalize(statistics)
    target = scene.normalize(statistics, bands=wanted)
    runner, sha256 = load_completion(weights, scene.bands, wanted, patch_size, target)
    logger.info(
        'scene %s: %s; %s from %s', scene.name, scene.grid, ' '.join(b.label for b in wanted),
        ' '.join(b.label for b in scene.bands),
    )  # fmt: skip
    tags = {'AOM_WEIGHTS': Path(weights).name, 'AOM_WEIGHTS_SHA256': sha256}
    sink = ValueSink('completed', Path(output), [band.label for band in wanted])
    return execute(scene, runner, normalize, lambda _: [sink], options or RunOptions(), tags)


def load_completion(
    checkpoint: str | Path,
    bands: Sequence[Band],
    missing: Sequence[Band],
    patch_size: int | None,
    target: Normalize,
) -> tuple[Runner, str]:
    """Predict bands that a scene lacks, with the decoder of a pretraining checkpoint.

    Args:
        checkpoint: checkpoint of :class:`~torchgeo_aom.tasks.PretrainTask`.
        bands: bands that are there.
        missing: bands to predict.
        patch_size: whose decoder predicts; the smallest trained where not given.
        target: normalization of the missing bands, to undo.

    Returns:
        The runner, whose values are reflectance, and the hash of the file.

    Raises:
        CheckpointError: if the checkpoint cannot be read or has no decoder.
        ConfigError: if there is no decoder of this patch size.
    """
    task = _pretrained(Path(checkpoint))
    have = [plain_band(band) for band in bands]
    wanted = [plain_band(band) for band in missing]
    sizes = [int(size) for size in task.decoders]
    size = patch_size or min(sizes, default=0)
    if size not in sizes:
        raise ConfigError(
            f'{checkpoint} has decoders of {sizes or "no"} px, so bands cannot be completed at '
            f'patch size {size}'
        )

    mean, std = (torch.tensor(v)[:, None, None] for v in (target.mean, target.std))

    def run(x: Tensor) -> Output:
        values = task.reconstruct(x, have, wanted, size).float()
        return Output(values * std.to(values) + mean.to(values))

    tags = {'AOM_PATCH_SIZE': str(size), 'AOM_COMPLETED': ' '.join(b.label for b in missing)}
    facts = ('completion', size, target.mean, target.std, [b.label for b in missing])
    runner = Runner(task, run, tuple(bands), 1, len(missing), 0, tags, facts)
    return runner, file_sha256(checkpoint)


def _pretrained(path: Path) -> PretrainTask:
    """Encoder and decoders of a checkpoint, also of a task that extends pretraining."""
    parameters, facts = read_state_dict(path)
    if not any(key.startswith('decoders.') for key in parameters):
        raise CheckpointError(
            f'{path} has no decoders, so it cannot complete bands: give a checkpoint of '
            f'PretrainTask, not an encoder or another task'
        )
    known = inspect.signature(PretrainTask).parameters
    options = {key: value for key, value in facts.items() if key in known}
    own = {
        key: value
        for key, value in parameters.items()
        if key.partition('.')[0] in ('encoder', 'decoders', 'projectors')
    }
    try:
        task = PretrainTask(**{**options, 'weights': None, 'compile': False})
        task.load_state_dict(own)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f'{path} is no checkpoint of PretrainTask: {error}') from error
    return task.eval().requires_grad_(False)
