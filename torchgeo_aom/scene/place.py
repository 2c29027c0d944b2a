"""Where a raster lies: its grid, its resolution in meters, and whether two grids are the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as warp_points

from torchgeo_aom.errors import ConfigError, DataError

__all__ = ('Grid', 'finest', 'regrid')

#: share by which meters of a projection may differ from those on the ground before it counts
SCALE_ERROR = 0.01
#: how many times finer than its pixels a scene may be read
MOST_FINER = 16


@dataclass(frozen=True)
class Grid:
    """Grid of a raster.

    Attributes:
        height: height in px.
        width: width in px.
        transform: pixel (column, row) to coordinates; it may be rotated or south-up.
        crs: coordinate system; None where the file has none.

    .. versionadded:: 0.1
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None

    @classmethod
    def of(cls, file: rasterio.DatasetReader, path: str) -> Grid:
        """Grid of an open file.

        Raises:
            ConfigError: if it is placed by ground control points or rational polynomials only.
            DataError: if its pixels have no size, or lie nowhere.
        """
        gcps, _ = file.gcps
        if file.transform.is_identity and (gcps or file.rpcs):
            kind = 'ground control points' if gcps else 'rational polynomials (RPC)'
            raise ConfigError(
                f'{path} is placed by {kind} only, so its pixels lie on no grid. Warp it first, '
                f'for example with gdalwarp -t_srs EPSG:... {path} warped.tif'
            )
        if not all(map(math.isfinite, file.transform)) or file.transform.determinant == 0:
            raise DataError(
                f'{path} places its pixels by {tuple(file.transform)[:6]}, which is no grid: its '
                f'header is damaged. Get it again, or write a correct geotransform'
            )
        return cls(file.height, file.width, file.transform, file.crs)

    def at(self, column: float, row: float) -> tuple[float, float]:
        """Coordinates of a place in px."""
        t = self.transform
        return t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the box around it."""
        box: tuple[float, float, float, float] = array_bounds(
            self.height, self.width, self.transform
        )
        return box

    @property
    def gsd_m(self) -> float | None:
        """Meters a pixel, the mean of both directions; None where coordinates are no lengths."""
        if self.crs is None or not (self.crs.is_geographic or self.crs.is_projected):
            return None
        area = abs(self.transform.determinant)
        if self.crs.is_geographic:
            _, latitude = self.at(self.width / 2, self.height / 2)
            return math.sqrt(area * _degree_m(latitude))
        stated = math.sqrt(area) * float(self.crs.linear_units_factor[1])
        ground = _ground_m(self.crs.to_wkt(), tuple(self.transform)[:6], self.width, self.height)
        # Of UTM and national grids a hundredth at most; Web Mercator has twice the ground at 60 N.
        return ground if abs(ground / stated - 1) > SCALE_ERROR else stated

    def scaled(self, cell: int) -> Grid:
        """The grid of cells of some pixels, with the same origin."""
        return Grid(
            -(-self.height // cell),
            -(-self.width // cell),
            scale(self.transform, cell),
            self.crs,
        )

    def same(self, other: Grid) -> bool:
        """Whether pixels of both are the same places, to a hundredth of a pixel."""
        if (self.height, self.width, self.crs) != (other.height, other.width, other.crs):
            return False
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        step = math.sqrt(abs(self.transform.determinant)) or 1.0
        return all(
            math.dist(self.at(*corner), other.at(*corner)) < step / 100 for corner in corners
        )

    def __str__(self) -> str:
        """One line."""
        crs = 'no coordinate system' if self.crs is None else self.crs.to_string()
        gsd = f', {self.gsd_m:.4g} m' if self.gsd_m else ''
        box = ', '.join(f'{value:.9g}' for value in self.bounds)
        return f'{self.height} x {self.width} px{gsd}, {crs[:60]}, bounds ({box})'


def scale(transform: Affine, factor: float) -> Affine:
    """A transform of pixels that are larger by a factor, with the same origin."""
    t = transform
    return Affine(t.a * factor, t.b * factor, t.c, t.d * factor, t.e * factor, t.f)


def _degree_m(latitude: float) -> float:
    """Square meters of a degree times a degree (WGS 84, the usual series)."""
    phi = math.radians(latitude)
    north = 111132.954 - 559.822 * math.cos(2 * phi) + 1.175 * math.cos(4 * phi)
    east = 111412.84 * math.cos(phi) - 93.5 * math.cos(3 * phi) + 0.118 * math.cos(5 * phi)
    return abs(north * east)


@lru_cache(maxsize=256)
def _ground_m(wkt: str, transform: tuple[float, ...], width: int, height: int) -> float:
    """Meters on the ground of a pixel in the middle of a projected grid; NaN off the Earth."""
    a, b, c, d, e, f = transform
    column, row = width / 2, height / 2
    places = [(column, row), (column + 1, row), (column, row + 1)]
    xs = [a * x + b * y + c for x, y in places]
    ys = [d * x + e * y + f for x, y in places]
    longitudes, latitudes = warp_points(CRS.from_wkt(wkt), 'EPSG:4326', xs, ys)
    if not all(map(math.isfinite, (*longitudes, *latitudes))):
        return math.nan
    steps = [
        ((longitudes[k] - longitudes[0] + 180) % 360 - 180, latitudes[k] - latitudes[0])
        for k in (1, 2)
    ]
    area = abs(steps[0][0] * steps[1][1] - steps[0][1] * steps[1][0])
    return math.sqrt(area * _degree_m(latitudes[0]))


def finest(grids: dict[str, Grid]) -> Grid:
    """The finest of the grids of one scene.

    Args:
        grids: grid of each file.

    Returns:
        The one with the smallest pixels.

    Raises:
        DataError: if they do not cover the same area in the same coordinate system.
    """
    name = min(grids, key=lambda key: abs(grids[key].transform.determinant))
    best = grids[name]
    for other, grid in grids.items():
        step = math.sqrt(abs(grid.transform.determinant))
        apart = max(abs(a - b) for a, b in zip(best.bounds, grid.bounds, strict=True))
        if grid.crs != best.crs or apart > step * 1.01:
            raise DataError(
                f'two files of the scene do not cover the same area: {name} has {best}; {other} '
                f'has {grid}. Warp or crop them to the same area first'
            )
    return best


def regrid(grid: Grid, gsd_m: float) -> Grid:
    """A grid of the same area with another resolution.

    Args:
        grid: the grid.
        gsd_m: meters a pixel wanted.

    Returns:
        The new grid; it ends at the pixel that reaches the end of the area.

    Raises:
        ConfigError: if the resolution is impossible, or the grid has no coordinate system.
    """
    if not 0 < gsd_m < math.inf:
        raise ConfigError(f'gsd_m must be a positive number of meters, got {gsd_m!r}')
    if grid.gsd_m is None:
        raise ConfigError('the scene has no coordinate system, so it cannot be given a gsd_m')
    factor = gsd_m / grid.gsd_m
    if factor < 1 / MOST_FINER:
        raise ConfigError(
            f'gsd_m={gsd_m:g} would enlarge a scene of {grid.gsd_m:.4g} m {1 / factor:,.0f} times, '
            f'to {grid.height / factor:,.0f} x {grid.width / factor:,.0f} px: give at least '
            f'{grid.gsd_m / MOST_FINER:.3g} m'
        )
    height, width = (max(1, math.ceil(n / factor - 1e-6)) for n in (grid.height, grid.width))
    return Grid(height, width, scale(grid.transform, factor), grid.crs)
