"""The study of speed modes: what is measured, what is compared, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchgeo_aom.cli import main as cli
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.studies.speed import SpeedPoint, SpeedStudy, run_speed
from torchgeo_aom.studies.speed_report import losses, plot_speed, worth


def point(speed: str, ms: float, *scores: float, bands: str = 'all') -> SpeedPoint:
    """A point as measured."""
    return SpeedPoint('aom_vitt (random)', bands, 13, 16, speed, speed, 100, scores, ms)


def test_losses_and_front() -> None:
    """Losses are against exact of the same bands and folds; the front knows all of them."""
    found = [
        point('exact', 10.0, 0.8, 0.9),
        point('balanced', 2.5, 0.79, 0.88),
        point('fast', 1.0, 0.6, 0.7),
        point('exact', 2.0, 0.7, 0.7, bands='RGB'),
        point('slow', 12.0, 0.5, 0.5),
    ]
    lost, error, factor = losses(found, found[1])
    assert (lost, error, factor) == pytest.approx((1.5, 0.5, 4.0))
    assert losses(found, found[3])[0] == 0
    assert [p.ms for p in worth(found)] == [1.0, 2.0, 2.5, 10.0]
    axes = plot_speed(found, 'title').axes[0]
    assert {text.get_text() for text in axes.texts} == {'exact', 'balanced', 'fast'}


def test_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every mode once; the second time nothing is computed."""
    arguments = [
        'study', 'speed', '--weights', 'default', '--every', '5', '--seeds', '2', '--folds', '2',
        '--patch-sizes', '32', '--speeds', 'exact', '0:12', '0:13', 'fast',
        '--output', str(tmp_path),
        '--cache-dir', str(tmp_path / 'cache'), '--models', 'aom_vitt',
    ]  # fmt: skip
    assert cli(arguments) == 0
    text = (tmp_path / 'report.md').read_text()
    assert 'Times faster' in text and '0:4,4:1' in text and (tmp_path / 'speed.png').is_file()
    results = json.loads((tmp_path / 'study.json').read_text())['results']
    scores = {(row['bands'], row['model'].split(', ')[-1]): row['scores'] for row in results}
    assert scores['all', 'exact'] != scores['all', 'fast']
    # 13 bands in 13 groups, and 3 in 4, are exact.
    assert set(scores) == {
        ('all', 'exact'), ('all', '0:12'), ('all', 'fast'), ('RGB', 'exact'), ('RGB', 'fast'),
    }  # fmt: skip
    before = (tmp_path / 'rows.csv').read_bytes(), (tmp_path / 'costs.csv').read_bytes()
    assert cli(arguments) == 0
    assert before == ((tmp_path / 'rows.csv').read_bytes(), (tmp_path / 'costs.csv').read_bytes())


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'speeds': ('balanced',)}, "begin with 'exact'"),
        ({'speeds': ('exact', 'quick')}, 'balanced'),
        ({'speeds': ('exact', '12:1')}, '0 to 11'),
        ({'models': ('rcf',)}, 'aom_vitt'),
    ],
)
def test_refused(options: dict[str, tuple[str, ...]], match: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=match):
        run_speed(SpeedStudy(**options), tmp_path)  # type: ignore[arg-type]
