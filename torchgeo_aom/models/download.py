"""Fetches a weights file into the cache, whole and with the right content or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch
from tqdm import tqdm

from ..errors import CheckpointError
from ..files import replacing
from .checkpoint import file_sha256

__all__ = ('cache_path', 'fetch')

TIMEOUT_S = 30
BLOCK = 1 << 20


def cache_path(url: str, sha256: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the file of a URL is kept: in PyTorch's cache, with the start of its hash in its name.

    Args:
        url: address of the file.
        sha256: SHA-256 of the file.
        folder: folder instead of PyTorch's (``TORCH_HOME``).
    """
    base = Path(folder).expanduser() if folder else Path(torch.hub.get_dir()) / 'checkpoints'
    name = Path(unquote(urlparse(url).path)).name
    stem, suffix = os.path.splitext(name)
    return base / (name if sha256[:8] in stem else f'{stem}-{sha256[:8]}{suffix}')


def _download(url: str, path: Path, sha256: str, progress: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with replacing(path) as part:
        # Only http(s) comes here, and urllib follows redirects to nothing else but ftp.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, part.open('wb') as file:
            total = int(response.headers.get('Content-Length') or 0) or None
            with tqdm(
                total=total, unit='B', unit_scale=True, desc=path.name, disable=not progress
            ) as bar:
                while block := response.read(BLOCK):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
        if digest.hexdigest() != sha256:
            raise CheckpointError(
                f'{url} has SHA-256 {digest.hexdigest()}, expected {sha256}: the download was cut '
                'off or the file was changed. Nothing was kept. Try again; if it happens again, '
                'tell the maintainers.'
            )


def fetch(
    url: str,
    sha256: str,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Path of a downloaded file; its content is hashed at every call, not only when downloaded.

    Args:
        url: address of the file, ``https://`` or ``http://``.
        sha256: SHA-256 of the file.
        folder: folder to keep it in; PyTorch's cache where None.
        progress: whether to show a progress bar.

    Returns:
        Path of the file in the cache.

    Raises:
        CheckpointError: if it cannot be downloaded, or has another content.
    """
    path = cache_path(url, sha256, folder)
    found = ''
    if path.is_file():
        if file_sha256(path) == sha256:
            return path
        path.unlink()
        found = ' The copy in the cache was damaged and has been removed.'
    try:
        _download(url, path, sha256, progress)
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f'{url} could not be downloaded ({error}).{found} Without a connection: download it '
            f'elsewhere and put it at {path} (SHA-256 {sha256}), or pass the path of a weights '
            'file.'
        ) from error
    return path
