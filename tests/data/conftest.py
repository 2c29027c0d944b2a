"""Writers of tiny image files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from loader_tools import FOLDERS
from rasterio.transform import from_origin

Writer = Callable[..., Path]


@pytest.fixture
def write() -> Writer:
    """Write an image: values (C, H, W) or a seed, band names, nodata, scale and offset tags."""

    def writer(
        path: Path,
        values: Any = 0,
        names: tuple[str, ...] = (),
        shape: tuple[int, int, int] = (3, 12, 12),
        scales: tuple[float, ...] = (),
        offsets: tuple[float, ...] = (),
        mask: Any = None,
        **profile: Any,
    ) -> Path:
        if np.ndim(values) == 0:
            values = np.random.default_rng(int(values)).integers(200, 4000, shape, dtype=np.uint16)
        values = np.asarray(values)
        count, height, width = values.shape
        facts: dict[str, Any] = {'driver': 'GTiff', 'dtype': values.dtype, **profile}
        if facts['driver'] == 'GTiff':
            facts = {'crs': 'EPSG:32632', 'transform': from_origin(5e5, 5e6, 10, 10), **facts}
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, 'w', count=count, height=height, width=width, **facts) as file:
            file.write(values)
            if names:
                file.descriptions = names
            if scales:
                file.scales, file.offsets = scales, offsets
            if mask is not None:
                file.write_mask(mask)
        return path

    return writer


@pytest.fixture(scope='module')
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sensors of different channels and sizes."""
    root = tmp_path_factory.mktemp('chips')
    rng = np.random.default_rng(0)
    for name, (count, shape) in FOLDERS.items():
        (root / name).mkdir()
        for k in range(count):
            values = rng.integers(1, 250, shape).astype('uint16' if name == 's2' else 'uint8')
            values = values * 10 if name == 's2' else values
            facts = {'driver': 'GTiff', 'count': shape[0], 'height': shape[1], 'width': shape[2]}
            transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
            path = root / name / f'{k:02}.tif'
            with rasterio.open(path, 'w', dtype=values.dtype, transform=transform, **facts) as file:
                file.write(values)
    return root
