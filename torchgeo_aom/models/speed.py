"""Speed modes: where in the encoder, and into how many groups, bands are merged."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from ..errors import AOMWarning, ConfigError, suggest

__all__ = (
    'MAX_DEPTH',
    'SPEEDS',
    'Schedule',
    'Speed',
    'SpeedLoss',
    'merge_schedule',
    'plain_speed',
    'read_speed',
    'slots_per_block',
    'speed_text',
    'warn_loss',
)

#: pairs of a block count and a number of groups: after that many blocks, bands become that many
Schedule: TypeAlias = tuple[tuple[int, int], ...]
#: name of a mode, or an explicit schedule
Speed: TypeAlias = str | Sequence[Sequence[int]]

#: largest number of blocks that a schedule is checked against where no encoder is at hand
MAX_DEPTH = 1000
# In blocks of an encoder of twelve; deeper and shallower ones merge at the same share of theirs.
_PRESETS: dict[str, Schedule] = {
    'exact': (),
    'balanced': ((0, 4),),
    'fast': ((0, 4), (4, 1)),
}
#: loss of merge schedules in points, and what was measured, by schedule as text
SpeedLoss: TypeAlias = Mapping[str, Mapping[str, Any]]
# Points that 'balanced' may cost: less is within the noise of what was measured.
_TOLERATED = 0.5

#: names of the modes
SPEEDS = tuple(_PRESETS)


def merge_schedule(speed: Speed | None, depth: int) -> Schedule:
    """Schedule of a speed mode, or an explicit one checked.

    Args:
        speed: ``'exact'``, ``'balanced'``, ``'fast'``, or pairs (k, g): after k blocks, bands are
            merged into g groups. None is ``'exact'``.
        depth: number of blocks of the encoder.

    Returns:
        Pairs (k, g) with rising k and falling g; empty where nothing is merged.

    Raises:
        ConfigError: if there is no such mode, or the schedule is impossible.

    .. versionadded:: 0.2
    """
    if speed is None:
        return ()
    if isinstance(speed, str):
        if speed not in _PRESETS:
            raise ConfigError(
                f'speed must be one of {SPEEDS} or pairs (blocks, groups) such as ((1, 4), (4, 1)),'
                f' got {speed!r}{suggest(speed, SPEEDS)}.'
            )
        preset = {max(int(k > 0), round(k * depth / 12)): groups for k, groups in _PRESETS[speed]}
        return tuple((k, groups) for k, groups in preset.items() if k < depth)
    try:
        pairs = tuple((int(k), int(groups)) for k, groups in speed)
        exact = [list(pair) for pair in pairs] == [list(pair) for pair in speed]
    except (TypeError, ValueError):
        exact = False
    if not exact:
        raise ConfigError(
            f'speed must be one of {SPEEDS} or pairs of integers (blocks, groups) such as '
            f'((1, 4), (4, 1)), got {speed!r}.'
        )
    for before, after in pairwise(pairs):
        if after[0] <= before[0] or after[1] >= before[1]:
            raise ConfigError(
                f'A merge schedule goes on to later blocks and fewer groups, got {before} and then '
                f'{after}.'
            )
    for k, groups in pairs:
        if not 0 <= k < depth or groups < 1:
            raise ConfigError(
                f'A merge schedule names 0 to {depth - 1} blocks (the encoder has {depth}) and at '
                f'least 1 group, got {(k, groups)}.'
            )
    return pairs


def slots_per_block(channels: int, schedule: Schedule, depth: int) -> list[int]:
    """How many tokens a place has in each block.

    Args:
        channels: number of bands.
        schedule: pairs (k, g) as of :func:`merge_schedule`.
        depth: number of blocks.

    Returns:
        One number a block; *channels* everywhere where nothing is merged.
    """
    groups = dict(schedule)
    slots = []
    for block in range(depth):
        channels = min(channels, groups.get(block, channels))
        slots.append(channels)
    return slots


def read_speed(text: str) -> Speed:
    """Speed mode of a command line: a name, or pairs such as ``'1:4,4:1'``.

    Args:
        text: what the user gave.

    Returns:
        The name, or the pairs.

    Raises:
        ConfigError: if it is neither.
    """
    if ':' not in text:
        merge_schedule(text, 12)
        return text
    try:
        return tuple((int(k), int(g)) for k, g in (pair.split(':') for pair in text.split(',')))
    except ValueError:
        raise ConfigError(
            f'a merge schedule is pairs of blocks and groups, such as 1:4,4:1, got {text!r}'
        ) from None


def plain_speed(text: str) -> Any:
    """Speed mode of a command line as a task keeps it: a name, or a list of lists."""
    speed = read_speed(text)
    return speed if isinstance(speed, str) else [list(pair) for pair in speed]


def speed_text(speed: Speed | None) -> str:
    """A speed mode as :func:`read_speed` takes it; for tables, tags and caches."""
    if speed is None or isinstance(speed, str):
        return speed or 'exact'
    return ','.join(f'{k}:{groups}' for k, groups in speed) or 'exact'


def warn_loss(speed: Speed, schedule: Schedule, known: SpeedLoss) -> None:
    """Warn of a merge schedule that costs accuracy with some weights, or may.

    Args:
        speed: the mode as it was given.
        schedule: its schedule.
        known: the ``speed_loss`` of the weights: for each schedule that was measured, as text, how
            many ``points`` it loses, and on which ``data``.

    Warns:
        AOMWarning: if the loss is unknown, or more than half a point.
    """
    text = speed_text(schedule)
    measured = known.get(text)
    if measured is None:
        warnings.warn(
            f'speed={speed_text(speed)!r} (merging {text}) was never measured with these weights: '
            "`torchgeo-aom study speed` says what it costs on your data; speed='exact' costs "
            'nothing',
            AOMWarning,
            stacklevel=3,
        )
    elif measured['points'] > _TOLERATED:
        warnings.warn(
            f'speed={speed_text(speed)!r} (merging {text}) loses {measured["points"]:.1f} points '
            f'with these weights ({measured["data"]}); weights that were trained with merging lose '
            "less, speed='exact' nothing",
            AOMWarning,
            stacklevel=3,
        )
