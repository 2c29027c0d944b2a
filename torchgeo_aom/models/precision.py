"""Precisions that a model computes in: checked once, entered in one way."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..errors import ConfigError, suggest

__all__ = ('PRECISIONS', 'check_precision', 'fastest_precision', 'mixed_precision')

#: names, and the type of the products under autocast
PRECISIONS = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


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


def fastest_precision() -> str:
    """Precision that this machine's CPU computes products in fastest.

    Returns:
        ``'bfloat16'`` where the CPU has matrix units for it (AMX), else ``'float32'``.

    .. versionadded:: 0.2
    """
    asked = getattr(torch.cpu, '_is_amx_tile_supported', None)
    return 'bfloat16' if asked is not None and asked() else 'float32'
