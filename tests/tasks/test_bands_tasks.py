from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from sklearn.metrics import jaccard_score
from task_tools import (
    CLASSES,
    MODEL,
    SIZE,
    Weights,
    change_mask,
    fit,
    label,
    loader,
    mask,
    quick_trainer,
    save,
)
from torchmetrics import Accuracy, MetricCollection
from torchvision.models import ResNet18_Weights

from torchgeo_aom import tasks
from torchgeo_aom.bands import Band, resolve_bands
from torchgeo_aom.errors import (
    BandError,
    BandWarning,
    CheckpointError,
    CheckpointWarning,
    ConfigError,
    InputError,
    SizeError,
)
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.tasks.metrics import add_class_iou
from torchgeo_aom.tasks.mixin import plain_bands

pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]

SSL = {'hidden_dim': 8, 'output_dim': 8, 'size': SIZE}
LABEL = {'label': label}
MASK = {'mask': mask()}
DENSE = {'num_classes': CLASSES}
TASKS: dict[str, tuple[type[LightningModule], dict[str, Any], dict[str, Any]]] = {
    'classification': (tasks.ClassificationTask, {'num_classes': CLASSES}, LABEL),
    'regression': (tasks.RegressionTask, {}, {'label': lambda: torch.rand(())}),
    'segmentation': (tasks.SemanticSegmentationTask, DENSE, MASK),
    'pixelwise': (tasks.PixelwiseRegressionTask, {}, {'mask': lambda: torch.rand(SIZE, SIZE)}),
    'change': (tasks.ChangeDetectionTask, {'model': 'fcsiamdiff'}, {'mask': change_mask}),
    'moco': (tasks.MoCoTask, SSL, {}),
    'simclr': (tasks.SimCLRTask, {**SSL, 'memory_bank_size': 0, 'temperature': 1.0}, {}),
    'byol': (tasks.BYOLTask, {}, {}),
}
BANDS: tuple[Any, ...] = ('rgb', ['sentinel2:B8A', 'sentinel2:B11'])
DENSE_TASKS = ('segmentation', 'pixelwise', 'change')


def build(name: str, /, **kwargs: Any) -> Any:
    cls, defaults, _ = TASKS[name]
    backbone = {'backbone' if name in DENSE_TASKS else 'model': kwargs.pop('name', MODEL)}
    return cls(**{**backbone, **defaults, **kwargs})


def data(name: str, channels: int, size: int = SIZE) -> Any:
    dates = (2,) if name == 'change' else ()
    return loader(*dates, channels, size, size, **TASKS[name][2])


def models(task: LightningModule) -> list[AOM]:
    return [m for m in task.modules() if isinstance(m, AOM)]


def indices(task: LightningModule) -> list[float]:
    found = [[band.index for band in model.bands or ()] for model in models(task)]
    assert all(one == found[0] for one in found)
    return found[0]


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


FORMS = ('enum', 'string', 'true', 'safetensors', 'pth')
ALL = (*FORMS, 'classification', 'moco', 'simclr', 'segmentation')


class TestWeights:
    @pytest.mark.parametrize(
        ('name', 'how'),
        [
            *((name, how) for name in TASKS for how in ('enum', 'moco')),
            *(('classification', how) for how in ALL if how not in ('enum', 'moco')),
            *(('segmentation', how) for how in ALL if how not in ('enum', 'moco')),
        ],
    )
    @pytest.mark.filterwarnings('ignore::torchgeo_aom.errors.CheckpointWarning')
    def test_loaded(
        self, name: str, how: str, weights: Weights, checkpoints: dict[str, Path], tmp_path: Path
    ) -> None:
        """The matrix without holes: any task takes weights in any form, slow copies too."""
        given = str(checkpoints[how]) if how in checkpoints else weights.given(how, tmp_path)
        task = build(name, bands='sentinel2:rgb', weights=given)
        assert weights.loaded(task)
        assert indices(task) == [3, 2, 1]
        assert 'random' not in task.weights_from and 'SHA-256' in task.weights_from

    @pytest.mark.parametrize('name', TASKS)
    def test_own_checkpoints(self, name: str, weights: Weights, tmp_path: Path) -> None:
        path = save(build(name, bands='rgb', weights=weights.given('enum')), tmp_path)
        task = build('segmentation', bands='naip', weights=path)
        assert weights.loaded(task)

    def test_dpt(self, weights: Weights, tmp_path: Path) -> None:
        task = build('segmentation', model='dpt', bands='rgb', weights=weights.given('enum'))
        assert weights.loaded(task) and indices(task) == [3, 2, 1]
        fit(task, data('segmentation', 3), tmp_path)

    def test_none(self) -> None:
        task = build('classification', weights=False)
        assert task.weights_from == 'random initialization'
        with pytest.raises(CheckpointError, match='no published weights for aom_vits'):
            build('classification', model='aom_vits', weights=True)

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='neither a file nor known weights'):
            build('classification', weights='AOMTiny_Weights.NO')
        with pytest.raises(ConfigError, match='weights of another model'):
            build('classification', weights=ResNet18_Weights.DEFAULT)
        with pytest.raises(CheckpointError, match='does not exist'):
            build('classification', weights=str(tmp_path / 'no.ckpt'))

    def test_other_size(self, weights: Weights) -> None:
        with pytest.raises(CheckpointError, match='embed_dim|num_heads'):
            build('classification', name='aom_vits', weights=str(weights.path))

    def test_head(self, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
        source = build('classification', bands='rgb')
        path = save(source, tmp_path)
        task = build('classification', bands='rgb', weights=path)
        assert torch.equal(task.model.head.weight, source.model.head.weight)
        with pytest.warns(CheckpointWarning, match='head of the checkpoint'):
            build('classification', bands='rgb', weights=path, num_classes=7)

    def test_positional_is_said_once(self, weights: Weights) -> None:
        with pytest.warns(BandWarning, match='loaded into a model without bands') as caught:
            for name in ('classification', 'segmentation', 'moco'):
                build(name, weights=weights.given('enum'))
        assert len([w for w in caught if issubclass(w.category, BandWarning)]) == 1


class TestFreeze:
    def test_classification(self, tmp_path: Path, weights: Weights) -> None:
        task = build(
            'classification', bands='rgb', freeze_backbone=True, weights=weights.given('enum')
        )
        free = {name for name, p in task.model.named_parameters() if p.requires_grad}
        assert free == {'head.weight', 'head.bias'}
        fit(task, data('classification', 3), tmp_path)
        assert weights.loaded(task)

    @pytest.mark.parametrize(
        ('name', 'model'),
        [
            ('segmentation', 'upernet'),
            ('segmentation', 'dpt'),
            ('pixelwise', 'dpt'),
            ('change', 'changevit'),
        ],
    )
    def test_dense(self, name: str, model: str) -> None:
        task = build(name, model=model, bands='rgb', freeze_backbone=True, freeze_decoder=True)
        frozen = {n.split('.')[0] for n, p in task.model.named_parameters() if not p.requires_grad}
        free = {n.split('.')[0] for n, p in task.model.named_parameters() if p.requires_grad}
        assert frozen == {'encoder', 'decoder'} and not frozen & free
        task = build(name, model=model, bands='rgb', freeze_backbone=True)
        frozen = {n.split('.')[0] for n, p in task.model.named_parameters() if not p.requires_grad}
        assert frozen == {'encoder'}


class TestDense:
    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+', 'dpt'])
    @pytest.mark.parametrize('patch_size', [8, 16])
    def test_decoders(self, model: str, patch_size: int) -> None:
        task = build('segmentation', model=model, bands='rgb', patch_size=patch_size).eval()
        x = torch.randn(1, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert task(x).shape == (1, CLASSES, SIZE, SIZE)

    @pytest.mark.parametrize('patch_size', [12, [16, 8], 2])
    def test_dpt_patch_size(self, patch_size: Any) -> None:
        with pytest.raises(ConfigError, match='DPT takes patch sizes 4, 8, 16'):
            build('segmentation', model='dpt', bands='rgb', patch_size=patch_size)

    @pytest.mark.parametrize(
        ('name', 'model', 'patch'),
        [
            ('segmentation', 'dpt', 16),
            ('segmentation', 'dpt', 64),
            ('segmentation', 'unet', 16),
            ('segmentation', 'upernet', 24),
            ('segmentation', 'deeplabv3+', 16),
            ('pixelwise', 'segformer', 16),
            ('change', 'changevit', 16),
            ('change', 'fcsiamdiff', 16),
        ],
    )
    def test_any_image_size(self, name: str, model: str, patch: int) -> None:
        """Padded for the decoder and cropped back; DPT and ChangeViT alone would fail."""
        task = build(name, model=model, bands='rgb', patch_size=patch).eval()
        dates = (2,) if name == 'change' else ()
        x = torch.randn(1, *dates, 3, 45, 70)
        before = x.clone()
        with torch.inference_mode():
            assert task(x).shape[-2:] == (45, 70)
        assert torch.equal(x, before)

    def test_kernels_of_other_patch_sizes_are_not_worn_away(self, tmp_path: Path) -> None:
        """Weight decay alone would change them: the checkpoint would serve one patch size only."""
        task = build('classification', bands='rgb', patch_size=8, lr=1e-2)
        kernels = task.model.patch_embed.kernels
        before = {size: kernel.weight.detach().clone() for size, kernel in kernels.items()}
        fit(task, loader(3, SIZE, SIZE, label=label), tmp_path)
        same = {size: torch.equal(before[size], kernels[size].weight) for size in kernels}
        assert same == {'16': False, '32': True, '64': True}

    def test_non_square_patch(self) -> None:
        task = build('segmentation', bands='rgb', patch_size=[8, 16]).eval()
        assert task.hparams['patch_size'] == [8, 16]
        assert task(torch.randn(1, 3, 40, 52)).shape == (1, CLASSES, 40, 52)
        with pytest.raises(ConfigError, match='square'):
            build('change', model='changevit', patch_size=[8, 16])

    @pytest.mark.parametrize('patch_size', [0, 129, [16, 16, 16]])
    def test_impossible_patch_size(self, patch_size: Any) -> None:
        with pytest.raises(SizeError, match='patch_size'):
            build('segmentation', patch_size=patch_size)

    @pytest.mark.parametrize('name', ['segmentation', 'pixelwise'])
    @pytest.mark.filterwarnings('error')
    def test_time_series(self, name: str) -> None:
        task = build(name, bands='rgb', in_channels=6).eval()
        x = torch.randn(1, 2, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert torch.equal(task(x), task(x.flatten(1, 2)))

    @pytest.mark.parametrize(
        'model', ['unet', 'dpt', 'fcsiamdiff', 'fcsiamconc', 'changevit', 'upernet']
    )
    @pytest.mark.filterwarnings('error')
    def test_change(self, model: str) -> None:
        task = build('change', model=model, bands='rgb').eval()
        stacked = model in ('unet', 'dpt', 'upernet')
        assert models(task)[0].patch_embed.in_chans == (6 if stacked else 3)
        x = torch.randn(1, 2, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert task(x.flatten(1, 2) if stacked else x).shape[-2:] == (SIZE, SIZE)

    @pytest.mark.parametrize('model', ['fcn', 'btc', 'unett'])
    def test_no_backbone(self, model: str) -> None:
        with pytest.raises(ConfigError, match=f"model='{model}' takes no AOM backbone"):
            build('change', model=model)

    def test_one_output(self) -> None:
        with pytest.raises(ConfigError, match='one value a pixel'):
            build('pixelwise', num_outputs=2)

    def test_prefix(self) -> None:
        assert indices(build('segmentation', name=f'tu-{MODEL}.sentinel2_rgb')) == [3, 2, 1]


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


class TestMetrics:
    @pytest.mark.parametrize('ignore', [None, 0, 255])
    def test_iou(self, ignore: int | None, tmp_path: Path) -> None:
        """Macro and per class as scikit-learn has them; class 3 occurs nowhere."""
        task = build('segmentation', bands='rgb', num_classes=4, ignore_index=ignore).eval()
        with torch.no_grad():
            task.model.segmentation_head[0].bias[3] = -1e6
        target = torch.randint(0, 3, (2, SIZE, SIZE))
        if ignore == 255:
            target[:, :5] = 255
        samples = [{'image': torch.randn(3, SIZE, SIZE), 'mask': y} for y in target]
        data = torch.utils.data.DataLoader(samples, 1)  # type: ignore[arg-type]
        (logged,) = quick_trainer(tmp_path, fast_dev_run=False).validate(task, data, verbose=False)
        with torch.inference_mode():
            predicted = torch.cat([task(s['image'][None]).argmax(1) for s in samples])
        counted = target != (-1 if ignore is None else ignore)
        y, p = target[counted].numpy(), predicted[counted].numpy()
        labels = [k for k in range(3) if k != ignore]
        classes = jaccard_score(y, p, labels=labels, average=None, zero_division=0)
        for k, iou in zip(labels, classes, strict=True):
            assert logged[f'val_ClasswiseJaccardIndex_{k}'] == pytest.approx(iou, abs=1e-5)
        present = [k for k in labels if (y == k).any() or (p == k).any()]
        average = jaccard_score(y, p, labels=present, average='macro', zero_division=0)
        assert logged['val_AverageJaccardIndex'] == pytest.approx(average, abs=1e-5)
        assert logged['val_ClasswiseJaccardIndex_3'] == 0

    @pytest.mark.parametrize(
        ('name', 'kwargs', 'classwise'),
        [
            ('classification', {'num_classes': 3}, 3),
            ('classification', {'task': 'multilabel', 'num_labels': 2, 'loss': 'bce'}, 2),
            ('change', {}, 0),
            ('change', {'task': 'multiclass', 'num_classes': 4, 'loss': 'ce'}, 4),
            ('segmentation', {'task': 'binary', 'num_classes': None, 'loss': 'bce'}, 0),
        ],
    )
    def test_names(self, name: str, kwargs: dict[str, Any], classwise: int) -> None:
        """The same names on TorchGeo 0.8 and 0.10."""
        task = build(name, bands='rgb', **kwargs)
        outputs = kwargs.get('num_classes') or kwargs.get('num_labels')
        scores = torch.rand(8, outputs) if outputs else torch.rand(8)
        target = torch.randint(2, (8, 2) if 'num_labels' in kwargs else (8,))
        for stage in ('train', 'val', 'test'):
            logged = getattr(task, f'{stage}_metrics')(scores, target)
            assert logged[f'{stage}_AverageJaccardIndex'].ndim == 0
            found = {key for key in logged if 'ClasswiseJaccardIndex' in key}
            assert found == {f'{stage}_ClasswiseJaccardIndex_{k}' for k in range(classwise)}

    def test_multilabel(self) -> None:
        metrics = MetricCollection({'OverallAccuracy': Accuracy('multilabel', num_labels=2)})
        hparams = {'task': 'multilabel', 'num_classes': None, 'num_labels': 2}
        add_class_iou(metrics, hparams)
        add_class_iou(metrics, hparams)  # changes nothing
        target = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]])
        predicted = torch.tensor([[0.9, 0.8], [0.2, 0.7], [0.1, 0.9], [0.9, 0.2]])
        result = metrics(predicted, target)
        assert result['ClasswiseJaccardIndex_0'] == pytest.approx(2 / 3)
        assert result['ClasswiseJaccardIndex_1'] == pytest.approx(2 / 3)
        assert result['AverageJaccardIndex'] == pytest.approx(2 / 3)


class TestReport:
    def lines(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from torchgeo_aom.tasks import mixin, report

        said: list[str] = []
        for module in (mixin, report):
            monkeypatch.setattr(module, 'rank_zero_info', said.append)
        return said

    def test_fit(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Weights) -> None:
        said = self.lines(monkeypatch)
        task = build(
            'segmentation', bands='sentinel2:rgb', patch_size=8, weights=weights.given('enum')
        )
        fit(task, data('segmentation', 3), tmp_path)
        sha256 = weights.member().meta['sha256'][:16]
        assert said == [
            f'AOM {MODEL}: bands sentinel2:B04 -> 3, sentinel2:B03 -> 2, sentinel2:B02 -> 1; patch '
            '8 x 8 px from the 16 px kernel, PI-resize loses 75% of its freedom; weights: '
            f'AOMTiny_Weights.TEST_RUN (SHA-256 {sha256}...)',
            said[1],
        ]
        assert said[1].startswith(
            'AOM images of 64 x 64 px: grid 8 x 8, 192 tokens each; a batch of 2 takes about 0.0'
        )
        assert said[1].endswith('for training the whole backbone (float32)')

    @pytest.mark.parametrize('verb', ['validate', 'test', 'predict'])
    def test_other_runs(self, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        said = self.lines(monkeypatch)
        path = save(build('classification', bands='rgb'), tmp_path)
        task = build('classification', bands='rgb')
        run = getattr(quick_trainer(tmp_path, fast_dev_run=False), verb)
        run(task, data('classification', 3), ckpt_path=path)
        assert said[0].endswith('weights: random initialization')
        assert said[1] == f'AOM {MODEL}: weights now: checkpoint of epoch 0, step 0'
        assert 'grid 4 x 4, 48 tokens each' in said[2] and len(said) == 3

    def test_reloaded(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        said = self.lines(monkeypatch)
        path = save(build('change', model='unet', bands='rgb'), tmp_path)
        task = tasks.ChangeDetectionTask.load_from_checkpoint(path)
        trainer = quick_trainer(tmp_path)
        trainer.test(task, data('change', 3), verbose=False)
        assert 'rgb:blue -> 1, on each of 2 dates; ' in said[0]
        assert said[0].endswith('weights: checkpoint of epoch 0, step 0')
        assert 'grid 4 x 4, 96 tokens each' in said[1]

    def test_many_bands(self) -> None:
        from torchgeo_aom.tasks.report import facts_line

        bands = [0.4 + 0.01 * k for k in range(200)]
        line = facts_line('x', AOM(embed_dim=24, depth=1, num_heads=3, bands=bands), 'none')
        assert ', ... (180 more); ' in line and line.count('\n') == 0
        positional = AOM(embed_dim=24, depth=1, num_heads=3, in_chans=4)
        assert 'positional 0..3 (no bands named)' in facts_line('x', positional, 'none')


def test_public_names() -> None:
    assert issubclass(tasks.ClassificationTask, tasks.BandsMixin)
    assert {n for n in tasks.__all__ if n.endswith('Task')} >= {
        f'{name}Task' for name in tasks.upstream.__all__
    }
