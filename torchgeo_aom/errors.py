"""Exceptions and warnings: every error is also the built-in that a caller would expect."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Sequence

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
    'UnsupportedError',
    'listing',
    'suggest',
    'warn',
)

LISTED = 20  # names in a message


class AOMError(Exception):
    """Root of all errors raised on purpose by this package.

    .. versionadded:: 0.1
    """


class BandError(AOMError, ValueError):
    """A band is unknown, ambiguous, duplicated, or their number does not fit the image.

    .. versionadded:: 0.1
    """


class SizeError(AOMError, ValueError):
    """An image, patch or token count is impossible or over the budget.

    .. versionadded:: 0.1
    """


class InputError(AOMError, ValueError):
    """An image tensor has the wrong type, shape or values.

    .. versionadded:: 0.1
    """


class UnitError(AOMError, ValueError):
    """Pixel values contradict the unit that was declared for them.

    .. versionadded:: 0.1
    """


class ConfigError(AOMError, ValueError):
    """An option or a name is not one of the allowed ones.

    .. versionadded:: 0.1
    """


class CheckpointError(AOMError, RuntimeError):
    """A weights file is damaged, tampered with, unsafe, or made for another model.

    .. versionadded:: 0.1
    """


class DataError(AOMError, RuntimeError):
    """A data set is missing or damaged.

    .. versionadded:: 0.1
    """


class UnsupportedError(AOMError, NotImplementedError):
    """A way of running the model is not offered.

    .. versionadded:: 0.2
    """


class AOMWarning(UserWarning):
    """Root of all warnings of this package.

    .. versionadded:: 0.1
    """


class BandWarning(AOMWarning):
    """Band identity had to be assumed.

    .. versionadded:: 0.1
    """


class UnitWarning(AOMWarning):
    """Pixel values look as if they had another unit than the declared one.

    .. versionadded:: 0.1
    """


class CheckpointWarning(AOMWarning):
    """Part of a checkpoint was left out on purpose.

    .. versionadded:: 0.1
    """


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Say which allowed name is closest, for the end of a sentence of an error message.

    Args:
        name: what was given.
        allowed: the names that would have been right.

    Returns:
        ``"; did you mean 'B8A'"``, or an empty string if nothing is close.

    .. versionadded:: 0.1
    """
    by_lower = {option.lower(): option for option in allowed}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f'; did you mean {by_lower[close[0]]!r}' if close else ''


def listing(labels: Sequence[str]) -> str:
    """Write names in a row, for an error message: the first 20, and how many more there are.

    Args:
        labels: the names.

    Returns:
        The text.

    .. versionadded:: 0.1
    """
    more = f', ... ({len(labels) - LISTED} more)' if len(labels) > LISTED else ''
    return ', '.join(labels[:LISTED]) + more


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user that led here, not inside this package or a framework.

    Args:
        message: what was assumed or left out, and what to do.
        category: class of the warning.

    .. versionadded:: 0.1
    """
    inside = (
        'torchgeo_aom', 'torchgeo', 'torch', 'timm', 'segmentation_models_pytorch', 'lightning',
    )  # fmt: skip
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get('__name__', '').split('.')[0] in inside:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
