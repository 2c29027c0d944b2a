"""Windows cover each cell once in weight, whatever the sizes; units need no others."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from torchgeo_aom.errors import SizeError
from torchgeo_aom.scene.grid import Axis, make_plan

sizes = st.integers(1, 300)


@settings(deadline=None, max_examples=60)
@given(length=sizes, chip=st.integers(1, 64), share=st.floats(0, 0.99))
@example(length=33, chip=32, share=0.0)  # H = chip + 1
@example(length=31, chip=32, share=0.5)  # H < chip
@example(length=32, chip=32, share=0.5)
def test_weights_are_one_in_sum(length: int, chip: int, share: float) -> None:
    axis = Axis.plan(length, chip, math.floor(share * chip))
    total = np.zeros(axis.length)
    for start, weight in zip(axis.starts, axis.weights, strict=True):
        assert weight.min() > 0
        total[start : start + axis.chip] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(length=sizes, chip=st.integers(2, 64), share=st.floats(0, 0.99))
def test_neighbors_share_what_was_asked_for(length: int, chip: int, share: float) -> None:
    overlap = math.floor(share * chip)
    axis = Axis.plan(length, chip, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.chip == length
    for one, two in zip(axis.starts, axis.starts[1:], strict=False):
        assert one < two <= one + chip - overlap


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    cell=st.integers(1, 8),
    cells=st.integers(1, 12),
    share=st.floats(0, 0.9),
    most=st.integers(1, 4000),
)
def test_units_are_complete_with_their_windows(
    height: int, width: int, cell: int, cells: int, share: float, most: int
) -> None:
    """Each unit alone, and all in a row, get each of their cells with weight one."""
    plan = make_plan(height, width, cells * cell, math.floor(share * (cells - 1)) * cell, cell)
    strips = [(k, k + 1) for k in range(len(plan.columns.starts))] if most % 2 else plan.strips
    plan = type(plan)(height, width, cell, plan.rows, plan.columns, tuple(strips))
    total = np.zeros(plan.shape)
    for unit in plan.units()[:40]:
        sums = np.zeros(plan.shape)
        jobs = list(plan.jobs([unit]))
        assert [job.begins for job in jobs] == [True] + [False] * (len(jobs) - 1)
        assert [job.completes for job in jobs] == [False] * (len(jobs) - 1) + [True]
        for job in jobs:
            rows = plan.rows.starts[job.row]
            columns = plan.columns.starts[job.column]
            window = np.outer(plan.rows.weights[job.row], plan.columns.weights[job.column])
            sums[rows : rows + plan.rows.chip, columns : columns + plan.columns.chip] += window
        left, right = plan.span(unit[0])
        part = np.s_[plan.rows.starts[unit[1]] : plan.rows.end(unit[1]), left:right]
        np.testing.assert_allclose(sums[part], 1, atol=1e-5)
        total[part] += 1
    assert total.max() == 1
    if len(plan.units()) <= 40:
        assert total.min() == 1


def test_a_sweep_computes_each_window_once() -> None:
    plan = make_plan(100, 90, 32, 8)
    jobs = list(plan.jobs(plan.units()))
    assert len({(job.row, job.column) for job in jobs}) == len(jobs) == plan.windows
    assert all(job.own for job in jobs)


def test_wide_scenes_are_cut_into_strips() -> None:
    plan = make_plan(100, 100_000, 256, 64, 1, channels=10, memory_mib=64)
    assert len(plan.strips) > 1
    for strip in range(len(plan.strips)):
        first, last = plan.strips[strip]
        left = plan.columns.starts[plan.columns.lead(first)]
        width = plan.columns.starts[last - 1] + plan.columns.chip - left
        assert width * plan.rows.chip * 10 * 4 <= 64 * 2**20
    extra = sum(1 for _ in plan.jobs(plan.units())) / plan.windows
    assert extra < 1.05


@pytest.mark.parametrize(('chip', 'overlap', 'cell'), [(30, 0, 16), (0, 0, 1), (32, 32, 1)])
def test_impossible_sizes_are_refused(chip: int, overlap: int, cell: int) -> None:
    with pytest.raises(SizeError, match='px'):
        make_plan(100, 100, chip, overlap, cell)
