"""The loader of pretraining over several processes, and where a run goes on."""

import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from loader_tools import blocks, equal, loader, module, sampler
from torch import Tensor

from torchgeo_aom.data.chips import Request
from torchgeo_aom.data.loader import KeyedLoader, PretrainDataModule
from torchgeo_aom.errors import AOMWarning, ConfigError


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
