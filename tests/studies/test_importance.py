"""Importance of bands, against games whose answers are known."""

import numpy as np
import pytest

from torchgeo_aom.studies.bands_report import interval
from torchgeo_aom.studies.importance import (
    backward,
    exact_shapley,
    forward,
    leave_one_out,
    sampled_shapley,
    smallest_enough,
)

WORTH = (0.1, 0.4, 0.0, 0.2)


def additive(columns: tuple[int, ...]) -> list[float]:
    total = sum(WORTH[k] for k in columns)
    return [total, total + 0.1]


def redundant(columns: tuple[int, ...]) -> list[float]:
    """Either of the first two is enough."""
    return [0.5 * bool({0, 1} & set(columns)) + 0.1 * (2 in columns)]


class TestImportance:
    def test_leave_one_out(self) -> None:
        shares = leave_one_out(additive, 4)
        np.testing.assert_allclose(shares.mean, WORTH, atol=1e-12)
        np.testing.assert_allclose(shares.error, 0, atol=1e-12)
        np.testing.assert_allclose(leave_one_out(redundant, 3).mean, [0, 0, 0.1], atol=1e-12)

    def test_greedy(self) -> None:
        assert [band for band, _ in forward(additive, 4)] == [1, 3, 0, 2]
        assert forward(additive, 4)[-1][1] == pytest.approx(0.75)
        assert [band for band, _ in backward(additive, 4)] == [2, 0, 3]

    def test_shapley_of_an_additive_game(self) -> None:
        exact = exact_shapley(additive, 4, [0.0, 0.1])
        np.testing.assert_allclose(exact.mean, WORTH, atol=1e-12)
        sampled = sampled_shapley(additive, 4, 0.05, orders=4)
        np.testing.assert_allclose(sampled.mean, WORTH, atol=1e-12)
        np.testing.assert_allclose(sampled.error, 0, atol=1e-12)

    def test_shapley_of_a_redundant_game(self) -> None:
        """What leave-one-out does not see: two bands that can replace each other share."""
        exact = exact_shapley(redundant, 3, [0.0])
        np.testing.assert_allclose(exact.mean, [0.25, 0.25, 0.1], atol=1e-12)
        sampled = sampled_shapley(redundant, 3, 0.0, orders=200)
        assert (abs(sampled.mean - exact.mean) <= 4 * sampled.error + 1e-9).all()
        assert sampled.mean.sum() == pytest.approx(0.6)

    def test_smallest(self) -> None:
        scores = {(0, 1, 2): 0.8, (0, 1): 0.795, (1, 2): 0.81, (2,): 0.7}
        assert smallest_enough(scores) == ((1, 2), 0.81)
        assert smallest_enough(scores, within=0.2) == ((2,), 0.7)
        assert smallest_enough({}) is None

    def test_interval(self) -> None:
        """Student's t with the correction for a finite number of sets."""
        assert interval([0.5, 0.7], 2) == 0.0
        assert np.isnan(interval([0.5], 9))
        expected = 12.706 * np.std([0.5, 0.7], ddof=1) * np.sqrt((1 - 2 / 10) / 2)
        assert interval([0.5, 0.7], 10) == pytest.approx(expected, rel=1e-3)
