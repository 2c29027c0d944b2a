"""One run: checks, windows, pieces, final files; the same for all that a scene can become."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio

from torchgeo_aom import __version__
from torchgeo_aom.data.folder import FAILURES
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.models.precision import explain
from torchgeo_aom.transforms import Normalize

from .grid import Plan, make_plan
from .layers import Scene
from .loop import first_of_all
from .options import RunOptions
from .outputs import Store, check_output, glob_escape
from .pipeline import Counts, compute, own_units, speed
from .raster import gdal
from .reader import SceneReader
from .runner import Runner
from .sinks import Sink

__all__ = ('SceneResult', 'check_outputs', 'execute', 'plan_for', 'resized')

logger = logging.getLogger('torchgeo_aom.scene')
CHIP = 256


@dataclass(frozen=True)
class SceneResult:
    """What a run left behind.

    Attributes:
        files: files written; none where another part of the scene is still to come.
        windows: windows computed by this process.
        empty: windows without data, which it skipped.
        seconds: time that computing took.
        tags: facts that the files carry.

    .. versionadded:: 0.1
    """

    files: tuple[Path, ...]
    windows: int
    empty: int
    seconds: float
    tags: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether the files are there."""
        return bool(self.files)


def plan_for(scene: Scene, runner: Runner, options: RunOptions) -> Plan:
    """Windows for a model.

    Args:
        scene: the scene.
        runner: the model.
        options: chip and overlap.

    Returns:
        The plan.

    Raises:
        SizeError: if chip, overlap and cell do not get on.
    """
    cell = runner.cell
    if cell == 0:  # a value a window: no overlap, no blending
        chip = options.chip or CHIP
        return make_plan(
            scene.grid.height, scene.grid.width, chip, 0, chip, runner.channels, options.memory_mib
        )
    chip = options.chip or -(-CHIP // cell) * cell
    overlap = chip // 4 // cell * cell if options.overlap is None else options.overlap
    return make_plan(
        scene.grid.height, scene.grid.width, chip, overlap, cell, runner.channels,
        options.memory_mib,
    )  # fmt: skip


def facts_of(scene: Scene, runner: Runner, plan: Plan, normalize: Normalize) -> dict[str, str]:
    """Facts that every file of a run carries."""
    return {
        'AOM_VERSION': __version__,
        'AOM_SCENE': scene.name,
        'AOM_BANDS': ' '.join(band.label for band in runner.bands),
        'AOM_PRODUCT': scene.product.name,
        'AOM_MEAN': ' '.join(f'{x:.6g}' for x in normalize.mean),
        'AOM_STD': ' '.join(f'{x:.6g}' for x in normalize.std),
        'AOM_CHIP': f'{plan.chip[0]} x {plan.chip[1]}',
        'AOM_OVERLAP': str(plan.columns.overlap * plan.cell),
        **runner.tags,
    }


def begun(path: Path) -> bool:
    """Whether there are pieces of a file that were not put together yet."""
    return any(path.parent.glob(f'.{glob_escape(path.name)}.*.parts'))


def check_outputs(paths: Sequence[Path], scene: Scene, options: RunOptions) -> None:
    """Refuse files that exist or are read, before anything is computed.

    Args:
        paths: all files that will be written.
        scene: the scene.
        options: whether files may be replaced.

    Raises:
        ConfigError: if a file exists, is the input, or cannot lie where it should.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError('two results have the same file name: give each its own')
    # A run that was stopped may have written some of its files already.
    again = options.overwrite or any(begun(path) for path in paths)
    for path in paths:
        check_output(path, scene.files, again)


def execute(
    scene: Scene,
    runner: Runner,
    normalize: Normalize,
    sinks: Callable[[Plan], Sequence[Sink]],
    options: RunOptions,
    tags: dict[str, str],
    later: Path | None = None,
) -> SceneResult:
    """Run a model over a scene.

    Args:
        scene: the scene, with the bands of the model.
        runner: the model.
        normalize: reflectance to what the model reads.
        sinks: plan to the files wanted, the main one first.
        options: how.
        tags: further facts for the files.
        later: file of a later step of the same command. Where that step was stopped, this one is
            complete, and its files stay.

    Returns:
        What was done.

    Raises:
        ConfigError: if a file exists, is the input, or cannot lie where it should.
        DataError: if a file cannot be read or written.
    """
    plan = plan_for(scene, runner, options)
    wanted = list(sinks(plan))
    files = [sink.path for sink in wanted]
    check_outputs(files if later is None else [*files, later], scene, options)
    facts = [
        scene.identity(), runner.digest(), [plan.height, plan.width, plan.cell, plan.strips],
        [plan.rows.chip, plan.rows.starts, plan.columns.chip, plan.columns.starts],
        [normalize.mean, normalize.std], options.nodata, options.computed_in, __version__,
        [sink.facts() for sink in wanted],
    ]  # fmt: skip
    store = Store(files[0], facts)
    about = facts_of(scene, runner, plan, normalize) | tags
    about |= {'AOM_PRECISION': options.computed_in, 'AOM_RUN': store.key}
    if later is not None and begun(later) and _written(files, store.key):
        store.remove()
        logger.info('%s is complete; going on with %s', files[0], later)
        return _result(files, Counts(), about)
    try:
        for sink in wanted if store.fresh else ():
            check_output(sink.path, scene.files, options.overwrite)
    except ConfigError:
        store.remove()
        raise
    runner.model.to(options.torch_device())
    logger.info('computing in %s', explain(options.precision, options.torch_device()))
    reader = SceneReader(scene)
    try:
        counts = compute(
            reader, normalize, runner.function, plan, wanted, store, options,
            own_units(plan, options.part), runner.channels,
        )  # fmt: skip
        logger.info(speed(counts))
        alone = first_of_all(options.trainer)
        files = _finish(store, plan, scene, wanted, about, options) if alone else []
    finally:
        reader.close()
        store.close()
    return _result(files, counts, about)


def _result(files: Sequence[Path], counts: Counts, tags: dict[str, str]) -> SceneResult:
    return SceneResult(tuple(files), counts.windows, counts.empty, counts.seconds, tags)


def _written(files: Sequence[Path], key: str) -> bool:
    """Whether the files of a run are there; the main one, a GeoTIFF, says of which run it is."""
    if not all(path.is_file() for path in files):
        return False
    try:
        with gdal(), rasterio.open(files[0], driver='GTiff') as file:
            return bool(file.tags().get('AOM_RUN') == key)
    except FAILURES:
        return False


def _finish(
    store: Store,
    plan: Plan,
    scene: Scene,
    sinks: Sequence[Sink],
    tags: dict[str, str],
    options: RunOptions,
) -> list[Path]:
    """Write the files, if all pieces are there: one process does it, the last one."""
    left = sum(not store.has(sink.name, unit) for unit in plan.units() for sink in sinks)
    if left:
        number, count = options.part
        logger.info(
            'part %d of %d is done; %d pieces are missing, the last part writes the files',
            number, count, left,
        )  # fmt: skip
        return []
    grid = scene.grid.scaled(plan.cell)
    with store.alone() as alone:
        if not alone:
            logger.info('another part is writing the files')
            return []
        for sink in reversed(sinks):  # the main file comes last: where it is, all are
            logger.info('writing %s', sink.path)
            sink.write(store, plan, grid, tags)
        store.remove()
    return [sink.path for sink in sinks]


def resized(options: RunOptions, cell: int) -> RunOptions:
    """Options whose chip fits another cell."""
    chip = options.chip or CHIP
    return replace(options, chip=max(cell, -(-chip // cell) * cell))
