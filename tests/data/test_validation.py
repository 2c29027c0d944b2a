"""Validation data of pretraining: a fixed share, read in order, partitioned over ranks."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from torchgeo_aom.data.adapter import open_reader
from torchgeo_aom.data.loader import PretrainDataModule
from torchgeo_aom.data.sampler import KeyedSampler
from torchgeo_aom.data.source import Source
from torchgeo_aom.data.validation import OrderedSampler
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.tasks.pretrain import PretrainTask


@pytest.fixture
def folder(tmp_path: Path, write: Any) -> Path:
    for k in range(40):
        write(tmp_path / 'chips' / f'{k:02}.tif', k)
    return tmp_path / 'chips'


def module(folder: Path, **options: Any) -> PretrainDataModule:
    block = {'path': str(folder), 'bands': ['red', 'green', 'blue'], 'product': 'reflectance'}
    block |= {'product': {'scale': 1e-4, 'offset': 0.0}, 'name': 'chips'}
    found = PretrainDataModule([block], **{'batch_size': 4, 'seed': 3, **options})
    found.setup('fit')
    return found


def names(module: PretrainDataModule) -> tuple[set[str], set[str]]:
    train, held = (
        {Path(reader.name(k)).name for reader in readers for k in range(len(reader))}
        for readers in (module.readers, module.val_readers)
    )
    return train, held


def test_share_is_split_by_name(folder: Path, write: Any) -> None:
    train, held = names(module(folder, val_share=0.25))
    assert not train & held
    assert len(train | held) == 40
    assert 4 <= len(held) <= 16
    assert names(module(folder, val_share=0.25, seed=9)) == (train, held)
    for k in range(40, 60):  # more files, and another place
        write(folder / f'{k:02}.tif', k)
    moved = folder.rename(folder.parent / 'elsewhere')
    later = names(module(moved, val_share=0.25))
    assert train < later[0]
    assert held < later[1]


def test_batches_are_whole_images_in_order(folder: Path) -> None:
    one = module(folder, val_share=0.25)
    first, again = list(one.val_dataloader()), list(one.val_dataloader())
    assert sum(len(b['image']) for b in first) == len(one.val_readers[0])
    for batch, twin in zip(first, again, strict=True):
        assert torch.equal(batch['image'], twin['image'])
        assert set(batch) == {'image', 'bands', 'key', 'source', 'step'}
    whole = one.normalizers[0](one.val_readers[0].read(0).values)
    assert torch.equal(first[0]['image'][0], whole)


def test_statistics_are_those_of_the_training_images(folder: Path, tmp_path: Path) -> None:
    one = module(folder, val_share=0.25, statistics_dir=str(tmp_path / 'kept'))
    images = [one.readers[0].read(k).values for k in range(len(one.readers[0]))]
    reflectance = np.stack(images) * 1e-4
    np.testing.assert_allclose(one.normalizers[0].mean, reflectance.mean((0, 2, 3)))
    np.testing.assert_allclose(one.normalizers[0].std, reflectance.std((0, 2, 3)))
    whole = module(folder, statistics_dir=str(tmp_path / 'kept'))  # kept apart from the others
    assert whole.normalizers[0].mean != one.normalizers[0].mean


def test_sources_of_their_own(folder: Path) -> None:
    block = {'path': str(folder / '00.tif'), 'bands': ['red', 'green', 'blue'], 'name': 'one'}
    block['product'] = {'scale': 1e-4, 'offset': 0.0}
    found = module(folder, val_sources=[block])
    assert [batch['source'] for batch in found.val_dataloader()] == ['one']
    assert len(found.readers[0]) == 40


def test_refusals(folder: Path) -> None:
    with pytest.raises(ConfigError, match='val_share'):
        module(folder, val_share=1.0)
    with pytest.raises(ConfigError, match='val_share'):
        module(folder, val_share=0.5, val_sources=[{'path': str(folder)}])
    with pytest.raises(ConfigError, match='none for validation'):
        module(folder, val_share=1e-9)


@pytest.mark.parametrize('world', [1, 2, 3, 8])
@pytest.mark.parametrize('drop_last', [True, False])
def test_ranks_partition_the_epoch(folder: Path, world: int, drop_last: bool) -> None:
    """Each image once at most, the same number of batches, and those of one process."""
    one = module(folder)
    dataset: Any = one.train_dataloader().dataset
    size = 4 if world < 8 else 2

    def requests(rank: int, batch_size: int, ranks: int) -> list[Any]:
        sampler = KeyedSampler(dataset, batch_size, 3, rank, ranks, drop_last)
        sampler.set_epoch(2)
        return list(sampler)

    parts = [requests(rank, size, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    joined = [[k for part in step for k in part.samples] for step in zip(*parts, strict=True)]
    assert all(len({len(part.samples) for part in step}) == 1 for step in zip(*parts, strict=True))
    taken = [k for step in joined for k in step]
    assert len(set(taken)) == len(taken)
    total = size * world
    whole = 40 // total * total
    left = 0 if drop_last else (40 - whole) // world * world
    assert len(taken) == whole + left
    together = requests(0, total, 1)
    for step, alone in zip(joined, together, strict=False):
        assert step == list(alone.samples)[: len(step)]


@pytest.mark.parametrize('world', [1, 2, 3, 8])
def test_ranks_partition_validation(folder: Path, world: int) -> None:
    found = module(folder, val_share=0.6)
    dataset: Any = found.val_dataloader().dataset
    count = len(dataset.readers[0])
    samplers = [OrderedSampler(dataset, 3, rank, world) for rank in range(world)]
    taken = [k for sampler in samplers for request in sampler for k in request.samples]
    assert sorted(taken) == list(range(count))
    assert max(len(s) for s in samplers) == math.ceil(math.ceil(count / world) / 3)
    with pytest.raises(ConfigError, match='fewer than the 50 processes'):
        OrderedSampler(dataset, 3, 0, 50)


@pytest.mark.filterwarnings('ignore')
def test_losses_are_logged_for_each_scale(folder: Path, tmp_path: Path) -> None:
    task = PretrainTask(
        'aom_vitt', (4, 6), embed_dim=16, depth=1, num_heads=2, decoder_width=16, decoder_depth=1,
        projector_dim=8, kernel_sizes=(4,), batch_size=4,
    )  # fmt: skip
    trainer = Trainer(
        accelerator='cpu', devices=1, max_epochs=1, limit_train_batches=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, module(folder, val_share=0.25))
    logged = {key: float(value) for key, value in trainer.logged_metrics.items()}
    assert {'val/loss', 'val/recon/4px', 'val/recon/6px', 'val/loss/chips'} <= set(logged)
    assert logged['val/loss'] == pytest.approx(logged['val/loss/chips'])


@pytest.mark.parametrize(
    ('sensor', 'product', 'options', 'invalid'),
    [
        ('sentinel2:rgb', 'l2a', {}, [(0, 0), (1, 0), (2, 0)]),  # 0 in all bands
        ('landsat8:rgb', 'c2l2', {}, [(0, 0), (1, 0), (2, 0), (0, 1)]),  # 0 in any band
        ('sentinel2:rgb', 'l2a', {'nodata': 0}, [(0, 0), (1, 0), (2, 0), (0, 1)]),
        ('landsat8:rgb', 'c2l2', {'nodata': 'none'}, []),
    ],
)
def test_fill_values_of_products(
    tmp_path: Path, write: Any, sensor: str, product: str, options: Any, invalid: list[Any]
) -> None:
    values = np.full((3, 1, 4), 9000, 'uint16')
    values[:, 0, 0] = 0
    values[0, 0, 1] = 0
    write(tmp_path / 'one.tif', values)
    block = {'path': str(tmp_path), 'bands': sensor, 'product': product, **options}
    valid = open_reader(Source.parse(block)).read(0).valid
    found = [] if valid is None else [(int(c), int(x)) for x, c in np.argwhere(~valid[:, 0].T)]
    assert found == invalid
