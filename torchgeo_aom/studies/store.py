"""Rows of a study in a CSV file: appended as they come, by several writers, killed at any point."""

from __future__ import annotations

import csv
import io
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from ..errors import AOMWarning, DataError

__all__ = ('RowStore',)

CHECK = 'check'


def _line(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerow(values)
    return text.getvalue()


def _checksum(values: Sequence[str]) -> str:
    return f'{zlib.crc32(_line(values).encode()):08x}'


def _flat(value: object) -> str:
    """Text of a value on one line, so that a line is a row."""
    return ' '.join(str(value).split()) if isinstance(value, str) else str(value)


class RowStore:
    """A table in a CSV file that many processes may write to, one row a cell.

    A row is one line, written at once under a lock, with a checksum at its end: a line that a
    killed process left half written is skipped, and its cell counts as not done. Of several rows
    of a cell the last one holds.

    For cells that a few columns tell apart, and people who open tables; what a cell of
    ``torchgeo-aom segment`` is, nested options of a version, goes into lines of JSON instead
    (:class:`~torchgeo_aom.tasks.rows.RowFile`).
    """

    def __init__(
        self, path: str | os.PathLike[str], key: Sequence[str], columns: Sequence[str]
    ) -> None:
        """Name the table; nothing is read or written yet.

        Args:
            path: the CSV file.
            key: columns that say which cell a row is of.
            columns: the other columns.
        """
        self.path = Path(path)
        self.key = tuple(key)
        self.columns = (*key, *columns)
        self._lock = FileLock(f'{self.path}.lock')

    def rows(self) -> dict[tuple[str, ...], dict[str, str]]:
        """Read the table.

        Returns:
            The last row of each cell, by the values of its key, in order of first appearance.

        Raises:
            DataError: if the file has other columns.

        Warns:
            AOMWarning: if lines are damaged.
        """
        if not self.path.is_file():
            return {}
        with self.path.open(encoding='utf-8', errors='replace', newline='') as file:
            lines = file.read().split('\n')
        header = next(csv.reader(lines[:1]), [])
        if header and header != [*self.columns, CHECK]:
            raise DataError(
                f'{self.path} has the columns {", ".join(header)}, not {", ".join(self.columns)}: '
                'it is of another study or version; name another folder (--output)'
            )
        found: dict[tuple[str, ...], dict[str, str]] = {}
        damaged = 0
        for line in lines[1:]:
            values = next(csv.reader([line]), [])
            if not values:
                continue
            if len(values) != len(self.columns) + 1 or _checksum(values[:-1]) != values[-1]:
                damaged += 1
                continue
            row = dict(zip(self.columns, values[:-1], strict=True))
            found[tuple(row[name] for name in self.key)] = row
        if damaged:
            warnings.warn(
                f'{self.path}: {damaged} damaged lines are skipped, as a killed process leaves '
                'them; their cells count as not done',
                AOMWarning,
                stacklevel=2,
            )
        return found

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows, all or none of each.

        Args:
            rows: values of all columns by name.

        Raises:
            DataError: if the file cannot be written.
        """
        text = ''
        for row in rows:
            values = [_flat(row[name]) for name in self.columns]
            text += _line([*values, _checksum(values)])
        if not text:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self.path.open('ab+') as file:
                size = file.seek(0, os.SEEK_END)
                if size == 0:
                    text = _line([*self.columns, CHECK]) + text
                else:
                    file.seek(size - 1)
                    text = text if file.read(1) == b'\n' else '\n' + text
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f'{self.path} cannot be written: {error}') from error
