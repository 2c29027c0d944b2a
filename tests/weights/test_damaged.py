"""No damaged or hostile weights file does any harm."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from torchgeo_aom.errors import CheckpointError
from torchgeo_aom.models.checkpoint import file_sha256, read_state_dict


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f'touch {self.marker}',))


class TestBadFiles:
    """Every message names the file, its size and what to do; the model stays as it was."""

    def refused(self, path: Path, match: str | None, **kwargs: Any) -> str:
        with pytest.raises(CheckpointError, match=match) as caught:
            read_state_dict(path, **kwargs)
        assert str(path) in str(caught.value)
        if path.is_file():
            assert f'{path.stat().st_size:,} bytes' in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize('share', [0.0, 0.0001, 0.01, 0.5, 0.999])
    def test_truncated(self, saved: Path, share: float) -> None:
        content = saved.read_bytes()
        saved.write_bytes(content[: int(len(content) * share)])
        self.refused(saved, 'again')

    @pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
    def test_bit_flip(self, saved: Path, share: float) -> None:
        """Neither format notices by itself; ours does even without a hash beside the file."""
        content = bytearray(saved.read_bytes())
        content[int(len(content) * share)] ^= 4
        saved.write_bytes(content)
        self.refused(saved, 'damaged')

    def test_tampered(self, saved: Path) -> None:
        digest = file_sha256(saved)
        read_state_dict(saved, sha256=digest)
        read_state_dict(saved, sha256=digest.upper())
        state = {key: value + 1 for key, value in read_state_dict(saved)[0].items()}
        if saved.suffix == '.safetensors':
            save_file(state, saved)
        else:
            torch.save(state, saved)
        read_state_dict(saved)  # well-formed, so that only the hash tells
        message = self.refused(saved, 'tampered', sha256=digest)
        assert file_sha256(saved) in message

    def test_missing_and_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path / 'no.pth', 'does not exist')
        self.refused(tmp_path, 'folder')

    def test_unknown_format(self, tmp_path: Path) -> None:
        (tmp_path / 'a.onnx').write_bytes(b'x')
        self.refused(tmp_path / 'a.onnx', 'unknown format')

    @pytest.mark.parametrize('protocol', ['zip', 'legacy', 'raw'])
    @pytest.mark.parametrize('suffix', ['.pth', '.pt', '.ckpt', '.bin', '.safetensors'])
    def test_malicious_pickle(self, tmp_path: Path, protocol: str, suffix: str) -> None:
        path, marker = tmp_path / f'a{suffix}', tmp_path / 'marker'
        evil = {'state_dict': {'x': torch.zeros(1)}, 'hyper_parameters': Payload(marker)}
        if protocol == 'raw':
            path.write_bytes(pickle.dumps(evil))
        else:
            torch.save(evil, path, _use_new_zipfile_serialization=protocol == 'zip')
        message = self.refused(path, None)
        assert not marker.exists()
        assert 'weights_only=False' not in message
        if protocol == 'zip' and suffix != '.safetensors':
            assert 'posix.system' in message and 'no fallback to pickle' in message

    def test_deflated_zip(self, tmp_path: Path) -> None:
        torch.save({'x': torch.zeros(1 << 20)}, tmp_path / 'plain.pth')
        with (
            zipfile.ZipFile(tmp_path / 'plain.pth') as plain,
            zipfile.ZipFile(tmp_path / 'a.pth', 'w', zipfile.ZIP_DEFLATED) as packed,
        ):
            for record in plain.infolist():
                packed.writestr(record.filename, plain.read(record))
        assert (tmp_path / 'a.pth').stat().st_size < 50_000
        self.refused(tmp_path / 'a.pth', 'compressed')

    def test_records_on_top_of_each_other(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
            archive.writestr('archive/data.pkl', bytes(4000))
            archive.filelist.extend(archive.filelist * 9)
        self.refused(tmp_path / 'a.pth', 'more bytes')

    def test_giant_shape_without_values(self, tmp_path: Path) -> None:
        torch.save({'x': torch.zeros(1).expand(10**10)}, tmp_path / 'a.pth')
        assert (tmp_path / 'a.pth').stat().st_size < 5000
        self.refused(tmp_path / 'a.pth', r'\(10000000000,\)')

    @pytest.mark.parametrize('length', [10**12, 2**63, 3])
    def test_header_bomb(self, tmp_path: Path, length: int) -> None:
        (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', length) + b'{}')
        self.refused(tmp_path / 'a.safetensors', 'not a whole safetensors')

    def test_giant_header_shape(self, tmp_path: Path) -> None:
        entry = {'dtype': 'F32', 'shape': [10**10], 'data_offsets': [0, 4]}
        header = json.dumps({'x': entry}).encode()
        path = tmp_path / 'a.safetensors'
        path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
        self.refused(path, 'not a whole safetensors')

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
            (b'<!DOCTYPE html><html></html>', 'web page'),
            (b'\x80\x02\x8a\nl\xfc', 'before PyTorch 1.6'),
        ],
    )
    def test_not_a_checkpoint(self, tmp_path: Path, content: bytes, match: str) -> None:
        (tmp_path / 'a.pth').write_bytes(content)
        self.refused(tmp_path / 'a.pth', match)

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            ([1, 2], 'holds a list'),
            ({'epoch': 1}, 'holds no parameters'),
            ({'state_dict': {}}, 'holds no parameters'),
            ({'a': torch.zeros(1), 'b': 'text'}, "'b' is a str"),
            ({1: torch.zeros(1)}, '1 is a Tensor'),
            ({'a': torch.eye(2).to_sparse()}, 'dense'),
            ({'a': torch.empty(2, device='meta')}, 'dense'),
        ],
    )
    @pytest.mark.filterwarnings('ignore:Validating sparse')
    def test_wrong_content(self, tmp_path: Path, content: Any, match: str) -> None:
        torch.save(content, tmp_path / 'a.pth')
        self.refused(tmp_path / 'a.pth', match)

    def test_newer_format(self, tmp_path: Path) -> None:
        save_file({'x': torch.zeros(1)}, tmp_path / 'a.safetensors', {'format_version': '999'})
        self.refused(tmp_path / 'a.safetensors', 'newer release')
