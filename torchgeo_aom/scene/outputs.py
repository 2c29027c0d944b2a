"""Results on disk: pieces that are whole or absent, and one step that makes the final files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.files import HOST, replacing

__all__ = ('Store', 'check_output', 'writing')


def check_output(path: str | Path, inputs: tuple[str, ...], overwrite: bool) -> Path:
    """Check where a result is to go, before anything is computed.

    Args:
        path: the file to write.
        inputs: files that are read.
        overwrite: whether it may exist.

    Returns:
        The path.

    Raises:
        ConfigError: if it exists, is an input, or its folder does not exist.
    """
    path = Path(path).expanduser()
    for source in inputs:
        if Path(source).exists() and path.exists() and os.path.samefile(source, path):
            raise ConfigError(f'{path} is the input: name another file for the result')
    if path.is_dir():
        raise ConfigError(f'{path} is a folder: name a file')
    if not path.parent.is_dir():
        raise ConfigError(f'there is no folder {path.parent}: make it, or correct the path')
    if path.exists() and not overwrite:
        raise ConfigError(f'{path} exists: name another file, or give overwrite=True (--overwrite)')
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do where the disk is full.

    Raises:
        DataError: if writing fails.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = 'free some space' if full else 'correct that'
        raise DataError(
            f'{path} cannot be written: {error.strerror or error}. What is computed is kept: '
            f'{hint}, and run the same again to go on'
        ) from error


class Store:
    """Pieces of a result, in a hidden folder beside it, until all of them are there.

    The folder's name holds a hash of all that the result depends on: the same run goes on with its
    pieces, any other starts anew. Pieces are whole or absent, also after a kill.

    Args:
        output: the final file.
        facts: all that the result depends on, as plain values.
    """

    def __init__(self, output: Path, facts: Any) -> None:
        """Open or make the folder, and sweep those of other runs that nobody works on."""
        text = json.dumps(facts, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.output = output
        self.folder = output.with_name(f'.{output.name}.{self.key}.parts')
        with writing(self.folder):
            #: whether there were no pieces of the same run before
            self.fresh = not self.folder.exists()
            self.folder.mkdir(exist_ok=True)
            (self.folder / 'facts.json').write_text(text, encoding='utf-8')
        self._lock = _lock(self.folder / 'lock', shared=True)
        self._sweep()

    def _sweep(self) -> None:
        name = self.output.name
        for other in self.output.parent.glob(f'.{glob_escape(name)}.*.parts'):
            if other == self.folder:
                continue
            lock = _lock(other / 'lock', shared=False)
            if lock is not False:
                _unlock(lock)
                shutil.rmtree(other, ignore_errors=True)
        for other in self.output.parent.glob(f'.{glob_escape(name)}.*.part*'):
            owner = other.name.removeprefix(f'.{name}.').partition('.')[0]
            host, _, pid = owner.rpartition('-')
            # Whether a process of another machine lives cannot be known.
            known = host == HOST and pid.isdigit() and int(pid) != os.getpid()
            if other.is_file() and known and not _alive(int(pid)):
                other.unlink(missing_ok=True)

    def path(self, sink: str, unit: tuple[int, int]) -> Path:
        """File of a piece."""
        return self.folder / f'{sink}_{unit[0]:04d}_{unit[1]:06d}.npy'

    def has(self, sink: str, unit: tuple[int, int]) -> bool:
        """Whether a piece is there."""
        return self.path(sink, unit).is_file()

    def put(self, sink: str, unit: tuple[int, int], values: NDArray[Any]) -> None:
        """Keep a piece.

        Raises:
            DataError: if it cannot be written.
        """
        path = self.path(sink, unit)
        with writing(path), replacing(path) as part, part.open('wb') as file:
            np.save(file, values)
            file.flush()

    def get(self, sink: str, unit: tuple[int, int]) -> NDArray[Any]:
        """Read a piece.

        Raises:
            DataError: if it is damaged.
        """
        path = self.path(sink, unit)
        try:
            values: NDArray[Any] = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            path.unlink(missing_ok=True)
            raise DataError(f'{path} is damaged ({error}); run the same again') from error
        return values

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process, and no other, may make the final files."""
        lock = _lock(self.folder / 'merge', shared=False)
        try:
            yield lock is not False
        finally:
            _unlock(lock)

    def close(self) -> None:
        """Let go of the folder."""
        _unlock(self._lock)
        self._lock = None

    def remove(self) -> None:
        """Remove all pieces."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def glob_escape(name: str) -> str:
    """A file name as a pattern that matches only itself."""
    return ''.join(f'[{c}]' if c in '*?[' else c for c in name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _lock(path: Path, shared: bool) -> Any:
    """Lock a file as long as this process lives: its descriptor, False where another has it."""
    try:
        import fcntl
    except ImportError:  # Windows: without locks, one run at a time
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return descriptor


def _unlock(lock: Any) -> None:
    if isinstance(lock, int) and not isinstance(lock, bool):
        os.close(lock)
