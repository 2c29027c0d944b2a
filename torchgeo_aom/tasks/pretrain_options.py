"""Checks of the options of pretraining, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..layers.masking import MASK_KINDS, visible_count
from ..layers.tokenizer import checked_patch_size
from ..layers.views import check_view
from .schedule import OPTIMIZERS

__all__ = ('check_options',)

ALLOWED = {
    'mask_kind': MASK_KINDS,
    'negatives': ('none', 'batch'),
    'memory': ('all', 'scale'),
    'optimizer': OPTIMIZERS,
}
#: smallest value of a number, and whether it is allowed itself
LEAST = {
    'temperature': (0, False),
    'epochs': (0, False),
    'warmup_epochs': (0, True),
    'batch_size': (1, True),
    'metrics_every': (1, True),
    'figure_every': (0, True),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse values and combinations that cannot be trained with.

    Args:
        options: arguments of :class:`~torchgeo_aom.tasks.PretrainTask`.

    Raises:
        ConfigError: if an option or a combination is impossible.
        SizeError: if a patch size is impossible.
    """
    _check_scales(options)
    for key, values in ALLOWED.items():
        if options[key] not in values:
            raise ConfigError(f'{key} must be one of {values}, got {options[key]!r}.')
    for key, (least, included) in LEAST.items():
        value = options[key]
        if not least <= value < math.inf or (value == least and not included):
            bound = f'at least {least}' if included else f'above {least}'
            raise ConfigError(f'{key} must be {bound}, got {value!r}.')
    if options['warmup_epochs'] > options['epochs']:
        raise ConfigError(
            f'warmup_epochs must be at most epochs, whose part it is, got '
            f'{options["warmup_epochs"]} and {options["epochs"]}.'
        )
    visible_count(100, options['mask_ratio'])
    check_view(options['view_size'], options['view_scale'])


def _check_scales(options: Mapping[str, Any]) -> None:
    sizes = options['patch_sizes']
    for size in sizes:
        if not isinstance(size, int):
            raise ConfigError(f'patch_sizes must be integers in px, got {size!r}.')
        checked_patch_size(size)
    count = len(sizes) if options['scales_per_step'] is None else options['scales_per_step']
    if not sizes or len(set(sizes)) < len(sizes) or not 1 <= count <= len(sizes):
        raise ConfigError(
            'patch_sizes must be different, and scales_per_step 1 to their number, got '
            f'{tuple(sizes)} and {options["scales_per_step"]}.'
        )
    recon, align = options['recon_weight'], options['align_weight']
    if min(recon, align) < 0 or recon + align == 0:
        raise ConfigError(
            f'recon_weight and align_weight must be positive or 0, not both 0, got {recon} and '
            f'{align}.'
        )
    if align and count < 2:
        raise ConfigError(
            'Alignment needs at least 2 scales a step; give more patch_sizes or a larger '
            'scales_per_step, or align_weight=0.'
        )
