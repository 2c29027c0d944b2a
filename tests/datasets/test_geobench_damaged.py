"""GEO-Bench v1: missing, damaged and crafted files give errors that say what to do."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from make_geobench import attribute, write_task

from torchgeo_aom.datasets import GeoBench
from torchgeo_aom.errors import DataError


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-eurosat')
    dataset = GeoBench('m-eurosat', tmp_path)
    paths = sorted(folder.glob('*.hdf5'))
    whole = paths[0].read_bytes()
    for end in (0, 100, len(whole) // 2, len(whole) - 1):
        paths[0].write_bytes(whole[:end])
        with pytest.raises(DataError, match='id_0000,0.5.hdf5 is damaged, perhaps cut off'):
            dataset[0]
    paths[0].write_bytes(b'x' * len(whole))
    with pytest.raises(DataError, match='damaged'):
        dataset[0]
    paths[0].unlink()
    with pytest.raises(DataError, match='id_0000,0.5.hdf5 is missing'):
        dataset[0]
    with pytest.raises(DataError, match=r'1 of 4 files of m-eurosat are missing.* Get m-eurosat'):
        GeoBench('m-eurosat', tmp_path)
    (folder / 'band_stats.json').write_text('{"02 - Blue": 3}')
    with pytest.raises(DataError, match='has no mean and std of'):
        dataset.band_statistics()
    (folder / 'band_stats.json').unlink()
    with pytest.raises(DataError, match='band_stats.json cannot be read'):
        dataset.band_statistics()


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('{"train": [', 'cannot be read'),
        ('[1, 2]', 'holds no table'),
        ('[' * 100_000, 'cannot be read'),
        ('{"valid": ["id_0000,0.5"]}', "lists no samples of split 'train'"),
        ('{"train": []}', "lists no samples of split 'train'"),
        ('{"train": ["../id_0000,0.5"]}', 'no name of a sample'),
        ('{"train": [""]}', 'no name of a sample'),
        ('{"train": [3]}', 'no name of a sample'),
    ],
)
def test_damaged_partitions(content: str, match: str, tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-pv4ger', counts=(1, 1, 1))
    (folder / 'default_partition.json').write_text(content)
    with pytest.raises(DataError, match=match):
        GeoBench('m-pv4ger', tmp_path)


@pytest.mark.parametrize(
    ('name', 'content', 'match'),
    [
        ('label_map.json', {'one': ['x']}, "'one' is no class"),
        ('label_map.json', {'9' * 5000: ['x']}, 'is no class'),
        ('label_map.json', {'0': 3}, "'0' is no class"),
        ('label_map.json', {'0': ['x'], '1': ['x']}, 'x is of two classes'),
        ('label_stats.json', {'x': 1}, 'x has no row'),
        ('label_stats.json', {'x': [0.5, 0.5]}, 'x has no row'),
    ],
)
def test_damaged_tables(name: str, content: Any, match: str, tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-pv4ger', counts=(1, 1, 1))
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=match):
        GeoBench('m-pv4ger', tmp_path)


def rewrite(path: Path, name: str, data: Any) -> None:
    with h5py.File(path, 'a') as file:
        del file[name]
        if data is not None:
            file[name] = data


def test_odd_contents(tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-chesapeake', counts=(1, 1, 1))
    dataset = GeoBench('m-chesapeake', tmp_path)
    path = folder / 'id_0000,0.5.hdf5'
    secret = tmp_path / 'secret.hdf5'
    with h5py.File(secret, 'w') as file:
        file['Red'] = np.ones((16, 16), 'float32')
    whole = path.read_bytes()
    layout = h5py.VirtualLayout((16, 16), 'float32')
    layout[:] = h5py.VirtualSource(secret, 'Red', (16, 16))
    cases: list[tuple[Any, str]] = [
        (None, r"holds no 'Red': it holds 'Blue', .*Is it of another task\?"),
        (np.ones((8, 16), 'float32'), 'bands of different sizes'),
        (np.ones((2, 16, 16), 'float32'), r'shape \(2, 16, 16\), which is no image'),
        (np.ones((0, 16), 'float32'), 'which is no image'),
        (np.full((16, 16), b'x'), 'holds no numbers'),
        (h5py.ExternalLink(str(secret), '/Red'), 'leads elsewhere'),
        (h5py.SoftLink('/Blue'), 'leads elsewhere'),
    ]
    for data, match in cases:
        path.write_bytes(whole)
        rewrite(path, 'Red', data)
        with pytest.raises(DataError, match=match):
            dataset[0]
    path.write_bytes(whole)
    rewrite(path, 'Red', None)
    with h5py.File(path, 'a') as file:  # terabytes on paper, nothing on disk
        file.create_dataset('Red', (1 << 20, 1 << 20), 'float32', chunks=(64, 64))
    with pytest.raises(DataError, match='which is no image'):
        dataset[0]
    for kind in ('virtual', 'external'):
        path.write_bytes(whole)
        rewrite(path, 'Red', None)
        with h5py.File(path, 'a') as file:
            if kind == 'virtual':
                file.create_virtual_dataset('Red', layout)
            else:
                where = [(str(secret), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset('Red', (16, 16), 'float32', external=where)
        with pytest.raises(DataError, match='leads to other files'):
            dataset[0]
    path.write_bytes(whole)
    rewrite(path, 'label', np.full((16, 16), 7))
    with pytest.raises(DataError, match='must hold classes 0 to 6, it holds 7 to 7'):
        dataset[0]
    rewrite(path, 'label', np.full((16, 16), 255, 'uint8'))
    assert (dataset[0]['mask'] == dataset.ignore_index).all()
    with h5py.File(path, 'a') as file:
        file.move('Red', 'Red_2014-01-01')
        file['Red_2015-01-01'] = np.ones((16, 16))
    with pytest.raises(DataError, match='holds several dates: Red_2014-01-01, Red_2015-01-01'):
        dataset[0]


class Crafted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f'touch {self.path}',)


def test_crafted_labels_do_not_run(tmp_path: Path) -> None:
    folder = write_task(tmp_path, 'm-pv4ger', counts=(1, 1, 1))
    made = tmp_path / 'made'
    dataset = GeoBench('m-pv4ger', tmp_path)
    path = folder / 'id_0000,0.5.hdf5'
    texts = {
        str(pickle.dumps({'label': Crafted(made)})): 'the file may have been made to run commands',
        f"__import__('os').system('touch {made}')": 'not one piece of bytes',
        attribute(2, ['Red']): 'does not fit m-pv4ger, which has 2 classes: 2',
        attribute(-1, ['Red']): 'does not fit',
        attribute([0, 1], ['Red']): 'does not fit',
        attribute(None, ['Red']): 'no label',
    }
    for text, match in texts.items():
        with h5py.File(path, 'a') as file:
            file.attrs['pickle'] = text
        with pytest.raises(DataError, match=match):
            dataset[0]
    with h5py.File(path, 'a') as file:
        del file.attrs['pickle']
    with pytest.raises(DataError, match='its attribute "pickle" is missing'):
        dataset[0]
    assert not made.exists()
