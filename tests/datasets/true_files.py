"""Writes small data sets in the true format of their authors: names, bands, types, values, codes.

Images are parts of real chips of this package where the sensor is the same; masks are drawn.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

CHIPS = Path(__file__).parents[2] / 'torchgeo_aom' / 'data' / 'samples' / 'eurosat200'

# What a Landsat-8 MTL file before the collections says, shortened.
MTL = """\
GROUP = L1_METADATA_FILE
  GROUP = METADATA_FILE_INFO
    ORIGIN = "Image courtesy of the U.S. Geological Survey"
    LANDSAT_SCENE_ID = "LC80200392015216LGN00"
    FILE_DATE = 2015-08-04T21:11:59Z
  END_GROUP = METADATA_FILE_INFO
  GROUP = IMAGE_ATTRIBUTES
    SUN_ELEVATION = {sun}
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = RADIOMETRIC_RESCALING
    RADIANCE_MULT_BAND_10 = 3.3420E-04
    RADIANCE_MULT_BAND_11 = 3.3420E-04
    RADIANCE_ADD_BAND_10 = 0.10000
    RADIANCE_ADD_BAND_11 = 0.10000
{reflectance}
  END_GROUP = RADIOMETRIC_RESCALING
  GROUP = TIRS_THERMAL_CONSTANTS
    K1_CONSTANT_BAND_10 = 774.8853
    K1_CONSTANT_BAND_11 = 480.8883
    K2_CONSTANT_BAND_10 = 1321.0789
    K2_CONSTANT_BAND_11 = 1201.1442
  END_GROUP = TIRS_THERMAL_CONSTANTS
END_GROUP = L1_METADATA_FILE
END
"""


def write(path: Path, values: Any, names: Sequence[str] = (), **profile: Any) -> Path:
    """Write a raster (C, H, W) with the driver of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    driver = {'.tif': 'GTiff', '.png': 'PNG', '.jpg': 'JPEG'}[path.suffix]
    facts = {'count': count, 'height': height, 'width': width, 'dtype': values.dtype.name}
    with rasterio.open(path, 'w', driver=driver, **facts, **profile) as file:
        file.write(values)
        for channel, name in enumerate(names, 1):
            file.set_band_description(channel, name)
    path.with_name(path.name + '.aux.xml').unlink(missing_ok=True)
    return path


def chip(name: str = 'River/River_1.tif') -> np.ndarray[Any, Any]:
    """A real chip of EuroSAT (13, 64, 64), B8A last."""
    with rasterio.open(CHIPS / name) as file:
        values: np.ndarray[Any, Any] = file.read()
    return values


def sparcs(root: Path, places: Sequence[str] = ('001081', '002053', '009058', '012047')) -> Path:
    """SPARCS: LC8..._data.tif (10 bands, uint16), _mask.png (0 to 6), _mtl.txt, in sending/."""
    bands = [0, 1, 2, 3, 12, 10, 11, 9, 7, 8]  # stand-ins from Sentinel-2, in digital numbers
    values = np.tile(chip()[bands], (1, 16, 16))[:, :1000, :1000]
    values = (values.astype(np.float64) / 1e4 * 0.9 + 0.1) / 2e-5
    values[8:] = 26000
    values = values.round().astype('uint16')
    values[:, :10, :10] = 0  # no data
    rows = [f'    REFLECTANCE_MULT_BAND_{k} = 2.0000E-05' for k in range(1, 10)]
    rows += [f'    REFLECTANCE_ADD_BAND_{k} = -0.100000' for k in range(1, 10)]
    mask = (np.arange(1000)[:, None] // 150 * np.ones(1000)).astype('uint8')  # 0 to 6
    for k, place in enumerate(places):
        for day in ('2013365', '2014001'):
            name = root / 'sending' / f'LC8{place}{day}LGN00_{k + 10}_'
            write(Path(f'{name}data.tif'), values, compress='deflate')
            write(Path(f'{name}mask.png'), mask[None])
            text = MTL.format(sun=30 + 10 * k, reflectance='\n'.join(rows))
            Path(f'{name}mtl.txt').write_text(text)
    return root


def burn_scars(root: Path) -> Path:
    """HLS Burn Scars: *_merged.tif (6 bands, reflectance, float32) and *.mask.tif (-1, 0, 1)."""
    values = np.tile(chip()[[1, 2, 3, 12, 10, 11]], (1, 8, 8)).astype('float32') / 1e4
    values[:, :8, :8] = -9999
    mask = (values[3] < 0.15).astype('int16')
    mask[:8, :8] = -1
    tiles = {'training': [f'T10S{k}{k}' for k in 'ABCDEFGHJK'], 'validation': ['T11TPF', 'T12SUG']}
    for folder, names in tiles.items():
        for tile in names:
            for year in (2018, 2019):
                name = f'subsetted_512x512_HLS.S30.{tile}.{year}280.v1.4'
                options: dict[str, Any] = {'crs': 'EPSG:32610', 'compress': 'deflate'}
                options['transform'] = from_origin(5e5, 4e6, 30, 30)
                write(root / folder / f'{name}_merged.tif', values, **options)
                write(root / folder / f'{name}.mask.tif', mask[None], **options)
    return root


def hls_water(root: Path, sites: int = 6) -> Path:
    """HLS water: images/ID.tif (7 bands, int16 x 10000), masks/ID.png (0, 1), and two tables."""
    values = np.tile(chip()[[0, 1, 2, 3, 12, 10, 11]], (1, 2, 2)).astype('int16')
    names = ('coastal', 'blue', 'green', 'red', 'nir08', 'swir16', 'swir22')
    tables: dict[str, list[dict[str, Any]]] = {'meta': [], 'patches32_worldcover': []}
    for k in range(2 * sites):
        image = np.roll(values, 7 * k, axis=1)
        image[:, -4:] = -9999
        write(root / 'images' / f'{k}.tif', image, names, compress='deflate')
        write(root / 'masks' / f'{k}.png', (image[4:5] < 1500).astype('uint8'))
        tables['meta'].append({'id': k, 'hls_product_guess': 'S30', 'site_group': k // 2})
        for row, code in ((0, 10), (32, 30), (64, 40), (96, 50)):
            facts = {'id': k, 'row': row, 'col': 32, 'worldcover_class': code}
            facts |= {'purity': 0.6 + row / 320, 'site_group': k // 2}
            tables['patches32_worldcover'].append(facts)
    for name, rows in tables.items():
        table(root / f'derived_{name}.csv', rows)
    return root


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a table."""
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def eurosat(root: Path) -> Path:
    """EuroSAT as TorchGeo unpacks it, with real chips, two of each class in each split."""
    images = root / 'ds' / 'images' / 'remote_sensing' / 'otherDatasets' / 'sentinel_2' / 'tif'
    for numbers, split in (((1, 2), 'train'), ((3,), 'val'), ((4,), 'test')):
        names = []
        for folder in sorted(CHIPS.iterdir()):
            (images / folder.name).mkdir(parents=True, exist_ok=True)
            for k in numbers:
                name = f'{folder.name}_{k}'
                shutil.copy(folder / f'{name}.tif', images / folder.name)
                names.append(f'{name}.jpg')
        (root / f'eurosat-{split}.txt').write_text('\n'.join(names))
    return root


def ucmerced(root: Path, lists: bool = True) -> Path:
    """UC Merced: UCMerced_LandUse/Images/CLASS/CLASSnn.tif (8-bit RGB), and TorchGeo's lists."""
    random = np.random.default_rng(0)
    folder = root / 'UCMerced_LandUse' / 'Images'
    splits: dict[str, list[str]] = {'train': [], 'val': [], 'test': []}
    for name in ('agricultural', 'beach'):
        for k in range(10):
            side = 256 if k else 247  # a few are smaller
            image = random.integers(0, 255, (3, side, 256), dtype='uint8')
            write(folder / name / f'{name}{k:02d}.tif', image, photometric='RGB')
            splits['train' if k < 6 else 'val' if k < 8 else 'test'].append(f'{name}{k:02d}.tif')
    for split, names in splits.items() if lists else ():
        (root / f'uc_merced-{split}.txt').write_text('\n'.join(names))
    return root


def _patch(folder: Path, values: np.ndarray[Any, Any]) -> None:
    """A Sentinel-2 patch of BigEarthNet: a file for each band, at its own resolution."""
    names = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12'.split()
    sides = {'B01': 20, 'B09': 20, 'B02': 120, 'B03': 120, 'B04': 120, 'B08': 120}
    for k, name in enumerate(names):
        side = sides.get(name, 60)
        part = np.full((1, side, side), values[k], 'uint16')
        write(folder / f'{folder.name}_{name}.tif', part)


def bigearthnet_v1(root: Path, rows: int = 1) -> Path:
    """BigEarthNet 1: BigEarthNet-v1.0/PATCH/PATCH_Bnn.tif, labels in json, splits in csv."""
    labels = [['Sea and ocean'], ['Coniferous forest', 'Peatbogs'], ['Pastures', 'Airports']]
    for k, split in enumerate(('train', 'val', 'test')):
        names = [f'S2A_MSIL2A_20170617T113321_{k + 3 * row}_55' for row in range(rows)]
        for row, name in enumerate(names):
            folder = root / 'BigEarthNet-v1.0' / name
            _patch(folder, np.arange(100, 1300, 100) + k + 3 * row)
            own = labels[(k + row) % 3]
            facts = {'labels': own, 'acquisition_date': '2017-06-17 11:33:21'}
            (folder / f'{name}_labels_metadata.json').write_text(json.dumps(facts))
        pairs = '\n'.join(f'{name},S1A_{name}' for name in names)
        (root / f'bigearthnet-{split}.csv').write_text(pairs)
    return root


def bigearthnet_v2(root: Path) -> tuple[Path, dict[str, list[Any]]]:
    """BigEarthNet 2: BigEarthNet-S2/TILE/PATCH/PATCH_Bnn.tif; its table is metadata.parquet."""
    rows: dict[str, list[Any]] = {'patch_id': [], 's1_name': [], 'split': [], 'labels': []}
    for k, split in enumerate(('train', 'validation', 'test')):
        tile = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP'
        name = f'{tile}_{k}_57'
        _patch(root / 'BigEarthNet-S2' / tile / name, np.arange(100, 1300, 100) + k)
        reference = np.full((1, 120, 120), 312, 'uint16')
        write(root / 'Reference_Maps' / tile / name / f'{name}_reference_map.tif', reference)
        labels = ['Coniferous forest', 'Marine waters'][: 1 + k % 2]
        values = (name, f'S1A_{k}', split, labels)
        for key, value in zip(rows, values, strict=True):
            rows[key].append(value)
    (root / 'BigEarthNet-S1').mkdir()
    (root / 'metadata.parquet').write_bytes(b'')
    return root, rows
