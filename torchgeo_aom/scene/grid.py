"""Windows that cover a scene, and blending weights that sum to one at every place.

Everything is separable: a window is one of the rows times one of the columns, and so is its weight.
Windows start at multiples of a *cell*, the pixels that one value of the result stands for (1 px for
maps, a patch for embeddings), so that the cells of overlapping windows are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from torchgeo_aom.errors import SizeError

__all__ = ('Axis', 'Job', 'Plan', 'make_plan')


@dataclass(frozen=True)
class Axis:
    """Windows along the rows or the columns of a scene, in cells.

    Attributes:
        length: cells of the scene.
        chip: cells of a window; the last one may stick out of the scene by less than a cell.
        overlap: cells that neighbors share at least.
        starts: first cell of each window, ascending.
    """

    length: int
    chip: int
    overlap: int
    starts: tuple[int, ...]

    @classmethod
    def plan(cls, length: int, chip: int, overlap: int) -> Axis:
        """Place windows.

        Args:
            length: cells of the scene.
            chip: cells of a window; it shrinks to the scene.
            overlap: cells that neighbors share; the last two share more where it does not come out
                even.

        Returns:
            The axis.

        Raises:
            SizeError: if a number is impossible.
        """
        if length < 1 or chip < 1 or not 0 <= overlap < chip:
            raise SizeError(
                f'windows of {chip} cells that share {overlap} cannot cover {length} cells: a '
                f'window has at least one cell, and shares fewer than it has'
            )
        if length <= chip:
            return cls(length, length, 0, (0,))
        last = length - chip
        return cls(length, chip, overlap, (*range(0, last, chip - overlap), last))

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], ...]:
        """Weights of each window (chip,): raised cosine at the sides, one in sum everywhere."""
        ramp = np.ones(self.chip)
        if self.overlap:
            rise = np.sin((np.arange(self.overlap) + 0.5) / self.overlap * math.pi / 2) ** 2
            ramp[: self.overlap] *= rise
            ramp[-self.overlap :] *= rise[::-1]
        total = np.zeros(self.length)
        for start in self.starts:
            total[start : start + self.chip] += ramp
        return tuple(
            (ramp / total[start : start + self.chip]).astype(np.float32) for start in self.starts
        )

    def end(self, number: int) -> int:
        """First cell that is not yet complete once the windows up to this one are there."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.length

    def lead(self, number: int) -> int:
        """First window that the cells from the start of this one on need."""
        start = self.starts[number]
        return next(k for k, first in enumerate(self.starts) if first + self.chip > start)


@dataclass(frozen=True)
class Job:
    """One window to compute, in the order of a sweep.

    Attributes:
        strip: number of the strip.
        row: number of the window's row.
        column: number of the window's column.
        begins: whether a new sweep begins with it.
        completes: whether the unit (strip, row) is complete with it.
        own: whether it belongs to the unit; else it only leads in.
    """

    strip: int
    row: int
    column: int
    begins: bool
    completes: bool
    own: bool


@dataclass(frozen=True)
class Plan:
    """Windows of a scene, and the units in which results are kept.

    A unit is what one row of windows completes within a strip of columns. It follows from the
    pixels alone, so that units may be computed in any order, by any process, and again.

    Attributes:
        height: height of the scene in px.
        width: width of the scene in px.
        cell: px a cell.
        rows: windows along the height.
        columns: windows along the width.
        strips: first and last but one column number of each strip.
    """

    height: int
    width: int
    cell: int
    rows: Axis
    columns: Axis
    strips: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result, in cells."""
        return self.rows.length, self.columns.length

    @property
    def chip(self) -> tuple[int, int]:
        """Height and width of a window in px."""
        return self.rows.chip * self.cell, self.columns.chip * self.cell

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.rows.starts) * len(self.columns.starts)

    def units(self) -> list[tuple[int, int]]:
        """All units (strip, row), in the order of a sweep."""
        return [(s, r) for s in range(len(self.strips)) for r in range(len(self.rows.starts))]

    def span(self, strip: int) -> tuple[int, int]:
        """First cell of a strip, and the first one after it."""
        first, last = self.strips[strip]
        return self.columns.starts[first], self.columns.end(last - 1)

    def jobs(self, units: list[tuple[int, int]]) -> Iterator[Job]:
        """Windows that some units need, in order; rows that lead in are computed again.

        Args:
            units: units to compute, in the order of :meth:`units`.

        Yields:
            One job a window.
        """
        before: tuple[int, int] | None = None
        for strip, row in units:
            first, last = self.strips[strip]
            left = self.columns.lead(first)
            fresh = before != (strip, row - 1)
            for r in range(self.rows.lead(row) if fresh else row, row + 1):
                for c in range(left, last):
                    begins = fresh and c == left and r == self.rows.lead(row)
                    done = r == row and c == last - 1
                    yield Job(strip, r, c, begins, done, r == row and c >= first)
            before = (strip, row)


def make_plan(
    height: int,
    width: int,
    chip: int,
    overlap: int,
    cell: int = 1,
    channels: int = 1,
    memory_mib: int = 256,
) -> Plan:
    """Plan the windows of a scene.

    Args:
        height: height of the scene in px.
        width: width of the scene in px.
        chip: side of a window in px, a multiple of *cell*.
        overlap: px that neighboring windows share; made a multiple of *cell*, upward.
        cell: px that one value of the result stands for, in height and width.
        channels: values a cell.
        memory_mib: what the cells of a row of windows may take; wider scenes are cut into strips,
            whose first windows are computed twice.

    Returns:
        The plan.

    Raises:
        SizeError: if a number is impossible.
    """
    if cell < 1 or chip < 1 or chip % cell:
        raise SizeError(
            f'windows of {chip} px cannot be cut into cells of {cell} px: give a multiple of {cell}'
        )
    overlap = -(-overlap // cell)
    if overlap >= chip // cell and overlap:
        raise SizeError(
            f'windows of {chip} px that share {overlap * cell} px do not get on: give a smaller '
            f'overlap or a larger chip'
        )
    rows = Axis.plan(-(-height // cell), chip // cell, overlap)
    columns = Axis.plan(-(-width // cell), chip // cell, overlap)
    most = memory_mib * 2**20 // (4 * channels * rows.chip)
    return Plan(height, width, cell, rows, columns, tuple(_strips(columns, most)))


def _strips(axis: Axis, most: int) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(axis.starts):
        left = axis.starts[axis.lead(first)]
        last = first + 1
        while last < len(axis.starts) and axis.starts[last] + axis.chip - left <= most:
            last += 1
        yield first, last
        first = last
