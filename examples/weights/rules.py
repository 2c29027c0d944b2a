"""Says which images weights may be trained on: one rule for each data set that is evaluated on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from torchgeo_aom.datasets.splits import hash_split

__all__ = ('HLS_SHARES', 'far_from', 'hls_split', 'ucmerced_split', 'without_evaluation')

#: half of the places each: few places show some classes, and the probe needs all of them
HLS_SHARES = {'train': 0.5, 'test': 0.5}

# Evaluated on in whole, so no image of these folders may be trained on. The six chips of
# `eurosat_samples` may lie beside some of `eurosat200`.
EVALUATION = ('eurosat200', 'eurosat_samples', 'sentinel2_pairs')

KILOMETERS = 10.0  # the largest image measures 7 km
KM_PER_DEGREE = 111.2


def ucmerced_split(names: Sequence[str]) -> list[str]:
    """Split of each file of UC Merced: 60, 20 and 20 % of each class.

    The files with the published splits need a network; this rule needs names only, and is that of
    ``UCMerced(split_rule='hash')``.

    Args:
        names: file names with or without ending, such as ``airplane07.tif``. All 2,100, as the
            shares are those of the names given.

    Returns:
        ``'train'``, ``'val'`` or ``'test'`` for each.
    """
    stems = [name.rpartition('/')[2].removesuffix('.tif') for name in names]
    # The names as torchgeo_aom.datasets.UCMerced(split_rule='hash') takes them, ending and all.
    return hash_split([f'{stem}.tif' for stem in stems], [re.sub(r'\d+$', '', s) for s in stems])


def hls_split(sites: Sequence[int | str]) -> list[str]:
    """Split of each HLS chip by its place: chips of one place overlap.

    Classes do not decide: four fifths of all shrub patches lie at two places, so that no split of
    places balances them.

    Args:
        sites: ``site_group`` of each chip or patch; all places, as the shares are of those given.

    Returns:
        ``'train'`` or ``'test'`` for each.
    """
    return hash_split([str(site) for site in sites], shares=HLS_SHARES)


def without_evaluation(paths: Iterable[str]) -> list[str]:
    """Leave out whatever lies in a folder that is evaluated on.

    Args:
        paths: paths of files.

    Returns:
        Those that may be trained on.
    """
    return [path for path in paths if not set(re.split(r'[\\/]', path)) & set(EVALUATION)]


def far_from(place: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
    """Whether an image is too far from all evaluated ones to overlap them.

    Args:
        place: longitude and latitude of the center of an image.
        others: the same of images that are evaluated on.

    Returns:
        True if none is within `KILOMETERS`.
    """
    lon, lat = place
    for other_lon, other_lat in others:
        east = (lon - other_lon) * math.cos(math.radians((lat + other_lat) / 2))
        if math.hypot(east, lat - other_lat) * KM_PER_DEGREE < KILOMETERS:
            return False
    return True
