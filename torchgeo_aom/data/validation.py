"""Validation data of pretraining: a fixed share of each source, read in order and not augmented."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, DistributedSampler

from torchgeo_aom.data.chips import PretrainDataset, Request, bad_lists
from torchgeo_aom.data.source import Pixels, Reader, WindowOf
from torchgeo_aom.errors import ConfigError

__all__ = ('OrderedLoader', 'OrderedSampler', 'Part', 'split')


class Part:
    """Some of the samples of a reader.

    Args:
        reader: the reader.
        indices: which of its samples.
    """

    def __init__(self, reader: Reader, indices: NDArray[np.int64]) -> None:
        """Keep both; nothing is opened."""
        self.reader = reader
        self.indices = indices
        self.size = reader.size

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
        """Read a sample; see `Reader.read`."""
        return self.reader.read(int(self.indices[index]), window, seed)

    def name(self, index: int) -> str:
        """What messages call a sample."""
        return self.reader.name(int(self.indices[index]))

    def fingerprint(self) -> str:
        """Hash of the content of the whole reader and of the choice."""
        digest = hashlib.sha256(self.reader.fingerprint().encode())
        digest.update(self.indices.tobytes())
        return digest.hexdigest()


def split(name: str, reader: Reader, share: float) -> tuple[Part, Part]:
    """Split a source by the names of its samples: a sample stays on its side for good.

    Other samples that come or go, the seed, the number of processes and the place of the folder
    change nothing.

    Args:
        name: name of the source.
        reader: its reader.
        share: about this share is for validation.

    Returns:
        Training and validation part.

    Raises:
        ConfigError: if one of them is empty.
    """
    key: Callable[[int], str] = getattr(reader, 'key', reader.name)
    limit = int(share * 2**64)
    held = np.array([_number(key(index)) < limit for index in range(len(reader))], dtype=bool)
    if held.all() or not held.any():
        raise ConfigError(
            f'source {name!r}: val_share={share:g} of {len(reader)} images leaves none for '
            f'{"training" if held.all() else "validation"}. Use another share, or val_sources='
        )
    return Part(reader, np.flatnonzero(~held)), Part(reader, np.flatnonzero(held))


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


class OrderedSampler(DistributedSampler[Request]):
    """All samples once, source by source, shared out evenly; the same in each epoch.

    Args:
        dataset: what the requests go to.
        batch_size: images a batch and rank at most.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ConfigError: if a source has fewer samples than there are processes.
    """

    def __init__(
        self, dataset: PretrainDataset, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        """Work out the batches."""
        super().__init__(dataset, world_size, rank, shuffle=False)
        self.requests: list[Request] = []
        for number, reader in enumerate(dataset.readers):
            if len(reader) < world_size:
                raise ConfigError(
                    f'source {dataset.sources[number].name!r} has {len(reader)} images for '
                    f'validation, fewer than the {world_size} processes. Use a larger val_share=, '
                    f'or more of val_sources='
                )
            # Batches of nearly equal size: one of a single image has no negatives.
            own = np.arange(rank, len(reader), world_size)
            most = -(-len(reader) // world_size)
            for part in np.array_split(own, -(-most // batch_size)):
                if len(part):
                    chosen = tuple(part.tolist())
                    self.requests.append(
                        Request(0, len(self.requests), number, chosen, (0,) * len(chosen))
                    )

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        """The batches."""
        return iter(self.requests)


class OrderedLoader(DataLoader[dict[str, Any]]):
    """Loads validation batches.

    Args:
        dataset: reads them.
        sampler: their order.
        num_workers: worker processes; the batches do not depend on it.
        bad_limit: share of a source's samples that may be unreadable.
        pin_memory: whether to copy batches to page-locked memory.
    """

    def __init__(
        self,
        dataset: PretrainDataset,
        sampler: OrderedSampler,
        num_workers: int = 0,
        bad_limit: float = 0.01,
        pin_memory: bool = False,
    ) -> None:
        """Make the loader; a sampler's index is a whole batch."""
        super().__init__(
            dataset, batch_size=None, sampler=sampler, num_workers=num_workers,
            pin_memory=pin_memory,
        )  # fmt: skip
        self.bad = bad_lists(dataset.sources, dataset.readers, bad_limit)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """All batches."""
        for batch in super().__iter__():
            source, skipped = batch.pop('skipped')
            for name, reason in skipped:
                self.bad[source].add(name, reason)
            batch.pop('dropped')
            yield batch
