"""Divisions, neighbors, scores and prefetching, next to scikit-learn and to slow references."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from torchgeo_aom.errors import ConfigError, InputError
from torchgeo_aom.tasks.divisions import (
    Division,
    check_groups,
    fold_divisions,
    given_division,
    repeated_images,
)
from torchgeo_aom.tasks.features import prefetched
from torchgeo_aom.tasks.knn import knn_scores
from torchgeo_aom.tasks.probe_scores import rate


class TestDivisions:
    def test_given(self) -> None:
        division = given_division(['test', 'train', 'val', 'train'])
        assert {k: v.tolist() for k, v in division.parts().items()} == {
            'train': [1, 3],
            'val': [2],
            'test': [0],
        }
        with pytest.raises(ConfigError, match="'dev'"):
            given_division(['train', 'dev', 'test'])
        with pytest.raises(ConfigError, match='no samples to test on'):
            given_division(['train', 'val'])

    @pytest.mark.parametrize('several', [False, True])
    def test_folds_keep_groups(self, several: bool) -> None:
        groups = np.repeat([f'g{k}' for k in range(20)], 4)
        labels = np.arange(80) % 3
        targets: Any = np.eye(3, dtype=int)[labels] if several else labels
        divisions = fold_divisions(targets, groups, 4, seed=1)
        assert sorted(np.concatenate([d.test for d in divisions])) == list(range(80))
        for division in divisions:
            check_groups(division, groups)
            assert len(division.test) == 20
            assert len(division.train) == 60
        again = fold_divisions(targets, groups, 4, seed=1)
        other = fold_divisions(targets, groups, 4, seed=2)
        assert all((a.test == b.test).all() for a, b in zip(divisions, again, strict=True))
        assert not all(
            np.array_equal(a.test, b.test) for a, b in zip(divisions, other, strict=True)
        )

    def test_folds_refused(self) -> None:
        with pytest.raises(ConfigError, match='from 2 to 3 folds'):
            fold_divisions([0, 1, 0, 1], ['a', 'b', 'c', 'c'], 4)
        with pytest.raises(ConfigError, match='3 folds need a class of 3 samples .* largest has 2'):
            fold_divisions([0, 1, 0, 1], None, 3)
        assert len(fold_divisions([0, 1, 0, 1], None, 2)) == 2

    def test_group_in_two_parts(self) -> None:
        division = Division(np.array([0, 1]), np.array([2]), np.array([3]))
        check_groups(division, ['a', 'a', 'b', 'c'])
        with pytest.raises(ConfigError, match=r'1 groups are in train and in test.*: b'):
            check_groups(division, ['a', 'b', 'c', 'b'])
        with pytest.raises(ConfigError, match='train and in val'):
            check_groups(division, ['a', 'b', 'b', 'c'])

    def test_repeated_images(self) -> None:
        division = Division(np.array([0, 1]), np.array([2]), np.array([3, 4]))
        images = np.array([[1, 1], [2, 2], [3, 3], [3, 3], [2, 1]])
        assert repeated_images(division, images, list('abcde')) == ['c (val) = d (test)']
        assert repeated_images(division, np.arange(10).reshape(5, 2)) == []


class TestNeighbors:
    @pytest.mark.parametrize('chunk', [1, 7, None])
    def test_equals_scikit_learn(self, chunk: int | None) -> None:
        neighbors = pytest.importorskip('sklearn.neighbors')
        random = np.random.default_rng(0)
        train, test = random.normal(size=(60, 5)), random.normal(size=(20, 5))
        labels = random.integers(0, 4, 60)
        reference = neighbors.KNeighborsClassifier(
            7, metric='cosine', algorithm='brute', weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(train, labels)
        found = knn_scores(train, labels, test, 7, chunk=chunk)
        assert np.allclose(found, reference.predict_proba(test), atol=1e-4)

    def test_several_labels(self) -> None:
        train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        labels = torch.tensor([[1, 1], [0, 1], [0, 0]])
        found = knn_scores(train, labels, torch.tensor([[2.0, 0.0], [1.0, 1.0]]), 2)
        assert found[1].tolist() == pytest.approx([0.5, 1.0])
        assert found[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
        assert knn_scores(train, labels, train[:0], 2).shape == (0, 2)

    def test_more_neighbors_than_samples_and_far_ones(self) -> None:
        found = knn_scores(torch.eye(3), torch.tensor([0, 1, 1]), torch.eye(3), 50, 1e-4)
        assert found.argmax(1).tolist() == [0, 1, 1]
        assert torch.isfinite(found).all()

    def test_refused(self) -> None:
        eye, classes = torch.eye(2), torch.tensor([0, 1])
        with pytest.raises(ConfigError, match='positive, got 0'):
            knn_scores(eye, classes, eye, 0)
        with pytest.raises(InputError, match=r'\(2, 2\) and \(2, 3\)'):
            knn_scores(eye, classes, torch.zeros(2, 3))
        with pytest.raises(InputError, match='labels of shape'):
            knn_scores(eye, classes[:1], eye)


class TestScores:
    def test_classes(self) -> None:
        metrics = pytest.importorskip('sklearn.metrics')
        y, said = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
        assert rate(y, said) == {
            'accuracy': pytest.approx(0.6),
            'balanced accuracy': pytest.approx(metrics.balanced_accuracy_score(y, said)),
        }

    def test_several_labels(self) -> None:
        metrics = pytest.importorskip('sklearn.metrics')
        random = np.random.default_rng(0)
        y, scores = random.integers(0, 2, (30, 4)), random.random((30, 4))
        found = rate(y, scores)
        said = scores >= 0.5
        assert found == {
            'mAP': pytest.approx(metrics.average_precision_score(y, scores, average='macro')),
            'mAP micro': pytest.approx(metrics.average_precision_score(y, scores, average='micro')),
            'F1 macro': pytest.approx(metrics.f1_score(y, said, average='macro')),
            'F1 micro': pytest.approx(metrics.f1_score(y, said, average='micro')),
        }
        y[:, 3] = 0  # never occurs: no part of the macro averages
        assert rate(y, scores)['mAP'] == pytest.approx(
            metrics.average_precision_score(y[:, :3], scores[:, :3])
        )
        assert all(np.isnan(v) for v in rate(y * 0, scores).values())


class TestPrefetched:
    def test_same_items_from_another_thread(self) -> None:
        seen = []

        def items() -> Iterator[int]:
            for k in range(20):
                seen.append(threading.current_thread().name)
                yield k

        assert list(prefetched(items())) == list(range(20))
        assert set(seen) == {'prefetch'}

    def test_error_comes_where_its_item_would(self) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise InputError('broken')

        found = prefetched(items())
        assert next(found) == 1
        with pytest.raises(InputError, match='broken'):
            next(found)

    def test_stopped_early_leaves_no_thread(self) -> None:
        found = prefetched(range(1000), ahead=1)
        next(found)
        found.close()
        assert not [t for t in threading.enumerate() if t.name == 'prefetch']
