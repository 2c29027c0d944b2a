"""One data module: bands, sizes, augmentation of images with masks, and one normalization."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from toy_dataset import Labels, Toy

from torchgeo_aom.datamodules import BandDataModule
from torchgeo_aom.datamodules.base import find_dataset
from torchgeo_aom.datasets.base import BandDataset
from torchgeo_aom.errors import BandError, ConfigError, InputError, SizeError, UnitError
from torchgeo_aom.tasks import BandCheck, ClassificationTask, SemanticSegmentationTask
from torchgeo_aom.tasks.dataset_bands import dataset_bands
from torchgeo_aom.transforms import Normalize


def module(stage: str = 'fit', dataset: Any = Toy, **options: Any) -> BandDataModule:
    found = BandDataModule(dataset, **{'batch_size': 4, **options})
    found.setup(stage)
    return found


def test_facts_are_there_before_setup() -> None:
    found = BandDataModule(Toy, bands=['nir08', 'red'])
    assert found.bands == ('hls:nir08', 'hls:red')
    assert (found.num_classes, found.classes, found.ignore_index) == (2, ('dark', 'bright'), 255)


def test_arguments_of_the_data_set_have_their_place() -> None:
    """TorchGeo's modules take them directly."""
    with pytest.raises(ConfigError, match=r"no argument 'root'.*dataset_args=\{'root': 'data'\}"):
        BandDataModule('EuroSAT', root='data')  # type: ignore[call-arg]
    found = copy.deepcopy(BandDataModule(Toy, bands=['red']))
    assert found.bands == ('hls:red',)


def test_values_are_normalized_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = Normalize._image
    monkeypatch.setattr(Normalize, '_image', lambda self, x: calls.append(1) or original(self, x))
    found = module(bands=['red', 'nir08'])
    stored = next(iter(found.val_dataloader()))
    assert stored['image'].max() > 1000 and not calls
    kept = copy.deepcopy(stored)
    batch = found.on_after_batch_transfer(stored, 0)
    assert len(calls) == 1
    assert torch.equal(stored['image'], kept['image'])  # the caller's batch stays as it is
    normalize = Normalize(['hls:red', 'hls:nir08'], 'hls:v2', nodata_fill=True)
    torch.testing.assert_close(batch['image'], original(normalize, stored['image']))
    assert batch['image'].dtype == torch.float32
    assert (batch['image'][:, :, :4, :4] == 0).all()  # no data is the mean
    assert torch.equal(batch['mask'], stored['mask'])
    # TorchGeo's tasks undo it for their pictures.
    back = batch['image'] * found.std[:, None, None] + found.mean[:, None, None]
    torch.testing.assert_close(back[:, :, 4:], stored['image'][:, :, 4:], rtol=1e-4, atol=1e-2)


def test_not_before_setup() -> None:
    with pytest.raises(InputError, match='after setup'):
        BandDataModule(Toy).prepare({'image': torch.zeros(1, 7, 4, 4)})


def test_measured_statistics_are_those_of_the_training_split(tmp_path: Path) -> None:
    found = module('test', normalization='measured', cache_dir=str(tmp_path), bands=['red'])
    data = Toy('train', bands=['red'])
    values = torch.stack([data[k]['image'] for k in range(len(data))])
    valid = values[values != -9999] * 1e-4
    assert found.normalize is not None
    assert found.normalize.mean[0] == pytest.approx(float(valid.mean()), rel=1e-5)
    assert found.normalize.std[0] == pytest.approx(float(valid.std(correction=0)), rel=1e-5)
    (kept,) = tmp_path.glob('*.json')
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {'mean': [99.0]}))
    again = module('test', normalization='measured', cache_dir=str(tmp_path), bands=['red'])
    assert again.normalize is not None and again.normalize.mean[0] > 9  # read, not measured
    other = {'scale': 2.0}
    third = module('test', dataset_args=other, normalization='measured', cache_dir=str(tmp_path))
    assert len(list(tmp_path.glob('*.json'))) == 2  # other values, measured anew
    assert third.normalize is not None and third.normalize.mean[0] < 9


def test_explicit_numbers_and_named_statistics() -> None:
    found = module(bands=['red'], mean=[0.1], std=[0.5])
    assert found.normalize is not None
    assert (found.normalize.mean, found.normalize.std) == ((0.1,), (0.5,))
    named = module(bands=['red'], normalization='sentinel2:l2a').normalize
    assert (
        named is not None
        and named.mean == Normalize(['hls:red'], 'hls:v2', statistics='sentinel2:l2a').mean
    )


def test_contradicting_values_are_reported_with_both_ranges() -> None:
    found = module(dataset_args={'scale': 1e-4, 'fill': False})
    with pytest.warns(UserWarning, match=r'holds about -5000 to 100000, the image holds 0\.01 to'):
        found.on_after_batch_transfer(next(iter(found.train_dataloader())), 0)
    strict = module(dataset_args={'scale': 1e-4, 'fill': False}, strict=True)
    with pytest.raises(UnitError, match='holds about'):
        strict.on_after_batch_transfer(next(iter(strict.train_dataloader())), 0)


def test_crop_is_random_in_training_and_images_stay_whole_elsewhere() -> None:
    found = module(crop=[24, 32])
    assert next(iter(found.train_dataloader()))['image'].shape == (4, 7, 24, 32)
    assert next(iter(found.val_dataloader()))['image'].shape == (4, 7, 40, 40)
    batch = next(iter(module(eval_crop=20).val_dataloader()))
    whole = Toy('val')[0]
    assert torch.equal(batch['image'][0], whole['image'][:, 10:30, 10:30])
    assert torch.equal(batch['mask'][0], whole['mask'][10:30, 10:30])


def test_padding_counts_nowhere() -> None:
    found = module(pad=48)
    batch = found.prepare(next(iter(found.val_dataloader())))
    assert batch['image'].shape[-2:] == (48, 48)
    assert (batch['image'][:, :, 40:] == 0).all() and (batch['mask'][:, :, 40:] == 255).all()


def test_resize_comes_after_normalization() -> None:
    found = module(resize=20)
    batch = found.prepare(next(iter(found.val_dataloader())))
    assert batch['image'].shape[-2:] == batch['mask'].shape[-2:] == (20, 20)
    assert batch['image'].min() > -3  # a fill of -9999 was not smeared over its neighbors
    assert set(batch['mask'].unique().tolist()) == {0, 1, 255}
    assert batch['mask'].dtype == torch.int64


def test_different_sizes() -> None:
    mixed = {'sizes': [40, 48]}
    with pytest.raises(SizeError, match=r'different sizes: 40 x 40, 48 x 48 px. Give crop='):
        next(iter(module(dataset_args=mixed).val_dataloader()))
    assert len(next(iter(module(dataset_args=mixed, eval_batch_size=1).val_dataloader()))) == 2
    for options in ({'crop': 32}, {'pad': 48}, {'resize': 32}):
        found = module(dataset_args=mixed, **options)
        batch = found.prepare(next(iter(found.train_dataloader())), training=True)
        side = next(iter(options.values()))
        assert batch['image'].shape == (4, 7, side, side) and batch['mask'].shape == (4, side, side)
    labels = module(dataset=Labels, dataset_args=mixed, resize=32)
    batch = labels.prepare(next(iter(labels.val_dataloader())))
    assert batch['image'].shape == (4, 7, 32, 32) and batch['label'].tolist() == [0, 1, 0, 1]
    with pytest.raises(SizeError, match=r'crop of \(64, 64\) px does not fit .* 40 x 40'):
        next(iter(module(crop=64).train_dataloader()))


def test_masks_are_turned_with_their_images() -> None:
    found = module(normalization='catalogue', mean=[0.0] * 7, std=[1.0] * 7)
    stored = next(iter(found.val_dataloader()))
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        batch = found.prepare(stored, training=True)
        inside = batch['mask'] != 255
        bright = (batch['image'][:, 4] * 1e4).round() > 1500
        assert torch.equal(bright[inside], batch['mask'][inside] == 1)
        seen.add(tuple((batch['image'][0, 4, :6, :6] * 1e4).round().flatten().int().tolist()))
    assert len(seen) == 8  # all symmetries of the square, nothing else
    assert torch.equal(found.prepare(stored)['mask'], stored['mask'])
    still = module(flip=False, rotate=False)
    assert torch.equal(still.prepare(stored, training=True)['mask'], stored['mask'])


def test_not_square_images_keep_their_shape() -> None:
    found = module(crop=[20, 30])
    batch = found.prepare(next(iter(found.train_dataloader())), training=True)
    assert batch['image'].shape[-2:] == (20, 30)


def test_arguments_are_checked() -> None:
    for options, message in (
        ({'normalization': 'mesured'}, "did you mean 'measured'"),
        ({'mean': [0.0]}, 'belong together'),
        ({'mean': [0.0], 'std': [1.0], 'normalization': 'measured'}, 'either mean and std'),
        ({'crop': 0}, 'positive number of pixels'),
        ({'pad': [1, 2, 3]}, 'positive number of pixels'),
        ({'batch_size': 0}, 'at least 1'),
        ({'dataset_args': {'split': 'train'}}, 'give bands=, train_split='),
        ({'dataset_args': {'size': 3}}, "no argument 'size'; did you mean 'sizes'"),
        ({'dataset_args': {'transforms': Normalize('hls', 'v2')}}, 'leave one out'),
    ):
        with pytest.raises(ConfigError, match=message):
            BandDataModule(Toy, **options)
    with pytest.raises(ConfigError, match='split must be one of'):
        module(val_split='validation')
    with pytest.raises(BandError, match='not in these files'):
        module(bands=['sentinel2:B01'])


def test_data_set_by_name() -> None:
    assert find_dataset('toy_dataset.Toy') is Toy
    with pytest.raises(ConfigError, match="no data set 'Tow' in toy_dataset"):
        find_dataset('toy_dataset.Tow')
    with pytest.raises(ConfigError, match='cannot be imported'):
        find_dataset('nowhere.Toy')
    with pytest.raises(ConfigError, match='must be a BandDataset'):
        find_dataset('torchgeo.datasets.EuroSAT')
    assert issubclass(find_dataset('torchgeo_aom.datasets.base.BandDataset'), BandDataset)


def trainer(tmp_path: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator='cpu', max_steps=1, limit_val_batches=1, limit_test_batches=1, logger=False,
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.filterwarnings('ignore:.*num_workers')
@pytest.mark.filterwarnings('ignore:.*number of training batches')
def test_tasks_train_and_bands_are_compared(tmp_path: Path) -> None:
    data = BandDataModule(Toy, bands=['red', 'nir08'], batch_size=4, crop=32)
    options: dict[str, Any] = {'model': 'upernet', 'backbone': 'aom_vitt', 'num_classes': 2}
    task = SemanticSegmentationTask(**options, bands=['red', 'nir08'], ignore_index=255)
    run = trainer(tmp_path, callbacks=[BandCheck(strict=True)])
    run.fit(task, datamodule=data)
    assert torch.isfinite(run.callback_metrics['train_loss'])
    run.test(task, datamodule=data)
    wrong = SemanticSegmentationTask(**options, bands=['nir08', 'red'], ignore_index=255)
    with pytest.raises(BandError, match='another order'):
        trainer(tmp_path, callbacks=[BandCheck()]).fit(wrong, datamodule=data)
    labels = BandDataModule(Labels, batch_size=4)
    classify = ClassificationTask('aom_vitt', bands='hls:common7', num_classes=2)
    trainer(tmp_path, callbacks=[BandCheck(strict=True)]).fit(classify, datamodule=labels)


def test_groups_and_bands_of_a_data_set() -> None:
    data = Toy()
    assert data.groups is not None and len(data.groups) == len(data)
    assert dataset_bands(data) == data.band_objects
    one, other = Toy(bands=['red']), Toy(bands=['red'], scale=2.0)
    assert len({one.fingerprint(), data.fingerprint(), other.fingerprint()}) == 3
    assert one.fingerprint() == Toy(bands=['red']).fingerprint()


def test_plot() -> None:
    found = module(bands=['red', 'green', 'blue'])
    batch = found.prepare(next(iter(found.val_dataloader())))
    sample = {key: value[0] for key, value in batch.items()}
    assert found.plot(sample, suptitle='toy') is not None


def test_warnings_are_said_once() -> None:
    found = module(dataset_args={'scale': 1e-4, 'fill': False})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for batch in found.train_dataloader():
            found.prepare(batch)
    assert len(caught) == 1
