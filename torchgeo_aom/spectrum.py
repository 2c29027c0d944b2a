"""Where a band lies in the spectrum, and its channel index (the paper counts Sentinel-2)."""

from __future__ import annotations

import math
from bisect import bisect_right

from torchgeo_aom.errors import BandError

__all__ = (
    'COMMON_NAMES',
    'SENTINEL2_BANDS',
    'SENTINEL2_CENTRES_UM',
    'index_to_wavelength',
    'nearest_sentinel2',
    'wavelength_to_index',
)

SENTINEL2_BANDS = tuple('B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12'.split())
SENTINEL2_CENTRES_UM = (
    0.443,
    0.490,
    0.560,
    0.665,
    0.705,
    0.740,
    0.783,
    0.842,
    0.865,
    0.945,
    1.375,
    1.610,
    2.190,
)

# The reflective part of the spectrum; beyond it a band needs an index of its own (thermal: 13, 14).
MIN_UM, MAX_UM = 0.40, 2.50

# STAC `eo:common_name` -> (channel index or None = by wavelength, nominal centre in micrometers).
COMMON_NAMES: dict[str, tuple[float | None, float]] = {
    'coastal': (0.0, 0.443),
    'blue': (1.0, 0.490),
    'green05': (None, 0.530),
    'green': (2.0, 0.560),
    'pan': (None, 0.590),
    'yellow': (None, 0.600),
    'red': (3.0, 0.665),
    'rededge071': (4.0, 0.705),
    'rededge075': (5.0, 0.740),
    'rededge078': (6.0, 0.783),
    'nir': (7.0, 0.842),
    'nir08': (8.0, 0.865),
    'nir09': (9.0, 0.945),
    'cirrus': (10.0, 1.375),
    'swir16': (11.0, 1.610),
    'swir22': (12.0, 2.190),
    'lwir11': (13.0, 10.9),
    'lwir12': (14.0, 12.0),
}

# Common names that say too little to select one channel index.
AMBIGUOUS_COMMON_NAMES: dict[str, tuple[str, ...]] = {
    'rededge': ('rededge071', 'rededge075', 'rededge078'),
    'lwir': ('lwir11', 'lwir12'),
}

_CENTRES = SENTINEL2_CENTRES_UM
_SEGMENTS = len(_CENTRES) - 1


def wavelength_to_index(um: float) -> float:
    """Map a center wavelength to a (fractional) channel index.

    Sentinel-2 centers rise strictly with the index, so the map is monotone and piecewise linear;
    beyond its ends it goes on with the slope of the last segment.

    Args:
        um: center wavelength in micrometers, 0.40 to 2.50.

    Returns:
        The channel index, for example 8.0 for 0.865.

    Raises:
        BandError: if the wavelength is outside the reflective range.

    .. versionadded:: 0.1
    """
    if not (math.isfinite(um) and MIN_UM <= um <= MAX_UM):
        raise BandError(
            f'a center wavelength of {um:g} um has no channel index: allowed are {MIN_UM} to '
            f'{MAX_UM} um. Thermal and other bands need an index of their own, for example '
            f"{{'name': 'B10', 'wavelength_um': 10.9, 'index': 13}}"
        )
    i = min(max(bisect_right(_CENTRES, um) - 1, 0), _SEGMENTS - 1)
    return i + (um - _CENTRES[i]) / (_CENTRES[i + 1] - _CENTRES[i])


def index_to_wavelength(index: float) -> float | None:
    """Map a channel index back to the center wavelength it stands for.

    Args:
        index: channel index, may be fractional.

    Returns:
        The wavelength in micrometers, or None if the index is beyond the reflective range.

    .. versionadded:: 0.1
    """
    i = min(max(math.floor(index), 0), _SEGMENTS - 1)
    um = round(_CENTRES[i] + (index - i) * (_CENTRES[i + 1] - _CENTRES[i]), 9)
    return um if MIN_UM <= um <= MAX_UM else None


def nearest_sentinel2(um: float) -> tuple[str, float]:
    """Find the Sentinel-2 band whose center is closest.

    Args:
        um: center wavelength in micrometers.

    Returns:
        The band's name and the signed distance ``um - center`` in nanometers.
    """
    i = min(range(len(_CENTRES)), key=lambda k: abs(_CENTRES[k] - um))
    return SENTINEL2_BANDS[i], (um - SENTINEL2_CENTRES_UM[i]) * 1000
