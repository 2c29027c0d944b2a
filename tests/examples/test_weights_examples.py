"""The scripts and configurations of ``examples/weights`` run one after the other, at tiny size."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from example_tools import EXAMPLES, QUIET, SHORT, folder, load, start
from true_files import hls_water, table, ucmerced

import torchgeo_aom
from torchgeo_aom.tasks.probe_run import ProbeConfig, Row, run

FOLDER = EXAMPLES / 'weights'

pytestmark = QUIET


@pytest.fixture
def settings_of_torch() -> Iterator[None]:
    """`train.py` changes them for its process."""
    threads, flash = torch.get_num_threads(), torch.backends.cuda.flash_sdp_enabled()
    yield
    torch.set_num_threads(threads)
    torch.backends.cuda.enable_flash_sdp(flash)


def corpus(root: Path) -> None:
    """Two sources with their list, as `corpus.py` leaves them."""
    folder(root / 'ucmerced', [3, 2, 1], 'uint8')
    folder(root / 'sentinel2', [1, 2, 3, 7])
    blocks = [
        {'name': 'ucmerced', 'path': 'corpus/ucmerced', 'bands': 'rgb', 'product': 'uint8'},
        {
            'name': 'sentinel2', 'path': 'corpus/sentinel2', 'sensor': 'sentinel2',
            'bands': ['B02', 'B03', 'B04', 'B08'], 'product': 'l2a',
        },
    ]  # fmt: skip
    (root / 'corpus.yaml').write_text(yaml.safe_dump({'sources': blocks}))


@pytest.mark.usefixtures('settings_of_torch')
def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher and a start, all parts, each from the part before, and what is published."""
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / 'corpus')
    teacher = timm.create_model('tf_efficientnet_lite0').state_dict()
    # Other names, in the same order: those of the file that start.py takes.
    torch.save({f'_{k}': value for k, value in enumerate(teacher.values())}, 'lite0.pth')
    start(monkeypatch, 'weights/start.py', '--lite0', 'lite0.pth', '--out', '.')
    assert list(torch.load('teacher.pth', weights_only=True)) == list(teacher)
    parts = sorted(FOLDER.glob('aom_vitt_*.yaml'))
    for path in parts:
        start(monkeypatch, 'weights/train.py', '--config', path, *SHORT)
        last = tmp_path / 'runs' / path.stem / 'checkpoints' / 'last.ckpt'
        assert torch.load(last, weights_only=True)['global_step'] == 1
    config = ['--config', parts[-1], '--hours', '2', '--about', 'Two steps.', '--out', 'out']
    Path('out').mkdir()
    start(monkeypatch, 'weights/publish.py', '--checkpoint', last, *config)
    facts = json.loads(Path('out/aom_vitt_optical.json').read_text())
    options = yaml.safe_load(parts[-1].read_text())['model']['init_args']
    assert facts['training'] == options and facts['meta']['hours'] == 2
    assert facts['meta']['sha256'] in Path('out/aom_vitt_optical.md').read_text()
    model = torchgeo_aom.load_backbone('out/aom_vitt_optical.safetensors', bands='sentinel2:rgb')
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 192)


@pytest.mark.usefixtures('settings_of_torch')
def test_packed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pack, see with a teacher, train three steps in two goes, publish."""
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / 'corpus')
    teacher = timm.create_model('tf_efficientnet_lite2').state_dict()
    torch.save({f'_{k}': value for k, value in enumerate(teacher.values())}, 'lite2.pth')
    pack = ['pack', '--corpus', 'corpus/corpus.yaml', '--out', 'runs/packed.safetensors']
    start(monkeypatch, 'weights/prepare.py', *pack)
    look = ['rgb', '--packed', 'runs/packed.safetensors', '--file', 'lite2.pth', '--size', '64']
    start(monkeypatch, 'weights/prepare.py', *look, '--dim', '4', '--out', 'runs/maps/rgb')
    content = yaml.safe_load((FOLDER / 'vitt_6.yaml').read_text())
    del content['teachers']['clouds']  # its file is not here
    content['run'] |= {'steps': 3, 'tokens': 64, 'paper_every': 3, 'paper_images': 4}
    Path('run.yaml').write_text(yaml.safe_dump(content))
    start(monkeypatch, 'weights/pretrain.py', '--config', 'run.yaml', '--minutes', '0')
    assert '0 steps, 0 views' in capsys.readouterr().out
    start(monkeypatch, 'weights/pretrain.py', '--config', 'run.yaml')
    assert '3 steps' in capsys.readouterr().out
    config = ['--config', 'run.yaml', '--hours', '2', '--about', 'Three steps.', '--out', 'out']
    Path('out').mkdir()
    encoder = Path(content['out']) / 'encoder.safetensors'
    start(monkeypatch, 'weights/publish.py', '--checkpoint', encoder, *config)
    facts = json.loads(Path('out/aom_vitt_optical.json').read_text())
    assert facts['training'] == content['run']
    assert facts['meta']['patch_sizes'] == [4, 8, 16, 24, 32, 48, 64]


def water(root: Path) -> Path:
    """HLS chips of twelve places, each seen by both sensors."""
    hls_water(root, 12)
    with (root / 'derived_meta.csv').open(newline='') as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for k, row in enumerate(rows):
        row['hls_product_guess'] = ('S30', 'L30')[k % 2]
    table(root / 'derived_meta.csv', rows)
    return root


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Land cover and water with a head of two steps."""
    script = load(monkeypatch, 'weights/segment.py')
    tiny = {'patch_size': 56, 'steps': 2, 'pixels': 200, 'batch_size': 32}
    monkeypatch.setattr(script, 'HeadSettings', partial(script.HeadSettings, **tiny))
    monkeypatch.setattr(script, 'STRENGTHS', ('none', 'weak'))
    monkeypatch.setattr(script, 'FOLDS', 3)
    options = ['--hls', str(water(tmp_path / 'hls')), '--seeds', '0', '--methods', 'pixels']
    assert script.main([*options, '--out', str(tmp_path / 'out')]) == 0
    found = json.loads((tmp_path / 'out' / 'land_cover.json').read_text())
    assert {'none, weights | RGB | 0', 'pixels, mean filled | RGB | 0'} <= set(found)
    assert all(0 <= value <= 1 for value in found.values())
    text = (tmp_path / 'out' / 'table.md').read_text()
    assert '| pixels |' in text and '| weak, random |' in text


def small(config: ProbeConfig, say: Callable[[str], None]) -> list[Row]:
    """The probe once, on images of one patch or few, by neighbors, which takes less time."""
    size = max(16, int(config.patch_size))
    every = 4 if config.dataset == 'EuroSAT200' else 1
    few = replace(config, seeds=1, folds=min(config.folds, 3), rcf_features=8, probes=['knn5'])
    return run(replace(few, size=size, every=every), say)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # one seed has no deviation
def test_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All measures of the weights that ship, what is published of them, and going on."""
    script = load(monkeypatch, 'weights/evaluate.py')
    for name, value in {'run': small, 'TILE': 224, 'SEEDS': 1}.items():
        monkeypatch.setattr(script, name, value)
    data = ['--hls', str(water(tmp_path / 'hls')), '--ucmerced', str(tmp_path / 'ucmerced')]
    ucmerced(tmp_path / 'ucmerced', lists=False)
    out = tmp_path / 'out'
    assert script.main([*data, '--ucmerced-seeds', '1', '--out', str(out)]) == 0
    results = json.loads((out / 'results.json').read_text())
    assert set(results) == {'about', *script.TITLES}
    assert {'RGB', '7 bands'} == set(results['hls'])
    assert all(0 <= results[name]['weights'][0] <= 100 for name in ('levels', 'sensors'))
    assert set(results['water']) == {'16', '8'}
    assert all(0 < score[0] <= 100 for row in results['water'].values() for score in row.values())
    text = (out / 'table.md').read_text()
    assert all(title in text for title in script.TITLES.values())

    monkeypatch.delattr(script, 'run')
    capsys.readouterr()
    assert script.main(['--out', str(out)]) == 0  # nothing is left to do
    assert capsys.readouterr().out.strip() == text.strip()
    with pytest.raises(SystemExit, match='give another --out'):
        script.main(['--out', str(out), '--weights', 'others'])

    shipped = Path(torchgeo_aom.__file__).parent / 'published'
    shutil.copy(shipped / 'aom_vitt_optical.json', tmp_path)
    files = ['--results', out / 'results.json', '--out', tmp_path]
    start(monkeypatch, 'weights/publish.py', *files)
    facts = json.loads((tmp_path / 'aom_vitt_optical.json').read_text())
    found = {row['name']: row['value'] for row in facts['meta']['metrics']}
    assert found['hls, RGB: linear probe, accuracy in %'] == results['hls']['RGB']['weights'][0]
    assert text in (tmp_path / 'aom_vitt_optical.md').read_text()
    assert 'heldout' in sys.modules
