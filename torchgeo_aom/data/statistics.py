"""Measures mean and standard deviation per band of a source, once, and keeps them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from torchgeo_aom.catalogue import load_sensors
from torchgeo_aom.commands.choices import STATISTICS_LIMIT as LIMIT
from torchgeo_aom.commands.stats import stats_parser
from torchgeo_aom.data.adapter import open_reader
from torchgeo_aom.data.source import BadFiles, BadSampleError, Pixels, Reader, Source
from torchgeo_aom.errors import AOMWarning, ConfigError, DataError
from torchgeo_aom.files import cache_folder, replacing
from torchgeo_aom.rng import generator
from torchgeo_aom.transforms import Normalize

__all__ = ('SourceStatistics', 'main', 'measure', 'normalizer', 'statistics')

FORMAT = 1
TILE = 2048  # images larger than this are read in parts


@dataclass(frozen=True)
class SourceStatistics:
    """Statistics of one source in reflectance, over all pixels with data, one value for each band.

    Attributes:
        bands: labels of the bands.
        mean: means.
        std: standard deviations (of the population).
        minimum: smallest values.
        maximum: largest values.
        valid: shares of pixels with data.
        images: number of images measured.
        skipped: number of images that could not be read.
        product: name of the product that values were converted by.
        fingerprint: hash of the content of the source.

    .. versionadded:: 0.1
    """

    bands: list[str]
    mean: list[float]
    std: list[float]
    minimum: list[float]
    maximum: list[float]
    valid: list[float]
    images: int
    skipped: int
    product: str
    fingerprint: str


class _Moments:
    """Mean and variance in one pass, float64, merged image by image (Chan et al. 1979)."""

    def __init__(self, bands: int) -> None:
        self.count = np.zeros(bands)
        self.total = 0
        self.mean = np.zeros(bands)
        self.squares = np.zeros(bands)
        self.low = np.full(bands, np.inf)
        self.high = np.full(bands, -np.inf)

    def add(self, pixels: Pixels) -> None:
        self.total += pixels.values[0].size
        for band, plane in enumerate(pixels.values):
            inside = plane.ravel() if pixels.valid is None else plane[pixels.valid[band]]
            if inside.size == 0:
                continue
            values: NDArray[np.float64] = inside.astype(np.float64)
            own = values.mean()
            before, new = self.count[band], values.size
            shift = own - self.mean[band]
            self.count[band] += new
            self.mean[band] += shift * new / self.count[band]
            self.squares[band] += np.square(values - own).sum()
            self.squares[band] += shift**2 * before * new / self.count[band]
            self.low[band] = min(self.low[band], values.min())
            self.high[band] = max(self.high[band], values.max())


def measure(
    source: Source,
    reader: Reader | None = None,
    limit: int | None = LIMIT,
    bad_limit: float = 0.01,
    progress: bool = False,
) -> SourceStatistics:
    """Measure a source.

    Args:
        source: the declaration.
        reader: reads it, opened where not given.
        limit: measure at most this many images, drawn at random but always the same; None for all.
        bad_limit: share of images that may be unreadable.
        progress: whether to show a bar.

    Returns:
        The statistics.

    Raises:
        ConfigError: if the limit is not positive.
        DataError: if too many images are unreadable, or a band has no valid pixel.
    """
    reader = open_reader(source) if reader is None else reader
    order = _choice(len(reader), limit)
    bad = BadFiles(source.name, len(order), bad_limit)
    moments = _Moments(len(source.bands))
    for index in tqdm(order, desc=source.name, unit='image', disable=None if progress else True):
        try:
            for pixels in _tiles(reader, int(index)):
                moments.add(pixels)
        except BadSampleError as error:
            bad.add(error.name, error.reason)
    empty = [b.label for b, n in zip(source.bands, moments.count, strict=True) if not n]
    if empty:
        raise DataError(
            f'source {source.name!r}: no pixel of {", ".join(empty)} holds data in '
            f'{len(order)} images; check nodata='
        )
    scale, offset = source.product.scale, source.product.offset
    ends = np.sort(np.stack((moments.low, moments.high)) * scale + offset, axis=0)
    return SourceStatistics(
        bands=[band.label for band in source.bands],
        mean=(moments.mean * scale + offset).tolist(),
        std=(np.sqrt(moments.squares / moments.count) * abs(scale)).tolist(),
        minimum=ends[0].tolist(),
        maximum=ends[1].tolist(),
        valid=(moments.count / moments.total).tolist(),
        images=len(order) - len(bad.reasons),
        skipped=len(bad.reasons),
        product=source.product.name,
        fingerprint=reader.fingerprint(),
    )


def _choice(total: int, limit: int | None) -> NDArray[np.int64]:
    if limit is not None and limit < 1:
        raise ConfigError(f'limit must be at least 1 image, got {limit}')
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(generator(0, 'statistics').choice(total, limit, replace=False))


def _tiles(reader: Reader, index: int) -> Iterator[Pixels]:
    """All of an image, in parts that fit into memory."""
    shape: list[int] = []

    def corner(height: int, width: int) -> tuple[int, int, int, int]:
        shape[:] = height, width
        return 0, 0, min(height, TILE), min(width, TILE)

    yield reader.read(index, corner)
    for row in range(0, shape[0], TILE):
        for column in range(0, shape[1], TILE):
            if row or column:
                part = row, column, min(TILE, shape[0] - row), min(TILE, shape[1] - column)
                yield reader.read(index, lambda *_, part=part: part)


def _cache_path(
    source: Source, fingerprint: str, limit: int | None, folder: str | os.PathLike[str] | None
) -> Path:
    """A file for each content and each way to look at it."""
    product = source.product
    facts = [
        FORMAT, fingerprint, [band.label for band in source.bands], product.name, product.scale,
        product.offset, source.file_scale, repr(source.nodata), source.nodata_in, limit,
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    place = cache_folder('statistics') if folder is None else Path(folder).expanduser()
    return place / f'{key}.json'


def statistics(
    source: Source,
    reader: Reader | None = None,
    limit: int | None = LIMIT,
    folder: str | os.PathLike[str] | None = None,
    bad_limit: float = 0.01,
    progress: bool = False,
) -> tuple[SourceStatistics, Path]:
    """Statistics of a source: those kept, if its content has not changed, else measured now.

    Args:
        source: the declaration.
        reader: reads it, opened where not given.
        limit: as of `measure`.
        folder: where to keep them; a folder in the user's cache where not given.
        bad_limit: as of `measure`.
        progress: as of `measure`.

    Returns:
        The statistics, and the file that keeps them.

    .. versionadded:: 0.1
    """
    reader = open_reader(source) if reader is None else reader
    path = _cache_path(source, reader.fingerprint(), limit, folder)
    kept = _load(path, len(source.bands))
    if kept is None:
        kept = measure(source, reader, limit, bad_limit, progress)
        _store(path, kept)
    return kept, path


def _load(path: Path, bands: int) -> SourceStatistics | None:
    """What is kept; None if there is nothing or it is damaged, so that it is measured again."""
    try:
        found = SourceStatistics(**json.loads(path.read_text(encoding='utf-8')))
        columns = (found.mean, found.std, found.minimum, found.maximum, found.valid)
        if all(len(c) == bands and all(map(math.isfinite, c)) for c in columns):
            return found
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return None


def _store(path: Path, found: SourceStatistics) -> None:
    """Write a file that is whole or absent; a cache that cannot be written is no reason to stop."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open('w', encoding='utf-8') as file:
            json.dump(asdict(found), file, indent=2)
    except OSError as error:
        warnings.warn(f'Statistics are not kept: {error}', AOMWarning, stacklevel=3)


def normalizer(
    source: Source,
    reader: Reader,
    folder: str | os.PathLike[str] | None = None,
    bad_limit: float = 0.01,
) -> Normalize:
    """The transform of a source, by the statistics that it asks for.

    Args:
        source: the declaration.
        reader: reads it.
        folder: where statistics are kept.
        bad_limit: share of images that may be unreadable.

    Returns:
        `Normalize` with the source's bands and product.

    .. versionadded:: 0.1
    """
    if source.statistics != 'measured':
        try:
            return Normalize(source.bands, source.product, statistics=source.statistics)
        except ConfigError:
            if source.statistics is not None:
                raise
    found, _ = statistics(source, reader, folder=folder, bad_limit=bad_limit)
    return Normalize(source.bands, source.product, mean=found.mean, std=found.std)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a folder and print the result.

    Args:
        argv: arguments, those of the process where None.

    Returns:
        The exit code.
    """
    options = stats_parser().parse_args(argv)
    for path in options.sensors:
        load_sensors(path)
    block: dict[str, Any] = {'path': options.folder}
    for key in ('sensor', 'bands', 'product', 'unit', 'nodata', 'pattern'):
        block[key] = getattr(options, key)
    found, path = statistics(
        Source.parse(block), None, options.limit or None, options.cache, options.bad_limit, True
    )
    if options.json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        print(_table(found))
        print(f'{found.images} images, {found.skipped} skipped; kept in {path}')
    return 0


def _table(found: SourceStatistics) -> str:
    columns = [f.name for f in fields(found) if f.name in ('mean', 'std', 'minimum', 'maximum')]
    width = max(len('band'), *map(len, found.bands))
    lines = [f'{"band":<{width}}' + ''.join(f'{c:>11}' for c in columns) + f'{"valid":>9}']
    for k, band in enumerate(found.bands):
        numbers = ''.join(f'{getattr(found, column)[k]:>11.5f}' for column in columns)
        lines.append(f'{band:<{width}}{numbers}{found.valid[k]:>9.2%}')
    return '\n'.join(lines)
