"""Rebuilds the corpus that the weights were trained on, from folders of images that you have.

    python examples/weights/corpus.py --data data --ucmerced UCMerced_LandUse/Images \
        --chips testset --geotutorial geotutorial --raw raw --packed packed --out corpus

Where the images come from, and under which terms, stands in ``corpus.yaml``; what is not trained
on, and why, in ``rules.py``. What exists is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from rules import EVALUATION, far_from, hls_split, ucmerced_split, without_evaluation

L2A = tuple('B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12'.split())
HLS = {
    'S30': tuple('B01 B02 B03 B04 B8A B11 B12'.split()),
    'L30': tuple('B01 B02 B03 B04 B05 B06 B07'.split()),
}
TM = ('B1', 'B2', 'B3', 'B4', 'B5', 'B7')
SMALL = 256  # larger images are stored in blocks, so that a window is read without the rest
DARK_WATER = 100
#: larger scenes of several repositories, cut into chips by cut.py
PACKED = tuple(
    block['name']
    for block in yaml.safe_load(Path(__file__).with_name('packed.yaml').read_text(encoding='utf-8'))
)

warnings.simplefilter('ignore', NotGeoreferencedWarning)


class Chip(NamedTuple):
    """An image to write.

    Attributes:
        name: name of its file, without ending.
        origin: what it is made of: files, which the record of the corpus names.
        bands: names of its channels.
        read: gives the values (C, H, W), or None to leave the image out.
        place: longitude and latitude of its center, None where only its file can say.
    """

    name: str
    origin: Path
    bands: tuple[str, ...]
    read: Callable[[], NDArray[Any] | None]
    place: tuple[float, float] | None = None


def load(path: Path, count: int | None = None) -> NDArray[Any]:
    """Read an image (C, H, W)."""
    with rasterio.open(path) as file:
        values: NDArray[Any] = file.read(None if count is None else list(range(1, count + 1)))
    return values


def write(path: Path, values: NDArray[Any], bands: Sequence[str]) -> None:
    """Write an image, whole or not at all; deflate would save a fifth and read no slower."""
    height, width = values.shape[1:]
    part = path.with_name(f'.{path.name}.part')
    blocks = {'tiled': True, 'blockxsize': 128, 'blockysize': 128}
    with rasterio.open(
        part, 'w', driver='GTiff', height=height, width=width, count=len(values),
        dtype=values.dtype, **(blocks if max(height, width) > SMALL else {}),
    ) as file:  # fmt: skip
        file.write(values)
        file.descriptions = tuple(bands)
    os.replace(part, path)


def files(folder: Path, pattern: str) -> list[Path]:
    """Files that may be trained on, sorted."""
    return [Path(path) for path in without_evaluation(map(str, sorted(folder.glob(pattern))))]


def images(folder: Path, pattern: str, bands: Sequence[str]) -> Iterator[Chip]:
    """All images of a folder, as they are."""
    for path in files(folder, pattern):
        yield Chip(path.stem, path, tuple(bands), lambda path=path: load(path, len(bands)))


def ucmerced(folder: Path) -> Iterator[Chip]:
    """Training split of UC Merced."""
    paths = files(folder, '*/*.tif')
    for path, split in zip(paths, ucmerced_split([path.name for path in paths]), strict=True):
        if split == 'train':
            yield Chip(path.stem, path, ('red', 'green', 'blue'), lambda path=path: load(path, 3))


def hls(folder: Path, product: str) -> Iterator[Chip]:
    """HLS chips of the places to train on, of one of the two sensors."""
    with (folder / 'derived_meta.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    for row, split in zip(rows, hls_split([row['site_group'] for row in rows]), strict=True):
        if split == 'train' and row['hls_product_guess'] == product:
            path = folder / 'images' / f'{row["id"]}.tif'
            yield Chip(path.stem, path, HLS[product], lambda path=path: load(path))


def sentinel2_chips(folder: Path) -> Iterator[Chip]:
    """Sentinel-2 chips without georeference: all but most of the dark water, which is all alike."""
    paths = files(folder, '*.npy')
    dark = [path for path in paths if is_water(np.load(path))]
    dark.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    left_out = set(dark[DARK_WATER:])
    for path in paths:
        if path not in left_out:
            yield Chip(path.stem, path, L2A, lambda path=path: channels_first(np.load(path)))


def is_water(chip: NDArray[Any]) -> bool:
    """Whether a chip (H, W, C) is the same dark water everywhere."""
    return bool(chip.std((0, 1)).mean() < 50 and chip.mean() < 500)


def channels_first(chip: NDArray[Any]) -> NDArray[Any] | None:
    """(H, W, C) to (C, H, W); None where it is mostly empty."""
    if (chip == 0).all(-1).mean() > 0.5:
        return None
    return np.ascontiguousarray(chip.transpose(2, 0, 1))


def bigearthnet(folder: Path) -> Iterator[Chip]:
    """BigEarthNet patches: bands of 10, 20 and 60 m, brought to 10 m by repeating pixels."""
    for first in files(folder, '*/*_B02.tif'):
        stem = first.stem.removesuffix('_B02')
        paths = [first.with_name(f'{stem}_{band}.tif') for band in L2A]
        yield Chip(stem, first.parent, L2A, lambda paths=paths: stack(paths))


def landsat8_cloud(folder: Path) -> Iterator[Chip]:
    """38-Cloud patches: one file for each band."""
    for path in files(folder, 'red/*.TIF'):
        rest = path.name.removeprefix('red_')
        colors = ('red', 'green', 'blue', 'nir')
        paths = [folder / color / f'{color}_{rest}' for color in colors]
        yield Chip(
            Path(rest).stem, path, ('B4', 'B3', 'B2', 'B5'), lambda paths=paths: stack(paths)
        )


def stack(paths: Sequence[Path]) -> NDArray[Any] | None:
    """One band from each file, as large as the largest; None where it is mostly empty."""
    bands = [load(path)[0] for path in paths]
    side = max(band.shape[0] for band in bands)
    large = [np.kron(b, np.ones((side // len(b),) * 2, b.dtype)) for b in bands]
    return None if np.mean(large[0] == 0) > 0.5 else np.stack(large)


def landsat7_stacks(folder: Path) -> Iterator[Chip]:
    """Landsat-7 surface reflectance; clouds that saturate are left as they are."""
    yield from images(folder, '*_stack.gtif', TM)


def wildfires(folder: Path) -> Iterator[Chip]:
    """Sentinel-2 chips of fires: files of five measured bands, but not those of display colors."""
    bands = ('B02', 'B03', 'B04', 'B08', 'B12')
    for path in files(folder, '*/*/*.tif'):
        with rasterio.open(path) as file:
            measured = file.descriptions == ('B2', 'B3', 'B4', 'B8', 'B12')
        if measured:
            name = '_'.join((*path.parts[-3:-1], path.stem))
            yield Chip(name, path, bands, lambda path=path: whole(load(path)))


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """Reflectance x 10000 as uint16; NaN, which is no data, as 0."""
    return np.nan_to_num(values).clip(0, np.iinfo(np.uint16).max).round().astype(np.uint16)


def packed(folder: Path) -> Iterator[Chip]:
    """Chips cut from larger scenes, without overlap: an array (N, C, H, W) and what it holds."""
    meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
    bands = tuple(meta['bands'])
    names = tuple(band.partition(':')[2] or band for band in bands)
    values = np.load(folder / 'chips.npy', mmap_mode='r')
    for k in range(len(values)):
        read = lambda k=k: np.ascontiguousarray(values[k])  # noqa: E731
        place = tuple(meta['places'][k]) if meta.get('places') and meta['places'][k] else None
        yield Chip(f'{folder.name}_{k:04d}', folder / 'chips.npy', names, read, place)


def landsat5(folder: Path) -> Iterator[Chip]:
    """Landsat-5 scene: one file for each band."""
    for first in files(folder, '*_B1.TIF'):
        paths = [Path(str(first).replace('_B1.TIF', f'_{band}.TIF')) for band in TM]
        yield Chip(first.stem, first, TM, lambda paths=paths: stack(paths))


#: name of a source -> argument that names its folder, the folder below, and what reads it
SOURCES: dict[str, tuple[str, str, Callable[[Path], Iterator[Chip]]]] = {
    'ucmerced': ('ucmerced', '', ucmerced),
    'sentinel2_chips': ('chips', '', sentinel2_chips),
    'landsat7_stacks': ('geotutorial', '', landsat7_stacks),
    'hls_s30': ('data', 'hls_water', lambda folder: hls(folder, 'S30')),
    'hls_l30': ('data', 'hls_water', lambda folder: hls(folder, 'L30')),
    'sentinel2_ports': ('data', 'sentinel2_ports', lambda f: images(f, '*.tif', L2A)),
    'sentinel2_series': ('data', 'sentinel2_series', lambda f: images(f, '*.tif', L2A)),
    'sentinel2_l1c': (
        'data', 'sentinel2_chip', lambda f: images(f, '*.tif', (*L2A[:10], 'B10', *L2A[10:])),
    ),
    'landsat8_scene': (
        'data', 'landsat8_scene',
        lambda f: images(f, 'l8_l1_toa_dn.tif', [f'B{n}' for n in (1, 2, 3, 4, 5, 6, 7, 9)]),
    ),
    'landsat8_cloud': ('data', 'landsat8_cloud', landsat8_cloud),
    'landsat7_scene': ('data', 'landsat7_scene', lambda f: images(f, '*.tif', TM)),
    'urban_trees': (
        'raw', 'urban_trees', lambda f: images(f, 'images/*.tif', ('R', 'G', 'B', 'NIR')),
    ),
    'wildfires': ('raw', 'wildfire', wildfires),
    'bigearthnet': ('raw', 'bigearthnet', bigearthnet),
    'sen1floods': (
        'raw', 'sen1floods', lambda f: images(f, '*.tif', (*L2A[:10], 'B10', *L2A[10:])),
    ),
    'landsat5': ('raw', 'landsat5', landsat5),
    'landsat_peru': ('raw', 'landsat_peru', lambda f: images(f, '*.tif', ('B6', 'B5', 'B4', 'B3'))),
    'naip': ('data', 'naip', lambda folder: images(folder, '*.tif', ('R', 'G', 'B', 'NIR'))),
    **{name: ('packed', name, packed) for name in PACKED},
}  # fmt: skip


def center(path: Path) -> tuple[float, float] | None:
    """Longitude and latitude of the center of an image, None where it does not say."""
    if path.is_dir():
        path = next(path.glob('*_B02.tif'))
    if path.suffix.lower() not in ('.tif', '.gtif'):
        return None
    with rasterio.open(path) as file:
        if file.crs is None:
            return None
        box = file.bounds
        middle = [(box.left + box.right) / 2], [(box.bottom + box.top) / 2]
        longitude, latitude = transform(file.crs, 'EPSG:4326', *middle)
    return longitude[0], latitude[0]


def evaluated(data: Path) -> list[tuple[float, float]]:
    """Places of the images that are evaluated on."""
    paths = [path for folder in EVALUATION for path in sorted((data / folder).rglob('*.tif'))]
    return list({place for path in paths if (place := center(path)) is not None})


def allowed(name: str, chips: Iterator[Chip], avoid: list[tuple[float, float]]) -> list[Chip]:
    """Images of a source but those that lie beside an evaluated one."""
    kept = []
    for chip in chips:
        place = chip.place or center(chip.origin)
        if place is None or far_from(place, avoid):
            kept.append(chip)
        else:
            print(f'{name}: {chip.name} left out, it lies beside an evaluated image')
    return kept


def build(name: str, chips: Sequence[Chip], out: Path) -> int:
    """Write a source: the folder is there when it is whole, and says where its images are from.

    What was built before stays if it holds nothing but these images; rules can have changed since.

    Args:
        name: the source.
        chips: its images.
        out: folder of the corpus.

    Returns:
        Number of images.
    """
    final, part = out / name, out / f'.{name}.part'
    names = {f'{chip.name}.tif' for chip in chips}
    for folder in (final, part):
        if folder.exists() and not {path.name for path in folder.glob('*.tif')} <= names:
            print(f'{name}: built again, {folder} holds other images')
            shutil.rmtree(folder)
    if not final.exists():
        part.mkdir(parents=True, exist_ok=True)
        record = []
        for chip in tqdm(chips, desc=name, unit='image'):
            path = part / f'{chip.name}.tif'
            if not path.exists():
                values = chip.read()
                if values is None:
                    continue
                write(path, values, chip.bands)
            record.append((path.name, chip.origin.parent.name, chip.origin.name))
        if not record:
            shutil.rmtree(part)
            return 0
        with (part / 'files.csv').open('w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([('file', 'folder', 'origin'), *record])
        os.replace(part, final)
    return len(list(final.glob('*.tif')))


def write_yaml(template: Path, out: Path) -> list[str]:
    """Write the sources that exist, with their paths, beside them.

    Args:
        template: ``corpus.yaml``, with paths below ``corpus/``.
        out: folder of the corpus.

    Returns:
        Names of the sources.
    """
    blocks = []
    for block in yaml.safe_load(template.read_text(encoding='utf-8'))['sources']:
        given = block['path']
        paths = [out / Path(path).name for path in ([given] if isinstance(given, str) else given)]
        found = [str(path.resolve()) for path in paths if path.is_dir()]
        if found:
            blocks.append({**block, 'path': found})
    part = out / '.corpus.yaml.part'
    part.write_text(yaml.safe_dump({'sources': blocks}, sort_keys=False), encoding='utf-8')
    os.replace(part, out / 'corpus.yaml')
    return [block['name'] for block in blocks]


def main(argv: Sequence[str] | None = None) -> int:
    """Build what can be built, and say what is left out."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    folders = {
        'data': 'folder with hls_water, naip, ...',
        'ucmerced': 'Images of UC Merced, a folder for each class',
        'chips': 'Sentinel-2 chips, test_*.npy',
        'packed': 'folder with neon_rgb, oam_rgb, ..., each chips.npy and meta.json',
        'geotutorial': 'Landsat-7 stacks, *_stack.gtif',
        'raw': 'folder with urban_trees, wildfire, bigearthnet, ... as in corpus.yaml',
    }
    for name, text in folders.items():
        parser.add_argument(f'--{name}', type=Path, help=text)
    parser.add_argument('--out', type=Path, default=Path('corpus'), help='folder to write to')
    parser.add_argument('--rebuild', nargs='*', default=[], choices=SOURCES, help='build again')
    args = parser.parse_args(argv)
    for name in args.rebuild:
        for path in (args.out / name, args.out / f'.{name}.part'):
            shutil.rmtree(path, ignore_errors=True)
    counts: dict[str, int] = {}
    avoid = evaluated(args.data) if args.data else []
    if not avoid:
        print(
            'places that are evaluated on are not known without --data: nothing is left out there'
        )
    for name, (argument, below, read) in SOURCES.items():
        root = getattr(args, argument)
        if root is not None and (root / below).is_dir():
            counts[name] = build(name, allowed(name, read(root / below), avoid), args.out)
        else:
            given = f'--{argument} is not given' if root is None else f'{root / below} is no folder'
            kept = (args.out / name).is_dir()
            print(f'{name}: {"kept as it is" if kept else "left out"}, {given}')
    used = write_yaml(Path(__file__).with_name('corpus.yaml'), args.out)
    print('\n'.join(f'{name}: {count} images' for name, count in counts.items()))
    print(f'{args.out / "corpus.yaml"}: {len(used)} sources: {", ".join(used)}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
