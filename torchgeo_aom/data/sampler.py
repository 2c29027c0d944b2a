"""The order of the batches: a function of seed and epoch, shared out to any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from torchgeo_aom.data.chips import PretrainDataset, Request
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.rng import generator

__all__ = ('KeyedSampler', 'check_facts', 'facts')


class KeyedSampler(DistributedSampler[Request]):
    """Order of the batches: one source a batch, sources interleaved, each rank its part.

    A batch of all ranks together is the batch that one process with the same total batch size
    would take. Lightning leaves a `DistributedSampler` as it is, hence the base class.

    Args:
        dataset: what the requests go to.
        batch_size: images a batch and rank.
        seed: seed of the run.
        rank: number of this process.
        world_size: number of processes.
        drop_last: leave out what is left of a source's images after the last whole batch, others
            in every epoch. If false they become a smaller batch, equal on all ranks (of the images
            that cannot be shared out evenly, less than one a rank, none is taken).

    Raises:
        ConfigError: if a source does not fill a single batch.
    """

    def __init__(
        self,
        dataset: PretrainDataset,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> None:
        """Work out how many batches each source gives."""
        super().__init__(dataset, world_size, rank, shuffle=True, seed=seed, drop_last=drop_last)
        self.batch_size = batch_size
        self.start = 0  # batches of this epoch that were done before it was begun here
        self.done = 0  # batches of this epoch that are done
        self.sources = dataset.sources
        self.sizes = [len(reader) for reader in dataset.readers]
        total = batch_size * world_size
        self.batches: list[int] = []
        for source, size in zip(self.sources, self.sizes, strict=True):
            taken = round(size * source.weight)
            self.batches.append(taken // total + (not drop_last and taken % total >= world_size))
            if not self.batches[-1]:
                raise ConfigError(
                    f'source {source.name!r} gives {taken} images an epoch ({size} x weight '
                    f'{source.weight:g}), too few for a batch of {batch_size} on each of '
                    f'{world_size} processes: use a smaller batch_size, a larger weight, or '
                    f'drop_last=False'
                )

    def __len__(self) -> int:
        """Batches an epoch, those done included."""
        return sum(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch; the one that is under way goes on where it is.

        Args:
            epoch: number of the epoch.
        """
        if epoch != self.epoch:
            self.epoch = epoch
            self.start = self.done = 0

    def __iter__(self) -> Iterator[Request]:
        """Requests of this epoch that are not done yet."""
        epoch, total = self.epoch, self.batch_size * self.num_replicas
        turns = np.repeat(np.arange(len(self.batches)), self.batches)
        generator(self.seed, 'interleave', epoch).shuffle(turns)
        orders = [self._order(epoch, source) for source in range(len(self.batches))]
        taken = [0] * len(self.batches)
        for place, source in enumerate(turns.tolist()):
            first = taken[source]
            taken[source] += total
            if place < self.start:
                continue
            share = min(total, len(orders[source]) - first) // self.num_replicas
            first += self.rank * share
            chosen = orders[source][first : first + share]
            size = self.sizes[source]
            yield Request(
                epoch,
                epoch * len(self) + place,
                source,
                tuple((chosen % size).tolist()),
                tuple((chosen // size).tolist()),
            )

    def _order(self, epoch: int, source: int) -> NDArray[np.int64]:
        """Samples of a source in this epoch, plus the source's size for each time before."""
        size, name = self.sizes[source], self.sources[source].name
        taken = round(size * self.sources[source].weight)
        rounds = [
            k * size + generator(self.seed, 'order', epoch, name, k).permutation(size)
            for k in range(math.ceil(taken / size))
        ]
        return np.concatenate(rounds)[:taken]

    def facts(self) -> dict[str, int]:
        """What a resumed run must have in common with the one before."""
        return facts(self.seed, self.num_replicas, self.batch_size)

    def plan(self) -> str:
        """Hash of everything the order depends on besides the seed and the ranks."""
        facts = [(s.name, s.weight, n) for s, n in zip(self.sources, self.sizes, strict=True)]
        return sha256(repr((facts, self.drop_last)).encode()).hexdigest()[:16]


def facts(seed: int, world_size: int, batch_size: int) -> dict[str, int]:
    """What a resumed run must have in common with the one before."""
    return {'seed': seed, 'world_size': world_size, 'batch_size': batch_size}


def check_facts(state: Mapping[str, Any], now: Mapping[str, int]) -> None:
    """Refuse to go on in another order than the run before.

    Args:
        state: what the other run saved.
        now: the facts of this run.

    Raises:
        ConfigError: if they differ.
    """
    other = {key: value for key, value in now.items() if state.get(key) != value}
    if other:
        told = ', '.join(
            f'{key} was {state.get(key)} and is {value}' for key, value in other.items()
        )
        raise ConfigError(
            f'this run cannot go on from that checkpoint: {told}. The rest of the data would come '
            f'in another order. Use the same values, or start a new run from its weights'
        )
