"""What must be known of pretrained weights before anyone can use them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..bands import resolve_bands
from ..errors import BandError, CheckpointError, ConfigError
from .aom import AOM, SIZES
from .checkpoint import band_specs, read_metadata
from .loading import shape_facts

__all__ = ('complete_meta', 'facts_of', 'num_params', 'validate_meta')

# What a run was normalized with and trained on is stated or not (None), never assumed.
STATED = ('unit', 'mean', 'std', 'patch_sizes')

REQUIRED = {
    'bands': 'list of bands that resolve_bands reads',
    'channel_index': 'list of numbers, one per band',
    'unit': "what the stored values are: 'reflectance', 'uint8' or a product such as "
    "'sentinel2:l2a'",
    'mean': 'list of numbers in reflectance, one per band',
    'std': 'list of positive numbers in reflectance, one per band',
    'gsd': 'ground sampling distance in m: a positive number, or a list, one per band',
    'patch_sizes': 'list of patch sizes in px (1 to 128) that were trained',
    'kernel_sizes': 'list of kernel sizes in px',
    'num_params': 'number of parameters without the head',
    'sha256': 'SHA-256 of the file, 64 hexadecimal digits',
    'licence': 'licence of the weights',
    'dataset': 'what they were trained on',
    'metrics': "list of {'name', 'value', 'command'}; the command is what measured the value",
}


def facts_of(metadata: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a weights file says of its model, as plain values.

    Args:
        metadata: safetensors' metadata, or Lightning's hyperparameters.
        state_dict: parameters by the backbone's own names.

    Returns:
        ``embed_dim``, ``depth`` and ``kernel_sizes``, and where known ``num_heads``, ``bands``,
        ``channel_encoding``, ``channel_pool``, ``dataset``, ``licence``, ``unit``, ``mean``,
        ``std``, ``patch_sizes`` and ``speed_loss``.

    Raises:
        CheckpointError: if there are no patch kernels, or the metadata are unreadable.
    """
    facts = shape_facts(state_dict)
    if str(metadata.get('num_heads', '')).isdigit():
        facts['num_heads'] = int(metadata['num_heads'])
    for key in ('channel_encoding', 'channel_pool', 'dataset', 'licence', 'unit'):
        if isinstance(metadata.get(key), str):
            facts[key] = metadata[key]
    for key in ('bands', 'mean', 'std', 'patch_sizes'):
        value = metadata.get(key)
        if isinstance(value, str) and value.startswith(('[', 'null')):
            value = read_metadata(key, value)
        if key == 'bands' and value is not None:
            facts[key] = value
        elif isinstance(value, list | tuple):
            facts[key] = list(value)
    if isinstance(metadata.get('speed_loss'), str):
        facts['speed_loss'] = _checked_loss(read_metadata('speed_loss', metadata['speed_loss']))
    return facts


def _checked_loss(value: Any) -> dict[str, Any]:
    """The ``speed_loss`` of a file: for each schedule points and data; CheckpointError if not."""
    if not isinstance(value, dict) or not all(
        isinstance(own, dict) and _numbers([own.get('points')], -100) and own.get('data')
        for own in value.values()
    ):
        raise CheckpointError(
            "The speed_loss in the metadata must give 'points' and 'data' for each merge schedule, "
            f'got {str(value)[:200]}.'
        )
    return value


def num_params(model: str, kernel_sizes: list[int], channel_pool: str = 'mean') -> int:
    """Number of parameters of a model without head, from the model itself."""
    size: dict[str, Any] = dict(SIZES[model])
    with torch.device('meta'):
        built = AOM(kernel_sizes=tuple(kernel_sizes), channel_pool=channel_pool, **size)
    return sum(parameter.numel() for parameter in built.parameters())


def _numbers(value: Any, low: float, high: float = math.inf) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high and v < math.inf
        for v in value
    )


def validate_meta(meta: Mapping[str, Any], model: str | None = None) -> None:
    """Check the meta of pretrained weights.

    *unit*, *mean*, *std* and *patch_sizes* may be None, for "not stated"; such weights load, but
    have no transforms.

    Args:
        meta: what is known of the weights; further entries are allowed.
        model: name of the model, to check the number of parameters against.

    Raises:
        ConfigError: naming each entry that is missing or wrong, and what it should be.
    """
    wrong = {key for key in REQUIRED if key not in meta}
    # Mean and standard deviation belong together.
    unpaired = {'mean', 'std'} if (meta.get('mean') is None) != (meta.get('std') is None) else set()
    if 'bands' not in wrong:
        try:
            bands = resolve_bands(meta['bands'])
            gsd = meta.get('gsd')
            tests = {
                'channel_index': _numbers(meta.get('channel_index'), -1.0)
                and len(meta['channel_index']) == len(bands)
                and all(
                    math.isclose(band.index, index, abs_tol=1e-6)
                    for band, index in zip(bands, meta['channel_index'], strict=True)
                ),
                'mean': _numbers(meta.get('mean'), -math.inf) and len(meta['mean']) == len(bands),
                'std': _numbers(meta.get('std'), 1e-12) and len(meta['std']) == len(bands),
                'gsd': _numbers([gsd], 1e-6)
                or (_numbers(gsd, 1e-6) and len(gsd or ()) == len(bands)),
            }
            wrong |= {key for key, passed in tests.items() if not passed}
        except BandError as error:
            raise ConfigError(f"The meta's bands are unknown here: {error}") from error
    for key in ('patch_sizes', 'kernel_sizes'):
        value = meta.get(key)
        if not (value and _numbers(value, 1, 128) and all(isinstance(v, int) for v in value)):
            wrong.add(key)
    for key in ('licence', 'dataset', 'unit'):
        if not (isinstance(meta.get(key), str) and meta[key].strip()):
            wrong.add(key)
    if not re.fullmatch('[0-9a-f]{64}', str(meta.get('sha256'))):
        wrong.add('sha256')
    if not (isinstance(meta.get('num_params'), int) and meta['num_params'] > 0):
        wrong.add('num_params')
    metrics = meta.get('metrics')
    if not isinstance(metrics, list | tuple) or not all(
        isinstance(metric, Mapping)
        and {'name', 'value', 'command'} <= set(metric)
        and str(metric['command']).strip()
        for metric in metrics
    ):
        wrong.add('metrics')
    wrong -= {key for key in STATED if key in meta and meta[key] is None and key not in unpaired}
    if wrong:
        lines = '; '.join(
            f'{key} = {meta.get(key)!r}, expected: {text}'
            for key, text in REQUIRED.items()
            if key in wrong
        )
        raise ConfigError(f'The meta of the weights lacks or misstates: {lines}. Give it in meta=.')
    if model is not None:
        expected = num_params(model, list(meta['kernel_sizes']), meta.get('channel_pool', 'mean'))
        if meta['num_params'] != expected:
            raise ConfigError(
                f'num_params is {meta["num_params"]:,}, but {model} with kernels of '
                f'{list(meta["kernel_sizes"])} px has {expected:,} without head.'
            )


def complete_meta(
    meta: Mapping[str, Any], facts: Mapping[str, Any] | None, sha256: str | None, params: int | None
) -> dict[str, Any]:
    """Fill in what a file and its bands tell; what the caller says goes first.

    What the images were normalized with is never filled in: only the run knows.

    Args:
        meta: what the caller says.
        facts: what the file says, see :func:`facts_of`; None where the file is not here.
        sha256: SHA-256 of the file.
        params: number of its parameters without head.

    Returns:
        A new dictionary of plain values, not yet validated.
    """
    full: dict[str, Any] = {
        **dict.fromkeys(STATED),
        'licence': 'not stated',
        'dataset': 'not stated',
        'metrics': [],
        **(facts or {}),
        **meta,
    }
    if sha256 is not None:
        full.setdefault('sha256', sha256)
    if params is not None:
        full.setdefault('num_params', params)
    if full.get('bands') is None:
        raise ConfigError(
            'The weights do not say which bands they were trained with; give '
            "meta={'bands': ...}, e.g. 'sentinel2:rgb'."
        )
    bands = resolve_bands(full['bands'])
    full['bands'] = band_specs(bands)
    full.setdefault('in_chans', len(bands))  # TorchGeo's builders read it
    full.setdefault('channel_index', [band.index for band in bands])
    if 'gsd' not in full and all(band.gsd_m for band in bands):
        full['gsd'] = [band.gsd_m for band in bands]
    return full
