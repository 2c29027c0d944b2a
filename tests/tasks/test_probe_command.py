"""The probe command on a toy data set: splits, folds, seeds, cache, leaks, configuration, files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml

from torchgeo_aom.bands import BandSpec, resolve_bands
from torchgeo_aom.cli import main as cli
from torchgeo_aom.datasets.base import BandDataset, checked_split
from torchgeo_aom.errors import AOMWarning, CheckpointError, ConfigError, DataError
from torchgeo_aom.models.weights import save_weights
from torchgeo_aom.tasks import feature_speed, features, probe_run
from torchgeo_aom.tasks.baselines import band_statistics, rcf_features, statistics_features
from torchgeo_aom.tasks.feature_cache import dataset_digest
from torchgeo_aom.tasks.features import Reading
from torchgeo_aom.tasks.probe_cli import config_from, main
from torchgeo_aom.tasks.probe_data import open_data
from torchgeo_aom.tasks.probe_run import ProbeConfig, run

STORED = resolve_bands('hls:common7')


class Toy(BandDataset):
    """HLS patches of three classes, each of them bright in a band of its own."""

    splits = ('train', 'val', 'test', 'all')
    classes = ('dark', 'middle', 'bright')

    def __init__(
        self,
        split: str = 'train',
        bands: BandSpec | None = None,
        root: str = '',
        torn: bool = False,
        same: bool = False,
        several: bool = False,
        sizes: Sequence[int] = (16,),
    ) -> None:
        super().__init__(STORED, bands, 'v2')
        self.split = checked_split(split, self.splits)
        self.target = 'classes' if several else 'class'
        self.same, self.sizes = same, sizes
        numbers = {'train': range(24), 'val': range(24, 36), 'test': range(36, 48)}
        self.numbers = list(numbers.get(split, range(48)))
        self.groups = ['one' if torn else f'site{k // 4}' for k in self.numbers]
        self.files = [Path(root) / f'{k}.txt' for k in self.numbers] if root else []

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, index: int) -> dict[str, Any]:
        number = self.numbers[index]
        random = np.random.default_rng(0 if self.same else number)
        side = self.sizes[index % len(self.sizes)]
        image = random.integers(300, 900, (7, side, side)).astype(np.float32)
        label = number % 3
        image[2 * label] += 700
        one_hot = torch.tensor([1, int(label > 0), int(label > 1)])
        return {
            'image': torch.from_numpy(image[self.channels]),
            'label': one_hot if self.target == 'classes' else torch.tensor(label),
        }


NAME = f'{__name__}.Toy'
FAST: dict[str, Any] = {'dataset': NAME, 'patch_size': 16, 'rcf_features': 16, 'seeds': 2}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Toy.__module__])


class TestRun:
    def test_given_splits(self) -> None:
        rows = run(ProbeConfig(**FAST, methods=('statistics', 'rcf', 'rcf-empirical', 'random')))
        assert len(rows) == 4 * 3
        by = {(row.method, row.probe): row for row in rows}
        linear = by['statistics', 'linear']
        assert linear.mean('accuracy') == 1.0  # one bright band says it all
        assert np.isnan(linear.spread('accuracy'))  # no seed changes anything
        assert len(by['random', 'knn5'].scores['accuracy']) == 2
        assert by['random', 'linear'].dims == 192
        assert (linear.patch_size, by['random', 'linear'].patch_size) == (None, 16)

    def test_folds_and_several_bands(self) -> None:
        bands = {'all': None, 'blue': 'hls:blue'}
        rows = run(
            ProbeConfig(**FAST, folds=3, bands=bands, methods=('statistics', 'rcf-empirical'))
        )
        found = {(r.bands, r.method, r.probe): r for r in rows}
        assert found['all', 'statistics', 'linear'].mean('accuracy') == 1.0
        assert found['blue', 'statistics', 'linear'].mean('accuracy') < 0.7
        assert [len(one) for one in found['all', 'rcf-empirical', 'knn20'].scores['accuracy']] == [
            3,
            3,
        ]

    def test_several_labels(self) -> None:
        rows = run(ProbeConfig(**FAST, dataset_args={'several': True}, methods=('statistics',)))
        assert list(rows[0].scores) == ['mAP', 'mAP micro', 'F1 macro', 'F1 micro']
        assert rows[0].mean('mAP') > 0.95
        assert rows[0].mean('F1 micro') > 0.8
        assert rows[1].mean('mAP') > 0.6

    def test_same_seed_same_numbers_and_rows_are_kept(self) -> None:
        config = ProbeConfig(**{**FAST, 'seeds': 1}, cache=False)
        kept: list[int] = []
        first = run(config, done=lambda rows: kept.append(len(rows)))
        again = run(config)
        assert [(r.method, r.scores) for r in first] == [(r.method, r.scores) for r in again]
        assert kept == [3, 6, 9]

    def test_a_failed_method_is_noted_and_the_others_go_on(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails(*_: Any, **__: Any) -> Any:
            raise MemoryError('12 GiB wanted')

        monkeypatch.setattr(probe_run, 'rcf_features', fails)
        config = {**FAST, 'probes': ['linear'], 'seeds': 1, 'bands': ['hls:blue', 'hls:red']}
        (tmp_path / 'probe.yaml').write_text(yaml.safe_dump(config))
        arguments = ['--config', str(tmp_path / 'probe.yaml'), '--output', str(tmp_path)]
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert 'rcf failed, the others go on: MemoryError: 12 GiB wanted' in err
        lines = [line.split()[:2] for line in out.splitlines() if line.startswith('hls:')]
        assert lines[:6] == [
            [bands, method]
            for bands in ('hls:blue', 'hls:red')
            for method in ('statistics', 'rcf', 'random')
        ]
        rows = json.loads((tmp_path / 'results.json').read_text())['rows']
        assert [row['failed'] for row in rows] == [None, 'MemoryError: 12 GiB wanted', None] * 2
        assert rows[1]['mean'] == {} and 0 <= rows[2]['mean']['accuracy'] <= 1
        assert main([*arguments, '--methods', 'rcf']) == 1
        assert capsys.readouterr().out == ''

    def test_weights_are_looked_for_first(self, tmp_path: Path) -> None:
        said: list[str] = []
        with pytest.raises(CheckpointError, match='none.safetensors'):
            run(ProbeConfig(**FAST, weights=(str(tmp_path / 'none.safetensors'),)), said.append)
        assert not said

    def test_weights(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        path = tmp_path / 'encoder.safetensors'
        model = timm.create_model('aom_vitt', bands='hls:common7')
        save_weights(model, path, {'patch_sizes': '[8, 32]'})
        options: dict[str, Any] = {**FAST, 'seeds': 1, 'methods': ('random',), 'probes': ('knn5',)}
        random, own = run(ProbeConfig(**options, weights=(str(path),)))
        assert own.scores == random.scores  # the same weights, and the same patches of 16 px
        changed = {**options, 'methods': (), 'patch_size': 'auto'}
        row = run(ProbeConfig(**changed, weights=(str(path),)))
        assert row[0].patch_size == 8  # one that it was trained at
        with pytest.raises(ConfigError, match='neither a file nor known weights'):
            run(ProbeConfig(**{**options, 'methods': ()}, weights=('AOMTiny_Weights.NONE',)))

    def test_group_in_two_splits(self) -> None:
        torn: dict[str, Any] = {**FAST, 'dataset_args': {'torn': True}, 'methods': ('statistics',)}
        with pytest.raises(ConfigError, match='1 groups are in train and in test'):
            run(ProbeConfig(**torn))
        assert len(run(ProbeConfig(**torn, ignore_groups=True))) == 3

    def test_same_image_in_train_and_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Same(Toy):
            def load(self, index: int) -> dict[str, Any]:
                sample = super().load(index)
                return {**sample, 'image': torch.full_like(sample['image'], 500 + index)}

        monkeypatch.setattr(sys.modules[__name__], 'Same', Same, raising=False)
        options: dict[str, Any] = {
            **FAST,
            'dataset': f'{__name__}.Same',
            'methods': ('statistics',),
        }
        with pytest.warns(
            AOMWarning, match=r'12 images.*train\[0\] \(train\) = test\[0\] \(test\)'
        ):
            run(ProbeConfig(**options))
        with pytest.raises(DataError, match='12 images'):
            run(ProbeConfig(**options, strict=True))

    @pytest.mark.parametrize(
        'change, match',
        [
            ({'methods': ('rfc',)}, "did you mean 'rcf'"),
            ({'seeds': 0}, 'seeds must be'),
            ({'folds': -1}, 'folds must be'),
            ({'probes': ('knn',)}, "'knn5'"),
            ({'probes': ()}, 'one probe'),
            ({'model': 'aom_vitx'}, 'not an AOM model'),
            ({'patch_size': 'big'}, "'auto'"),
            ({'dataset_args': {'roto': 1}}, "did you mean 'root'"),
            ({'splits': ('train', 'dev', 'test')}, "'dev'"),
            ({'folds': 3, 'normalization': 'measured'}, 'those to test on'),
        ],
    )
    def test_refused(self, change: dict[str, Any], match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            run(ProbeConfig(**{**FAST, 'methods': ('statistics',), **change}))


class TestReading:
    def test_files_are_not_read_for_the_key(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(48):
            (tmp_path / f'{number}.txt').write_text('x')
        reading = Reading(cache_dir=tmp_path / 'cache')
        loads: list[int] = []
        load = Toy.load
        monkeypatch.setattr(Toy, 'load', lambda self, k: (loads.append(k), load(self, k))[1])
        first = statistics_features(Toy(root=str(tmp_path)), reading)
        assert len(loads) == 24
        again = statistics_features(Toy(root=str(tmp_path)), reading)
        assert (len(loads), again.cached, again.key) == (24, True, first.key)
        digests = [
            dataset_digest(data)
            for data in (
                Toy(root=str(tmp_path)),
                Toy('val', root=str(tmp_path)),
                Toy(root=str(tmp_path), several=True),
                Toy(bands='hls:blue', root=str(tmp_path)),
            )
        ]
        assert None not in digests
        assert len(set(digests)) == 4
        (tmp_path / '3.txt').write_text('longer')
        assert not statistics_features(Toy(root=str(tmp_path)), reading).cached

    def test_without_files_one_pass_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads: list[int] = []
        load = Toy.load
        monkeypatch.setattr(Toy, 'load', lambda self, k: (loads.append(k), load(self, k))[1])
        reading = Reading(cache_dir=tmp_path)
        first = statistics_features(Toy(), reading)
        assert len(loads) == 24
        assert statistics_features(Toy(), reading).cached
        monkeypatch.setattr(features, 'KEPT', 0)
        monkeypatch.setattr(features, '__version__', 'other')
        second = statistics_features(Toy(), reading)
        assert len(loads) == 4 * 24
        assert np.array_equal(first.values, second.values)

    def test_values_are_those_of_the_images(self) -> None:
        data = Toy()
        normalize = data.normalize()
        reading = Reading(normalize, batch_size=5, num_workers=2, cache=False)
        found = statistics_features(data, reading)
        images = torch.stack([normalize(data[k]['image']) for k in range(24)])
        assert np.allclose(found.values, band_statistics(images), atol=1e-5)
        assert found.images.shape == (24, 2)

    def test_sizes(self) -> None:
        data = Toy(sizes=(16, 20))
        with pytest.raises(ValueError, match=r'16 x 16, 20 x 20 px; give size='):
            statistics_features(data, Reading(cache=False))
        resized = statistics_features(data, Reading(size=(8, 8), cache=False))
        assert resized.values.shape == (24, 49)

    def test_kernels_of_other_images_are_refused(self) -> None:
        with pytest.raises(ConfigError, match='give train='):
            rcf_features(Toy(), Reading(), mode='empirical')
        with pytest.raises(ConfigError, match='even number'):
            rcf_features(Toy(), Reading(), features=3)
        seeds = [rcf_features(Toy(), Reading(), features=4, seed=k).values for k in (0, 0, 1)]
        assert np.array_equal(seeds[0], seeds[1])
        assert not np.array_equal(seeds[0], seeds[2])

    def test_masks_are_refused(self) -> None:
        class Masks(Toy):
            target = 'mask'

        with pytest.raises(ConfigError, match='a class for each pixel'):
            masked = type('M', (Masks,), {'__init__': _as_mask})
            open_data(masked)


def _as_mask(self: Any, split: str = 'train', bands: Any = None) -> None:
    Toy.__init__(self, split, bands)
    self.target = 'mask'


class TestCommand:
    def test_sample_chips(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = cli(
            [
                'probe',
                '--folds',
                '3',
                '--every',
                '4',
                '--seeds',
                '1',
                '--rcf-features',
                '8',
                '--bands',
                'RGB=sentinel2:rgb',
                '--bands',
                'two=sentinel2:B08,sentinel2:B8A',
                '--output',
                str(tmp_path),
                '--probes',
                'linear',
                'knn5',
            ]
        )  # fmt: skip
        assert code == 0
        out, err = capsys.readouterr()
        assert "patch_size='auto': 16 px" in err
        assert '113 groups' in err or 'groups' in err
        assert 'statistics' in out and 'linear accuracy, %' in out
        results = json.loads((tmp_path / 'results.json').read_text())
        assert results['config']['bands']['two'] == ['sentinel2:B08', 'sentinel2:B8A']
        assert len(results['rows']) == 2 * 3 * 2
        assert results['rows'][0]['spread'] == {'accuracy': None, 'balanced accuracy': None}
        assert (tmp_path / 'probe.png').stat().st_size > 10_000
        assert sorted(p.name for p in tmp_path.iterdir()) == ['probe.png', 'results.json']

    def test_file_and_flags(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / 'probe.yaml'
        values = {**FAST, 'methods': ['statistics'], 'bands': ['hls:blue'], 'seeds': 1}
        path.write_text(yaml.safe_dump(values))
        assert (
            main(['--config', str(path), '--folds', '3', '--output', str(tmp_path), '--json']) == 0
        )
        results = json.loads(capsys.readouterr().out)
        assert results['config']['folds'] == 3
        assert results['config']['bands'] == {'hls:blue': 'hls:blue'}

    @pytest.mark.parametrize(
        'values, match',
        [
            ({'data_set': 'x'}, "did you mean 'dataset'"),
            ({'seeds': 'three'}, 'seeds must be like 3'),
            ({'methods': 'rcf'}, 'methods must be like'),
            ({'refit': 1}, 'refit must be like False'),
            ({'patch_size': 16, 'gsd_m': 10.0}, "with patch_size='auto' only"),
        ],
    )
    def test_wrong_values(self, values: dict[str, Any], match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            config_from(values, 'FILE')

    def test_examples(self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Every configuration of a probe is valid, says its command, and says what is missing."""
        found = 0
        for path in sorted((root / 'examples' / 'downstream').glob('*.yaml')):
            values = yaml.safe_load(path.read_text())
            if 'dataset' not in values or 'model' not in values or 'data' in values:
                continue
            found += 1
            config_from(values, path.name)
            head = path.read_text().partition('\ndataset')[0]
            command = f'torchgeo-aom probe --config examples/downstream/{path.name}'
            assert command in head
            assert 'Paper: ' in head and 'Measured: ' in head
            where = ['--root', str(tmp_path / 'no'), '--output', str(tmp_path)]
            code = cli(['probe', '--config', str(path), *where])
            assert (code, 'Error: ' in capsys.readouterr().err) == (1, True), path
        assert found >= 10

    def test_unreadable_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli(['probe', '--config', str(tmp_path / 'none.yaml')]) == 1
        assert 'cannot be read' in capsys.readouterr().err
        (tmp_path / 'list.yaml').write_text('- 1')
        assert cli(['probe', '--config', str(tmp_path / 'list.yaml')]) == 1
        assert 'options by name' in capsys.readouterr().err

    def test_speed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = feature_speed.Seconds(1.0, 2.0)
        times = [(one, feature_speed.Seconds(1.25, 2.0)), (one, one)]
        monkeypatch.setattr(feature_speed, 'compare', lambda *args: times)
        assert cli(['probe', '--loading']) == 0
        assert 'lost to loading, hashing and normalization: 10.0%' in capsys.readouterr().out


@pytest.mark.slow
def test_loading_costs_little() -> None:
    """Less than a tenth of the encoder's throughput is lost, even if nothing overlapped."""
    data = open_data('EuroSAT200', splits=None, every=4)
    model: Any = timm.create_model('aom_vitt', bands=list(data.bands))
    times = feature_speed.compare(model, data, 16, rounds=5)
    assert median(1 - bare.cpu / whole.cpu for bare, whole in times) < 0.1
