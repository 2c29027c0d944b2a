"""Data modules: splits of a labelled data set as normalized batches."""

from .base import BandDataModule

__all__ = ('BandDataModule',)
