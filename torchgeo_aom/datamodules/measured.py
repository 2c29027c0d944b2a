"""Statistics of a labelled data set, measured on the samples it is trained on, and kept."""

from __future__ import annotations

import os

import numpy as np

from ..data.source import BadSampleError, Pixels, Source, WindowOf
from ..data.statistics import SourceStatistics, statistics
from ..datasets.base import BandDataset
from ..errors import DataError

__all__ = ('SampleReader', 'measured')


class SampleReader:
    """Stored values of a data set, as the measuring of statistics wants to read them.

    Args:
        dataset: the data set; its transforms are not applied.
    """

    def __init__(self, dataset: BandDataset) -> None:
        """Look at the first sample.

        Raises:
            DataError: if there is none.
        """
        self.dataset = dataset
        if len(dataset) == 0:
            raise DataError(f'{type(dataset).__name__} is empty: there is nothing to measure')
        height, width = dataset.load(0)['image'].shape[-2:]
        #: height and width of the first sample
        self.size = (int(height), int(width))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Class and number of a sample."""
        return f'{type(self.dataset).__name__}[{index}]'

    def fingerprint(self) -> str:
        """Hash that changes whenever the content does."""
        return self.dataset.fingerprint()

    def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
        """Read a sample.

        Args:
            index: which one.
            window: chooses the part to return.
            seed: not used, there is nothing to choose.

        Returns:
            Its stored values, and where the product says that they are data.

        Raises:
            BadSampleError: if it is damaged.
        """
        try:
            values = np.asarray(self.dataset.load(index)['image'])
        except DataError as error:
            raise BadSampleError(self.name(index), error) from error
        if window is not None:
            row, column, height, width = window(*values.shape[1:])
            values = values[:, row : row + height, column : column + width]
        valid = np.isfinite(values)
        product = self.dataset.product
        if product.nodata is not None:
            filled = values == product.nodata
            if product.nodata_in == 'all':
                filled = np.broadcast_to(filled.all(0), filled.shape)
            valid &= ~filled
        return Pixels(values, None if valid.all() else valid)


def measured(
    dataset: BandDataset, folder: str | os.PathLike[str] | None = None
) -> SourceStatistics:
    """Mean and standard deviation of each band in reflectance, kept as long as nothing changes.

    Args:
        dataset: the samples to measure: those of the training split, never others.
        folder: where to keep them; a folder in the user's cache where not given.

    Returns:
        The statistics.

    Raises:
        DataError: if samples are damaged, or a band has no valid pixel.
    """
    name = type(dataset).__name__
    source = Source(name=name, bands=dataset.band_objects, product=dataset.product, dataset=name)
    return statistics(source, SampleReader(dataset), folder=folder)[0]
