"""Unmodified TorchGeo tasks with AOM by name: what works, and what fails with which words.

Ways round for what fails are in docs/frameworks.md; the tests of them are in test_bands_*.py.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from task_tools import CLASSES, MODEL, SIZE, Weights, change_mask, fit, label, loader, mask, save

from torchgeo_aom.errors import BandError, BandWarning, CheckpointError, ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.tasks import upstream

pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]

SSL = {'hidden_dim': 8, 'output_dim': 8}
IMAGE_TASKS: dict[str, tuple[type[LightningModule], dict[str, Any], dict[str, Any]]] = {
    'classification': (upstream.Classification, {'num_classes': CLASSES}, {'label': label}),
    'regression': (upstream.Regression, {}, {'label': lambda: torch.rand(())}),
    'moco': (upstream.MoCo, {**SSL, 'size': SIZE}, {}),
    'simclr': (
        upstream.SimCLR,
        {**SSL, 'size': SIZE, 'memory_bank_size': 0, 'temperature': 1.0},
        {},
    ),
    'byol': (upstream.BYOL, {}, {}),
}


def backbone(task: LightningModule) -> AOM:
    return next(m for m in task.modules() if isinstance(m, AOM))


def indices(task: LightningModule) -> list[float]:
    bands = backbone(task).bands
    assert bands is not None
    return [band.index for band in bands]


class TestImageTasks:
    @pytest.mark.parametrize('name', IMAGE_TASKS)
    def test_fit_random(self, name: str, tmp_path: Path) -> None:
        cls, kwargs, labels = IMAGE_TASKS[name]
        task = cls(model=MODEL, in_channels=2, **kwargs)
        fit(task, loader(2, SIZE, SIZE, **labels), tmp_path)

    @pytest.mark.filterwarnings('ignore::torchgeo_aom.errors.BandWarning')
    @pytest.mark.parametrize('how', ['enum', 'string', 'true', 'ckpt'])
    @pytest.mark.parametrize('name', IMAGE_TASKS)
    def test_weights(
        self, name: str, how: str, weights: Weights, checkpoints: dict[str, Path]
    ) -> None:
        cls, kwargs, _ = IMAGE_TASKS[name]
        given = str(checkpoints['classification']) if how == 'ckpt' else weights.given(how)
        task = cls(model=MODEL, in_channels=2, weights=given, **kwargs)
        # TorchGeo gives MoCo's slow copy the weights only where timm loads them.
        assert weights.loaded(task.backbone if name in ('moco', 'simclr') else task.model)
        if name == 'moco':
            assert weights.loaded(task.backbone_momentum) == (how == 'true')

    @pytest.mark.parametrize('name', ['classification', 'moco'])
    def test_fit_weights(self, name: str, weights: Weights, tmp_path: Path) -> None:
        cls, kwargs, labels = IMAGE_TASKS[name]
        tag = f'{MODEL}.sentinel2_rgb'
        task = cls(model=tag, in_channels=3, weights=weights.given('enum'), **kwargs)
        assert indices(task) == [3, 2, 1]
        fit(task, loader(3, SIZE, SIZE, **labels), tmp_path)

    def test_positional_is_said_once(self, weights: Weights) -> None:
        with pytest.warns(BandWarning, match='loaded into a model without bands') as caught:
            for channels in (3, 4):
                upstream.Classification(
                    model=MODEL, in_channels=channels, num_classes=2, weights=weights.given('enum')
                )
        assert len([w for w in caught if issubclass(w.category, BandWarning)]) == 1

    @pytest.mark.filterwarnings('error::torchgeo_aom.errors.BandWarning')
    def test_tag_is_not_positional(self, weights: Weights) -> None:
        upstream.Classification(
            model=f'{MODEL}.naip', in_channels=4, num_classes=2, weights=weights.given('enum')
        )

    def test_freeze(self, tmp_path: Path) -> None:
        task = upstream.Classification(
            model=MODEL, in_channels=2, num_classes=CLASSES, freeze_backbone=True
        )
        free = {name for name, p in task.model.named_parameters() if p.requires_grad}
        assert free == {'head.weight', 'head.bias'}
        fit(task, loader(2, SIZE, SIZE, label=label), tmp_path)

    def test_reload(self, tmp_path: Path) -> None:
        task = upstream.Classification(
            model=f'{MODEL}.sentinel2_rgb', in_channels=3, num_classes=CLASSES
        )
        trainer = fit(task, loader(3, SIZE, SIZE, label=label), tmp_path)
        trainer.save_checkpoint(tmp_path / 'task.ckpt')
        again = upstream.Classification.load_from_checkpoint(tmp_path / 'task.ckpt')
        assert indices(again) == [3, 2, 1]
        x = torch.randn(2, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert torch.equal(task.eval()(x), again.eval()(x))

    def test_other_number_of_classes(self, checkpoints: dict[str, Path], weights: Weights) -> None:
        with pytest.warns(UserWarning, match='num classes 7'):
            task = upstream.Classification(
                model=f'{MODEL}.rgb', num_classes=7, weights=str(checkpoints['classification'])
            )
        assert weights.loaded(task.model)


DENSE: dict[str, tuple[str, int]] = {
    'unet': (MODEL, SIZE),
    'upernet': (MODEL, SIZE),
    'segformer': (MODEL, SIZE),
    'deeplabv3+': (MODEL, SIZE),
    'fcn': (MODEL, SIZE),
    'dpt': (f'tu-{MODEL}', SIZE),
}


def segmentation(model: str, **kwargs: Any) -> Any:
    return upstream.SemanticSegmentation(
        **{'model': model, 'backbone': DENSE[model][0], 'num_classes': CLASSES, **kwargs}
    )


class TestSegmentation:
    @pytest.mark.parametrize('model', DENSE)
    def test_fit(self, model: str, tmp_path: Path) -> None:
        task = segmentation(model, in_channels=2)
        fit(task, loader(2, SIZE, SIZE, mask=mask()), tmp_path)

    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+'])
    @pytest.mark.parametrize('how', ['enum', 'string', 'classification', 'segmentation'])
    def test_weights(
        self, model: str, how: str, weights: Weights, checkpoints: dict[str, Path]
    ) -> None:
        given = str(checkpoints[how]) if how in checkpoints else weights.given(how)
        task = segmentation(model, backbone=f'{MODEL}.sentinel2_rgb', weights=given)
        assert weights.loaded(task)
        assert indices(task) == [3, 2, 1]

    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+', 'dpt'])
    def test_reload(self, model: str, tmp_path: Path) -> None:
        prefix = 'tu-' if model == 'dpt' else ''
        task = segmentation(model, backbone=f'{prefix}{MODEL}.sentinel2_rgb').eval()
        again = type(task).load_from_checkpoint(save(task, tmp_path)).eval()
        x = torch.randn(1, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert torch.equal(task(x), again(x))
            assert not torch.equal(task(x), again(x.flip(1)))

    @pytest.mark.parametrize(
        ('height', 'width'),
        [
            (400, 60),
            (60, 500),
            pytest.param(400, 400, marks=pytest.mark.slow),
            pytest.param(500, 500, marks=pytest.mark.slow),
        ],
    )
    def test_benchmark_sizes(self, height: int, width: int, tmp_path: Path) -> None:
        """400 px and 500 px, which a stride of 32 would refuse."""
        task = segmentation('upernet', in_channels=1)
        data = loader(1, height, width, mask=lambda: torch.randint(CLASSES, (height, width)))
        fit(task, data, tmp_path, limit_val_batches=0)

    def test_unet_takes_any_size(self) -> None:
        task = segmentation('unet', in_channels=1).eval()
        with torch.inference_mode():
            assert task(torch.randn(1, 1, 37, 61)).shape[-2:] == (37, 61)

    @pytest.mark.parametrize('model', ['upernet', 'deeplabv3+'])
    def test_frozen_backbone(self, model: str, tmp_path: Path) -> None:
        task = segmentation(model, in_channels=2, freeze_backbone=True)
        assert not any(p.requires_grad for p in task.model.encoder.parameters())
        assert all(p.requires_grad for p in task.model.decoder.parameters())
        fit(task, loader(2, SIZE, SIZE, mask=mask()), tmp_path)

    def test_every_parameter_has_a_gradient(self, tmp_path: Path) -> None:
        """Distributed training would wait for those without one."""

        class Check(Callback):
            missing: list[str]

            def on_after_backward(self, trainer: Any, pl_module: LightningModule) -> None:
                self.missing = [n for n, p in pl_module.named_parameters() if p.grad is None]

        check = Check()
        task = segmentation('upernet', in_channels=1)
        fit(task, loader(1, SIZE, SIZE, mask=mask()), tmp_path, callbacks=[check])
        assert check.missing == []

    def test_time_series(self, tmp_path: Path) -> None:
        """Dates are stacked as channels; the bands of the tag hold for each."""
        with pytest.warns(BandWarning, match='6 channels are read as 2 dates of the 3 bands'):
            task = segmentation('unet', backbone=f'{MODEL}.sentinel2_rgb', in_channels=6)
        fit(task, loader(2, 3, SIZE, SIZE, mask=mask()), tmp_path)

    def test_dpt_pretrained(self, weights: Weights, tmp_path: Path) -> None:
        given = weights.given('true')
        task = segmentation('dpt', backbone=f'tu-{MODEL}.sentinel2_rgb', weights=given)
        assert weights.loaded(task)
        fit(task, loader(3, SIZE, SIZE, mask=mask()), tmp_path)


class TestPixelwiseRegression:
    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+', 'dpt'])
    def test_fit(self, model: str, tmp_path: Path, weights: Weights) -> None:
        given = None if model == 'dpt' else weights.given('enum')
        name, _ = DENSE[model]
        task = upstream.PixelwiseRegression(model=model, backbone=f'{name}.rgb', weights=given)
        assert given is None or weights.loaded(task)
        target = {'mask': lambda: torch.rand(SIZE, SIZE)}
        fit(task, loader(3, SIZE, SIZE, **target), tmp_path)


class TestChangeDetection:
    @pytest.mark.filterwarnings('ignore::torchgeo_aom.errors.BandWarning')
    @pytest.mark.parametrize(
        'model',
        [
            'unet',
            'upernet',
            'segformer',
            'deeplabv3+',
            'dpt',
            'fcsiamdiff',
            'fcsiamconc',
            'changevit',
        ],
    )
    def test_fit(self, model: str, tmp_path: Path) -> None:
        # Stacked dates of a tag are known to SMP's encoder, not to timm's behind DPT.
        name = {'dpt': f'tu-{MODEL}'}.get(model, f'{MODEL}.sentinel2_rgb')
        task = upstream.ChangeDetection(model=model, backbone=name)
        fit(task, loader(2, 3, SIZE, SIZE, mask=change_mask), tmp_path)

    @pytest.mark.parametrize('model', ['fcsiamdiff', 'fcsiamconc', 'changevit'])
    def test_weights(self, model: str, weights: Weights) -> None:
        task = upstream.ChangeDetection(
            model=model, backbone=f'{MODEL}.sentinel2_rgb', weights=weights.given('enum')
        )
        assert weights.loaded(task)
        assert indices(task) == [3, 2, 1]

    def test_changevit_pools_bands(self) -> None:
        """It slices tokens: all bands have to be in them, not only the first."""
        task = upstream.ChangeDetection(model='changevit', backbone=f'{MODEL}.rgb').eval()
        x = torch.randn(1, 2, 3, SIZE, SIZE)
        tokens = task.model.encoder.forward_features(x[:, 0])
        assert tokens.shape[1] == 1 + (SIZE // 16) ** 2
        changed = x[:, 0].clone()
        changed[:, 2] += 1
        other = task.model.encoder.forward_features(changed)
        assert not torch.allclose(tokens[:, 1:], other[:, 1:], atol=1e-4)


class TestDoesNotWork:
    """What TorchGeo, timm or SMP cannot do; docs/frameworks.md says what to do instead."""

    def test_bands_argument(self) -> None:
        with pytest.raises(TypeError, match='bands'):
            upstream.Classification(model=MODEL, bands='rgb')  # type: ignore[call-arg]

    def test_unknown_name(self) -> None:
        with pytest.raises(RuntimeError, match='Unknown model'):
            upstream.Classification(model='aom_vitx', num_classes=2)
        with pytest.raises(KeyError, match='Wrong encoder name'):
            segmentation('unet', backbone='aom_vitx')

    def test_unknown_tag(self) -> None:
        with pytest.raises(ConfigError, match="'landsat10' is not a band preset; did you mean"):
            upstream.Classification(model=f'{MODEL}.landsat10', num_classes=2)
        with pytest.raises(KeyError, match='Wrong encoder name'):
            segmentation('unet', backbone=f'{MODEL}.landsat10')

    @pytest.mark.parametrize('name', ['classification', 'moco', 'byol'])
    def test_tag_and_channels(self, name: str) -> None:
        cls, kwargs, _ = IMAGE_TASKS[name]
        with pytest.raises(BandError, match='3 bands were named but the image has 4 channels'):
            cls(model=f'{MODEL}.sentinel2_rgb', in_channels=4, **kwargs)

    def test_tag_and_channels_smp(self) -> None:
        with pytest.raises(BandError, match='3 bands were named but the image has 4 channels'):
            segmentation('unet', backbone=f'{MODEL}.sentinel2_rgb', in_channels=4)

    def test_image_channels(self) -> None:
        task = upstream.Classification(model=MODEL, in_channels=3, num_classes=2)
        with pytest.raises(BandError, match='has 4 channels, but the model was built for 3'):
            task(torch.randn(1, 4, SIZE, SIZE))

    def test_raw_file(self, weights: Weights, tmp_path: Path) -> None:
        with pytest.raises(KeyError, match='hyper_parameters'):
            upstream.Classification(
                model=MODEL, num_classes=2, weights=weights.given('pth', tmp_path)
            )

    def test_safetensors(self, weights: Weights) -> None:
        with pytest.raises((pickle.UnpicklingError, KeyError)):  # by release of torch
            upstream.Classification(
                model=MODEL, num_classes=2, weights=weights.given('safetensors')
            )

    @pytest.mark.parametrize('source', ['moco', 'simclr', 'segmentation'])
    def test_checkpoint_of_another_task(self, source: str, checkpoints: dict[str, Path]) -> None:
        with pytest.raises(KeyError, match='patch_embed'):
            upstream.Classification(model=MODEL, num_classes=2, weights=str(checkpoints[source]))

    @pytest.mark.parametrize('source', ['moco', 'simclr'])
    def test_checkpoint_for_smp(self, source: str, checkpoints: dict[str, Path]) -> None:
        with pytest.raises(CheckpointError, match='no AOM backbone'):
            segmentation('unet', weights=str(checkpoints[source]))

    def test_no_default(self) -> None:
        with pytest.raises(CheckpointError, match='no published weights'):
            upstream.Classification(model='aom_vits', num_classes=2, weights=True)

    def test_default_for_smp(self, weights: Weights) -> None:
        with pytest.raises((KeyError, ValueError), match='imagenet'):
            segmentation('unet', weights=weights.given('true'))

    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+'])
    def test_prefix(self, model: str) -> None:
        with pytest.raises((ValueError, RuntimeError), match='downsampling pattern|dilated|stride'):
            segmentation(model, backbone=f'tu-{MODEL}')

    def test_dpt_without_prefix(self) -> None:
        with pytest.raises(ValueError, match='tu-'):
            segmentation('dpt', backbone=MODEL)

    def test_dpt_enum(self, weights: Weights) -> None:
        with pytest.raises(RuntimeError, match='Missing key'):
            segmentation('dpt', weights=weights.given('enum'))

    def test_dpt_size(self) -> None:
        task = segmentation('dpt', in_channels=1).eval()
        with pytest.raises(RuntimeError):
            task(torch.randn(1, 1, 48, 48))

    @pytest.mark.parametrize(
        ('model', 'size'), [('upernet', 333), ('segformer', 333), ('deeplabv3+', 500)]
    )
    def test_size(self, model: str, size: int) -> None:
        with pytest.raises(RuntimeError, match='Consider pad'):
            segmentation(model, in_channels=1).eval()(torch.randn(1, 1, size, size))

    def test_batch_of_one(self) -> None:
        task = segmentation('upernet', in_channels=1).train()
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            task(torch.randn(1, 1, SIZE, SIZE))

    def test_btc(self) -> None:
        with pytest.raises(Exception, match=r'(?i)swin|features|out_indices|aom'):
            upstream.ChangeDetection(model='btc', backbone=MODEL)

    def test_dates_of_a_tag_in_timm(self) -> None:
        """Only SMP's encoder knows of dates."""
        with pytest.raises(BandError, match='3 bands were named but the image has 6 channels'):
            upstream.ChangeDetection(model='dpt', backbone=f'tu-{MODEL}.sentinel2_rgb')


class TestSMP:
    """Models of SMP without a task."""

    def test_tag(self) -> None:
        model = smp.UPerNet(f'{MODEL}.naip', in_channels=4, encoder_weights=None)
        assert [band.index for band in model.encoder.bands] == [3, 2, 1, 7]

    def test_arguments_are_dropped(self) -> None:
        """SMP hands none on to encoders of its own table, and says nothing."""
        model = smp.UPerNet(MODEL, in_channels=4, encoder_weights=None, bands='naip', nonsense=1)
        assert model.encoder.bands is None

    def test_timm_arguments(self) -> None:
        model = smp.DPT(
            f'tu-{MODEL}', in_channels=4, encoder_weights=None, bands='naip', patch_size=8
        ).eval()
        assert [band.index for band in model.encoder.model.bands] == [3, 2, 1, 7]
        with torch.inference_mode():
            assert model(torch.randn(1, 4, SIZE, SIZE)).shape[-2:] == (SIZE, SIZE)
