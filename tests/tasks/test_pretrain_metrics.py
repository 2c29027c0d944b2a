"""Health of pretraining: spread, rank, the alarm and the figure."""

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pretrain_tools import BANDS, tiny

from torchgeo_aom.errors import AOMWarning, DataError
from torchgeo_aom.tasks.pretrain_metrics import (
    CollapseAlarm,
    embedding_std,
    neighbor_mean,
    rank_me,
    reconstruction_figure,
    scale_similarity,
    write_samples,
)


class TestMetrics:
    def test_spread_and_rank(self) -> None:
        constant = torch.ones(16, 8)
        torch.manual_seed(0)
        random = torch.randn(256, 8)
        assert embedding_std(constant) < 1e-6
        assert embedding_std(random) == pytest.approx(1, abs=0.05)
        assert rank_me(constant) == pytest.approx(1, abs=1e-3)
        assert rank_me(random) > 7.8
        assert scale_similarity([random, random]) == pytest.approx(1)
        assert abs(float(scale_similarity([random, random.flip(0)]))) < 0.1

    def test_alarm(self) -> None:
        alarm = CollapseAlarm(0.01, 3, 'stop')
        for spread in (0.0, 0.0, 0.5, 0.0, 0.0):
            alarm.update(spread, 0)
        with pytest.raises(DataError, match='collapsed'):
            alarm.update(0.0, 5)
        with pytest.warns(AOMWarning, match='negatives'):
            CollapseAlarm(0.01, 1, 'warn').update(0.0, 0)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            CollapseAlarm(0.01, 1, 'off').update(0.0, 0)

    def test_neighbor_mean(self) -> None:
        image = torch.tensor([1.0, 2.0, 4.0])[None, :, None, None].expand(2, 3, 2, 2)
        assert (neighbor_mean(image, [0, 5, 2], 3) == 3).all()
        assert (neighbor_mean(image, [0, 5, 2], 7) == 2).all()

    def test_figure(self, batch: dict[str, Any]) -> None:
        predicted, masked = tiny().predict_masked(batch, 0, 8)
        valid = torch.ones_like(masked[0])
        valid[0] = False
        figure = reconstruction_figure(batch['image'][0], predicted[0], masked[0], BANDS, valid)
        assert len(figure.axes) == 4 * 4 + 1
        figure.canvas.draw()


class TestSamples:
    BATCH: ClassVar[dict[str, Any]] = {
        'bands': ['red'],
        'key': torch.tensor([3, 5]),
        'source': 'chips',
    }

    def test_written(self, tmp_path: Path) -> None:
        path = tmp_path / 'logs' / 'bad.json'
        write_samples(path, self.BATCH, [False, True], {'step': 7})
        record = json.loads(path.read_text())
        assert record['samples'] == [3, 5]
        assert record['samples_with_infinite_pixels'] == [5]
        assert record['step'] == 7

    def test_whole_or_absent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / 'bad.json'
        path.write_text('before')

        def torn(self: Path, data: bytes) -> int:
            with self.open('wb') as file:
                file.write(data[:9])
            raise OSError('no space left')

        monkeypatch.setattr(Path, 'write_bytes', torn)
        with pytest.raises(OSError, match='no space left'):
            write_samples(path, self.BATCH, [False, False], {})
        assert [(found, found.read_text()) for found in tmp_path.iterdir()] == [(path, 'before')]
