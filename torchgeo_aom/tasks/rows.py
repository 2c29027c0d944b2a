"""Rows of results in a file, one line each: whole or absent, once each, from many processes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import AOMWarning, BandError, CheckpointError, ConfigError, DataError, SizeError

__all__ = ('FAILED', 'STOP', 'RowFile')

#: errors that the user has to do something about: no reason to go on with other cells
STOP = (BandError, CheckpointError, ConfigError, DataError, SizeError)

#: key of a row whose cell could not be measured; its value says why
FAILED = 'failed'


class RowFile:
    """Results by cell, in lines of JSON: a cell says what was run, its row what came of it.

    A run that is interrupted goes on with the cells that have no row. Processes may write at the
    same time: under a lock, each looks for rows of the others first, so no cell gets two rows. Rows
    with other keys, of an older version for example, are left as they are and match no cell.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the file.

        Args:
            path: of the file; beside it comes another with ``.lock`` at its end.
        """
        self.path = Path(path)

    def rows(self) -> list[dict[str, Any]]:
        """Read all rows, in the order in which they came.

        A last line without an end was being written when a run stopped: it is left out, with a
        warning, and its cell is run again.

        Raises:
            DataError: if another line is damaged.
        """
        if not self.path.is_file():
            return []
        whole, torn = self._parts(self.path.read_bytes())
        if torn:
            warnings.warn(
                f'the last line of {self.path} was not finished; what it is of is run again',
                AOMWarning,
                stacklevel=2,
            )
        found = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f'line {number} of {self.path} is damaged ({error}); remove it'
                ) from error
            if not isinstance(row, dict):
                raise DataError(f'line {number} of {self.path} is no row of results; remove it')
            found.append(row)
        return found

    def find(self, cell: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a cell, or None where there is none that has not failed.

        Args:
            cell: what was run, in plain values; a row matches that has all of it.
        """
        wanted = json.loads(json.dumps(cell))
        rows = (row for row in self.rows() if FAILED not in row)
        return next((row for row in rows if wanted.items() <= row.items()), None)

    def add(self, cell: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """Append the row of a cell, unless it has one by now.

        Args:
            cell: what was run.
            result: what came of it.

        Returns:
            The row that the file holds.
        """
        row: dict[str, Any] = {**cell, **result}
        line = json.dumps(row).encode() + b'\n'
        with FileLock(f'{self.path}.lock'):
            if self.path.is_file():
                whole, torn = self._parts(self.path.read_bytes())
                if torn:
                    os.truncate(self.path, len(whole))
                known = self.find(cell)
                if known is not None:
                    return known
            with self.path.open('ab') as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        stored: dict[str, Any] = json.loads(line)
        return stored

    @staticmethod
    def _parts(content: bytes) -> tuple[bytes, bytes]:
        """Finished lines, and what comes after the last one."""
        whole, end, torn = content.rpartition(b'\n')
        return whole + end, torn
