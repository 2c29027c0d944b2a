"""Data modules: splits of a labelled data set as normalized batches."""

from .base import BandDataModule
from .geobench import GeoBenchDataModule

__all__ = ('BandDataModule', 'GeoBenchDataModule')
