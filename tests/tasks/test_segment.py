"""The command `torchgeo-aom segment`: real chips, scores against references, interrupted runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import timm
import torch
from sklearn.metrics import jaccard_score

from torchgeo_aom.cli import main
from torchgeo_aom.data.samples import SentinelPairs
from torchgeo_aom.errors import AOMWarning, ConfigError, DataError
from torchgeo_aom.models.checkpoint import save_weights
from torchgeo_aom.tasks import segment_run
from torchgeo_aom.tasks.dense_scores import fit_pixels, iou_report, random_features
from torchgeo_aom.tasks.segment import Protocol


@pytest.fixture(scope='module')
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real Sentinel-2 chips of 32 px with masks of two classes: crops or not."""
    root = tmp_path_factory.mktemp('chips')
    places = SentinelPairs('l2a', 'sentinel2:rgb', 'west')
    for split, number in (('train', 2), ('val', 4), ('test', 4)):
        for kind in ('images', 'masks'):
            (root / split / kind).mkdir(parents=True)
        sample = places[number]
        crops = (sample['mask'] == 3).numpy().astype(np.uint8)
        image = sample['image'].numpy().astype(np.uint16)
        for k in range(4):
            rows, cols = slice(32 * k, 32 * k + 32), slice(0, 32)
            facts = {'driver': 'GTiff', 'height': 32, 'width': 32, 'dtype': 'uint16'}
            parts = {'images': image[:, rows, cols], 'masks': crops[None, rows, cols]}
            for kind, values in parts.items():
                path = root / split / kind / f'{k}.tif'
                with rasterio.open(path, 'w', count=len(values), **facts) as file:
                    file.write(values.astype(np.uint16))
    return root


def run(chips: Path, output: Path, *more: str) -> int:
    data = {
        'root': str(chips), 'sensor': 'sentinel2', 'file_bands': 'sentinel2:rgb', 'product': 'l2a',
        'images': 'images', 'masks': 'masks', 'classes': ['other', 'crops'],
    }  # fmt: skip
    arguments = [f'--data={key}={json.dumps(value)}' for key, value in data.items()]
    return main(
        ['segment', '--dataset', 'RasterFolder', *arguments, '--model', 'aom_vitt', '--patch', '8',
         '--batch', '2', '--decoder-channels', '16', '--output', str(output), *more]
    )  # fmt: skip


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_table_and_resume(
    chips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ('--bands', 'all', '--bands', 'red=B04', '--seeds', '0', '1', '--steps', '2')
    assert run(chips, tmp_path, *options) == 0
    first = capsys.readouterr().out
    assert 'mean and deviation of 2 seeds' in first and 'pixel regression' in first
    lines = (tmp_path / 'results.jsonl').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    cells = {(row['bands'], row['method'], row['seed']) for row in rows}
    assert len(rows) == len(cells) == 2 * 4 * 2
    assert len(list((tmp_path / 'heads').rglob('seed*.ckpt'))) == 2 * 2
    assert all('confusion' in row and sum(row['pixels'].values()) > 0 for row in rows)
    assert all(0 <= row['mean IoU'] <= 1 and set(row['IoU']) <= {'other', 'crops'} for row in rows)
    for name in ('scores.png', 'maps.png'):
        assert (tmp_path / name).stat().st_size > 5000

    def again(*_: Any) -> Any:
        raise AssertionError('a finished cell was run again')

    with monkeypatch.context() as patched:
        patched.setattr(segment_run, '_measured', again)
        assert run(chips, tmp_path, *options) == 0
    assert capsys.readouterr().out == first
    # Interrupted in the middle of a line: that cell alone is run again, with the same result.
    (tmp_path / 'results.jsonl').write_text('\n'.join(lines[:-1]) + '\n' + lines[-1][:50])
    with pytest.warns(AOMWarning, match='was not finished'):
        assert run(chips, tmp_path, *options) == 0
    assert capsys.readouterr().out == first
    again_rows = [json.loads(x) for x in (tmp_path / 'results.jsonl').read_text().splitlines()]
    assert [timeless(row) for row in again_rows] == [timeless(row) for row in rows]
    (tmp_path / 'results.jsonl').write_text('{"band\n')
    assert run(chips, tmp_path, *options) == 1
    assert 'is damaged' in capsys.readouterr().err


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != 'seconds'}


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_failed_cell_is_noted_and_the_others_go_on(
    chips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ('--bands', 'red=B04', '--bands', 'all', '--seeds', '1', '0', '--methods', 'pixels')
    own = segment_run._baseline

    def fails(method: str, module: Any, seed: int) -> Any:
        if (len(module.bands), seed) == (1, 0):
            raise MemoryError('12 GiB wanted')
        return own(method, module, seed)

    monkeypatch.setattr(segment_run, '_baseline', fails)
    assert run(chips, tmp_path, *options) == 1
    out, err = capsys.readouterr()
    assert 'tried again next time: red, pixel regression, seed 0: MemoryError: 12 GiB wanted' in err
    assert out.index('\nred') < out.index('\nall')  # the order asked for
    rows = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    assert [(row['bands'], row['seed'], 'failed' in row) for row in rows] == [
        ('red', 1, False), ('red', 0, True), ('all', 1, False), ('all', 0, False),
    ]  # fmt: skip
    monkeypatch.setattr(segment_run, '_baseline', own)
    assert run(chips, tmp_path, *options) == 0
    found = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    assert found[:4] == rows and len(found) == 5 and 'mean IoU' in found[4]
    assert ' failed' not in capsys.readouterr().out


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_other_weights_in_the_same_file_are_other_results(chips: Path, tmp_path: Path) -> None:
    options = ('--bands', 'red=B04', '--seeds', '0', '--steps', '1', '--methods', 'upernet')
    weights = tmp_path / 'encoder.safetensors'
    for seed in (0, 1):
        torch.manual_seed(seed)
        model: Any = timm.create_model('aom_vitt', bands='sentinel2:rgb')
        save_weights(model, weights)
        assert run(chips, tmp_path / 'out', *options, '--weights', str(weights)) == 0
        weights.unlink()
    rows = [json.loads(x) for x in (tmp_path / 'out' / 'results.jsonl').read_text().splitlines()]
    assert len({row['weights content'] for row in rows}) == len(rows) == 2
    assert Protocol('x').methods == ('hypercolumn', 'windows', 'pixels', 'boosting')
    assert Protocol('x', weights='w').methods == (
        'hypercolumn', 'hypercolumn-random', 'windows', 'pixels', 'boosting',
    )  # fmt: skip


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_same_seed_same_numbers(chips: Path, tmp_path: Path) -> None:
    rows = []
    for name in ('a', 'b'):
        assert (
            run(chips, tmp_path / name, '--steps', '2', '--seeds', '5', '--methods', 'upernet') == 0
        )
        rows.append(timeless(json.loads((tmp_path / name / 'results.jsonl').read_text())))
    assert rows[0] == rows[1]


def test_errors(chips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(chips, tmp_path, '--methods', 'pixel') == 1
    assert "did you mean 'pixels'" in capsys.readouterr().err
    assert run(chips, tmp_path, '--patch', 'best') == 1
    assert 'px or' in capsys.readouterr().err
    assert run(chips, chips / 'train' / 'images' / '0.tif' / 'below') == 1
    assert 'cannot be written' in capsys.readouterr().err
    assert main(['segment', '--dataset', 'HLSWater', '--data', f'root={tmp_path / "none"}']) == 1
    assert DataError.__name__ in capsys.readouterr().err
    assert main(['segment', '--help']) == 0


def test_report_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    masks = [random.choice([0, 1, 2, 255], (8, 9)), random.choice([0, 1, 2, 255], (5, 4))]
    said = [random.choice([0, 1, 2, 3], mask.shape) for mask in masks]
    report = iou_report(masks, said, ('a', 'b', 'c', 'd'), 255, ignored=[1])
    truth, guess = (np.concatenate([m.ravel() for m in maps]) for maps in (masks, said))
    known = truth != 255
    expected = jaccard_score(truth[known], guess[known], labels=[0, 1, 2], average=None)
    assert list(report['IoU'].values()) == pytest.approx(expected)
    assert report['mean IoU'] == pytest.approx(expected[[0, 2]].mean())  # d has no truth


def test_pixels_of_one_class() -> None:
    with pytest.raises(ConfigError, match='fewer than two classes'):
        fit_pixels([torch.randn(2, 8, 8)], [torch.zeros(8, 8).long()], 20, 0)


def test_random_features_know_texture() -> None:
    """Stripes and their mirror image have the same pixels, and are told apart all the same."""
    stripes = torch.zeros(1, 32, 32)
    stripes[:, ::2] = 1
    images = [stripes, stripes.mT.contiguous()]
    masks = [torch.zeros(32, 32).long(), torch.ones(32, 32).long()]
    features = random_features(images, 8, seed=0)
    assert features(stripes).shape == (17, 32, 32)
    plain = fit_pixels(images, masks, 500, 0)
    textured = fit_pixels([features(image) for image in images], masks, 500, 0)
    right = [
        np.mean([(f(i) == m.numpy()).mean() for i, m in zip(given, masks, strict=True)])
        for f, given in ((plain, images), (textured, [features(image) for image in images]))
    ]
    assert right[0] < 0.6 and right[1] > 0.99
