"""Reads samples from folders of GeoTIFFs and images."""

from __future__ import annotations

import fnmatch
import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from torchgeo_aom.data.source import BadSampleError, Pixels, Source, WindowOf, match_bands
from torchgeo_aom.errors import AOMWarning, BandError, DataError, UnitError

__all__ = (
    'DRIVERS',
    'FAILURES',
    'GDAL_OPTIONS',
    'MAX_VALUES',
    'FolderDataset',
    'list_files',
    'stored_mask',
)

# By the ending of the name. No VRT and nothing else that names further files or URLs.
DRIVERS = {'.tif': 'GTiff', '.tiff': 'GTiff', '.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG'}
SUFFIXES = tuple(DRIVERS)

# Sidecar files are never opened: GDAL would take any driver for them, and a folder of a million
# files would be listed for each one opened. A JPEG or PNG that ends early is an
# error, not a gray area or (GDAL's faster way for PNG) whatever was in memory before.
GDAL_OPTIONS = {
    'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR',
    'GDAL_PAM_ENABLED': 'NO',
    'GDAL_ERROR_ON_LIBJPEG_WARNING': 'TRUE',
    'GDAL_PNG_WHOLE_IMAGE_OPTIM': 'NO',
}
#: what reading and writing rasters may raise
FAILURES = (RasterioError, CPLE_BaseError, OSError, UnicodeError)
MAX_VALUES = 2**28  # of one read: a file of 2 MB can declare an image of 260 GB
PROBES = 16


def list_files(root: str, pattern: str = '*') -> list[str]:
    """List images of a folder and of all folders below, in an order that does not change.

    Links to folders are followed once, so loops end; hidden files are left out.

    Args:
        root: the folder, or one file.
        pattern: which files, matched against the path inside the folder.

    Returns:
        Paths, those behind no link first, each part sorted.

    Raises:
        DataError: if a folder is missing or cannot be read.
    """
    root = os.path.abspath(root)
    if os.path.isfile(root):
        if not root.lower().endswith(SUFFIXES):
            raise DataError(f'{root} does not end in {", ".join(SUFFIXES)}; nothing else is read')
        return [root]
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders: list[str] = [root]
    links: list[str] = []
    while folders:
        part: list[str] = []
        while folders:
            folder = folders.pop()
            try:
                facts = os.stat(folder)
                entries = list(os.scandir(folder))
            except OSError as error:
                raise DataError(
                    f'folder {folder} cannot be read: {error.strerror}. Correct path=, or the '
                    f'permissions'
                ) from error
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            for entry in entries:
                if entry.name.startswith('.'):
                    continue
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                    (links if entry.is_symlink() else folders).append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                    inside = os.path.relpath(entry.path, root).replace(os.sep, '/')
                    if fnmatch.fnmatchcase(inside, pattern):
                        part.append(entry.path)
        found += sorted(part)
        folders, links = sorted(links, reverse=True), []
    return found


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A pipe would be waited for; a link to nothing is counted when it is read."""
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


class FolderDataset:
    """Images in folders.

    The order of the channels is that of the band descriptions where a file has them, otherwise as
    declared. Alpha channels and masks inside the files say what is valid.

    Args:
        source: the declaration.
    """

    def __init__(self, source: Source) -> None:
        """List the files and look at some of them."""
        self.source = source
        files = [path for root in source.path for path in list_files(root, source.pattern)]
        if not files:
            raise DataError(
                f'source {source.name!r}: no {", ".join(SUFFIXES)} files that match '
                f'{source.pattern!r} in {", ".join(source.path)}'
            )
        # One block of bytes: a million Python strings would be copied into every worker.
        encoded = [os.fsencode(path) for path in files]
        self._ends = np.cumsum([len(path) for path in encoded])
        self._blob = b''.join(encoded)
        self._layouts: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self.size = self._probe()

    def __len__(self) -> int:
        """Number of files."""
        return len(self._ends)

    def path(self, index: int) -> str:
        """Path of a file."""
        start = 0 if index == 0 else int(self._ends[index - 1])
        return os.fsdecode(self._blob[start : int(self._ends[index])])

    def name(self, index: int) -> str:
        """Path of a file, printable whatever it is."""
        return self.path(index).encode('utf-8', 'backslashreplace').decode()

    def key(self, index: int) -> str:
        """Path of a file inside its folder, the same wherever the folder lies."""
        path = os.path.abspath(self.path(index))
        roots = [os.path.abspath(root) for root in self.source.path]
        root = max((r for r in roots if path.startswith(r + os.sep)), key=len, default='')
        inside = os.path.relpath(path, root) if root else os.path.basename(path)
        return inside.replace(os.sep, '/')

    def fingerprint(self) -> str:
        """Hash of path inside its folder, length and time of change of every file."""
        digest = hashlib.sha256()
        base = os.path.commonpath([os.path.abspath(root) for root in self.source.path])
        for index in range(len(self)):
            path = self.path(index)
            try:
                facts = os.stat(path)
                content = f'{facts.st_size} {facts.st_mtime_ns}'
            except OSError:
                content = 'gone'
            digest.update(os.fsencode(os.path.relpath(path, base)) + f' {content}\n'.encode())
        return digest.hexdigest()

    def _probe(self) -> tuple[int, int]:
        """Height and width of the chips: the commonest of a few files, if not declared."""
        sizes: list[tuple[int, int]] = []
        bad: BadSampleError | None = None
        for index in dict.fromkeys(np.linspace(0, len(self) - 1, PROBES).astype(int).tolist()):
            try:
                with self._open(index) as (file, _):
                    sizes.append(file.shape)
            except BadSampleError as error:
                bad = error
        if not sizes:
            raise DataError(
                f'source {self.source.name!r}: none of the first files tried can be opened; '
                f'for example {bad}'
            )
        common = max(sizes, key=lambda size: (sizes.count(size), size))
        if self.source.size is None and len(set(sizes)) > 1:
            warnings.warn(
                f'source {self.source.name!r} holds images of different sizes, such as '
                f'{sorted(set(sizes))[:5]}: chips are {common[0]} x {common[1]} px. Declare size=',
                AOMWarning,
                stacklevel=2,
            )
        return self.source.size or common

    @contextmanager
    def _open(self, index: int) -> Iterator[tuple[Any, tuple[int, ...]]]:
        """Open a file by allowed drivers only, and find its channels (counted from 1)."""
        with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
            for harmless in (NotGeoreferencedWarning, NodataShadowWarning):
                warnings.simplefilter('ignore', harmless)
            path = self.path(index)
            try:
                driver = DRIVERS[os.path.splitext(path)[1].lower()]
                with rasterio.open(path, driver=driver) as file:
                    yield file, self._layout(file, index)
            except FAILURES as error:
                raise BadSampleError(self.name(index), _reason(error, path)) from error

    def _layout(self, file: Any, index: int) -> tuple[int, ...]:
        facts = (file.count, file.descriptions, file.colorinterp, file.scales, file.offsets)
        if facts not in self._layouts:
            channels = match_bands(self.source, file.descriptions, self.name(index))
            stored = [i for i, c in enumerate(file.colorinterp) if c != ColorInterp.alpha]
            if file.count == len(self.source.bands):
                stored = list(range(file.count))  # RGB and near infrared often claims to be alpha
            if channels is None and len(stored) != len(self.source.bands):
                message = (
                    f'{len(stored)} channels, but {len(self.source.bands)} bands are declared '
                    f'and the file names none'
                )
                if self._layouts:  # others were right, so it is this file
                    raise BadSampleError(self.name(index), message)
                raise BandError(f'{self.name(index)}: {message}. Correct bands= or pattern=')
            layout = tuple(i + 1 for i in (stored if channels is None else channels))
            self._check_scale(file, layout, index)
            self._layouts[facts] = layout
        return self._layouts[facts]

    def _check_scale(self, file: Any, layout: Sequence[int], index: int) -> None:
        """Scales and offsets apply once: those of the file must be those declared."""
        source, product = self.source, self.source.product
        if source.file_scale or source.ignore_file_scale:
            return
        for channel in layout:
            pair = file.scales[channel - 1], file.offsets[channel - 1]
            same = math.isclose(pair[0], product.scale, rel_tol=1e-4) and math.isclose(
                pair[1], product.offset, rel_tol=1e-4, abs_tol=1e-9
            )
            if pair != (1.0, 0.0) and not same:
                raise UnitError(
                    f'{self.name(index)} says reflectance = value * {pair[0]:g} + {pair[1]:g}, but '
                    f'product {product.name!r} of source {source.name!r} is value * '
                    f'{product.scale:g} + {product.offset:g}. Name the product that fits, or '
                    f'product: file to follow the files, or product: {{scale:, offset:}} to '
                    f'overrule them'
                )

    def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
        """Read an image, or a part of it; see `Reader.read`."""
        with self._open(index) as (file, layout):
            row, column, height, width = (
                (0, 0, *file.shape) if window is None else window(*file.shape)
            )
            if len(layout) * height * width > MAX_VALUES:
                raise BadSampleError(
                    self.name(index),
                    f'{len(layout)} x {height} x {width} values are too many; declare size=',
                )
            part = Window(column, row, width, height)
            values: NDArray[Any] = file.read(layout, window=part)
            valid = stored_mask(file, layout, part, values)
            scales, offsets = file.scales, file.offsets
            pairs = [(scales[channel - 1], offsets[channel - 1]) for channel in layout]
        return self._cleaned(index, values, valid, pairs)

    def _cleaned(
        self,
        index: int,
        values: NDArray[Any],
        valid: NDArray[np.bool_] | None,
        pairs: Sequence[tuple[float, float]],
    ) -> Pixels:
        """Add what else is not valid, and apply the file's own scale if it counts."""
        kind = values.dtype.kind
        if kind not in 'uif':
            raise BadSampleError(self.name(index), f'pixels of type {values.dtype}')
        filled = self.source.filled(values)
        if kind == 'f' or filled is not None:
            valid = np.ones(values.shape, bool) if valid is None else valid
            if kind == 'f':
                valid &= np.isfinite(values)
            if filled is not None:
                valid = valid & ~filled
        if self.source.file_scale and any(pair != (1.0, 0.0) for pair in pairs):
            scale, offset = np.array(pairs, dtype=np.float64).T[:, :, None, None]
            values = (values * scale + offset).astype(np.float32)
        elif values.dtype.itemsize > 2 and kind != 'f':
            values = values.astype(np.float64)
        return Pixels(values, None if valid is None or valid.all() else valid)


def _reason(error: BaseException, path: str) -> str:
    """What GDAL says, without the path again; rasterio hides it behind "Read failed"."""
    text = str(error.__cause__ or error).replace(path, '').removeprefix(os.path.basename(path))
    return text.strip(': ') or type(error).__name__


def stored_mask(
    file: Any, layout: Sequence[int], part: Window, values: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """What the file itself says about validity, band by band; None if all is valid."""
    kinds = file.colorinterp
    if any(kinds[channel - 1] == ColorInterp.alpha for channel in layout):
        # A band that is declared as an image is no mask, whatever the file calls it.
        stored = file.nodatavals
        nodata = [stored[channel - 1] for channel in layout]
        if all(value is None for value in nodata):
            return None
        pairs = zip(values, nodata, strict=True)
        return np.stack([np.full(v.shape, True) if n is None else v != n for v, n in pairs])
    flags = file.mask_flag_enums  # worked out anew for all bands whenever it is asked for
    if all(MaskFlags.all_valid in flags[channel - 1] for channel in layout):
        return None
    mask: NDArray[np.bool_] = file.read_masks(layout, window=part) != 0
    return mask
