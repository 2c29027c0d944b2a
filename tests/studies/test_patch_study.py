"""The study of patch sizes: scores, costs, what is worth its time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from true_files import hls_water

from torchgeo_aom.cli import main as cli
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.studies import cells, cost, patches
from torchgeo_aom.studies.cost import measure_cost
from torchgeo_aom.studies.patches import PatchPoint, PatchStudy, best_points, run_patches
from torchgeo_aom.tasks import segment_run


def test_study_and_command(bright: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ['study', 'patches', '--dataset', bright, '--folds', '2', '--seeds', '2',
            '--dataset-arg', 'count=24', '--probes', 'knn5', '--patch-sizes', '8', '16',
            '--output', str(tmp_path), '--cache-dir', str(tmp_path / 'cache')]  # fmt: skip
    assert cli(argv) == 0
    text = (tmp_path / 'report.md').read_text()
    assert '| aom_vitt (random) | all (4) | 8 | 16 |' in text
    assert '| aom_vitt (random) | RGB (3) | 16 | 3 |' in text
    for name in ('patches.png', 'pareto.png', 'report.html'):
        assert (tmp_path / name).stat().st_size > 1000
    config = PatchStudy(
        dataset=bright, dataset_args={'count': 24}, folds=2, seeds=2, probes=('knn5',),
        patch_sizes=(8, 16), cache_dir=str(tmp_path / 'cache'),
    )  # fmt: skip
    found, failures, count = run_patches(config, tmp_path)
    assert failures == [] and '= 0 model evaluations' in count  # all rows are kept
    assert [len(point.scores) for point in found] == [2] * 4
    times = {(p.bands, p.patch): p.ms for p in found}
    assert times['all', 8] > 0 and f'{times["all", 8]:.3g}' in text  # measured once


def test_killed_and_started_again(
    bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def study(name: str) -> Any:
        config = PatchStudy(
            dataset=bright, dataset_args={'count': 24}, folds=2, seeds=2, probes=('knn5',),
            patch_sizes=(8, 16), cache_dir=str(tmp_path / name / 'cache'),
        )  # fmt: skip
        return run_patches(config, tmp_path / name)

    clock = iter(range(100))
    monkeypatch.setattr(patches, 'measure_cost', lambda run, images: (1.0 + next(clock), 2.0))
    whole = study('whole')
    assert [point.ms for point in whole[0]] == [1, 2, 3, 4]
    real = cells.Runner._measure
    calls = [0]

    def killed(self: Any, *arguments: Any) -> dict[str, Any]:
        calls[0] += 1
        if calls[0] == 6:  # with the second patch size
            raise KeyboardInterrupt
        return real(self, *arguments)

    clock = iter(range(100))
    monkeypatch.setattr(cells.Runner, '_measure', killed)
    with pytest.raises(KeyboardInterrupt):
        study('killed')
    assert study('killed')[:2] == whole[:2]  # times too: those of before are kept
    assert calls[0] == 8 + 1


def test_masks_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {'root': str(hls_water(tmp_path / 'hls'))}

    def study(name: str) -> Any:
        config = PatchStudy(
            dataset='HLSWater', dataset_args=data, seeds=2, patch_sizes=(32, 64), weights='default'
        )
        return run_patches(config, tmp_path / name)

    trained: list[tuple[int, int]] = []

    def measured(protocol: Any, module: Any, cell: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if len(trained) == 3 and not (tmp_path / 'stopped').exists():
            (tmp_path / 'stopped').touch()
            raise KeyboardInterrupt
        trained.append((protocol.patch_size, cell['seed']))
        return {'mean IoU': protocol.patch_size / 100 + cell['seed'] / 10}

    monkeypatch.setattr(segment_run, '_measured', measured)
    monkeypatch.setattr(patches, 'measure_cost', lambda run, images: (run().shape[1], 2.0))
    with pytest.raises(KeyboardInterrupt):
        study('killed')
    again = study('killed')
    assert trained == [(32, 0), (32, 1), (64, 0), (64, 1)]
    assert [point.scores for point in again[0]] == [(0.32, 0.32 + 0.1), (0.64, 0.64 + 0.1)]
    assert [(point.ms, point.mib) for point in again[0]] == [(192.0, 2.0)] * 2  # of the encoder
    assert {point.model for point in again[0]} == {'aom_vitt (AOMTiny_Weights.OPTICAL)'}
    assert repr(study('killed')) == repr(again) == repr(study('whole'))


def test_a_model_that_cannot_be_made(bright: str, tmp_path: Path) -> None:
    config = PatchStudy(
        dataset=bright, dataset_args={'count': 24}, folds=2, seeds=1, probes=('knn5',),
        patch_sizes=(16,), models=('aom_vitt=none.safetensors', 'aom_vitt'),
        cache_dir=str(tmp_path / 'cache'),
    )  # fmt: skip
    found, failures, _ = run_patches(config, tmp_path)
    assert [what for what, _ in failures] == ['aom_vitt=none.safetensors, 16 px']
    assert [point.bands for point in found] == ['all', 'RGB']  # the other model went on


def point(patch: int, score: float, ms: float) -> PatchPoint:
    return PatchPoint('m', 'all', 4, patch, 16, (score,), ms, 1.0)


def test_what_is_worth_its_time() -> None:
    slow, fast, worse = point(8, 0.9, 9.0), point(32, 0.7, 1.0), point(16, 0.6, 3.0)
    unknown = point(64, float('nan'), 0.1)
    assert best_points([slow, worse, unknown, fast]) == [fast, slow]


def test_cost() -> None:
    ms, mib = measure_cost(lambda: np.ones(30 << 20, dtype=np.uint8).sum(), 2, repeats=1)
    assert 0 < ms < 5000
    assert np.isnan(mib) or 20 < mib < 80


def test_a_peak_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen in a container: the peak is always what is there now, and 0 MiB would look measured."""
    cost._peak_is_told.cache_clear()
    monkeypatch.setattr(cost, '_status', lambda name: 1000)
    monkeypatch.setattr(cost, 'Path', lambda path: Nowhere())
    assert np.isnan(cost.peak_memory(lambda: None))
    cost._peak_is_told.cache_clear()


class Nowhere:
    """A file that takes everything."""

    def write_text(self, text: str) -> None:
        pass


@pytest.mark.parametrize(
    'options', [{'models': ('rcf',)}, {'patch_sizes': ()}, {'patch_sizes': (0,)}]
)
def test_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, ValueError)):
        PatchStudy(**options)


def test_precision_of_heads(tmp_path: Path) -> None:
    config = PatchStudy('HLSWater', precision='bfloat16')
    with pytest.raises(ConfigError, match='heads are trained in float32'):
        run_patches(config, tmp_path)
