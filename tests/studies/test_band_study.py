"""The study of bands from end to end: resumed, failing, as a command."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from study_tools import STORED

from torchgeo_aom.cli import main as cli
from torchgeo_aom.errors import AOMWarning, ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.weights import save_weights
from torchgeo_aom.studies import cells, encoder
from torchgeo_aom.studies.bands import BandStudy, Outcome, run_bands
from torchgeo_aom.studies.bands_report import bands_report
from torchgeo_aom.studies.cells import Cell
from torchgeo_aom.studies.cli import values_of

ALL = (0, 1, 2, 3)


def study(dataset: str, folder: Path, **options: Any) -> Outcome:
    values: dict[str, Any] = {'models': ('statistics', 'aom_vitt'), 'probes': ('knn5',)}
    values |= {'seeds': 2, 'folds': 2, 'subsets': 1} | options
    return run_bands(BandStudy(dataset=dataset, cache_dir=str(folder / 'cache'), **values), folder)


def table(outcome: Outcome) -> list[Any]:
    """All that the report is made of, but for how often the study was stopped."""
    shares = [s.mean.tolist() for own in outcome.shares.values() for s in own.values()]
    return [outcome.probes, outcome.greedy, shares, outcome.chance, outcome.failures]


class TestStudy:
    def test_statistics_find_the_bands_that_count(self, bright: str, tmp_path: Path) -> None:
        outcome = study(bright, tmp_path, models=('statistics',), probes=('linear',))
        scores = outcome.scores['statistics']
        assert np.mean(scores[Cell(ALL)]) == 1.0
        assert np.mean(scores[Cell((2, 3))]) < 0.6
        assert np.mean(scores[Cell((0, 1, 2))]) == 1.0
        shares = outcome.shares['statistics']['Shapley'].mean
        assert min(shares[:2]) > 0.2 > max(abs(shares[2:]))
        assert shares.sum() == pytest.approx(1 - outcome.chance)
        assert {band for band, _ in outcome.greedy['statistics']['forward'][:2]} == {0, 1}
        # The same features, whatever stands in for the rest, as long as the probe knows it.
        assert outcome.failures == []

    def test_missing_at_test_only(self, bright: str, tmp_path: Path) -> None:
        """With zeros or means in the band that counts, a probe of all bands is lost."""
        presets = {'useless': ['red', 'nir08']}
        outcome = study(bright, tmp_path, presets=presets, importance=(), probes=('linear',))
        statistics = outcome.scores['statistics']
        assert Cell((2, 3), 'none', 'all') not in statistics  # other features than it knows
        assert np.mean(statistics[Cell((2, 3), 'mean', 'all')]) < 0.6
        own = outcome.scores['aom_vitt (random)']
        assert len(own[Cell((2, 3), 'none', 'all')]) == 2
        assert len(own[Cell((2, 3), 'zero')]) == 2

    def test_least_number_of_evaluations(
        self, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One pass for each set of bands and seed of random weights, whatever it serves."""
        seen = [0]
        real = AOM.forward_features

        def counted(self: AOM, x: torch.Tensor, **options: Any) -> torch.Tensor:
            seen[0] += len(x)
            return real(self, x, **options)

        monkeypatch.setattr(AOM, 'forward_features', counted)
        options = {
            'models': ('aom_vitt',), 'importance_models': ('aom_vitt',), 'probes': ('knn5', 'knn3'),
        }  # fmt: skip
        outcome = study(bright, tmp_path, **options)
        filled = 2 * sum(s.kind == 'preset' for s in outcome.subsets)
        passes = 2 * (2**4 - 1 + filled)  # Shapley values want every set, all others are of them
        assert seen[0] == passes * 48
        assert f'; {passes} passes over the data = {seen[0]:,} model evaluations' in outcome.count
        study(bright, tmp_path, **options)
        assert seen[0] == passes * 48

    def test_killed_and_started_again(
        self, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options: dict[str, Any] = {
            'models': ('statistics', 'rcf'),
            'importance': ('loo', 'shapley'),
        }
        whole = study(bright, tmp_path / 'whole', **options)
        calls = [0]
        measure = cells.Runner._measure

        def killed(self: Any, *arguments: Any) -> dict[str, Any]:
            calls[0] += 1
            if calls[0] > 17:
                raise KeyboardInterrupt
            return measure(self, *arguments)

        monkeypatch.setattr(cells.Runner, '_measure', killed)
        folder = tmp_path / 'killed'
        with pytest.raises(KeyboardInterrupt):
            study(bright, folder, **options)
        path = folder / 'rows.csv'
        path.write_bytes(path.read_bytes()[:-9])  # the last row is half written
        monkeypatch.setattr(cells.Runner, '_measure', measure)
        with pytest.warns(AOMWarning, match='damaged'):
            again = study(bright, folder, **options)
        assert table(again) == table(whole)
        assert '16 of them kept' in again.count
        with pytest.warns(AOMWarning, match='damaged'):
            third = study(bright, folder, **options)
        assert '0 passes over the data = 0 model evaluations' in third.count
        assert table(third) == table(whole)

    def test_failed_cells_are_recorded_and_tried_again(
        self, bright: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = encoder._statistics

        def fragile(batch: Any) -> torch.Tensor:
            if len(batch.bands) == 4 and (batch.images[:, 0] < -1).all():
                raise RuntimeError('out of memory')
            return real(batch)

        monkeypatch.setattr(encoder, '_statistics', fragile)
        options: dict[str, Any] = {'models': ('statistics',), 'presets': {'two': ['green', 'red']}}
        outcome = study(bright, tmp_path, **options)
        assert any('out of memory' in why for _, why in outcome.failures)
        assert all('zero' in what for what, _ in outcome.failures)
        assert 'failed' in outcome.count
        assert '## Failed' in bands_report(outcome, 'this').markdown()
        monkeypatch.setattr(encoder, '_statistics', real)
        assert study(bright, tmp_path, **options).failures == []

    def test_a_model_that_cannot_be_made(self, bright: str, tmp_path: Path) -> None:
        outcome = study(bright, tmp_path, models=('statistics', 'aom_vitt=none.safetensors'))
        assert [what for what, _ in outcome.failures] == ['aom_vitt=none.safetensors']
        assert 'statistics' in outcome.scores

    def test_weights_of_a_file(self, bright: str, tmp_path: Path) -> None:
        torch.manual_seed(3)
        import timm

        path = tmp_path / 'mine.safetensors'
        save_weights(
            timm.create_model('aom_vitt', bands=list(STORED)), path, {'patch_sizes': '[16]'}
        )
        outcome = study(bright, tmp_path, models=('aom_vitt',), weights=str(path), importance=())
        assert list(outcome.scores) == ['aom_vitt (mine.safetensors)']
        sets = len({s.columns for s in outcome.subsets})
        assert f'; {sets + 2} passes' in outcome.count  # seeds are those of the folds only
        assert len(outcome.scores['aom_vitt (mine.safetensors)'][Cell(ALL)]) == 2

    def test_folds_that_cannot_be(self, bright: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='groups, got 99'):
            study(bright, tmp_path, folds=99)
        assert not (tmp_path / 'rows.csv').exists()

    @pytest.mark.parametrize(
        'options',
        [
            {'models': ('aom_vitx',)},
            {'models': ('rcf', 'rcf')},
            {'models': ('rcf=mine',)},
            {'importance': ('best',)},
            {'importance_models': ('aom_vits',)},
            {'seeds': 0},
            {'precision': 'float16'},
        ],
    )
    def test_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            BandStudy(**options)


class TestCommand:
    def test_report(self, bright: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ['study', 'bands', '--dataset', bright, '--folds', '3', '--seeds', '2',
                '--models', 'statistics', 'rcf', '--subsets', '1', '--preset', 'two=[blue, green]',
                '--output', str(tmp_path), '--cache-dir', str(tmp_path / 'cache')]  # fmt: skip
        assert cli(argv) == 0
        captured = capsys.readouterr()
        assert captured.out.split() == [str(tmp_path / 'report.md'), str(tmp_path / 'report.html')]
        assert 'model evaluations' in captured.err
        text = (tmp_path / 'report.md').read_text()
        for name in re.findall(r'\((\w+\.png)\)', text):
            assert (tmp_path / name).is_file()
        page = (tmp_path / 'report.html').read_text()
        assert page.count('data:image/png;base64,') == text.count('.png)')
        assert 'src="bands' not in page and 'http' not in page  # it needs no other file
        assert '| two | blue green |' in text

    def test_config(self, bright: str, tmp_path: Path) -> None:
        config = tmp_path / 'study.yaml'
        config.write_text(
            f'dataset: {bright}\ndataset_args: {{count: 24}}\nmodels: [statistics]\nseeds: 1\n'
            'folds: 2\nsubsets: 1\nimportance: []\n'
        )
        argv = ['study', 'bands', '--config', str(config), '--output', str(tmp_path / 'out')]
        assert cli(argv) == 0
        assert '24 images' in (tmp_path / 'out' / 'report.md').read_text()
        config.write_text('modles: [statistics]\n')
        assert cli(argv) == 1

    @pytest.mark.parametrize('name', ['bands', 'bands_quick', 'bands_hls'])
    def test_examples(self, root: Path, name: str) -> None:
        values = values_of(root / 'examples' / 'studies' / f'{name}.yaml', {}, BandStudy)
        assert 'statistics' in BandStudy(**values).models
