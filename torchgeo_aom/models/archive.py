"""The zip archives that ``torch.save`` writes: whole, not compressed, no larger than they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import CheckpointError

__all__ = ('check_archive', 'file_error')


def file_error(path: Path, what: str) -> CheckpointError:
    """What is wrong with a weights file, with its path and size."""
    size = f'{path.stat().st_size:,} bytes' if path.is_file() else 'no file'
    return CheckpointError(f'{path} ({size}): {what}')


def _no_archive(path: Path) -> str:
    """What a file is, that is no zip archive."""
    with path.open('rb') as file:
        start = file.read(64).lstrip()
    if start.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer, not the weights. Run `git lfs pull`.'
    if start.startswith(b'<'):
        return 'a web page, not weights. Download the file itself.'
    return (
        'not a whole PyTorch checkpoint (truncated, or of the format before PyTorch 1.6). '
        'Copy or download it again; save an old one again with a current torch.save.'
    )


def _complaint(path: Path) -> str | None:
    """What is wrong with an archive, or None; zipfile raises much else where it is damaged."""
    if not zipfile.is_zipfile(path):
        return _no_archive(path)
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            return (
                'a compressed archive, which torch.save never writes; it could grow without '
                'bounds. Save it again with torch.save.'
            )
        if sum(record.file_size for record in records) > path.stat().st_size:
            return 'the records declare more bytes than the file has. Refused.'
        damaged = archive.testzip()
    if damaged is None:
        return None
    return f'record {damaged!r} is damaged. Copy or download it again.'


def check_archive(path: Path) -> None:
    """Refuse archives that are damaged, or that grow when they are read.

    Args:
        path: a file of ``torch.save``.

    Raises:
        CheckpointError: if it is something else, or would not be read as it is.
    """
    try:
        complaint = _complaint(path)
    except Exception as error:
        raise file_error(path, f'damaged ({error}). Copy or download it again.') from error
    if complaint is not None:
        raise file_error(path, complaint)
