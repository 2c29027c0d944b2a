"""Bands of TorchGeo's data sets, from what they say of themselves; the sensor is never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchgeo.datasets import IntersectionDataset

from ..bands import Band, resolve_bands
from ..errors import BandError

__all__ = ('dataset_bands',)

S2 = 'sentinel2'
BIGEARTHNET_S2 = ('B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12').split()

# Sensor that the names in a class's ``bands`` belong to, where the class says so in its
# documentation. Classes derived from these inherit the entry.
SENSORS: dict[str, str] = {
    'AgriFieldNet': S2,
    'BeninSmallHolderCashews': S2,
    'CV4AKenyaCropType': S2,
    'CaBuAr': S2,
    'ChaBuD': S2,
    'CloudCoverDetection': S2,
    'CopernicusBenchBigEarthNetS2': S2,
    'CopernicusBenchCloudS2': S2,
    'CopernicusBenchDFC2020S2': S2,
    'CopernicusBenchEuroSATS2': S2,
    'CopernicusBenchLCZS2': S2,
    'DL4GAMAlps': S2,
    'EuroSAT': S2,
    'L8BiomeImage': 'landsat8',
    'Landsat4TM': 'landsat5',
    'Landsat5TM': 'landsat5',
    'Landsat7': 'landsat7',
    'Landsat8': 'landsat8',
    'Landsat9': 'landsat9',
    'NAIP': 'naip',
    'OSCD': S2,
    'SEN12MS': S2,
    'SSL4EOS12': S2,
    'SeasonalContrastS2': S2,
    'Sentinel2': S2,
    'So2Sat': S2,
    'SouthAfricaCropType': S2,
    'ZueriCrop': S2,
}
# Classes whose names of bands are their own.
NAMES: dict[str, dict[str, str]] = {
    'L7IrishImage': {f'B{k}0': f'landsat7:B{k}' for k in (1, 2, 3, 4, 5, 7, 8)}
    | {'B61': 'landsat7:B6', 'B62': 'landsat7:B6_VCID_2'},
}
# Classes whose ``bands`` is one word.
SETS: dict[str, dict[str, list[str]]] = {
    'BigEarthNet': {'s2': BIGEARTHNET_S2},
    'BigEarthNetV2': {'s2': BIGEARTHNET_S2},
}
# Splits of SSL4EOL.
SSL4EOL = {
    'tm_toa': 'landsat5',
    'etm_toa': 'landsat7',
    'etm_sr': 'landsat7',
    'oli_tirs_toa': 'landsat8',
    'oli_sr': 'landsat8',
}
# Classes that say nothing, because their images are what most people call images.
FIXED: dict[str, str] = dict.fromkeys(
    (
        'DeepGlobeLandCover',
        'InriaAerialImageLabeling',
        'LEVIRCD',
        'LEVIRCDPlus',
        'LandCoverAI',
        'LoveDA',
        'RESISC45',
        'UCMerced',
    ),
    'rgb',
)


def _entry(dataset: object, table: Mapping[str, Any]) -> Any:
    names = [cls.__name__ for cls in type(dataset).__mro__]
    return next((table[name] for name in names if name in table), None)


def stated_bands(dataset: object) -> list[str]:
    """Names of bands that a data set states; empty if it states none.

    Args:
        dataset: a data set, not a wrapper of one.

    Returns:
        The names as they are.
    """
    split = getattr(dataset, 'split', None)
    bands = getattr(dataset, 'bands', None)
    if bands is None and isinstance(split, str):
        metadata = getattr(dataset, 'metadata', None)
        if isinstance(metadata, Mapping) and isinstance(metadata.get(split), Mapping):
            bands = metadata[split].get('all_bands')
    if isinstance(bands, str):
        bands = (_entry(dataset, SETS) or {}).get(bands)
    if not isinstance(bands, Sequence) or not all(isinstance(band, str) for band in bands):
        return []
    return list(bands)


def _resolve(dataset: object, sensor: str | None) -> tuple[Band, ...] | None:
    own_bands = getattr(dataset, 'band_objects', None)  # of a `BandDataset`
    if isinstance(own_bands, tuple) and all(isinstance(band, Band) for band in own_bands):
        return own_bands
    names = stated_bands(dataset)
    if sensor is not None:
        return resolve_bands(names, sensor) if names else None
    if not names:
        fixed = _entry(dataset, FIXED)
        return None if fixed is None else resolve_bands(fixed)
    own = _entry(dataset, NAMES) or {}
    known = _entry(dataset, SENSORS) or (S2 if _entry(dataset, SETS) else None)
    if known is None and _entry(dataset, {'SSL4EOL': True}):
        known = SSL4EOL.get(getattr(dataset, 'split', ''))
    spec = [own.get(name, name) for name in names]
    if known is None and not all(':' in name for name in spec):
        return None
    try:
        return resolve_bands(spec, known)
    except BandError:  # radar, cloud masks: not for the table to judge
        return None


def dataset_bands(dataset: object, sensor: str | None = None) -> tuple[Band, ...] | None:
    """Say what the channels of a data set's images are, as far as it is known.

    Subsets are unwrapped. The images of an intersection are stacked as channels in TorchGeo, masks
    aside; those of a union or a concatenation are alternatives.

    Args:
        dataset: a data set of TorchGeo or of the same form, or a wrapper of one.
        sensor: the sensor that the names in its ``bands`` belong to; from a table of TorchGeo's
            classes where not given.

    Returns:
        One band for each channel, or None where they are not known.

    Raises:
        BandError: if *sensor* has no such bands, or the parts of a union have different ones.

    .. versionadded:: 0.1
    """
    if not stated_bands(dataset):
        parts = getattr(dataset, 'datasets', None)
        if isinstance(parts, Sequence) and parts:
            return _of_parts(dataset, parts, sensor)
        inner = getattr(dataset, 'dataset', None)
        if inner is not None:
            return dataset_bands(inner, sensor)
    return _resolve(dataset, sensor)


def _of_parts(
    dataset: object, parts: Sequence[object], sensor: str | None
) -> tuple[Band, ...] | None:
    images = [part for part in parts if getattr(part, 'is_image', True)]
    bands = [dataset_bands(part, sensor) for part in images]
    known = [found for found in bands if found is not None]
    if isinstance(dataset, IntersectionDataset):
        stacked = tuple(band for found in known for band in found)
        return stacked if known and len(known) == len(bands) else None
    for part, found in zip(images, bands, strict=True):
        if found is not None and [b.index for b in found] != [b.index for b in known[0]]:
            raise BandError(
                f'{type(dataset).__name__} mixes bands {[b.label for b in known[0]]} with '
                f'{[b.label for b in found]} of {type(part).__name__}; give each its own loader.'
            )
    return known[0] if known else None
