"""The study of objectives: which cells there are, kept rows, failures, and a run for real."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

from torchgeo_aom.data.samples import SAMPLES
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.models.registry import register
from torchgeo_aom.studies import objectives
from torchgeo_aom.studies.objectives import RUNS, ObjectiveStudy, run_objectives
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


def test_study(sources: str, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    made = []

    def pretrain(config: Any, objective: str, encoding: str, seed: int) -> Any:
        made.append((objective, encoding, seed))
        if objective == 'MSE' and seed == 1:
            raise RuntimeError('out of memory')
        torch.manual_seed(len(made))
        return timm.create_model('aom_vitt', bands='rgb', depth=1, channel_encoding=encoding).eval()

    monkeypatch.setattr(objectives, '_pretrain', pretrain)
    config = ObjectiveStudy(sources, (bright,), seeds=2, folds=2)
    results, failures = run_objectives(config, tmp_path)
    assert len(made) == 2 * (2 + len(RUNS))  # before training, for each encoding
    assert [why for _, why in failures] == ['RuntimeError: out of memory']
    text = objectives_report(config, results, failures, 'this').markdown()
    assert '| MSE | index | - | failed |' in text
    assert '| before training | wavelength |' in text
    again, failures = run_objectives(config, tmp_path)
    assert made[-1] == ('MSE', 'index', 1) and len(made) == 13  # only what failed
    assert len(failures) == 1
    assert [r.scores for r in again if r.objective != 'MSE'] == [
        r.scores for r in results if r.objective != 'MSE'
    ]


@pytest.mark.slow
def test_for_real(sources: str, tmp_path: Path) -> None:
    config = ObjectiveStudy(
        sources, runs=RUNS[-1:], steps=10, batch_size=4, depth=1, seeds=1, every=4
    )
    results, failures = run_objectives(config, tmp_path)
    assert failures == []
    assert [(r.objective, r.encoding) for r in results] == [
        ('before training', 'wavelength'), RUNS[-1],
    ]  # fmt: skip
    assert all(0 < r.scores[0] < 1 for r in results)


@pytest.mark.parametrize(
    'options', [{'runs': (('MAE', 'index'),)}, {'steps': 15}, {'seeds': 0}, {'tests': ()}]
)
def test_refused(sources: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ObjectiveStudy(sources, **options)
    with pytest.raises(ConfigError, match='YAML file'):
        ObjectiveStudy('missing.yaml')
