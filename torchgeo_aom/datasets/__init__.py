"""Labelled data sets in TorchGeo's form, whose channels have names."""

from .base import BandDataset
from .burn_scars import HLSBurnScars
from .geobench import GeoBench
from .geobench2 import GeoBench2
from .hls_water import HLSWater, WorldCoverPatches
from .raster_folder import RasterFolder
from .sparcs import SPARCS
from .wrapped import BigEarthNet, EuroSAT, UCMerced

__all__ = (
    'SPARCS',
    'BandDataset',
    'BigEarthNet',
    'EuroSAT',
    'GeoBench',
    'GeoBench2',
    'HLSBurnScars',
    'HLSWater',
    'RasterFolder',
    'UCMerced',
    'WorldCoverPatches',
)
