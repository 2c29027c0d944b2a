"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ('aligned', 'ruled')


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Rows with their cells below each other, two spaces apart.

    Args:
        rows: cells of each row; the last cell of a row that is shorter than others runs over the
            columns that it lacks.
        right: columns whose cells end below each other, instead of beginning so.

    Returns:
        The lines, without spaces at their end.
    """
    count = max(map(len, rows), default=0)
    widths = [
        max(
            (len(row[k]) for row in rows if k < len(row) - 1 or k == count - 1 < len(row)),
            default=0,
        )
        for k in range(count)
    ]
    return [
        '  '.join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip((*row, *[''] * count), widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def ruled(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned rows, the first of which is a head with a line below it."""
    head, *others = aligned(rows)
    return [head, '-' * max(map(len, (head, *others))), *others]
