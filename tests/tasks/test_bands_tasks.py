"""TorchGeo's tasks with bands: named, saved, reloaded, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bands_tools import BANDS, TASKS, build, data, indices, models
from task_tools import CLASSES, MODEL, SIZE, fit, quick_trainer, save

from torchgeo_aom import tasks
from torchgeo_aom.bands import Band, resolve_bands
from torchgeo_aom.errors import BandError, ConfigError, InputError
from torchgeo_aom.tasks.mixin import plain_bands

pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]


class TestAllTasks:
    @pytest.mark.parametrize(
        ('name', 'bands'),
        [(name, bands) for name in TASKS for bands in BANDS if name != 'byol' or bands == 'rgb'],
    )
    def test_fit_and_reload(self, name: str, bands: Any, tmp_path: Path) -> None:
        expected = [band.index for band in resolve_bands(bands)]
        task = build(name, bands=bands, patch_size=32)
        assert indices(task) == expected
        assert task.hparams['in_channels'] == len(expected)
        trainer = fit(task, data(name, len(expected)), tmp_path)
        trainer.save_checkpoint(tmp_path / 'task.ckpt')

        content = torch.load(tmp_path / 'task.ckpt', weights_only=True)
        assert content['hyper_parameters']['bands'] == bands
        assert content['hyper_parameters']['patch_size'] == 32
        again = type(task).load_from_checkpoint(tmp_path / 'task.ckpt')
        assert indices(again) == expected
        assert models(again)[0].patch_embed.patch_size == (32, 32)
        states = task.state_dict(), again.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(v, states[1][k]) for k, v in states[0].items() if v.numel())

    @pytest.mark.parametrize('name', TASKS)
    def test_same_arguments_as_upstream(self, name: str) -> None:
        with pytest.raises(TypeError, match='nonsense'):
            build(name, nonsense=1)

    @pytest.mark.parametrize('name', TASKS)
    def test_unknown_name(self, name: str) -> None:
        with pytest.raises(ConfigError, match="'aom_vitx' is not an AOM model; did you mean"):
            build(name, name='aom_vitx')
        with pytest.raises(ConfigError, match="did you mean 'sentinel2_rgb'"):
            build(name, name=f'{MODEL}.sentinel2_rbg')

    @pytest.mark.parametrize('name', TASKS)
    def test_mismatch(self, name: str) -> None:
        with pytest.raises(BandError, match=r'3 bands were named \(rgb:red.*in_channels=4'):
            build(name, bands='rgb', in_channels=4)
        with pytest.raises(BandError, match='4 bands were named .*in_channels=3'):
            build(name, name=f'{MODEL}.naip', in_channels=3)


class TestPrecedence:
    def test_explicit_over_tag(self) -> None:
        task = build('classification', name=f'{MODEL}.sentinel2_rgb', bands=['sentinel2:B8A'])
        assert indices(task) == [8]
        assert task.hparams['model'] == f'{MODEL}.sentinel2_rgb'

    @pytest.mark.parametrize('name', ['classification', 'segmentation'])
    def test_tag(self, name: str) -> None:
        task = build(name, name=f'{MODEL}.sentinel2_rgb')
        assert indices(task) == [3, 2, 1] and task.hparams['in_channels'] == 3

    def test_positional(self) -> None:
        task = build('classification', in_channels=5)
        assert models(task)[0].bands is None and models(task)[0].patch_embed.in_chans == 5
        assert build('classification').hparams['in_channels'] == 3

    def test_order_matters(self) -> None:
        torch.manual_seed(0)
        one = build('classification', bands=['sentinel2:B04', 'sentinel2:B11']).eval()
        two = build('classification', bands=['sentinel2:B11', 'sentinel2:B04']).eval()
        two.load_state_dict(one.state_dict())
        x = torch.randn(1, 2, SIZE, SIZE)
        torch.testing.assert_close(one(x), two(x.flip(1)), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(one(x), two(x), atol=1e-4)


class TestPlainBands:
    @pytest.mark.parametrize(
        ('spec', 'plain'),
        [
            (None, None),
            ('sentinel2:rgb', 'sentinel2:rgb'),
            (('sentinel2:B04', 865, 0.56), ['sentinel2:B04', 865, 0.56]),
            (torch.tensor([0.5, 0.75]).numpy(), [0.5, 0.75]),
            (resolve_bands('sentinel2:rgb')[0], 'sentinel2:B04'),
            (Band('x', 2.5, wavelength_um=0.6), {'name': 'x', 'index': 2.5, 'wavelength_um': 0.6}),
        ],
    )
    def test_plain(self, spec: Any, plain: Any) -> None:
        result = plain_bands(spec)
        assert result == plain and type(result) is type(plain)

    @pytest.mark.parametrize('spec', [{'sentinel2:B04', 'sentinel2:B03'}, object(), True, []])
    def test_refused(self, spec: Any) -> None:
        with pytest.raises(BandError):
            build('classification', bands=spec)

    def test_objects_survive_a_checkpoint(self, tmp_path: Path) -> None:
        bands = (resolve_bands('landsat8:B5')[0], Band('x', 2.5, wavelength_um=0.6))
        task = build('classification', bands=bands)
        path = save(task, tmp_path)
        again = tasks.ClassificationTask.load_from_checkpoint(path, weights_only=True)
        assert indices(again) == indices(task) == [8, 2.5]


class TestReload:
    def test_other_bands(self, tmp_path: Path) -> None:
        """One checkpoint serves any bands."""
        path = save(build('segmentation', bands='sentinel2:l2a'), tmp_path)
        task = tasks.SemanticSegmentationTask.load_from_checkpoint(path, bands='sentinel2:rgb')
        assert indices(task) == [3, 2, 1]
        assert task.eval()(torch.randn(1, 3, SIZE, SIZE)).shape == (1, CLASSES, SIZE, SIZE)

    def test_meaning_changed(self, tmp_path: Path) -> None:
        path = save(build('classification', bands=['sentinel2:B8A']), tmp_path)
        content = torch.load(path, weights_only=True)
        content['torchgeo_aom']['codes'] = [7.0]
        torch.save(content, path)
        with pytest.raises(BandError, match=r'sentinel2:B8A.*at \[7.0\]; the same names now mean'):
            tasks.ClassificationTask.load_from_checkpoint(path)

    def test_resume(self, tmp_path: Path) -> None:
        task = build('classification', bands='rgb')
        trainer = quick_trainer(tmp_path, fast_dev_run=False, max_epochs=1)
        trainer.fit(task, *2 * [data('classification', 3)])
        trainer.save_checkpoint(tmp_path / 'task.ckpt')
        more = quick_trainer(tmp_path, fast_dev_run=False, max_epochs=2)
        again = build('classification', bands='rgb')
        more.fit(again, *2 * [data('classification', 3)], ckpt_path=tmp_path / 'task.ckpt')
        assert more.current_epoch == 2 and more.global_step == 2


class TestInput:
    @pytest.mark.parametrize('name', ['classification', 'segmentation', 'moco', 'change'])
    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (lambda x: (100 * x).to(torch.uint8), 'normalized floats, got torch.uint8'),
            (lambda x: x.where(x < 2, torch.nan), 'NaN or infinite'),
            (lambda x: x[:0], 'got shape'),
            (lambda x: x.flatten(), 'got shape'),
        ],
        ids=['integer', 'nan', 'empty', 'shape'],
    )
    def test_refused(self, name: str, change: Any, message: str) -> None:
        task = build(name, bands='rgb').train()
        dates = (2,) if name == 'change' else ()
        x = torch.rand(2, *dates, 3, SIZE, SIZE)
        x.view(-1)[0] = 3
        x = change(x)
        before = x.clone()
        with pytest.raises(InputError, match=message):
            task(x)
        assert torch.equal(x.nan_to_num(-7), before.nan_to_num(-7))

    def test_channels(self) -> None:
        for name in ('classification', 'segmentation'):
            with pytest.raises(BandError, match='has 4 channels, but the model was built for 3'):
                build(name, bands='rgb')(torch.randn(2, 4, SIZE, SIZE))

    def test_untouched(self) -> None:
        task = build('segmentation', bands='rgb').eval()
        x = torch.randn(1, 3, SIZE, SIZE)
        before = x.clone()
        task(x)
        assert torch.equal(x, before)

    def test_checked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchgeo_aom.tasks import mixin

        calls = []
        monkeypatch.setattr(mixin, 'check_image', lambda x: calls.append(tuple(x.shape)))
        build('classification', bands='rgb')(torch.randn(2, 3, SIZE, SIZE))
        assert calls == [(2, 3, SIZE, SIZE)]


def test_public_names() -> None:
    assert issubclass(tasks.ClassificationTask, tasks.BandsMixin)
    assert {n for n in tasks.__all__ if n.endswith('Task')} >= {
        f'{name}Task' for name in tasks.upstream.__all__
    }
