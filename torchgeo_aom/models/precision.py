"""Precisions that a model computes in: checked once, entered in one way."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..errors import ConfigError, suggest

__all__ = (
    'AUTO',
    'PRECISIONS',
    'best_precision',
    'check_precision',
    'explain',
    'mixed_precision',
    'resolve',
)

#: names, and the type of the products under autocast
PRECISIONS = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}

#: what stands for the precision of the machine
AUTO = 'auto'


def best_precision(device: torch.device) -> tuple[str, str]:
    """The precision that a machine computes fastest in, of those whose features stay the same.

    Products in bfloat16 leave features and maps at a cosine above 0.999 to those of float32 (0.9999
    and more with the weights that ship), so it is taken wherever the hardware has it.

    Args:
        device: where the model runs.

    Returns:
        ``'bfloat16'`` or ``'float32'``, and why, in a few words.

    .. versionadded:: 0.2
    """
    if device.type == 'cuda':
        if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
            return 'bfloat16', 'the GPU has it'
        return 'float32', 'the GPU has no bfloat16'
    if device.type != 'cpu':
        return 'float32', f'bfloat16 was never measured on {device.type}'
    # PyTorch has no public name for these questions yet.
    for name, unit in (('_is_amx_tile_supported', 'AMX'), ('_is_avx512_bf16_supported', 'AVX512')):
        if getattr(torch.cpu, name, bool)():
            return 'bfloat16', f'the processor has it ({unit})'
    return 'float32', 'the processor has no bfloat16'


def resolve(precision: str, device: torch.device) -> str:
    """The precision that a name stands for.

    Args:
        precision: a name of :data:`PRECISIONS`, or ``'auto'``, see :func:`best_precision`.
        device: where the model runs.

    Returns:
        A name of :data:`PRECISIONS`.
    """
    return best_precision(device)[0] if precision == AUTO else precision


def explain(precision: str, device: torch.device) -> str:
    """The precision that a name stands for and, where the machine decided, why."""
    chosen, why = best_precision(device)
    return f'{chosen} ({why})' if precision == AUTO else precision


def check_precision(precision: str, allowed: Collection[str] = tuple(PRECISIONS)) -> None:
    """Check the name of a precision.

    Args:
        precision: the name.
        allowed: those that fit the purpose.

    Raises:
        ConfigError: if it is none of them.
    """
    if precision not in allowed:
        raise ConfigError(
            f'precision must be one of {", ".join(allowed)}, got {precision!r}'
            f'{suggest(precision, allowed)}'
        )


def mixed_precision(device: torch.device, precision: str) -> torch.autocast:
    """A context in which products are computed in a precision.

    Args:
        device: where the model is.
        precision: a name of :data:`PRECISIONS`; ``'float32'`` changes nothing.

    Returns:
        The context.
    """
    kind = PRECISIONS[precision]
    return torch.autocast(device.type, kind, enabled=kind is not None)
