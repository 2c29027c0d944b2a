"""Embeddings of a scene: one for each patch as GeoTIFF, one for each window as GeoParquet."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from torchgeo_aom.bands import BandSpec
from torchgeo_aom.errors import AOMWarning
from torchgeo_aom.layers.tokenizer import checked_patch_size
from torchgeo_aom.models.patch_rule import (
    PRETRAINED,
    choose_patch_size,
    explain_patch_size,
    is_auto,
)
from torchgeo_aom.models.speed import speed_text
from torchgeo_aom.transforms import Normalize

from .layers import Scene
from .open import open_scene
from .options import RunOptions
from .position import without_position
from .run import CHIP, SceneResult, check_outputs, execute, plan_for, resized
from .runner import Encoder, Runner, agreement, embedding, load_encoder
from .sinks import EmbeddingSink, Sink, ValueSink
from .vectors import VectorSink

__all__ = ('embed_scene',)

logger = logging.getLogger('torchgeo_aom.scene')


def embed_scene(
    source: str | Path | Sequence[str | Path] | Scene,
    output: str | Path,
    *,
    weights: object = True,
    model: str = 'aom_vitt',
    bands: BandSpec | None = None,
    sensor: str | None = None,
    product: str | None = None,
    patch_size: int | str = 'auto',
    statistics: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    dtype: str = 'float16',
    components: int | None = None,
    position: str = 'remove',
    vectors: str | Path | None = None,
    agree: str | Path | None = None,
    agree_sizes: Sequence[int] = (16, 32),
    options: RunOptions | None = None,
) -> SceneResult:
    """Embed a scene: a Cloud-Optimized GeoTIFF with one cell a patch, one band a dimension.

    The file has the origin, orientation and coordinate system of the scene; its pixels are patches,
    so it ends less than a patch behind the scene.

    Args:
        source: the scene, or what :func:`~torchgeo_aom.scene.open_scene` takes.
        output: the GeoTIFF to write.
        weights: a weights file or checkpoint, a member or its name, True for the default weights of
            the model, or ``'random'``.
        model: name of the model, where the weights do not say it.
        bands: bands, see :func:`~torchgeo_aom.scene.open_scene`.
        sensor: sensor of the names that have none.
        product: how values are stored, where the scene does not say it.
        patch_size: px, or ``'auto'`` for the rule of
            :func:`~torchgeo_aom.models.patch_rule.choose_patch_size` by resolution and window.
        statistics: of the catalogue, where those of the product are not wanted.
        mean: mean of each band in reflectance, instead.
        std: standard deviation of each band, together with *mean*.
        dtype: ``'float16'``, ``'float32'``, or ``'int8'`` with a scale for each band.
        components: principal components to write instead of all dimensions.
        position: ``'remove'`` what only says where in its window a patch lies, measured on windows
            spread over the scene, or ``'keep'`` the encoder's output as it is.
        vectors: GeoParquet file to write, one vector a window.
        agree: GeoTIFF to write, how far embeddings of several patch sizes agree (cosine).
        agree_sizes: these patch sizes, px.
        options: windows, batches, device.

    Returns:
        What was done.

    Raises:
        BandError: if bands are not named, unknown or contradictory.
        CheckpointError: if weights cannot be read, or there are none.
        ConfigError: if a file exists, or something is not said.
        DataError: if a file cannot be read or written.
        SizeError: if sizes do not get on.

    .. versionadded:: 0.1
    """
    options = options or RunOptions()
    if not isinstance(source, Scene):
        source = open_scene(source, bands, sensor=sensor, product=product)
    scene = source
    normalize = scene.normalize(statistics, mean, std)
    files = [Path(path) for path in (output, vectors, agree) if path is not None]
    check_outputs(files, scene, options)
    encoder = load_encoder(weights, model, scene.bands)
    if not encoder.sha256:
        warnings.warn(
            'the model has random weights: its embeddings show how the pipeline works, and nothing '
            'else',
            AOMWarning,
            stacklevel=2,
        )
    if options.speed is not None:
        encoder.model.set_speed(options.speed)
    patch = _patch_size(patch_size, scene, encoder, options)
    runner = embedding(encoder, scene.bands, patch)
    options_cell = options if options.chip else resized(options, patch)
    _say(scene, encoder, patch)
    tags = {'AOM_WEIGHTS': encoder.name, 'AOM_WEIGHTS_SHA256': encoder.sha256 or 'none'}

    def sinks(_: object) -> list[Sink]:
        wanted: list[Sink] = [
            EmbeddingSink('embedding', Path(output), runner.channels, dtype, components)
        ]
        if vectors is not None:
            size = scene.grid.height, scene.grid.width
            wanted.append(VectorSink('vector', Path(vectors), runner.vectors, scene.name, size))
        return wanted

    plan = plan_for(scene, runner, options_cell)
    runner = without_position(scene, runner, normalize, plan, options_cell, position)
    later = None if agree is None else Path(agree)
    result = execute(scene, runner, normalize, sinks, options_cell, tags, later)
    if later is None:
        return result
    return _agree(scene, encoder, agree_sizes, later, normalize, options, tags, result)


def _patch_size(patch_size: int | str, scene: Scene, encoder: Encoder, options: RunOptions) -> int:
    if not is_auto(patch_size):
        return checked_patch_size(patch_size)[0]
    side = min(options.chip or CHIP, max(scene.grid.height, scene.grid.width))
    chosen = choose_patch_size(side, encoder.patch_sizes or PRETRAINED, scene.grid.gsd_m)
    logger.info(explain_patch_size(chosen, side, scene.grid.gsd_m))
    return chosen


def _say(scene: Scene, encoder: Encoder, patch: int) -> None:
    bands = ', '.join(f'{band.label} -> {band.index:.4g}' for band in scene.bands)
    logger.info('scene %s: %s', scene.name, scene.grid)
    for note in scene.notes:
        logger.info('%s', note)
    sha = f' (SHA-256 {encoder.sha256[:16]}...)' if encoder.sha256 else ''
    speed = speed_text(encoder.model.speed)
    text = 'bands %s; patch %d px, speed %s; weights %s%s'
    logger.info(text, bands, patch, speed, encoder.name, sha)


def _agree(
    scene: Scene,
    encoder: Encoder,
    sizes: Sequence[int],
    path: Path,
    normalize: Normalize,
    options: RunOptions,
    tags: dict[str, str],
    before: SceneResult,
) -> SceneResult:
    """A second run, for the agreement between patch sizes."""

    def at(patch: int) -> Callable[[Tensor], Tensor]:
        runner: Runner = embedding(encoder, scene.bands, patch)

        def run(x: Tensor) -> Tensor:
            return runner.function(x).values

        return run

    cell = math.lcm(*(checked_patch_size(size)[0] for size in sizes))
    runner = agreement(at, sizes, encoder.model, scene.bands, cell, False)
    sink = ValueSink('agreement', path, ['mean cosine between patch sizes'])
    own = resized(options, cell)
    after = execute(scene, runner, normalize, lambda _: [sink], own, tags)
    return SceneResult(
        (*before.files, *after.files), before.windows, before.empty, before.seconds, before.tags
    )
