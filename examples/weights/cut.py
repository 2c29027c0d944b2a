"""Cuts scenes into chips without overlap, as corpus.py reads them.

    python examples/weights/cut.py --raw raw --packed packed

Which scenes, stands in ``packed.yaml``. Each set gets a folder with ``chips.npy`` (N, C, size,
size) and ``meta.json``: the names of the bands, and where the chips lie. Multispectral values are
reflectance x 10000 with 0 where there is none; 8-bit values are kept. Bands of several resolutions
are brought to that of the finest by repeating pixels. What exists is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rasterio.transform import xy
from rasterio.warp import transform
from tqdm import tqdm

REFLECTANCE = 10000.0
SETS = Path(__file__).with_name('packed.yaml')


class Scene(NamedTuple):
    """A scene in memory.

    Attributes:
        values: stored values (C, H, W).
        crs: its coordinate reference system, None where it has none.
        affine: from pixels to coordinates.
    """

    values: NDArray[Any]
    crs: Any
    affine: Any


class Numbers(NamedTuple):
    """What stored values mean.

    Attributes:
        scale: reflectance = stored value * scale + offset; None keeps the values as they are, and
            ``'mtl'`` takes both from the metadata beside the scene.
        offset: see *scale*.
        nodata: stored value of pixels without data, None where only NaN has none.
    """

    scale: float | str | None = None
    offset: float = 0.0
    nodata: float | None = 0.0


def read(paths: Sequence[Path], channels: Sequence[int] | None = None) -> Scene:
    """Read a scene.

    Args:
        paths: files of the scene, one after the other: images, or arrays (H, W, C).
        channels: channels wanted of all those, counted from 0; None for all.

    Returns:
        The scene, as fine as its finest band.

    Raises:
        SystemExit: if bands do not lie on grids that divide each other, but for a last pixel.
    """
    bands: list[NDArray[Any]] = []
    crs = affine = None
    for path in paths:
        if path.suffix == '.npy':
            bands += list(np.load(path).transpose(2, 0, 1))
            continue
        with rasterio.open(path) as file:
            finer = not bands or file.height > max(len(band) for band in bands)
            if file.crs is not None and finer:
                crs, affine = file.crs, file.transform
            bands += list(file.read())
    if channels is not None:
        bands = [bands[k] for k in channels]
    height, width = (max(band.shape[axis] for band in bands) for axis in (0, 1))
    large = []
    for band in bands:
        step = round(height / band.shape[0])
        if max(abs(band.shape[0] * step - height), abs(band.shape[1] * step - width)) > step:
            raise SystemExit(
                f'{paths[0]}: a band of {band.shape} px does not divide {(height, width)} px; '
                'give bands of one grid, or of grids that divide each other.'
            )
        rows, columns = (
            ((np.arange(side) + 0.5) * own / side).astype(int)
            for side, own in zip((height, width), band.shape, strict=True)
        )
        large.append(band[rows][:, columns])
    return Scene(np.stack(large), crs, affine)


def convert(values: NDArray[Any], numbers: Numbers) -> NDArray[Any]:
    """Reflectance x 10000 as uint16, 0 where any band has no data; or the values as they are."""
    empty = (~np.isfinite(values)).any(0)
    if numbers.nodata is not None:
        empty |= (values == numbers.nodata).any(0)
    if numbers.scale is None:
        return np.where(empty, 0, values).astype(values.dtype)
    large = (values.astype(np.float64) * float(numbers.scale) + numbers.offset) * REFLECTANCE
    large = np.nan_to_num(large).round().clip(1, np.iinfo(np.uint16).max)
    return np.where(empty, 0, large).astype(np.uint16)


def cut(values: NDArray[Any], size: int, empty: float) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Chips of a scene, without overlap, from its upper left corner.

    Args:
        values: values (C, H, W).
        size: height and width of a chip in px.
        empty: largest share of pixels that may be 0 in all bands.

    Yields:
        Row and column of the upper left pixel, and the chip (C, size, size).
    """
    for row in range(0, values.shape[1] - size + 1, size):
        for column in range(0, values.shape[2] - size + 1, size):
            chip = values[:, row : row + size, column : column + size]
            if (chip == 0).all(0).mean() <= empty:
                yield row, column, chip


def place(scene: Scene, row: float, column: float) -> list[float] | None:
    """Longitude and latitude of a pixel, None where the scene does not say."""
    if scene.crs is None:
        return None
    x, y = xy(scene.affine, row, column, offset='ul')
    longitude, latitude = transform(scene.crs, 'EPSG:4326', [x], [y])
    return [round(longitude[0], 4), round(latitude[0], 4)]


def save(out: Path, chips: Sequence[NDArray[Any]], meta: dict[str, Any]) -> None:
    """Write the folder, whole or not at all."""
    part = out.with_name(f'.{out.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    np.save(part / 'chips.npy', np.stack(chips))
    (part / 'meta.json').write_text(json.dumps(meta), encoding='utf-8')
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)


def metadata(path: Path, band: str) -> Numbers:
    """Scale of a Landsat Level-1 band, from the ``MTL.txt`` beside it: reflectance, sun included.

    Raises:
        SystemExit: if it is not there, or does not say.
    """
    found = sorted(path.parent.glob('*MTL.txt'))
    if not found:
        raise SystemExit(f'{path}: no MTL.txt beside it; give scale and offset as numbers.')
    facts = dict(re.findall(r'(\w+) = "?([-+.\w]+)', found[0].read_text(encoding='utf-8')))
    number = band.removeprefix('B')
    try:
        sun = math.sin(math.radians(float(facts['SUN_ELEVATION'])))
        scale, offset = (float(facts[f'REFLECTANCE_{x}_BAND_{number}']) for x in ('MULT', 'ADD'))
    except KeyError as error:
        raise SystemExit(f'{found[0]} does not say {error}.') from error
    return Numbers(scale / sun, offset / sun)


def scenes(raw: Path, block: dict[str, Any]) -> list[list[Path]]:
    """Files of each scene of a set.

    Args:
        raw: folder of the downloaded images.
        block: the set: *files* is a pattern, or several; *each* says what stands in the name for
            each band, if bands have files of their own.

    Returns:
        One list of files a scene; scenes that lack a band are left out.
    """
    patterns = [block['files']] if isinstance(block['files'], str) else block['files']
    found = sorted({path for pattern in patterns for path in raw.glob(pattern)})
    found = found[:: block.get('every', 1)]
    first, *_ = each = block.get('each', [''])
    if not first:
        return [[path] for path in found]
    if odd := [path for path in found if path.name.count(first) != 1]:
        raise SystemExit(
            f'{block["name"]}: {odd[0].name} does not have {first!r} once, the first of each: '
            'files must find the first band.'
        )
    stacks = [[path.with_name(path.name.replace(first, part)) for part in each] for path in found]
    return [stack for stack in stacks if all(path.exists() for path in stack)]


def pack(raw: Path, block: dict[str, Any], out: Path) -> int:
    """Cut the scenes of one set, and write its folder.

    Args:
        raw: folder of the downloaded images.
        block: the set, as in ``packed.yaml``.
        out: folder to write.

    Returns:
        Number of chips; with none, nothing is written.

    Raises:
        SystemExit: if a scene has not as many channels as bands are named.
    """
    bands, size = block['bands'], block.get('size', 64)
    chips: list[NDArray[Any]] = []
    places, names = [], []
    for paths in tqdm(scenes(raw, block), desc=block['name'], unit='scene'):
        scene = read(paths, block.get('channels'))
        if len(scene.values) != len(bands):
            raise SystemExit(
                f'{paths[0]} has {len(scene.values)} channels, but {len(bands)} bands are named; '
                'name all of them, or choose some with channels.'
            )
        numbers = Numbers(block.get('scale'), block.get('offset', 0.0), block.get('nodata', 0.0))
        if numbers.scale == 'mtl':
            each = [metadata(paths[0], band) for band in bands]
            parts = [convert(v[None], n) for v, n in zip(scene.values, each, strict=True)]
            values = np.concatenate(parts)
        else:
            values = convert(scene.values, numbers)
        found = list(cut(values, size, block.get('empty', 0.2)))
        step = max(1, math.ceil(len(found) / block.get('most', len(found) or 1)))
        for row, column, chip in found[::step]:
            chips.append(chip.copy())
            places.append(place(scene, row + size / 2, column + size / 2))
            names.append(paths[0].name)
    if chips:
        save(out, chips, {'bands': bands, 'places': places, 'scenes': names})
    return len(chips)


def main(argv: Sequence[str] | None = None) -> int:
    """Cut what is there, and say what is not."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--raw', type=Path, required=True, help='folder of the images')
    parser.add_argument('--packed', type=Path, required=True, help='folder to write to')
    parser.add_argument('--sets', type=Path, default=SETS, help='what to cut (packed.yaml)')
    parser.add_argument('--only', nargs='+', help='names of sets; default all')
    parser.add_argument('--rebuild', action='store_true', help='cut again what exists')
    args = parser.parse_args(argv)
    blocks = yaml.safe_load(args.sets.read_text(encoding='utf-8'))
    known = [block['name'] for block in blocks]
    if unknown := sorted(set(args.only or ()) - set(known)):
        parser.error(f'no sets {", ".join(unknown)}; there are {", ".join(known)}')
    for block in blocks:
        out = args.packed / block['name']
        if args.only and block['name'] not in args.only:
            continue
        if out.is_dir() and not args.rebuild:
            print(f'{block["name"]}: kept as it is')
            continue
        count = pack(args.raw, block, out)
        print(f'{block["name"]}: {count} chips' if count else f'{block["name"]}: no scenes there')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
