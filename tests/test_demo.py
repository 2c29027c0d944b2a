"""The demo: table, figure and results of a quick run; a second run reuses what is there."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from torchgeo_aom import demo
from torchgeo_aom.data.samples import EuroSAT200, SentinelPairs
from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.files import write_whole

INIT = 'aom_vitt, random initialization'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('demo')


@pytest.fixture
def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[list[str], str]]:
    """Run quickly on two sets of bands; the output folder and the cache are those of all tests."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
    sets = {name: demo.PROBE_BANDS[name] for name in ('13 bands', 'RGB')}
    monkeypatch.setattr(demo, 'PROBE_BANDS', sets)

    def none(model: str) -> None:
        raise CheckpointError('only random weights, to be quick')

    monkeypatch.setattr(demo, 'default_weights', none)

    def quick() -> tuple[list[str], str]:
        assert demo.main(['--quick', '--output', str(folder / 'out')]) == 0
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err

    return quick


def test_quick(folder: Path, run: Callable[[], tuple[list[str], str]]) -> None:
    out, err = run()
    output = folder / 'out'
    assert out[-1] == str(output / 'demo.png')  # the path is printed last
    assert out[0].split() == ['job', 'bands', 'metric,', '%', 'baseline', *INIT.split()]
    table = '\n'.join(out)
    for name in (*demo.PROBE_BANDS, *demo.DENSE_BANDS, 'none (majority class)'):
        assert name in table
    assert 'sentinel2:B8A -> 8' in err
    assert 'weights: random initialization' in err
    assert 'head trained' in err
    assert 'features computed' in err
    assert 'reused' not in err

    names = sorted(path.name for path in output.iterdir())
    assert names == ['demo.png', 'heads', 'results.csv', 'results.json']
    assert len(list((output / 'heads').iterdir())) == 1
    picture = imread(output / 'demo.png')
    assert picture.shape[1] > 1500
    assert picture[..., :3].std() > 0.1

    results = json.loads((output / 'results.json').read_text())
    assert results['quick'] is True
    assert results['settings']['head']['seed'] == 0
    assert results['iou']['L2A, RGB']['random initialization']['IoU'].keys() <= set(
        SentinelPairs.classes
    )
    rows = list(csv.DictReader((output / 'results.csv').open()))
    assert {row['method'] for row in rows} == {'baseline', 'random initialization'}
    assert all(0 <= float(row['score']) <= 1 for row in rows)
    # Majority class: crops, which cover 43 % of the eastern halves.
    majority = [row for row in rows if row['bands'].startswith('none')]
    assert {row['metric']: round(float(row['score']), 3) for row in majority} == {
        'mean IoU': 0.061,
        'pixel accuracy': 0.429,
    }


def test_second_run_reuses_and_agrees(
    folder: Path, run: Callable[[], tuple[list[str], str]]
) -> None:
    before = (folder / 'out' / 'results.json').read_bytes()
    head = next((folder / 'out' / 'heads').iterdir())
    written = head.stat().st_mtime_ns
    _, err = run()
    assert 'head reused' in err
    assert 'features reused' in err
    assert 'computed' not in err
    assert head.stat().st_mtime_ns == written
    assert (folder / 'out' / 'results.json').read_bytes() == before


def test_trained_weights_stand_beside_random_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Published:
        name = 'PUBLISHED'

    def create(name: str, pretrained: bool = False, **options: Any) -> Any:
        return torch.nn.Linear(2, 1 + pretrained)

    monkeypatch.setattr(demo, 'default_weights', lambda model: Published)
    monkeypatch.setattr(demo.timm, 'create_model', create)
    monkeypatch.setattr(demo, 'facts_line', lambda *facts: f'{facts[0]} {facts[2]}')
    models = demo.build_models(demo.Settings(demo.HeadSettings()))
    assert list(models) == ['random initialization', 'PUBLISHED']
    assert [model.out_features for model in models.values()] == [1, 2]
    assert capsys.readouterr().err.splitlines() == [
        'aom_vitt random initialization',
        'aom_vitt PUBLISHED',
    ]


def test_table_marks_what_was_not_measured() -> None:
    rows = [
        demo.Row('a', 'RGB', 'accuracy', {'baseline': (0.5, 0.1), 'x': (0.25, 0.0)}),
        demo.Row('a', 'none', 'accuracy', {'baseline': (0.1, 0.0)}),
    ]
    lines = demo.table(rows, ['x']).splitlines()
    assert lines[2].split() == ['a', 'RGB', 'accuracy', '50.0', '+-', '10.0', '25.0']
    assert lines[3].split() == ['a', 'none', 'accuracy', '10.0', '-']


def test_results_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'results.json'
    path.write_bytes(b'old')

    def fail(self: Path, data: bytes) -> None:
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', fail)
        with pytest.raises(OSError, match='disk full'):
            write_whole(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b'new')
    assert path.read_bytes() == b'new'


def test_folds_of_the_probe_hold_whole_cells() -> None:
    chips = EuroSAT200(bands='sentinel2:rgb')
    keep = torch.arange(0, 200, 2).numpy()
    values = torch.eye(10)[chips.labels[keep]].numpy()  # the class itself as feature
    mean, spread = demo.probe(values, chips, keep, repeats=2)
    assert mean > 0.95
    assert 0 <= spread < 0.1


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='cannot be written'):
        demo.main(['--quick', '--output', str(tmp_path / 'file')])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(['--help'])
    assert stop.value.code == 0
    assert '--quick' in capsys.readouterr().out
