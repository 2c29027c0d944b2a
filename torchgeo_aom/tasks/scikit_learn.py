"""The optional scikit-learn: imported where it is needed, with an answer where it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import ConfigError

__all__ = ('scikit_learn',)


def scikit_learn(module: str) -> Any:
    """Import a module of scikit-learn, or of what comes with it.

    Args:
        module: its name, such as ``'sklearn.metrics'``.

    Returns:
        The module.

    Raises:
        ConfigError: if it is missing.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            'The probe needs scikit-learn: pip install "torchgeo_aom[probe]".'
        ) from error
