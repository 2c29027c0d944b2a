"""Which bands matter: leave-one-out, greedy orders, Shapley values, the smallest good set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from ..rng import generator

__all__ = (
    'Shares',
    'backward',
    'exact_shapley',
    'forward',
    'leave_one_out',
    'sampled_shapley',
    'smallest_enough',
)

Columns = tuple[int, ...]
#: score of each seed with these bands
Value = Callable[[Columns], Sequence[float]]


@dataclass(frozen=True)
class Shares:
    """What each band adds to the score.

    Attributes:
        mean: of shape (C,), in the unit of the score.
        error: half the width of an interval, of shape (C,); what it means depends on the method.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def _mean(value: Value, columns: Columns) -> float:
    return float(np.mean(value(columns)))


def leave_one_out(value: Value, count: int) -> Shares:
    """What is lost without each band, where all others stay.

    Args:
        value: score of each seed with some bands.
        count: number of bands C.

    Returns:
        Mean, and standard deviation over seeds.
    """
    every = tuple(range(count))
    full = np.asarray(value(every), dtype=float)
    lost = [full - np.asarray(value(tuple(j for j in every if j != k)), dtype=float) for k in every]
    spread = [np.std(one, ddof=1) if len(one) > 1 else 0.0 for one in lost]
    return Shares(np.array([one.mean() for one in lost]), np.array(spread, dtype=float))


def forward(value: Value, count: int) -> list[tuple[int, float]]:
    """Add the best band again and again.

    Sets are chosen by the score that is reported, so the curve is an upper bound.

    Args:
        value: score of each seed with some bands.
        count: number of bands.

    Returns:
        The band added in each step, and the score with all bands so far.
    """
    chosen: list[int] = []
    steps = []
    while len(chosen) < count:
        rest = [k for k in range(count) if k not in chosen]
        scores = [_mean(value, tuple(sorted([*chosen, k]))) for k in rest]
        best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))  # a failed one is not best
        chosen.append(rest[best])
        steps.append((rest[best], scores[best]))
    return steps


def backward(value: Value, count: int) -> list[tuple[int, float]]:
    """Drop the band that is missed least, again and again.

    Args:
        value: score of each seed with some bands.
        count: number of bands.

    Returns:
        The band dropped in each step, and the score without all bands so far.
    """
    left = tuple(range(count))
    steps = []
    while len(left) > 1:
        rests = [tuple(j for j in left if j != k) for k in left]
        scores = [_mean(value, rest) for rest in rests]
        best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))  # a failed one is not best
        steps.append((left[best], scores[best]))
        left = rests[best]
    return steps


def sampled_shapley(value: Value, count: int, empty: float, orders: int) -> Shares:
    """Shapley values from random orders of the bands, every second one the reverse of the last.

    Args:
        value: score of each seed with some bands.
        count: number of bands C.
        empty: score without any band.
        orders: number of orders.

    Returns:
        Mean, and standard error over independent draws (pairs of an order and its reverse).
    """
    random = generator(0, 'shapley', count)
    gains = np.zeros((orders, count))
    order = np.arange(count)
    for row in range(orders):
        order = order[::-1] if row % 2 else random.permutation(count)
        before = empty
        for place, band in enumerate(order):
            after = _mean(value, tuple(sorted(int(k) for k in order[: place + 1])))
            gains[row, band] = after - before
            before = after
    draws = np.array([gains[k : k + 2].mean(0) for k in range(0, orders, 2)])
    spread = draws.std(0, ddof=1) if len(draws) > 1 else np.full(count, np.nan)
    return Shares(gains.mean(0), spread / np.sqrt(len(draws)))


def exact_shapley(value: Value, count: int, empty: Sequence[float]) -> Shares:
    """Shapley values from every set of bands.

    Args:
        value: score of each seed with some bands.
        count: number of bands C; 2^C - 1 sets are asked for.
        empty: score of each seed without any band.

    Returns:
        Mean, and standard deviation over seeds.
    """
    shares = np.zeros((len(empty), count))
    for band in range(count):
        others = [k for k in range(count) if k != band]
        for size in range(count):
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            for rest in combinations(others, size):
                before = value(rest) if rest else empty
                after = value(tuple(sorted((*rest, band))))
                shares[:, band] += weight * (np.asarray(after) - np.asarray(before))
    spread = shares.std(0, ddof=1) if len(shares) > 1 else np.zeros(count)
    return Shares(shares.mean(0), spread)


def smallest_enough(
    scores: Mapping[Columns, float], within: float = 0.01
) -> tuple[Columns, float] | None:
    """The smallest set of bands that is about as good as all of them.

    Args:
        scores: score of each set that was looked at, all bands among them.
        within: how much less than with all bands is about as good.

    Returns:
        The best one of the smallest sets, and its score; None if there are no scores.
    """
    if not scores:
        return None
    enough = scores[max(scores, key=len)] - within
    good = [columns for columns, score in scores.items() if score >= enough]
    best = min(good, key=lambda columns: (len(columns), -scores[columns], columns))
    return best, scores[best]
