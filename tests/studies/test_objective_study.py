"""The study of objectives: which cells there are, kept rows, failures, and a run for real."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

from torchgeo_aom.data.samples import SAMPLES
from torchgeo_aom.errors import AOMError, ConfigError
from torchgeo_aom.models.registry import register
from torchgeo_aom.studies import objectives
from torchgeo_aom.studies.objectives import RUNS, UNTRAINED, ObjectiveStudy, run_objectives
from torchgeo_aom.studies.objectives_cli import objectives_report


@pytest.fixture
def sources(tmp_path: Path) -> str:
    path = tmp_path / 'sources.yaml'
    block = {
        'name': 'chips', 'path': str(SAMPLES / 'eurosat200'), 'bands': 'sentinel2:eurosat',
        'product': 'sentinel2:eurosat', 'size': 32,
    }  # fmt: skip
    path.write_text(yaml.safe_dump({'sources': [block]}))
    return str(path)


class Made:
    """Stands in for pretraining: encoders with random weights of their own."""

    def __init__(self, stop: int = 0, fail: tuple[str, int] | None = None) -> None:
        self.runs: list[tuple[str, str, int]] = []
        self.stop, self.fail = stop, fail

    def __call__(self, config: Any, objective: str, encoding: str, seed: int) -> Any:
        if len(self.runs) + 1 == self.stop:
            raise KeyboardInterrupt
        self.runs.append((objective, encoding, seed))
        if (objective, seed) == self.fail:
            raise RuntimeError('out of memory')
        torch.manual_seed(100 * seed + [*objectives.OBJECTIVES, UNTRAINED].index(objective))
        return timm.create_model('aom_vitt', bands='rgb', depth=1, channel_encoding=encoding).eval()


def test_study(sources: str, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    made = Made(fail=('MSE', 1))
    monkeypatch.setattr(objectives, '_pretrain', made)
    config = ObjectiveStudy(sources, (bright,), seeds=2, folds=2)
    results, failures, count = run_objectives(config, tmp_path)
    assert len(made.runs) == 2 * (2 + len(RUNS))  # before training, for each encoding
    assert [why for _, why in failures] == ['RuntimeError: out of memory']
    assert count.startswith('12 cells, 0 of them kept from before; 7 pretraining runs of 200 steps')
    assert f'11 passes over test data = {11 * 48} model evaluations' in count
    text = objectives_report(config, results, failures, count, 'this').markdown()
    assert '| MSE | index | - | failed |' in text
    assert '| before training | wavelength |' in text and f'Work: {count}.' in text
    again, failures, _ = run_objectives(config, tmp_path)
    assert made.runs[-1] == ('MSE', 'index', 1) and len(made.runs) == 13  # only what failed
    assert len(failures) == 1
    assert [r.scores for r in again if r.objective != 'MSE'] == [
        r.scores for r in results if r.objective != 'MSE'
    ]


def test_killed_and_started_again(
    sources: str, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    options: dict[str, Any] = {'runs': RUNS[2:], 'seeds': 2, 'every': 2}
    config = ObjectiveStudy(sources, (bright,), folds=2, **options)
    monkeypatch.setattr(objectives, '_pretrain', Made())
    whole = run_objectives(config, tmp_path / 'whole')
    monkeypatch.setattr(objectives, '_pretrain', Made(stop=6))
    with pytest.raises(KeyboardInterrupt):
        run_objectives(config, tmp_path / 'killed')
    monkeypatch.setattr(objectives, '_pretrain', made := Made())
    again = run_objectives(config, tmp_path / 'killed')
    assert again[:2] == whole[:2]
    assert len(made.runs) == 8 - 5
    # Another question has rows of its own, also in the same folder.
    other = ObjectiveStudy(sources, (bright,), folds=3, **options)
    run_objectives(other, tmp_path / 'killed')
    assert len(made.runs) == 8 - 5 + 8


def test_the_paper_stands_beside_both_encodings(sources: str) -> None:
    results = [objectives.ObjectiveResult(*run, 'UCMerced', (0.5, 0.6)) for run in RUNS]
    text = objectives_report(ObjectiveStudy(sources), results, [], '', 'this').markdown()
    assert '| MSE + InfoNCE, batch negatives | index | 93.57 | 55.0 ± 7.1 |' in text
    assert '| MSE + InfoNCE, batch negatives | wavelength | 92.81 | 55.0 ± 7.1 |' in text


@pytest.mark.slow
def test_for_real(sources: str, tmp_path: Path) -> None:
    config = ObjectiveStudy(
        sources, runs=RUNS[-1:], steps=10, batch_size=4, depth=1, seeds=1, every=4
    )
    results, failures, _ = run_objectives(config, tmp_path)
    assert failures == []
    assert [(r.objective, r.encoding) for r in results] == [
        ('before training', 'wavelength'), RUNS[-1],
    ]  # fmt: skip
    assert all(0 < r.scores[0] < 1 for r in results)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'runs': (('MAE', 'index'),)}, 'objectives are'),
        ({'steps': 15}, 'multiples of 10'),
        ({'seeds': 0}, 'at least one seed'),
        ({'tests': ()}, 'one test'),
        ({'folds': 1}, 'at least 2 folds'),
        ({'batch_size': 0}, 'batch_size must be at least 1'),
        ({'options': {'negatives': 'none'}}, "'negatives' of PretrainTask is what the study"),
        ({'options': {'depth': 2}}, "'depth' of PretrainTask is what the study"),
        ({'options': {'mask_rate': 0.5}}, "not known; did you mean 'mask_ratio'"),
    ],
)
def test_refused(sources: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ObjectiveStudy(sources, **options)


def test_folds_that_cannot_be(
    sources: str, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, '_pretrain', made := Made())
    with pytest.raises(ConfigError, match='groups, got 99'):
        run_objectives(ObjectiveStudy(sources, (bright,), folds=99), tmp_path)
    assert made.runs == []


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    """Said at once, and not once for every run."""
    with pytest.raises(ConfigError, match='YAML file'):
        ObjectiveStudy('missing.yaml')
    path = tmp_path / 'sources.yaml'
    block = {'name': 'x', 'path': str(tmp_path / 'nowhere'), 'bands': 'rgb', 'product': 'uint8'}
    path.write_text(yaml.safe_dump([{**block, 'size': 32}]))
    with pytest.raises(AOMError, match='nowhere'):
        run_objectives(ObjectiveStudy(str(path), every=4), tmp_path)
    assert not (tmp_path / 'rows.csv').exists()
