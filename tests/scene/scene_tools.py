"""Small rasters and stand-ins for models, for the tests of scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin
from torch import Tensor, nn

from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.weights import save_weights
from torchgeo_aom.scene import RunOptions, Scene, open_scene
from torchgeo_aom.scene.pipeline import Output
from torchgeo_aom.scene.run import SceneResult, execute
from torchgeo_aom.scene.runner import Runner
from torchgeo_aom.scene.sinks import Sink, ValueSink
from torchgeo_aom.transforms import Normalize

RGBN = ('B04', 'B03', 'B02', 'B08')
UTM = from_origin(500_000, 4_650_000, 10, 10)
TINY = {'embed_dim': 24, 'depth': 1, 'num_heads': 3, 'kernel_sizes': (8, 16)}


def pixels(bands: int = 4, height: int = 70, width: int = 90, seed: int = 0) -> NDArray[Any]:
    """Smooth numbers as Sentinel-2 stores them, none 0."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        np.sin(rows / rng.uniform(5, 20)) + np.cos(columns / rng.uniform(5, 20)) + 2.2
        for _ in range(bands)
    ]
    return (500 * np.stack(waves) + rng.integers(0, 50, (bands, height, width))).astype('uint16')


def write(
    path: Path,
    values: NDArray[Any],
    names: Sequence[str] | None = RGBN,
    transform: Affine = UTM,
    crs: str | None = 'EPSG:32631',
    **profile: Any,
) -> Path:
    """A GeoTIFF."""
    with rasterio.open(
        path, 'w', driver='GTiff', dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], transform=transform, crs=crs, **profile,
    ) as file:  # fmt: skip
        file.write(values)
        for number, name in enumerate(names or (), 1):
            file.set_band_description(number, name)
    return path


def scene_of(path: Path, **options: Any) -> Scene:
    """A scene of Sentinel-2 L2A before 2022."""
    return open_scene(path, **{'sensor': 'sentinel2', 'product': 'l2a', **options})


def read(path: Path) -> NDArray[Any]:
    """All bands."""
    with rasterio.open(path) as file:
        values: NDArray[Any] = file.read()
    return values


def as_is(scene: Scene) -> Normalize:
    """Reflectance as it is."""
    return scene.normalize(mean=[0.0] * len(scene.layers), std=[1.0] * len(scene.layers))


def stub(
    scene: Scene, function: Callable[[Tensor], Tensor], channels: int, cell: int = 1
) -> Runner:
    """A model that is a function."""
    return Runner(
        nn.Identity(), lambda x: Output(function(x)), scene.bands, cell, channels, facts=(cell,)
    )


def pooled(x: Tensor, cell: int) -> Tensor:
    """Means of cells."""
    return torch.nn.functional.avg_pool2d(x, cell)


def run(
    scene: Scene,
    output: Path,
    function: Callable[[Tensor], Tensor],
    channels: int,
    cell: int = 1,
    sinks: Callable[[Any], list[Sink]] | None = None,
    **options: Any,
) -> SceneResult:
    """Run a function over a scene; the values as they are."""
    wanted = sinks or (lambda _: [ValueSink('v', output, [f'v{k}' for k in range(channels)])])
    given = RunOptions(**{'chip': 32, 'overlap': 8, 'progress': False, **options})
    return execute(scene, stub(scene, function, channels, cell), as_is(scene), wanted, given, {})


def tiny_weights(path: Path, bands: str = 'sentinel2:rgbn') -> Path:
    """A weights file of a very small encoder."""
    torch.manual_seed(0)
    save_weights(AOM(bands=bands, patch_size=8, **TINY), path)
    return path
