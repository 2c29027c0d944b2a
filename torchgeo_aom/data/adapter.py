"""Reads samples from any data set of TorchGeo that has images and bands, such as SSL4EOS12."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from torchgeo_aom.data.folder import FolderDataset
from torchgeo_aom.data.source import BadSampleError, Pixels, Reader, Source, WindowOf, match_bands
from torchgeo_aom.errors import BandError, ConfigError, DataError, suggest

__all__ = ('DatasetReader', 'open_reader')


def open_reader(source: Source) -> Reader:
    """Open what a source declares.

    Args:
        source: the declaration.

    Returns:
        The reader.

    Raises:
        BandError: if its bands contradict the declared ones.
        DataError: if there is nothing to read.
    """
    return DatasetReader(source) if source.dataset else FolderDataset(source)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make the global generators start equal, and give them back as they were.

    SSL4EOS12 draws seasons from ``random``, so the draw would depend on the worker.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class DatasetReader:
    """Any TorchGeo data set that gives an image and has bands.

    Args:
        source: declares the data set. Its bands are looked up among the data set's ``bands``,
            where it has any.
        dataset: the data set, built from the source where not given.
    """

    def __init__(self, source: Source, dataset: Any = None) -> None:
        """Build the data set and look at its first sample."""
        self.source = source
        self.dataset = _build(source) if dataset is None else dataset
        if len(self.dataset) == 0:
            raise DataError(f'source {source.name!r}: data set {self.name(0)} is empty')
        stored = getattr(self.dataset, 'bands', None)
        named = isinstance(stored, Sequence) and not isinstance(stored, str)
        self._stored: tuple[str, ...] = tuple(map(str, stored)) if named and stored else ()
        self._channels = match_bands(source, self._stored, self.name(0))
        self.size = source.size or self._images(0, 0).shape[-2:]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Class and number of a sample."""
        return f'{type(self.dataset).__name__}[{index}]'

    def fingerprint(self) -> str:
        """Hash of the arguments and of a few samples."""
        parts = [
            type(self.dataset).__name__,
            repr(sorted(self.source.args.items())),
            str(len(self)),
        ]
        digest = hashlib.sha256('\n'.join(parts).encode())
        for index in np.linspace(0, len(self) - 1, min(len(self), 8)).astype(int):
            try:
                digest.update(self._images(int(index), 0).tobytes())
            except BadSampleError as error:
                digest.update(error.reason.encode())
        return digest.hexdigest()

    def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
        """Read a sample, one of its dates where it has several; see `Reader.read`."""
        images = self._images(index, seed)
        image = images[seed % len(images)]
        if self._channels is not None:
            image = image[self._channels]
        if window is not None:
            row, column, height, width = window(*image.shape[1:])
            image = image[:, row : row + height, column : column + width]
        valid = np.isfinite(image)
        filled = self.source.filled(image)
        if filled is not None:
            valid &= ~filled
        return Pixels(image, None if valid.all() else valid)

    def _images(self, index: int, seed: int) -> NDArray[Any]:
        """All dates of a sample (T, C, H, W), each with all bands that are stored."""
        try:
            with _seeded(seed):
                image = self.dataset[index]['image']
        except (RasterioError, OSError, RuntimeError, ValueError) as error:
            raise BadSampleError(self.name(index), error) from error
        values: NDArray[Any] = np.asarray(image)
        count = len(self._stored) or len(self.source.bands)
        if values.ndim not in (3, 4) or values.shape[-3] % count or values.size == 0:
            raise BandError(
                f'{self.name(index)} is of shape {values.shape}, but {count} bands are named: '
                f'{", ".join(self._stored) or [b.label for b in self.source.bands]}'
            )
        return values.reshape(-1, count, *values.shape[-2:])


def _build(source: Source) -> Any:
    import torchgeo.datasets

    from torchgeo_aom.data import samples

    name = str(source.dataset)
    for module in (samples, torchgeo.datasets):
        if name in module.__all__:
            try:
                return getattr(module, name)(**source.args)
            except TypeError as error:
                raise ConfigError(f'source {source.name!r}: {name}: {error}') from error
    allowed = (*samples.__all__, *torchgeo.datasets.__all__)
    raise ConfigError(
        f'source {source.name!r}: there is no data set {name!r} in torchgeo.datasets'
        f'{suggest(name, allowed)}'
    )
