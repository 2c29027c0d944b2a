"""The configurations and scripts of ``examples/pretrain`` run, at tiny size."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from example_tools import EXAMPLES, QUIET, SHORT, folder, load, start
from true_files import hls_water

from torchgeo_aom.cli import main
from torchgeo_aom.errors import AOMWarning

FOLDER = EXAMPLES / 'pretrain'
SMALL = (
    '--model.init_args.depth=1',
    '--model.init_args.decoder_depth=1',
    '--model.init_args.decoder_width=48',
    '--model.init_args.decoder_heads=3',
)

pytestmark = QUIET


def fit(name: str, *options: str) -> None:
    assert main(['fit', f'--config={FOLDER / name}', *SHORT, *SMALL, *options]) == 0


def test_small_and_completion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three commands at the head of the configuration, one after the other."""
    monkeypatch.chdir(tmp_path)
    fit('small.yaml')
    last = tmp_path / 'runs' / 'pretrain_small' / 'checkpoints' / 'last.ckpt'
    assert torch.load(last, weights_only=True)['global_step'] == 1
    assert main(['weights', 'export', str(last), 'small.safetensors']) == 0
    assert (tmp_path / 'small.safetensors').is_file()
    capsys.readouterr()
    start(monkeypatch, 'pretrain/completion.py', last, '--patch', 32, '--out', 'out')
    said = capsys.readouterr().out
    assert 'EuroSAT, L1C: RMSE' in said and 'places, L2A: RMSE' in said
    tables = json.loads((tmp_path / 'out' / 'completion.json').read_text())
    assert [len(rows) for rows in tables.values()] == [11, 10]
    assert all(row[key] > 0 for rows in tables.values() for row in rows for key in list(row)[1:])
    assert (tmp_path / 'out' / 'completion.png').stat().st_size > 5000


def test_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process instead of 64, a small model, and folders where the configuration wants them."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / 'data'
    folder(data / 'ssl4eo_s12' / 's2c', list(range(13)))
    folder(data / 'activefire', [0, 1, 2, 3, 12, 10, 11, 9, 4, 5, 6])
    for name in ('geopile', 'fmow_rgb', 'openearthmap'):
        folder(data / name, [3, 2, 1], 'uint8')
    # Images a step, of all devices, as in the file: another number than that of the data, a device.
    with pytest.warns(AOMWarning, match='takes 4 images, .* batch_size=1024'):
        fit(
            'paper.yaml', '--model.init_args.model=aom_vitt', '--trainer.devices=1',
            '--trainer.num_nodes=1', '--trainer.strategy=auto', '--trainer.precision=32-true',
            '--model.init_args.batch_size=1024',
        )  # fmt: skip
    last = tmp_path / 'runs' / 'paper' / 'checkpoints' / 'last.ckpt'
    found = torch.load(last, weights_only=True)
    assert found['global_step'] == 1
    assert found['hyper_parameters']['patch_sizes'] == [16, 24, 32, 48, 64]


def test_objectives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The untrained encoder and one objective; started again, nothing is run again."""
    monkeypatch.chdir(tmp_path)
    hls = hls_water(tmp_path / 'hls')
    for sensor in ('s30', 'l30'):
        shutil.copytree(hls / 'images', tmp_path / 'corpus' / f'hls_{sensor}')
    script = load(monkeypatch, 'pretrain/objectives.py')
    monkeypatch.setattr(script, 'BATCH', 4)
    monkeypatch.setattr(script, 'STRENGTHS', (1.0,))
    name = 'MSE + InfoNCE, batch negatives'
    options = ['--hls', str(hls), '--only', name, '--steps', '10', '--seeds', '3']
    monkeypatch.setattr(sys, 'argv', ['objectives.py', *options, '--width', '24', '--depth', '1'])
    script.main()
    said = capsys.readouterr().out
    assert '(n/m): better than before training for n of m seeds' in said
    with (tmp_path / 'runs' / 'objectives' / 'rows.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['objective'], row['steps']) for row in rows] == [
        ('before training', '0'), (name, '10'),
    ]  # fmt: skip
    assert all(0 < float(row[key]) <= 100 for row in rows for key in ('hls', 'eurosat', 'rank_me'))
    assert float(rows[1]['embedding_std']) > 0
    monkeypatch.delattr(script, 'pretrain')
    script.main()
    assert capsys.readouterr().out in said


def test_objectives_want_all_of_ucmerced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load(monkeypatch, 'pretrain/objectives.py')
    with pytest.raises(SystemExit, match='holds 0 images in folders of classes, not 2100'):
        script.ucmerced(tmp_path)
