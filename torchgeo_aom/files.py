"""Files that are whole or absent, whatever stops the program that writes them; cache folders."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ('HOST', 'cache_folder', 'part_of', 'replacing', 'write_whole')

#: name of this machine: machines share folders, and their processes have the same numbers
HOST = re.sub(r'\W', '', platform.node().partition('.')[0]) or 'host'


def cache_folder(kind: str) -> Path:
    """Folder in the user's cache, in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Args:
        kind: what is kept there.

    Returns:
        The folder, which need not exist.
    """
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home) / 'torchgeo_aom' / kind


def part_of(path: Path, suffix: str) -> Path:
    """Name of a file that is being written, known as such by its process.

    Machine and number of the process let others see whether it still lives; the random part keeps
    its threads apart.

    Args:
        path: the final file.
        suffix: ending of the name.

    Returns:
        The name, in the same folder.
    """
    return path.with_name(f'.{path.name}.{HOST}-{os.getpid()}.{uuid4().hex[:8]}.part{suffix}')


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file that appears whole, or not at all; what was there before stays until then.

    Args:
        path: the file.

    Yields:
        The name to write to; it has the ending of the file, which some libraries ask for.
    """
    part = part_of(path, path.suffix)
    try:
        yield part
        with part.open('rb+') as file:
            os.fsync(file.fileno())  # else a crash may leave the new name with an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once.

    Args:
        path: the file.
        data: its content.
    """
    with replacing(path) as part:
        part.write_bytes(data)
