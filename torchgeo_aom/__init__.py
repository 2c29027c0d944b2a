"""torchgeo_aom: the Any-Optical-Model as a TorchGeo backbone for any bands of any optical sensor.

Importing the package registers its models with timm, segmentation-models-pytorch and TorchGeo.
"""

__version__ = '0.2.0.dev0'  # before the imports: weights files carry it

from .bands import Band, Sensor, describe_bands, list_presets, load_sensors, resolve_bands
from .errors import (
    AOMError,
    AOMWarning,
    BandError,
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    SizeError,
    UnitError,
)
from .layers.collate import collate_bands
from .models.aom import AOM
from .models.plan import Plan, describe
from .models.registry import aom_vitb, aom_vitl, aom_vits, aom_vitt, register
from .models.weights import (
    AOMBase_Weights,
    AOMLarge_Weights,
    AOMSmall_Weights,
    AOMTiny_Weights,
    load_backbone,
    register_weights,
)
from .transforms import Normalize

__all__ = (
    'AOM',
    'AOMBase_Weights',
    'AOMError',
    'AOMLarge_Weights',
    'AOMSmall_Weights',
    'AOMTiny_Weights',
    'AOMWarning',
    'Band',
    'BandError',
    'CheckpointError',
    'ConfigError',
    'DataError',
    'InputError',
    'Normalize',
    'Plan',
    'Sensor',
    'SizeError',
    'UnitError',
    'aom_vitb',
    'aom_vitl',
    'aom_vits',
    'aom_vitt',
    'collate_bands',
    'describe',
    'describe_bands',
    'list_presets',
    'load_backbone',
    'load_sensors',
    'register',
    'register_weights',
    'resolve_bands',
)

register()
