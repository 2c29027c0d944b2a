"""Weights at an address: fetched once, checked at every use, whole or absent."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from weight_tools import same

from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.download import cache_path
from torchgeo_aom.models.weights import AOMWeights, register_weights


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file: whole, changed, cut off, or not at all."""

    content = b''
    mode = 'whole'
    requests = 0

    def do_GET(self) -> None:
        Server.requests += 1
        if self.mode == 'missing':
            self.send_error(404)
            return
        content = self.content if self.mode != 'changed' else self.content[:-1] + b'!'
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.mode == 'cut' else content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server(tiny_file: Path) -> Iterator[type[Server]]:
    Server.content, Server.mode, Server.requests = tiny_file.read_bytes(), 'whole', 0
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server) as running:
        Server.url = f'http://127.0.0.1:{running.server_port}/tiny.safetensors'  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield Server
        running.shutdown()


@pytest.fixture
def remote(server: Any, member: AOMWeights) -> AOMWeights:
    return register_weights('REMOTE', server.url, meta=member.meta)


class TestDownload:
    def cached(self, remote: AOMWeights) -> Path:
        return cache_path(remote.url, remote.meta['sha256'])

    def nothing_left(self, remote: AOMWeights) -> bool:
        return not any(self.cached(remote).parent.iterdir())

    def test_once(self, remote: AOMWeights, tiny: AOM, server: Any) -> None:
        assert server.requests == 0
        for _ in range(2):
            assert same(remote.get_state_dict(progress=False), tiny.state_dict())
        assert server.requests == 1
        path = self.cached(remote)
        assert path.name == f'tiny-{remote.meta["sha256"][:8]}.safetensors'
        assert path.is_relative_to(torch.hub.get_dir())
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_other_folder(self, remote: AOMWeights, tmp_path: Path) -> None:
        remote.get_state_dict(tmp_path / 'mine', progress=False)
        assert len(list((tmp_path / 'mine').iterdir())) == 1

    def test_tampered_cache_is_fetched_again(
        self, remote: AOMWeights, tiny: AOM, server: Any
    ) -> None:
        remote.get_state_dict(progress=False)
        path = self.cached(remote)
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        assert same(remote.get_state_dict(progress=False, check_hash=False), tiny.state_dict())
        assert server.requests == 2

    def test_tampered_cache_without_connection(self, remote: AOMWeights, server: Any) -> None:
        path = self.cached(remote)
        path.parent.mkdir(parents=True)
        path.write_bytes(b'something else')
        server.mode = 'missing'
        with pytest.raises(CheckpointError, match='copy in the cache was damaged'):
            remote.get_state_dict(progress=False)
        assert self.nothing_left(remote)

    @pytest.mark.parametrize('mode', ['changed', 'cut', 'missing'])
    def test_bad_download_leaves_nothing(self, remote: AOMWeights, server: Any, mode: str) -> None:
        server.mode = mode
        with pytest.raises(CheckpointError) as caught:
            remote.get_state_dict(progress=False)
        assert remote.url in str(caught.value)
        assert remote.meta['sha256'] in str(caught.value)
        assert self.nothing_left(remote)
        server.mode = 'whole'
        remote.get_state_dict(progress=False)

    def test_interrupt_leaves_nothing(
        self, remote: AOMWeights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr('os.fsync', stop)
        with pytest.raises(KeyboardInterrupt):
            remote.get_state_dict(progress=False)
        assert self.nothing_left(remote)

    def test_offline(
        self, remote: AOMWeights, tiny: AOM, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message says where to put the file; it then works without a connection."""

        def offline(*_: Any, **__: Any) -> None:
            raise OSError('Network is unreachable')

        monkeypatch.setattr('urllib.request.urlopen', offline)
        path = self.cached(remote)
        with pytest.raises(CheckpointError, match='Network is unreachable') as caught:
            remote.get_state_dict()
        assert str(path) in str(caught.value)
        path.write_bytes(tiny_file.read_bytes())
        assert same(remote.get_state_dict(), tiny.state_dict())

    def test_nothing_is_known_without_a_hash(self, server: Any, member: AOMWeights) -> None:
        meta = {key: value for key, value in member.meta.items() if key != 'sha256'}
        with pytest.raises(ConfigError, match='sha256 = None'):
            register_weights('REMOTE', server.url, meta=meta)
        assert server.requests == 0
