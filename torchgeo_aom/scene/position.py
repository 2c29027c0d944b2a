"""Takes out of embeddings what says only where in its window a patch lies.

A vision transformer adds a code of the position to every token, and part of it is still there at
the end. Within one image that is harmless; in a scene made of windows it repeats with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.transforms import Normalize

from .grid import Plan
from .layers import Scene
from .options import RunOptions
from .pipeline import Output
from .reader import SceneReader
from .runner import Runner

__all__ = ('POSITIONS', 'position_map', 'without_position')

logger = logging.getLogger('torchgeo_aom.scene')
POSITIONS = ('remove', 'keep')
SAMPLES = 36
LEAST = 9  # windows, below which what they show would go with their positions


def position_map(
    reader: SceneReader,
    normalize: Normalize,
    function: Callable[[Tensor], Output],
    plan: Plan,
    options: RunOptions,
) -> Tensor | None:
    """Mean value at each position of a window, less the mean over positions.

    Args:
        reader: the scene.
        normalize: reflectance to what the model reads.
        function: normalized images to values.
        plan: the windows.
        options: batch size and device.

    Returns:
        The map (K, h, w); None where too few windows have data.
    """
    # More windows, spread evenly over the scene, would cost more than they give.
    side = round(min(SAMPLES, max(LEAST, plan.windows)) ** 0.5)
    starts = [
        np.unique(np.linspace(0, axis.length - axis.chip, side).round().astype(int)) * plan.cell
        for axis in (plan.rows, plan.columns)
    ]
    device = options.torch_device()
    total: Tensor | None = None
    weight: Tensor | None = None
    count = 0
    places = [(int(row), int(column)) for row in starts[0] for column in starts[1]]
    for first in range(0, len(places), options.batch_size):
        parts = [
            reader.read((*at, *plan.chip)) for at in places[first : first + options.batch_size]
        ]
        images = np.stack(parts)
        there = torch.from_numpy(np.isfinite(images).any(1)).to(device)
        cells = there.unflatten(2, (-1, plan.cell)).unflatten(1, (-1, plan.cell)).all(4).all(2)
        with torch.inference_mode():
            values = function(normalize(torch.from_numpy(images).to(device))).values.float()
        mask = cells[:, None].to(values)
        sums, seen = (values * mask).sum(0), mask.sum(0)
        total = sums if total is None else total + sums
        weight = seen if weight is None else weight + seen
        count += int(there.flatten(1).all(1).sum())
    if total is None or weight is None or count < LEAST or not bool((weight > 0).all()):
        return None
    mean = total / weight
    return mean - mean.mean((1, 2), keepdim=True)


def without_position(
    scene: Scene,
    runner: Runner,
    normalize: Normalize,
    plan: Plan,
    options: RunOptions,
    position: str,
) -> Runner:
    """The same runner, without what only says where in the window a cell lies.

    Args:
        scene: the scene.
        runner: gives embeddings.
        normalize: reflectance to what the model reads.
        plan: the windows.
        options: batch size and device.
        position: ``'remove'`` or ``'keep'``.

    Returns:
        The runner.

    Raises:
        ConfigError: if *position* is something else.
    """
    if position not in POSITIONS:
        raise ConfigError(f'position must be one of {", ".join(POSITIONS)}, got {position!r}')
    if position == 'keep' or plan.windows == 1:
        return replace(runner, tags={**runner.tags, 'AOM_POSITION': 'kept'})
    device = options.torch_device()
    runner.model.to(device)
    reader = SceneReader(scene)
    try:
        bias = position_map(reader, normalize.to(device), runner.function, plan, options)
    finally:
        reader.close()
    if bias is None:
        logger.info('fewer than %d windows are full: their positions are kept', LEAST)
        return replace(runner, tags={**runner.tags, 'AOM_POSITION': 'kept'})

    def run(x: Tensor) -> Output:
        output = runner.function(x)
        return Output(output.values.float() - bias, output.vectors)

    tags = {**runner.tags, 'AOM_POSITION': 'removed'}
    return replace(runner, function=run, tags=tags, facts=(*runner.facts, 'position', SAMPLES))
