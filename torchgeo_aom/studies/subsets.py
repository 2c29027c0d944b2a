"""Which sets of bands a study looks at: every one, or a balanced random sample; known ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from ..bands import Band
from ..errors import ConfigError
from ..rng import generator

__all__ = ('Subset', 'named_subsets', 'one_out', 'presets', 'sample_subsets', 'study_subsets')

#: Sets that people ask for, by channel index; what a sensor does not have is left out.
PRESETS: dict[str, frozenset[float]] = {
    'RGB': frozenset({1, 2, 3}),
    '10 m': frozenset({1, 2, 3, 7}),
    'Landsat-like': frozenset({0, 1, 2, 3, 8, 11, 12}),
}
ATMOSPHERIC = frozenset({0.0, 9.0, 10.0})


@dataclass(frozen=True)
class Subset:
    """Some channels of the images.

    Attributes:
        name: what it is called.
        kind: ``'all'``, ``'preset'``, ``'one out'`` or ``'random'``.
        columns: positions of the channels, rising.
    """

    name: str
    kind: str
    columns: tuple[int, ...]


def presets(bands: Sequence[Band]) -> list[Subset]:
    """Known sets of bands, as far as a sensor has them.

    Args:
        bands: bands of the channels.

    Returns:
        RGB, the bands of 10 m, all but those for the atmosphere (coastal, water vapor, cirrus), and
        those of Landsat-8; without sets that are empty, all bands, or equal to one before.
    """
    wanted = {
        name: tuple(k for k, band in enumerate(bands) if band.index in indices)
        for name, indices in PRESETS.items()
    }
    ground = tuple(k for k, band in enumerate(bands) if band.index not in ATMOSPHERIC)
    wanted['no atmospheric'] = ground
    found: list[Subset] = []
    for name, columns in wanted.items():
        complete = name == 'no atmospheric' or len(columns) == len(PRESETS[name])
        new = all(other.columns != columns for other in found)
        if complete and new and 0 < len(columns) < len(bands):
            found.append(Subset(name, 'preset', columns))
    return found


def named_subsets(
    bands: Sequence[Band], wanted: dict[str, Sequence[str]] | None = None
) -> list[Subset]:
    """Sets that a user names.

    Args:
        bands: bands of the channels.
        wanted: names of bands for each set, as the bands are called (``'B8A'``, ``'nir08'``).

    Returns:
        The sets.

    Raises:
        ConfigError: if a band is not among the channels.
    """
    places = {text: k for k, b in enumerate(bands) for text in (b.common_name, b.label, b.name)}
    found = []
    for name, names in (wanted or {}).items():
        unknown = [text for text in names if text not in places]
        if unknown or not names:
            raise ConfigError(
                f'the set {name!r} names {", ".join(unknown) or "nothing"}; the data have '
                f'{", ".join(band.name for band in bands)}'
            )
        found.append(Subset(name, 'preset', tuple(sorted({places[text] for text in names}))))
    return found


def one_out(bands: Sequence[Band]) -> list[Subset]:
    """All bands but one, for each band."""
    count = len(bands)
    return [
        Subset(f'without {band.name}', 'one out', tuple(j for j in range(count) if j != k))
        for k, band in enumerate(bands)
        if count > 1
    ]


def sample_subsets(count: int, size: int, limit: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Sets of one size: every one where they are few, else a random sample.

    In a sample each band occurs about equally often: sets are cut from random orders of all bands.

    Args:
        count: number of bands.
        size: bands of a set.
        limit: number of sets wanted at most.
        seed: another seed draws others.

    Returns:
        Different sets of rising positions, in rising order.
    """
    if comb(count, size) <= limit:
        return list(combinations(range(count), size))
    random = generator(seed, 'subsets', count, size)
    found: set[tuple[int, ...]] = set()
    line: list[int] = []
    while len(found) < limit:
        while len(line) < size:
            line += [int(k) for k in random.permutation(count) if int(k) not in line]
            line = list(dict.fromkeys(line))
        found.add(tuple(sorted(line[:size])))
        line = line[size:]
    return sorted(found)


def study_subsets(bands: Sequence[Band], limit: int) -> list[Subset]:
    """All sets of a band ablation: all bands, known ones, all but one, and some of each size.

    Args:
        bands: bands of the channels.
        limit: sets of each size at most; every set of a size where there are not more.

    Returns:
        The sets; one that belongs to several kinds occurs once for each.

    Raises:
        ConfigError: if there is a single band, or the limit is below 1.
    """
    if len(bands) < 2 or limit < 1:
        raise ConfigError(
            f'a study of bands needs at least 2 bands and 1 set of each size, got {len(bands)} '
            f'and {limit}'
        )
    every = tuple(range(len(bands)))
    found = [Subset('all', 'all', every), *presets(bands), *one_out(bands)]
    for size in range(1, len(bands)):
        for columns in sample_subsets(len(bands), size, limit):
            name = '+'.join(bands[k].name for k in columns)
            found.append(Subset(name, 'random', columns))
    return found
