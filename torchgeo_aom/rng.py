"""Counter-based randomness: what is drawn depends on a key, never on what was drawn before.

A generator made from (seed, epoch, sample) gives the same augmentation in any worker, on any rank
and after any interruption; a global generator gives another one each time.
"""

from __future__ import annotations

import hashlib

import numpy as np

from .errors import ConfigError

__all__ = ('generator',)


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Args:
        seed: seed of the run.
        *key: what the draw is for, e.g. ``'mask', step, sample``; equal keys give equal draws,
            others independent ones.

    Returns:
        NumPy generator (Philox, keyed by a hash of the arguments).

    Raises:
        ConfigError: if the seed or a key is neither an integer nor a string.

    .. versionadded:: 0.1
    """
    parts = []
    for part in (seed, *key):
        if isinstance(part, bool) or not isinstance(part, int | np.integer | str):
            raise ConfigError(f'Random keys are integers and strings, got {part!r} in {key}.')
        text = part if isinstance(part, str) else str(int(part))
        parts.append(f'{type(part) is str}:{len(text)}:{text}')
    digest = hashlib.blake2b('|'.join(parts).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, 'little')))
