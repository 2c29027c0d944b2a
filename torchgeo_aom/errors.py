"""Exceptions and warnings: every error is also the built-in that a caller would expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = (
    'AOMError',
    'AOMWarning',
    'BandError',
    'BandWarning',
    'CheckpointError',
    'CheckpointWarning',
    'ConfigError',
    'DataError',
    'InputError',
    'SizeError',
    'UnitError',
    'UnitWarning',
    'suggest',
)


class AOMError(Exception):
    """Root of all errors raised on purpose by this package."""


class BandError(AOMError, ValueError):
    """A band is unknown, ambiguous, duplicated, or their number does not fit the image."""


class SizeError(AOMError, ValueError):
    """An image, patch or token count is impossible or over the budget."""


class InputError(AOMError, ValueError):
    """An image tensor has the wrong type, shape or values."""


class UnitError(AOMError, ValueError):
    """Pixel values contradict the unit that was declared for them."""


class ConfigError(AOMError, ValueError):
    """An option or a name is not one of the allowed ones."""


class CheckpointError(AOMError, RuntimeError):
    """A weights file is damaged, tampered with, unsafe, or made for another model."""


class DataError(AOMError, RuntimeError):
    """A data set is missing or damaged."""


class AOMWarning(UserWarning):
    """Root of all warnings of this package."""


class BandWarning(AOMWarning):
    """Band identity had to be assumed."""


class UnitWarning(AOMWarning):
    """Pixel values look as if they had another unit than the declared one."""


class CheckpointWarning(AOMWarning):
    """Part of a checkpoint was left out on purpose."""


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Say which allowed name is closest, for the end of a sentence of an error message.

    Args:
        name: what was given.
        allowed: the names that would have been right.

    Returns:
        ``"; did you mean 'B8A'"``, or an empty string if nothing is close.
    """
    by_lower = {option.lower(): option for option in allowed}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f'; did you mean {by_lower[close[0]]!r}' if close else ''
