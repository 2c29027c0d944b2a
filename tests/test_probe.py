"""Linear probe: cache by content, nothing of the test folds seen in training, odd label sets."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from torchgeo_aom.errors import AOMWarning, BandError, ConfigError, InputError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.tasks import probe
from torchgeo_aom.tasks.probe import band_statistics, extract_features, linear_probe

BANDS = ('sentinel2:B02', 'sentinel2:B8A')


class Chips(Dataset[dict[str, Any]]):
    def __init__(self, count: int = 5, seed: int = 0) -> None:
        self.images = torch.randn(count, 2, 16, 16, generator=torch.manual_seed(seed))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'image': self.images[index], 'label': torch.tensor(index % 3)}


def tiny(seed: int = 0, **options: Any) -> AOM:
    torch.manual_seed(seed)
    return AOM(**{'embed_dim': 24, 'depth': 2, 'num_heads': 2, 'bands': BANDS} | options)


class TestExtractFeatures:
    def test_equals_the_model(self, tmp_path: Path) -> None:
        model, data = tiny(num_classes=4), Chips()
        model.blocks[0].eval()
        result = extract_features(model, data, BANDS, 8, batch_size=2, cache_dir=tmp_path)
        assert (model.training, model.blocks[0].training, model.norm.training) == (
            True,
            False,
            True,
        )
        model.reset_classifier(0)
        with torch.no_grad():
            expected = model.eval()(data.images, patch_size=8)
        assert np.allclose(result.values, expected.numpy(), atol=1e-5)
        assert result.labels.tolist() == [0, 1, 2, 0, 1]
        assert not result.cached

    def test_cached(self, tmp_path: Path) -> None:
        first = extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
        again = extract_features(tiny(), Chips(), list(BANDS), 8, batch_size=2, cache_dir=tmp_path)
        assert again.cached
        assert np.array_equal(again.values, first.values)
        assert np.array_equal(again.labels, first.labels)
        assert [path.name for path in tmp_path.iterdir()] == [f'{first.key}.npz']

    @pytest.mark.parametrize(
        'model, data, bands, patch',
        [
            (tiny(1), Chips(), BANDS, 8),
            (tiny(num_heads=4), Chips(), BANDS, 8),  # the same parameters, another function
            (tiny(channel_encoding='wavelength'), Chips(), BANDS, 8),
            (tiny(), Chips(seed=1), BANDS, 8),
            (tiny(), Chips(4), BANDS, 8),
            (tiny(), Chips(), BANDS[::-1], 8),
            (tiny(), Chips(), torch.tensor([1.0, 8.0]), 8),
            (tiny(), Chips(), None, 8),
            (tiny(), Chips(), BANDS, 4),
            (tiny(), Chips(), BANDS, None),
        ],
    )
    def test_any_change_is_computed(
        self, tmp_path: Path, model: AOM, data: Chips, bands: Any, patch: int | None
    ) -> None:
        first = extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
        other = extract_features(model, data, bands, patch, cache_dir=tmp_path)
        assert not other.cached
        assert other.key != first.key

    def test_labels_are_content_too(self, tmp_path: Path) -> None:
        class Other(Chips):
            def __getitem__(self, index: int) -> dict[str, Any]:
                return {**super().__getitem__(index), 'label': torch.tensor(0)}

        extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
        assert not extract_features(tiny(), Other(), BANDS, 8, cache_dir=tmp_path).cached

    def test_damaged_cache_is_replaced(self, tmp_path: Path) -> None:
        first = extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
        path = tmp_path / f'{first.key}.npz'
        for content in (path.read_bytes()[:100], b'', b'not a zip'):
            path.write_bytes(content)
            again = extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
            assert not again.cached
            assert np.array_equal(again.values, first.values)
        assert extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path).cached

    def test_unwritable_cache_is_no_failure(self, tmp_path: Path) -> None:
        (tmp_path / 'file').touch()
        with pytest.warns(AOMWarning, match='not kept'):
            result = extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path / 'file' / 'x')
        assert len(result.values) == 5

    def test_interrupted_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(probe.np, 'savez', stop)
        with pytest.raises(KeyboardInterrupt):
            extract_features(tiny(), Chips(), BANDS, 8, cache_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_cache_of_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        extract_features(tiny(), Chips(), BANDS, 8, cache=False)
        assert list(tmp_path.iterdir()) == []
        extract_features(tiny(), Chips(), BANDS, 8)
        assert len(list((tmp_path / 'torchgeo_aom' / 'features').iterdir())) == 1

    def test_quiet_where_there_is_no_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        extract_features(tiny(), Chips(), BANDS, 8, cache=False)
        assert capsys.readouterr() == ('', '')
        extract_features(tiny(), Chips(), BANDS, 8, cache=False, progress=True, label='words')
        assert 'words' in capsys.readouterr().err

    def test_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match='empty'):
            extract_features(tiny(), Chips(0), BANDS, 8, cache_dir=tmp_path)
        with pytest.raises(BandError):
            extract_features(tiny(), Chips(), BANDS[:1], 8, cache_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []


Problem = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@pytest.fixture
def problem() -> Problem:
    """Three classes, 30 groups of 3 samples, 3 folds of whole groups."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 3)
    labels = random.integers(0, 3, 90)
    features = random.normal(size=(90, 6)) * 10 + 5
    features[:, 0] += 12 * labels
    return features, labels, groups % 3, groups


class TestLinearProbe:
    def test_result(self, problem: Problem) -> None:
        result = linear_probe(*problem)
        assert result.metric == 'accuracy'
        assert len(result.scores) == len(result.strengths) == 3
        right = result.predictions == problem[1]
        assert result.scores[1] == right[problem[2] == 1].mean()
        assert result.mean == pytest.approx(np.mean(result.scores))
        assert result.spread == pytest.approx(np.std(result.scores, ddof=1))
        assert result.mean > 0.5
        again = linear_probe(*problem)
        assert again.scores == result.scores
        assert again.strengths == result.strengths

    def test_equals_scikit_learn(self, problem: Problem) -> None:
        linear_model = pytest.importorskip('sklearn.linear_model')
        pipeline = pytest.importorskip('sklearn.pipeline')
        preprocessing = pytest.importorskip('sklearn.preprocessing')
        features, labels, folds, groups = problem
        result = linear_probe(features, labels, folds, groups, strengths=(0.1,))
        reference = pipeline.make_pipeline(
            preprocessing.StandardScaler(), linear_model.LogisticRegression(C=0.1, max_iter=5000)
        ).fit(features[folds != 2], labels[folds != 2])
        expected = reference.predict(features[folds == 2])
        assert np.array_equal(result.predictions[folds == 2], expected)

    def test_no_leakage(self, problem: Problem) -> None:
        """What a test sample looks like cannot change what is said of the others of its fold."""
        features, labels, folds, groups = problem
        before = linear_probe(*problem)
        changed = features.copy()
        victim = np.flatnonzero(folds == 0)[4]
        changed[victim] = 1e6
        after = linear_probe(changed, labels, folds, groups)
        others = (folds == 0) & (np.arange(90) != victim)
        assert np.array_equal(after.predictions[others], before.predictions[others])
        assert after.strengths[0] == before.strengths[0]
        shuffled = labels.copy()
        shuffled[folds == 0] = np.roll(labels[folds == 0], 1)
        blind = linear_probe(features, shuffled, folds, groups)
        assert np.array_equal(blind.predictions[folds == 0], before.predictions[folds == 0])

    def test_group_in_two_folds(self, problem: Problem) -> None:
        features, labels, folds, _ = problem
        with pytest.raises(ConfigError, match='2 groups are in more than one fold'):
            linear_probe(features, labels, folds, ['a', 'b'] * 45)

    def test_class_missing_from_training(self, problem: Problem) -> None:
        features, _, folds, groups = problem
        labels = np.where(folds == 0, 2, groups % 2)
        result = linear_probe(features, labels, folds, groups)
        assert result.scores[0] == 0
        assert set(result.predictions[folds == 0]) <= {0, 1}

    def test_one_sample_a_class(self) -> None:
        features = np.array([[0.0], [1.0], [0.1], [0.9]])
        result = linear_probe(features, [0, 1, 0, 1], [0, 0, 1, 1], groups=[0, 0, 1, 1])
        assert result.scores == (1.0, 1.0)

    def test_several_labels(self, problem: Problem) -> None:
        metrics = pytest.importorskip('sklearn.metrics')
        features, classes, folds, groups = problem
        labels = np.eye(4, dtype=int)[classes]  # the last label never occurs
        labels[:, 1] |= labels[:, 0]
        result = linear_probe(features, labels, folds, groups)
        assert result.metric == 'mAP'
        assert result.predictions.shape == (90, 4)
        test = folds == 1
        expected = [
            metrics.average_precision_score(labels[test, k], result.predictions[test, k])
            for k in range(3)
        ]
        assert result.scores[1] == pytest.approx(np.mean(expected))

    @pytest.mark.parametrize(
        'change, error, match',
        [
            (lambda p: (p[0], p[1][:-1], *p[2:]), InputError, 'shapes'),
            (lambda p: (p[0] * np.nan, *p[1:]), InputError, '540 feature values'),
            (lambda p: (*p[:2], p[2] * 0, p[3]), ConfigError, 'at least two folds'),
            (lambda p: (p[0], p[1] * 0, *p[2:]), ConfigError, 'single class'),
        ],
    )
    def test_refused(
        self,
        problem: Problem,
        change: Callable[[Problem], Problem],
        error: type[Exception],
        match: str,
    ) -> None:
        with pytest.raises(error, match=match):
            linear_probe(*change(problem))

    def test_without_scikit_learn(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, 'sklearn.model_selection', None)
        with pytest.raises(ConfigError, match=r'pip install "torchgeo_aom\[probe\]"'):
            linear_probe(*problem)


def test_band_statistics() -> None:
    images = np.random.default_rng(0).normal(size=(4, 3, 5, 6))
    features = band_statistics(torch.tensor(images))
    assert features.shape == (4, 21)
    assert features[2, 1] == pytest.approx(images[2, 1].mean())
    assert features[2, 3 + 1] == pytest.approx(images[2, 1].std())
    assert features[3, 12 + 2] == pytest.approx(np.median(images[3, 2]))
    with pytest.raises(InputError, match=r'\(4, 3, 5\)'):
        band_statistics(images[..., 0])
