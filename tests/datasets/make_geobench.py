"""Writes tasks of GEO-Bench v1 in the true form, and unpacks the genuine files beside it.

Names, order and types are those of its converters, written down here once more: these tables must
not come from the package that is tested.
"""

from __future__ import annotations

import datetime
import json
import lzma
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

GENUINE = Path(__file__).parent / 'geobench_samples'
S2 = [
    '01 - Coastal aerosol',
    '02 - Blue',
    '03 - Green',
    '04 - Red',
    '05 - Vegetation Red Edge',
    '06 - Vegetation Red Edge',
    '07 - Vegetation Red Edge',
    '08 - NIR',
    '08A - Vegetation Red Edge',
    '09 - Water vapour',
    '10 - SWIR - Cirrus',
    '11 - SWIR',
    '12 - SWIR',
]
S1 = [
    '01 - VH.Real',
    '02 - VH.Imaginary',
    '03 - VV.Real',
    '04 - VV.Imaginary',
    '05 - VH.LEE Filtered',
    '06 - VV.LEE Filtered',
    '07 - VH.LEE Filtered.Real',
    '08 - VV.LEE Filtered.Imaginary',
]
RGB = ['Red', 'Green', 'Blue']
CLOUDY = [*S2[:10], *S2[11:], 'Cloud Probability']
L8 = ['04 - Red', '03 - Green', '02 - Blue', '05 - NIR', '06 - SWIR1', '07 - SWIR2']
# Bands in the order of the converter, type of the values, number of classes, date.
LAYOUT: dict[str, tuple[list[str], str, int, str | None]] = {
    'm-eurosat': (S2, 'int16', 10, None),
    'm-bigearthnet': ([*S2[:10], *S2[11:]], 'float32', 43, None),
    'm-so2sat': ([*S1, *S2[1:9], *S2[11:]], 'float32', 17, None),
    'm-brick-kiln': (S2, 'float64', 2, None),
    'm-forestnet': (L8, 'uint8', 12, '2015-01-01'),
    'm-pv4ger': (RGB, 'uint8', 2, None),
    'm-pv4ger-seg': (RGB, 'uint8', 2, None),
    'm-nz-cattle': (RGB, 'uint8', 2, '2014-01-01'),
    'm-NeonTree': ([*RGB, 'Canopy Height Model', 'Neon'], 'uint8', 2, None),
    'm-cashew-plant': (CLOUDY, 'float32', 7, '2019-11-15'),
    'm-SA-crop-type': (CLOUDY, 'int16', 10, None),
    'm-chesapeake': ([*RGB, 'NearInfrared'], 'float32', 7, None),
}
MASKED = list(LAYOUT)[6:]


@contextmanager
def geobench_classes() -> Iterator[type[Any]]:
    """A class that pickles as one of ``geobench.dataset``, whether that is installed or not."""
    old = {name: sys.modules.get(name) for name in ('geobench', 'geobench.dataset')}
    module = ModuleType('geobench.dataset')
    found = type('Sentinel2', (), {'__module__': 'geobench.dataset'})
    module.Sentinel2 = found  # type: ignore[attr-defined]
    sys.modules.update({'geobench': ModuleType('geobench'), 'geobench.dataset': module})
    try:
        yield found
    finally:
        for name, former in old.items():
            sys.modules.pop(name, None)
            if former is not None:
                sys.modules[name] = former


def attribute(label: Any, bands: list[str], protocol: int = 4, **more: Any) -> str:
    """The attribute ``pickle`` of a file."""
    with geobench_classes() as described:
        facts: dict[str, Any] = {} if label is None else {'label': label}
        for band in bands:
            info, date = described(), None
            if re.search(r'_\d{4}-\d\d-\d\d$', band):
                date = datetime.date.fromisoformat(band[-10:])
            info.name, info.wavelength = band if date is None else band[:-11], 0.49
            info.alt_names, info.spatial_resolution = (), 10
            facts[band] = {
                'date': date,
                'date_id': date,
                'spatial_resolution': 10,
                'band_info': info,
                'meta_info': None,
                'transform': None,
                'crs': None,
            }
        facts.update(bands_order=bands, **more)
        return str(pickle.dumps(facts, protocol))


def values(name: str, kind: str, size: int, index: int, seed: int) -> np.ndarray[Any, Any]:
    """Values of a band: its place among the bands, and the sample, can be told from them."""
    random = np.random.default_rng([seed, index])
    if kind == 'float32' and name.startswith(('m-so2sat', 'm-chesapeake')):
        return (random.integers(0, 50, (size, size)) / 255 + 0.01 * index).astype(kind)
    top = 100 if kind == 'uint8' or name == 'm-SA-crop-type' else 1000
    return random.integers(1 + 10 * index, 10 * index + top, (size, size)).astype(kind)


def write_task(
    root: Path,
    name: str,
    *,
    folder: str | None = None,
    size: int = 16,
    counts: tuple[int, int, int] = (4, 2, 2),
    tables: bool = False,
) -> Path:
    """Write a task.

    Args:
        root: what stands above ``classification_v1.0`` and ``segmentation_v1.0``.
        name: name of the task.
        folder: name of its folder, if another one.
        size: height and width of its images.
        counts: number of samples for training, validation and test.
        tables: whether labels stand in tables beside the images as well.

    Returns:
        Its folder.
    """
    bands, kind, classes, date = LAYOUT[name]
    masked = name in MASKED
    out = root / f'{"segmentation" if masked else "classification"}_v1.0' / (folder or name)
    out.mkdir(parents=True)
    dated = '' if date is None else f'_{date}'
    samples = [f'id_{k:04d},{k}.5' for k in range(sum(counts))]
    stored: dict[str, list[np.ndarray[Any, Any]]] = {band: [] for band in bands}
    labels: list[Any] = []
    for k, sample in enumerate(samples):
        label: Any = k % classes
        if name == 'm-bigearthnet':
            label = np.isin(np.arange(classes), (k, k + 7)).astype(np.int64)
        labels.append(label)
        with h5py.File(out / f'{sample}.hdf5', 'w') as file:
            order = []
            for index, band in enumerate(bands):
                plane = values(name, kind, size, index, seed=k)
                if band == 'Neon':
                    plane = np.zeros((4, 4, 369), 'int16')
                if band == 'Canopy Height Model':
                    plane = np.zeros((4, 4, 1), 'float32')
                stored[band].append(plane)
                file.create_dataset(band + dated, data=plane)
                order.append(band + dated)
            if masked:
                mask = np.arange(size * size).reshape(size, size) % classes
                own = dated if name == 'm-nz-cattle' else ''
                file.create_dataset('label' + own, data=mask.astype('uint8'))
                order.append('label' + own)
            file.attrs['pickle'] = attribute(None if masked else label, order)
    splits = np.split(np.array(samples), np.cumsum(counts)[:-1])
    partition = {
        key: part.tolist() for key, part in zip(('train', 'valid', 'test'), splits, strict=True)
    }
    few = {**partition, 'train': partition['train'][:1]}
    for title, content in (('default', partition), ('0.01x_train', few)):
        (out / f'{title}_partition.json').write_text(json.dumps(content, indent=2))
    numbers = {
        band: {'mean': float(np.mean(planes)), 'std': float(np.std(planes)), 'max': 0.0}
        for band, planes in stored.items()
    }
    (out / 'band_stats.json').write_text(json.dumps(numbers))
    if tables and name == 'm-bigearthnet':
        rows = {
            sample: row.astype(float).tolist() for sample, row in zip(samples, labels, strict=True)
        }
        (out / 'label_stats.json').write_text(json.dumps(rows))
    elif tables:
        of: dict[str, list[str]] = {str(c): [] for c in range(classes)}
        for sample, label in zip(samples, labels, strict=True):
            of[str(label)].append(sample)
        (out / 'label_map.json').write_text(json.dumps(of))
    return out


def unpack(root: Path, name: str) -> Path:
    """Unpack a genuine task; its partition ``small`` lists the samples that are here."""
    out = root / name
    out.mkdir(parents=True)
    for path in sorted((GENUINE / name).iterdir()):
        if path.suffix == '.xz':
            (out / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            (out / path.name).write_bytes(path.read_bytes())
    here = sorted(path.stem for path in out.glob('*.hdf5'))
    small = {'train': here, 'valid': here, 'test': here}
    (out / 'small_partition.json').write_text(json.dumps(small))
    return out


if __name__ == '__main__':
    for task in LAYOUT:
        print(write_task(Path(sys.argv[1]), task))
