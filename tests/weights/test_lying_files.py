"""Files that say something else than they hold; each was found by ``tests/fuzz``."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weight_tools import nano

from torchgeo_aom.errors import CheckpointError
from torchgeo_aom.models.checkpoint import export_checkpoint, read_state_dict
from torchgeo_aom.models.shapes import shape_facts
from torchgeo_aom.models.weights import load_backbone


@pytest.mark.parametrize('size', [5, 60_000, 10**18])
def test_kernel_of_another_size(tmp_path: Path, size: int) -> None:
    """The model is not built by what a name claims."""
    state = dict(nano().state_dict())
    state[f'patch_embed.kernels.{size}.weight'] = state.pop('patch_embed.kernels.4.weight')
    save_file(state, tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match=str(size)):
        load_backbone(tmp_path / 'a.safetensors', num_heads=3)


def test_blocks_without_weights_do_not_count() -> None:
    state = nano().state_dict() | {f'blocks.{k}.x': torch.ones(1) for k in range(2, 50)}
    assert shape_facts(state)['depth'] == 2


def test_record_marked_as_encrypted(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    torch.save(nano().state_dict(), path)
    data = bytearray(path.read_bytes())
    data[data.rindex(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r'a\.pth.*damaged'):
        read_state_dict(path)


def test_two_names_of_one_tensor(tmp_path: Path) -> None:
    state = nano().state_dict()
    torch.save({**state, 'patch_embed.other': state['norm.bias']}, tmp_path / 'a.pth')
    export_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.safetensors')
    read, _ = read_state_dict(tmp_path / 'b.safetensors')
    assert torch.equal(read['patch_embed.other'], state['norm.bias'])


@pytest.mark.parametrize('key', ['bands', 'mean', 'patch_sizes'])
def test_lists_in_lists_without_end(tmp_path: Path, key: str) -> None:
    path = tmp_path / 'a.safetensors'
    save_file(nano().state_dict(), path, {'num_heads': '3', key: '[' * 200_000})
    with pytest.raises(CheckpointError, match=rf'{key} in the metadata are unreadable.*\.\.\.'):
        load_backbone(path)
    if key == 'bands':
        with pytest.raises(CheckpointError, match='unreadable'):
            export_checkpoint(path, tmp_path / 'b.safetensors')
