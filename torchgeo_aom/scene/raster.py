"""Opens rasters of others: formats that were allowed, no addresses, no blocks that fill memory."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

from torchgeo_aom.data.folder import FAILURES, GDAL_OPTIONS
from torchgeo_aom.errors import ConfigError, DataError

__all__ = ('Rules', 'check_local', 'gdal', 'open_raster', 'opened')

# Blocks that GDAL keeps in memory, for all open files together; no file may be fetched from a net.
_OPTIONS = {
    **GDAL_OPTIONS,
    'GDAL_CACHEMAX': 128,
    'GDAL_NUM_THREADS': '1',
    'CPL_VSIL_CURL_ALLOWED_EXTENSIONS': '.none',
    'GDAL_VRT_ENABLE_PYTHON': 'NO',
}
_REMOTE = re.compile(r'\w[\w+.-]*://|/vsi', re.IGNORECASE)
_MAX_XML = 2**24
_ZIPPED = '/vsizip/'


@dataclass(frozen=True)
class Rules:
    """What may be opened.

    Attributes:
        drivers: GDAL's short names of formats.
        max_block_mib: largest block of a file in MiB, uncompressed: GDAL reads whole blocks, so a
            small file with one huge block fills the memory.
    """

    drivers: tuple[str, ...] = ('GTiff',)
    max_block_mib: int = 256


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL's options for this thread, without warnings about what is no mistake here."""
    with rasterio.Env(**_OPTIONS), warnings.catch_warnings():
        for harmless in (NotGeoreferencedWarning, NodataShadowWarning):
            warnings.simplefilter('ignore', harmless)
        yield


def check_local(path: str | Path) -> str:
    """Refuse addresses of a net, and GDAL's own file systems.

    Args:
        path: what a user or a file names.

    Returns:
        The path as text.

    Raises:
        ConfigError: if it is no path of a file on this machine.
    """
    text = str(path)
    if _REMOTE.match(text):
        raise ConfigError(
            f'{text!r} is an address, and only files on this machine are opened: download it, and '
            f'give its path'
        )
    return text


def open_raster(path: str, rules: Rules) -> rasterio.DatasetReader:
    """Open a raster; call it inside :func:`gdal`.

    Args:
        path: file on this machine, or inside a zip file as ``/vsizip/...``, which only this package
            makes.
        rules: what may be opened.

    Returns:
        The open file.

    Raises:
        ConfigError: if it is an address, or names one.
        DataError: if it cannot be opened, is of another format, or has too large blocks.
    """
    if not path.startswith(_ZIPPED):
        check_local(path)
        if not Path(path).is_file():
            kind = 'is a folder' if Path(path).is_dir() else 'does not exist'
            raise DataError(f'{path} {kind}; give the path of a raster file')
        if 'VRT' in rules.drivers:
            _check_vrt(Path(path), rules)
    file = _opened(path, rules.drivers)
    if complex_types := sorted({kind for kind in file.dtypes if kind.startswith('complex')}):
        file.close()
        raise DataError(
            f'{path} holds complex numbers ({", ".join(complex_types)}), and the model reads real '
            f'ones: write what you mean, such as the amplitude, as float32'
        )
    rows, columns = file.block_shapes[0]
    planes = file.count if _interleave(file) == 'pixel' else 1
    size = rows * columns * planes * max(_bytes(kind) for kind in file.dtypes)
    if size > rules.max_block_mib * 2**20:
        file.close()
        raise DataError(
            f'{path} is stored in blocks of {rows} x {columns} px, {size / 2**20:,.0f} MiB each, '
            f'more than the {rules.max_block_mib} MiB allowed. Rewrite it in tiles '
            f'(gdal_translate -co TILED=YES), or allow more (max_block_mib=, --max-block-mib)'
        )
    return file


@contextmanager
def opened(path: str, rules: Rules) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for what its header says; damage of the header shows when it is asked.

    Args:
        path: see :func:`open_raster`.
        rules: see :func:`open_raster`.

    Raises:
        ConfigError: see :func:`open_raster`.
        DataError: if it cannot be opened, or its header is damaged.
    """
    try:
        with open_raster(path, rules) as file:
            yield file
    except FAILURES as error:
        raise DataError(
            f'{path} has a damaged header ({error.__cause__ or error}): get it again'
        ) from error


def _opened(path: str, drivers: tuple[str, ...]) -> rasterio.DatasetReader:
    reasons = []
    for driver in drivers:
        try:
            return rasterio.open(path, driver=driver)
        except FAILURES as error:
            reasons.append(f'{driver}: {error}')
    raise DataError(
        f'{path} cannot be opened ({"; ".join(reasons)}). Formats that can name other files are '
        f'not opened unless they are allowed (drivers=, --allow-drivers)'
    )


def _interleave(file: rasterio.DatasetReader) -> str:
    return str(file.tags(ns='IMAGE_STRUCTURE').get('INTERLEAVE', 'BAND')).lower()


def _bytes(kind: str) -> int:
    return 4 if kind == 'complex_int16' else np.dtype(kind).itemsize


def _check_vrt(path: Path, rules: Rules) -> None:
    """A VRT names other files: they must be local and of allowed formats themselves."""
    with path.open('rb') as file:
        head = file.read(_MAX_XML + 1)
    if not head.lstrip().startswith(b'<VRTDataset'):
        return
    if len(head) > _MAX_XML:
        raise DataError(f'{path} is a VRT of more than {_MAX_XML >> 20} MiB; it is not opened')
    try:
        root = ElementTree.fromstring(head)
    except ElementTree.ParseError as error:
        raise DataError(f'{path} is a damaged VRT: {error}') from error
    for element in root.iter():
        for text in (element.text or '', element.tail or '', *element.attrib.values()):
            if element.tag != 'SRS' and _REMOTE.search(text):
                raise ConfigError(
                    f'{path} names {text.strip()!r}: a VRT may only name files on this machine'
                )
    if root.get('subClass') or any(e.get('subClass') == 'VRTRawRasterBand' for e in root.iter()):
        raise ConfigError(f'{path} is a VRT of a kind that is not opened: only mosaics are')
    for element in root.iter('SourceFilename'):
        name = (element.text or '').strip()
        inner = path.parent / name if element.get('relativeToVRT') == '1' else Path(name)
        if inner.resolve() == path.resolve():
            raise ConfigError(f'{path} names itself')
        open_raster(str(inner), rules).close()
