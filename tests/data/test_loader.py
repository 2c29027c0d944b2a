"""The loader of pretraining: every batch follows from its key, whatever happens around it."""

import itertools
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from loader_tools import FOLDERS, blocks, equal, loader, module, sampler
from scipy.stats import chisquare
from torch import Tensor

from torchgeo_aom.data.chips import PretrainDataset, _Crop
from torchgeo_aom.data.loader import KeyedLoader, PretrainDataModule
from torchgeo_aom.data.sampler import KeyedSampler
from torchgeo_aom.data.source import Source
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.rng import generator
from torchgeo_aom.transforms import Normalize


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
