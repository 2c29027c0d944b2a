"""The loader of pretraining: every batch follows from its key, whatever happens around it."""

import itertools
import multiprocessing
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml
from scipy.stats import chisquare
from torch import Tensor

from torchgeo_aom.data.chips import PretrainDataset, Request, _Crop
from torchgeo_aom.data.loader import KeyedLoader, PretrainDataModule
from torchgeo_aom.data.sampler import KeyedSampler
from torchgeo_aom.data.source import Source
from torchgeo_aom.errors import AOMWarning, BandError, ConfigError, DataError
from torchgeo_aom.rng import generator
from torchgeo_aom.transforms import Normalize

# A folder for each source: number of images, size.
FOLDERS = {'s2': (22, (4, 12, 16)), 'rgb': (13, (3, 9, 9))}


@pytest.fixture(scope='module')
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sensors of different channels and sizes."""
    import rasterio

    root = tmp_path_factory.mktemp('chips')
    rng = np.random.default_rng(0)
    for name, (count, shape) in FOLDERS.items():
        (root / name).mkdir()
        for k in range(count):
            values = rng.integers(1, 250, shape).astype('uint16' if name == 's2' else 'uint8')
            values = values * 10 if name == 's2' else values
            facts = {'driver': 'GTiff', 'count': shape[0], 'height': shape[1], 'width': shape[2]}
            transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
            path = root / name / f'{k:02}.tif'
            with rasterio.open(path, 'w', dtype=values.dtype, transform=transform, **facts) as file:
                file.write(values)
    return root


def blocks(chips: Path, **facts: Any) -> list[dict[str, Any]]:
    return [
        {
            'path': str(chips / 's2'),
            'sensor': 'sentinel2',
            'bands': ['B02', 'B03', 'B04', 'B08'],
            'product': 'l2a',
            **facts,
        },
        {'path': str(chips / 'rgb'), 'sensor': 'rgb', 'unit': 'uint8'},
    ]


def module(sources: Any, **options: Any) -> PretrainDataModule:
    found = PretrainDataModule(sources, **{'batch_size': 4, 'seed': 7, **options})
    found.setup('fit')
    return found


def loader(sources: Any, **options: Any) -> KeyedLoader:
    return module(sources, **options).train_dataloader()


def sampler(sources: Any, rank: int = 0, world_size: int = 1, **options: Any) -> KeyedSampler:
    one = module(sources)
    dataset = PretrainDataset(one.sources, one.readers, one.normalizers)
    return KeyedSampler(dataset, **{'batch_size': 4, 'seed': 7, **options}, rank=rank,
                        world_size=world_size)  # fmt: skip


def equal(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    if len(left) != len(right):
        return False
    for one, other in zip(left, right, strict=True):
        if one.keys() != other.keys():
            return False
        for key, value in one.items():
            same = (
                torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
            )
            if not same:
                return False
    return True


class TestBatch:
    def test_contract(self, chips: Path) -> None:
        found = list(loader(blocks(chips)))
        assert {b['source'] for b in found} == {'s2', 'rgb'}
        for step, batch in enumerate(found):
            assert set(batch) == {'image', 'bands', 'key', 'source', 'step'}
            shape = FOLDERS[batch['source']][1]
            assert batch['image'].shape == (4, *shape)
            assert batch['image'].dtype == torch.float32
            assert batch['image'].isfinite().all()
            assert (batch['step'], type(batch['step'])) == (step, int)
            assert (batch['key'].dtype, batch['key'].shape) == (torch.int64, (4,))
            first = {'s2': 0, 'rgb': 22}[batch['source']]
            assert all(first <= k < first + FOLDERS[batch['source']][0] for k in batch['key'])
        assert found[0]['bands'] in (
            [f'sentinel2:{name}' for name in ('B02', 'B03', 'B04', 'B08')],
            ['rgb:R', 'rgb:G', 'rgb:B'],
        )

    def test_is_normalize_where_nothing_is_cut(self, chips: Path) -> None:
        one = module(blocks(chips), crop_scale=(1, 1), crop_ratio=(1, 1), flip=False)
        batch = next(iter(one.train_dataloader()))
        which = [s.name for s in one.sources].index(batch['source'])
        first = [0, 22][which]
        normalize = Normalize(one.sources[which].bands, one.sources[which].product)
        for image, key in zip(batch['image'], batch['key'], strict=True):
            assert torch.equal(image, normalize(one.readers[which].read(int(key) - first).values))

    def test_augmentation(self, chips: Path) -> None:
        """Crops are resized back, and half of the chips are flipped."""
        plain = {'crop_scale': (1, 1), 'crop_ratio': (1, 1)}
        flipped = [b['image'] for b in loader(blocks(chips), **plain)]
        straight = [b['image'] for b in loader(blocks(chips), **plain, flip=False)]
        kinds = Counter()
        for one, other in zip(flipped, straight, strict=True):
            for image, twin in zip(one, other, strict=True):
                kinds[torch.equal(image, twin), torch.equal(image, twin.flip(-1))] += 1
        assert set(kinds) == {(True, False), (False, True)}
        assert min(kinds.values()) > 6
        cut = [b['image'] for b in loader(blocks(chips), flip=False)]
        assert not any(torch.equal(a, b) for a, b in zip(cut, straight, strict=True))

    def test_windows(self) -> None:
        shares, places = [], []
        for k in range(400):
            crop = _Crop(generator(0, k), (40, 60), (0.2, 1.0), (3 / 4, 4 / 3))
            row, column, height, width = crop(40, 60)
            assert 0 <= row <= 40 - height
            assert 0 <= column <= 60 - width
            shares.append(height * width / 2400)
            ratio = (width / 60) / (height / 40)
            assert 0.7 < ratio < 1.43
            places.append(column / max(60 - width, 1))
            # A part of a scene, and of an image smaller than the chips.
            assert max(crop(500, 500)[2:]) <= 60
            assert crop(10, 7)[2] <= 10
        assert 0.19 < min(shares) < 0.25
        assert max(shares) > 0.85
        assert 0.5 < np.mean(shares) < 0.66
        assert 0.4 < np.mean(places) < 0.6

    def test_chips_of_a_scene(self, tmp_path: Path, write: Any) -> None:
        for k in range(2):
            write(tmp_path / f'{k}.tif', k, shape=(3, 50, 70))
        block = {'path': str(tmp_path), 'sensor': 'sentinel2', 'bands': ['B04', 'B03', 'B02'],
                 'product': 'l2a', 'size': 16, 'weight': 4}  # fmt: skip
        found = list(loader([block]))
        assert [b['image'].shape for b in found] == [(4, 3, 16, 16)] * 2
        images = torch.cat([b['image'] for b in found])
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(images, 2))


class TestOrder:
    def test_follows_from_seed_and_epoch(self, chips: Path) -> None:
        one = loader(blocks(chips))
        first, second = list(one), list(one)
        again = loader(blocks(chips))
        assert equal(first, list(again))
        assert equal(second, list(again))
        assert [b['step'] for b in second] == list(range(len(first), 2 * len(first)))
        for batches in (second, list(loader(blocks(chips), seed=8))):
            assert [b['key'].tolist() for b in batches] != [b['key'].tolist() for b in first]

    def test_global_generators_have_no_part(self, chips: Path) -> None:
        expected = list(loader(blocks(chips)))
        torch.manual_seed(5)
        before = torch.get_rng_state()
        assert equal(list(loader(blocks(chips))), expected)
        assert torch.equal(torch.get_rng_state(), before)

    def test_workers_have_no_part(self, chips: Path) -> None:
        sources = blocks(chips, max_nodata=0.2, nodata=500)
        assert equal(list(loader(sources, num_workers=2)), list(loader(sources)))

    def test_dataset_travels_to_workers(self, chips: Path) -> None:
        """Workers are not forked everywhere."""
        one = loader(blocks(chips))
        request = next(iter(one.sampler))
        again = pickle.loads(pickle.dumps(one.dataset))
        assert torch.equal(again[request]['image'], one.dataset[request]['image'])

    def test_every_image_once(self, chips: Path) -> None:
        one = loader(blocks(chips), drop_last=False, batch_size=5)
        for _ in range(2):
            keys = torch.cat([b['key'] for b in one]).tolist()
            assert sorted(keys) == list(range(35))

    def test_weights(self, chips: Path) -> None:
        sources = blocks(chips, weight=2.5)
        sources[1]['weight'] = 0.5
        one = loader(sources, drop_last=False, batch_size=2)
        epochs = [Counter(torch.cat([b['key'] for b in one]).tolist()) for _ in range(2)]
        for keys in epochs:
            counts = [[keys[k] for k in range(22)], [keys[k] for k in range(22, 35)]]
            assert (sum(counts[0]), set(counts[0])) == (55, {2, 3})
            assert (sum(counts[1]), set(counts[1])) == (6, {0, 1})
        assert epochs[0] != epochs[1]

    def test_same_image_twice_is_cut_differently(self, chips: Path) -> None:
        sources = blocks(chips, weight=2)[:1]
        images: dict[int, list[Tensor]] = {}
        for batch in loader(sources):
            for key, image in zip(batch['key'].tolist(), batch['image'], strict=True):
                images.setdefault(key, []).append(image)
        pairs = [both for both in images.values() if len(both) == 2]
        assert len(pairs) > 15
        assert not any(torch.equal(*both) for both in pairs)

    def test_interleaved(self, chips: Path) -> None:
        """Anywhere in the epoch a source comes as often as its share says."""
        one = sampler(blocks(chips), batch_size=1)
        assert one.batches == [22, 13]
        halves: Counter[int] = Counter()
        for epoch in range(100):
            one.set_epoch(epoch)
            halves.update(request.source for request in itertools.islice(one, 17))
        total = sum(halves.values())
        expected = [total * 22 / 35, total * 13 / 35]
        assert chisquare([halves[0], halves[1]], expected).pvalue > 0.01

    def test_too_few(self, chips: Path) -> None:
        with pytest.raises(ConfigError, match=r"'rgb' gives 13.*batch of 14"):
            loader(blocks(chips), batch_size=14)
        with pytest.raises(ConfigError, match='2 processes'):
            sampler(blocks(chips), 0, 2, batch_size=7)


def requests(sources: Any, world: int, batch: int, **options: Any) -> list[list[Request]]:
    ranks = [sampler(sources, r, world, batch_size=batch, **options) for r in range(world)]
    assert len({len(one) for one in ranks}) == 1
    return [list(one) for one in ranks]


class TestRanks:
    @pytest.mark.parametrize(('world', 'batch'), [(1, 6), (2, 3), (3, 2), (6, 1)])
    def test_together_they_are_one_process(self, chips: Path, world: int, batch: int) -> None:
        whole = requests(blocks(chips), 1, 6)[0]
        ranks = requests(blocks(chips), world, batch)
        for expected, parts in zip(whole, zip(*ranks, strict=True), strict=True):
            assert {part.source for part in parts} == {expected.source}
            assert {part.step for part in parts} == {expected.step}
            assert sum((part.samples for part in parts), ()) == expected.samples

    @pytest.mark.parametrize('world', [1, 2, 3, 4, 5])
    def test_uneven_last_batch(self, chips: Path, world: int) -> None:
        ranks = requests(blocks(chips), world, 2, drop_last=False)
        for parts in zip(*ranks, strict=True):
            assert len({(p.step, p.source, len(p.samples)) for p in parts}) == 1
            assert parts[0].samples
        seen = [(r.source, k) for part in ranks for r in part for k in r.samples]
        assert len(set(seen)) == len(seen)
        assert len(seen) > 35 - 2 * world

    def test_lightning_leaves_it_alone(self, chips: Path) -> None:
        one = loader(blocks(chips)).sampler
        assert isinstance(one, torch.utils.data.DistributedSampler)


class TestResume:
    @pytest.mark.parametrize('done', [0, 1, 4, 7, 8, 11, 16])
    def test_in_the_middle(self, chips: Path, done: int) -> None:
        """Stopped after any number of batches, the rest is the same."""
        one = loader(blocks(chips))
        assert len(one) == 8

        def endless(source: KeyedLoader) -> Iterator[dict[str, Any]]:
            while True:
                yield from source

        stream = endless(one)
        for _ in range(done):
            next(stream)
        state = one.state_dict()
        rest = list(itertools.islice(stream, 10))
        other = loader(blocks(chips), num_workers=2 if done == 4 else 0)
        other.load_state_dict(state)
        assert len(other) == 8
        assert equal(list(itertools.islice(endless(other), 10)), rest)

    def test_state(self, chips: Path) -> None:
        one = loader(blocks(chips))
        for _ in zip(range(3), one, strict=False):
            pass
        state = one.state_dict()
        assert {**state, 'plan': ''} == {
            'epoch': 0, 'batches': 3, 'seed': 7, 'world_size': 1, 'batch_size': 4, 'plan': '',
        }  # fmt: skip
        one.keyed.set_epoch(0)
        assert one.keyed.done == 3
        one.keyed.set_epoch(4)
        assert one.state_dict() == {**state, 'epoch': 4, 'batches': 0}

    def test_workers_that_are_ahead_do_not_count(self, chips: Path) -> None:
        one = loader(blocks(chips), num_workers=2)
        stream = iter(one)
        next(stream)
        assert one.state_dict()['batches'] == 1
        for _ in zip(range(6), stream, strict=False):
            pass
        assert multiprocessing.active_children()
        next(stream)  # the last one: nothing is left to be done
        assert not multiprocessing.active_children()
        assert one.state_dict()['batches'] == 8

    @pytest.mark.parametrize(('key', 'value'), [('world_size', 2), ('batch_size', 8), ('seed', 1)])
    def test_other_run_is_refused(self, chips: Path, key: str, value: int) -> None:
        one = module(blocks(chips))
        found = one.train_dataloader()
        with pytest.raises(ConfigError, match=f'{key} was {value} and is'):
            found.load_state_dict({**found.state_dict(), key: value})
        with pytest.raises(ConfigError, match=f'{key} was {value} and is'):
            one.load_state_dict({**one.state_dict(), key: value})

    def test_other_data_is_told(self, chips: Path) -> None:
        state = loader(blocks(chips)).state_dict()
        with pytest.warns(AOMWarning, match='sources have changed'):
            loader(blocks(chips)[:1]).load_state_dict(state)


class Mean(lightning.LightningModule):
    """A model that depends on every batch, and that remembers their steps."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4))
        self.stop = stop
        self.steps: list[int] = []

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        if self.global_step == self.stop:
            raise KeyError('stopped')
        self.steps.append(batch['step'])
        mean = batch['image'].mean((2, 3))
        return ((mean @ self.weight[: mean.shape[1]] - 1) ** 2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 0.1)


@pytest.mark.filterwarnings('ignore')
class TestLightning:
    def fit(
        self,
        chips: Path,
        folder: Path,
        stop: int | None = None,
        resume: bool = False,
        **options: Any,
    ) -> Mean:
        model = Mean(stop)
        save = lightning.pytorch.callbacks.ModelCheckpoint(
            folder, save_last=True, every_n_train_steps=3
        )
        trainer = lightning.Trainer(
            accelerator='cpu', max_epochs=2, logger=False, callbacks=[save],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        data = PretrainDataModule(blocks(chips), **{'batch_size': 4, 'seed': 7, **options})
        trainer.fit(model, data, ckpt_path=str(folder / 'last.ckpt') if resume else None)
        return model

    def test_resume_is_identical(self, chips: Path, tmp_path: Path) -> None:
        whole = self.fit(chips, tmp_path / 'whole')
        assert whole.steps == list(range(16))
        for stop, last in ((5, 3), (8, 6), (13, 12)):
            folder = tmp_path / str(stop)
            with pytest.raises(KeyError, match='stopped'):
                self.fit(chips, folder, stop)
            resumed = self.fit(chips, folder, resume=True)
            assert resumed.steps == list(range(last, 16))
            assert torch.equal(resumed.weight, whole.weight)
        with pytest.raises(ConfigError, match='batch_size was 4 and is 2'):
            self.fit(chips, folder, resume=True, batch_size=2)

    def test_overfit_batches_is_refused(self, chips: Path) -> None:
        trainer = lightning.Trainer(
            accelerator='cpu', overfit_batches=1, max_epochs=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        with pytest.raises(ConfigError, match='limit_train_batches'):
            trainer.fit(Mean(), module(blocks(chips)))

    def test_hyperparameters_are_plain(self, chips: Path, tmp_path: Path) -> None:
        self.fit(chips, tmp_path)
        saved = torch.load(tmp_path / 'last.ckpt', weights_only=True)
        assert saved['datamodule_hyper_parameters']['sources'] == blocks(chips)
        assert saved['PretrainDataModule'] == {'seed': 7, 'world_size': 1, 'batch_size': 4}


@pytest.fixture(scope='module')
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of one band."""
    import rasterio

    folder = tmp_path_factory.mktemp('template')
    rng = np.random.default_rng(1)
    facts = {'driver': 'GTiff', 'count': 1, 'height': 6, 'width': 6, 'dtype': 'uint16'}
    for k in range(120):
        transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
        with rasterio.open(
            folder / f'{k:03}.tif', 'w', nodata=0, transform=transform, **facts
        ) as file:
            file.write(rng.integers(200, 4000, (1, 6, 6), dtype=np.uint16))
    return folder


@pytest.fixture
def many(tmp_path: Path, template: Path) -> dict[str, Any]:
    """A source of 120 images that a test may damage."""
    folder = shutil.copytree(template, tmp_path / 'in')
    return {'path': str(folder), 'sensor': 'sentinel2', 'bands': 'B04', 'product': 'l2a'}


class TestBadFiles:
    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_skipped_counted_listed_once(
        self, many: dict[str, Any], caplog: pytest.LogCaptureFixture, num_workers: int
    ) -> None:
        one = module([many], batch_size=12, num_workers=num_workers)
        Path(many['path'], '033.tif').write_bytes(b'II*\0')
        found = one.train_dataloader()
        for _ in range(2):
            batches = list(found)
            assert [len(b['key']) for b in batches] == [12] * 10
            assert 33 not in torch.cat([b['key'] for b in batches])
        (path,) = one.bad_files['in']
        assert path.endswith('033.tif')
        assert caplog.text.count('033.tif') == 1
        assert len(caplog.records) == 1

    def test_replaced_by_the_same(self, many: dict[str, Any]) -> None:
        Path(many['path'], '033.tif').write_bytes(b'II*\0')
        one = loader([many], batch_size=12)
        for _ in zip(range(4), one, strict=False):
            pass
        state = one.state_dict()
        other = loader([many], batch_size=12, num_workers=1)
        other.load_state_dict(state)
        assert equal(list(other), list(loader([many], batch_size=12))[4:])

    def test_vanishing(self, many: dict[str, Any]) -> None:
        one = loader([many], batch_size=12)
        stream = iter(one)
        first = next(stream)
        gone = next(k for k in range(120) if k not in first['key'])
        Path(many['path'], f'{gone:03}.tif').unlink()
        assert sum(len(b['key']) for b in stream) == 108
        assert len(one.bad[0].reasons) == 1

    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_too_many(self, many: dict[str, Any], num_workers: int) -> None:
        for k in (5, 50, 100):
            Path(many['path'], f'{k:03}.tif').write_bytes(b'')
        with pytest.raises(DataError, match=r'2 of 120.*1\.00%'):
            list(loader([many], batch_size=12, num_workers=num_workers))
        found = loader([many], batch_size=12, bad_limit=0.05)
        assert len(list(found)) == 10
        assert len(found.bad[0].reasons) == 3

    def test_contradiction_ends_the_run(self, many: dict[str, Any], write: Any) -> None:
        found = loader([many], batch_size=12)
        write(Path(many['path'], '033.tif'), 1, ('B08',), (1, 6, 6))
        with pytest.raises(BandError, match=r'033\.tif'):
            list(found)


class TestNodata:
    def test_heavy_chips_are_dropped(self, many: dict[str, Any], write: Any) -> None:
        empty = np.zeros((1, 6, 6), np.uint16)
        empty[:, 0, 0] = 500
        content = write(Path(many['path'], '000.tif'), empty, nodata=0).read_bytes()
        for k in range(60):
            Path(many['path'], f'{k:03}.tif').write_bytes(content)
        one = loader([many], batch_size=12)
        keys = torch.cat([b['key'] for b in one])
        assert len(keys) == 120
        assert keys.min() >= 60
        assert one.dropped > 50
        assert not one.bad[0].reasons

    def test_all_empty(self, many: dict[str, Any], write: Any) -> None:
        empty = np.zeros((1, 6, 6), np.uint16)
        content = write(Path(many['path'], '000.tif'), empty, nodata=0).read_bytes()
        for k in range(120):
            Path(many['path'], f'{k:03}.tif').write_bytes(content)
        with pytest.raises(DataError, match='max_nodata'):
            list(loader([many], batch_size=12))

    def test_valid(self, tmp_path: Path, write: Any) -> None:
        image = np.full((2, 24, 24), 2000, np.uint16)
        image[0, :8] = 0
        for k in range(8):
            write(tmp_path / 'in' / f'{k}.tif', image, nodata=0)
        block = {'path': str(tmp_path / 'in'), 'sensor': 'sentinel2', 'bands': ['B04', 'B08'],
                 'product': 'l2a', 'max_nodata': 1.0}  # fmt: skip
        plain = next(iter(loader([block], crop_scale=(1, 1), crop_ratio=(1, 1), flip=False)))
        assert plain['valid'].dtype == torch.bool
        assert torch.equal(plain['valid'], torch.tensor(image > 0).expand(4, -1, -1, -1))
        for batch in loader([block]):
            assert batch['valid'].shape == batch['image'].shape
            assert batch['valid'][:, 1].all()
            assert (batch['image'][~batch['valid']] == 0).all()
            # What is left is untouched by the fill: the image is constant there.
            inside = batch['image'][:, 0][batch['valid'][:, 0]]
            assert inside.numel() > 0
            assert inside.std() < 2e-2 * inside.abs().mean()


class TestModule:
    def test_yaml(self, chips: Path, tmp_path: Path) -> None:
        file = tmp_path / 'sources.yaml'
        file.write_text(yaml.safe_dump({'sources': blocks(chips)}))
        one = module(str(file))
        assert one.hparams['sources'] == blocks(chips)
        assert equal(list(one.train_dataloader()), list(loader(blocks(chips))))

    def test_statistics(self, chips: Path) -> None:
        sources = blocks(chips, statistics='measured')
        found = module(sources).statistics
        assert found['s2']['bands'] == [f'sentinel2:{b}' for b in ('B02', 'B03', 'B04', 'B08')]
        assert found['s2']['mean'] == pytest.approx([0.125] * 4, abs=0.005)
        assert found['s2']['images'] == 22
        images = [b['image'] for b in loader(sources) if b['source'] == 's2']
        assert torch.cat(images).mean().abs() < 0.1

    def test_transfer_changes_nothing(self, chips: Path) -> None:
        batch = {'image': torch.ones(1)}
        assert module(blocks(chips)).on_after_batch_transfer(batch, 0) is batch

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'batch_size': 0}, 'batch_size'),
            ({'num_workers': -1}, 'num_workers'),
            ({'crop_scale': (0, 1)}, 'crop_scale'),
            ({'crop_scale': (0.5, 1.5)}, 'crop_scale'),
            ({'crop_ratio': 1}, 'crop_ratio'),
            ({'bad_limit': 2}, 'bad_limit'),
        ],
    )
    def test_refuses(self, chips: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            PretrainDataModule(blocks(chips), **options)

    def test_names_must_differ(self, chips: Path) -> None:
        with pytest.raises(ConfigError, match='name= of its own'):
            PretrainDataModule([blocks(chips)[0]] * 2)

    def test_any_reader(self) -> None:
        """What is behind a source is an interface: here an array, tomorrow a shard."""
        from torchgeo_aom.data.source import Pixels, WindowOf

        class Shard:
            size = (8, 8)

            def __len__(self) -> int:
                return 9

            def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
                return Pixels(np.full((3, 8, 8), 100 + index, np.uint8), None)

            def name(self, index: int) -> str:
                return str(index)

            def fingerprint(self) -> str:
                return 'shard'

        declared = Source.parse({'path': 'x', 'sensor': 'rgb', 'unit': 'uint8'})
        normalize = Normalize(declared.bands, declared.product)
        dataset = PretrainDataset([declared], [Shard()], [normalize])
        found = list(KeyedLoader(dataset, KeyedSampler(dataset, 3)))
        assert [b['image'].shape for b in found] == [(3, 3, 8, 8)] * 3
