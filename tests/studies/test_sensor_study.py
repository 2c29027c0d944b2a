"""The study across sensors: indices, places apart, resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.studies import sensors
from torchgeo_aom.studies.encoder import Encoder
from torchgeo_aom.studies.peers import Batch
from torchgeo_aom.studies.sensor_cases import CASES, Case, Domain, fractional
from torchgeo_aom.studies.sensors import SensorStudy, run_sensors
from torchgeo_aom.studies.sensors_cli import sensors_report


def case(root: Path, every: int) -> Case:
    """Thirty patches; half of them of each sensor; the second class is bright."""
    labels = np.arange(30) % 2
    images = torch.randn(30, 7, 16, 16, generator=torch.Generator().manual_seed(0))
    images += 3 * torch.from_numpy(labels)[:, None, None, None]
    first = np.arange(30) // 2 % 2 == 0
    return Case(
        'two', 'a pair', Domain('S30', images, resolve_bands('hls_s30:common7'), first),
        Domain('L30', images, resolve_bands('hls_l30:common7'), ~first), labels, np.arange(30) // 3,
    )  # fmt: skip


def test_fractional() -> None:
    bands = resolve_bands('hls_l30:common7')
    own = fractional(bands)
    assert [band.name for band in own] == [band.name for band in bands]
    assert own[1].index == pytest.approx((480 - 443) / (490 - 443))
    assert own[4].index == 8.0
    s30 = resolve_bands('hls_s30:common7')
    assert fractional(s30) == s30  # those of Sentinel-2 are whole numbers


def test_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Any], CASES), 'hls', case)
    config = SensorStudy(
        cases=('hls',), models=('statistics', 'aom_vitt'), seeds=2, folds=2, probes=('knn3',),
        cache_dir=str(tmp_path / 'cache'),
    )  # fmt: skip
    cases, results, failures, count = run_sensors(config, tmp_path)
    assert failures == []
    by = {(r.model, r.trained, r.tested, r.index): r.scores for r in results}
    assert min(by['statistics', 'S30', 'L30', 'counterpart']) == 1.0
    assert ('statistics', 'S30', 'L30', 'fractional') not in by  # it knows no index
    ways = [key[1:] for key in by if key[0].startswith('aom')]
    assert ways == [
        ('S30', 'S30', 'counterpart'), ('S30', 'L30', 'counterpart'), ('L30', 'L30', 'counterpart'),
        ('S30', 'L30', 'fractional'), ('L30', 'L30', 'fractional'),
    ]  # fmt: skip
    assert all(len(scores) == 2 for scores in by.values())
    text = sensors_report(config, cases, results, failures, count, 'this').markdown()
    assert '| statistics | S30 | L30 | counterpart | 100.0 ± 0.0 |' in text
    again = run_sensors(config, tmp_path)
    assert '0 passes' in again[3]
    assert again[1] == results


def test_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Any], CASES), 'hls', case)

    def study(name: str) -> Any:
        config = SensorStudy(
            cases=('hls',), models=('statistics', 'aom_vitt'), seeds=2, folds=2, probes=('knn3',),
            cache_dir=str(tmp_path / name / 'cache'),
        )  # fmt: skip
        return run_sensors(config, tmp_path / name)

    whole = study('whole')
    calls = [0]
    real = sensors.fit_probe

    def killed(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 18:  # in a cell of the second model
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(sensors, 'fit_probe', killed)
    with pytest.raises(KeyboardInterrupt):
        study('killed')
    again = study('killed')
    assert again[1:3] == whole[1:3]
    done = 17 // 2  # cells of two folds
    assert calls[0] == 18 + 2 * (2 * 3 + 2 * 5 - done)  # none of them is measured twice


def test_folds_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Any], CASES), 'hls', case)
    with pytest.raises(ConfigError, match='groups, got 99'):
        run_sensors(SensorStudy(cases=('hls',), models=('statistics',), folds=99), tmp_path)
    assert not (tmp_path / 'rows.csv').exists()


def test_places_are_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = case(tmp_path, 1)
    seen = []
    real = sensors.fit_probe

    def fit(x: Any, y: Any, division: Any, *rest: Any) -> Any:
        seen.append(division)
        return real(x, y, division, *rest)

    monkeypatch.setattr(sensors, 'fit_probe', fit)
    monkeypatch.setattr(sensors, 'CASES', {**CASES, 'hls': lambda root, every: own})
    config = SensorStudy(
        cases=('hls',), models=('statistics',), seeds=1, folds=3, probes=('knn3',),
        cache_dir=str(tmp_path / 'cache'),
    )  # fmt: skip
    run_sensors(config, tmp_path)
    assert len(seen) == 9
    for division in seen:
        assert not set(own.groups[division.train]) & set(own.groups[division.test])


def test_models_that_read_reflectance_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of a case are standardized."""
    own = case(tmp_path, 1)
    mean, std = (0.1,) * 7, (0.05,) * 7
    own = replace(
        own, first=replace(own.first, mean=mean, std=std), second=replace(own.second, std=std)
    )
    seen = {}

    def build(entry: str, seed: int, *rest: Any, **options: Any) -> Encoder:
        def function(batch: Batch) -> torch.Tensor:
            seen[batch.bands] = batch.reflectance()
            return batch.reflectance().mean((2, 3))

        return Encoder(entry, 'x', '', True, True, b'x', function, as_reflectance=True)

    monkeypatch.setattr(sensors, 'build_encoder', build)
    monkeypatch.setattr(sensors, 'CASES', {**CASES, 'hls': lambda root, every: own})
    config = SensorStudy(
        cases=('hls',), models=('resnet50',), seeds=1, folds=2, probes=('knn3',),
        cache_dir=str(tmp_path / 'cache'),
    )  # fmt: skip
    assert run_sensors(config, tmp_path)[2] == []
    first, second = (seen[domain.bands] for domain in (own.first, own.second))
    assert torch.allclose(first, own.first.images * 0.05 + 0.1)
    assert torch.allclose(second, own.second.images * 0.05)


def test_shipped_scales_are_those_of_the_images() -> None:
    own = CASES['landsat-like'](Path('unused'), 40)
    table = {band.name: (band.mean, band.std) for band in resolve_bands('sentinel2')}
    assert own.second.mean[4] == table['B8A'][0] and own.second.std[4] == table['B8A'][1]
    assert own.first.bands[-1].name == 'B8A' and own.first.mean[-1] == table['B8A'][0]


@pytest.mark.slow
def test_shipped_cases() -> None:
    for name in ('landsat-like', 'levels'):
        own = CASES[name](Path('unused'), 1)
        assert own.first.images.isfinite().all() and own.second.images.isfinite().all()
        assert len(own.first.images) == len(own.second.images) == len(own.labels) > 100
        assert len(np.unique(own.groups)) > 5
        assert abs(float(own.first.images.mean())) < 1.5
    assert replace(own, name='x').first is own.first


@pytest.mark.parametrize('options', [{'cases': ('mars',)}, {'cases': ()}, {'folds': 0}])
def test_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SensorStudy(**options)
