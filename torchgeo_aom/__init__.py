"""torchgeo_aom: the Any-Optical-Model as a TorchGeo backbone for any bands of any optical sensor.

Importing the package registers its models with timm, segmentation-models-pytorch and TorchGeo.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
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

# What needs torch, and where it is: imported when it is asked for (PEP 562).
_LAZY = {
    'AOM': 'models.aom',
    'Normalize': 'transforms',
    'Plan': 'models.plan',
    'collate_bands': 'layers.collate',
    'describe': 'models.plan',
    'load_backbone': 'models.weights',
    'register': 'models.registry',
    'register_weights': 'models.weights',
    **dict.fromkeys(('aom_vitb', 'aom_vitl', 'aom_vits', 'aom_vitt'), 'models.registry'),
    **dict.fromkeys(
        ('AOMBase_Weights', 'AOMLarge_Weights', 'AOMSmall_Weights', 'AOMTiny_Weights'),
        'models.weights',
    ),
}
# Modules are attributes from the start, whatever is imported already.
_MODULES = (
    'bands bench bench_pretrain catalogue cli clients command commands data datamodules '
    'datasets demo doctor errors files layers losses models plot pretraining rng scene '
    'sensor_file sensors spectrum studies tasks text transforms verbs'
).split()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(f'{__name__}.{_LAZY[name]}'), name)
        return value
    if name in _MODULES:
        return import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def _is_command() -> bool:
    program = sys.orig_argv[1:3]
    return program == ['-m', __name__] or PurePath(*program[:1]).name in (
        'torchgeo-aom',
        'torchgeo-aom.exe',
    )


# Registering imports timm, SMP and TorchGeo: 4 s of processor time. The command `torchgeo-aom`
# answers most questions without them and registers before a verb that needs models (see cli.py).
# Its worker processes and everyone else register here. orig_argv is what the interpreter was
# started with: unlike argv, no library changes it, and a worker process has one of its own.
if not _is_command():
    import_module(f'{__name__}.models.registry').register()
