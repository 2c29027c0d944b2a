"""What a probe reads: the splits of a data set in a row, with groups, names and normalization."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset, Subset

from ..bands import BandSpec, resolve_bands
from ..data.samples import EuroSAT200
from ..datamodules.base import find_dataset
from ..datamodules.measured import measured
from ..datasets.base import BandDataset, Transform, checked_split
from ..errors import ConfigError, suggest
from ..transforms import Normalize

__all__ = ('ProbeData', 'SampleChips', 'open_data')


class SampleChips(BandDataset):
    """The 200 chips of EuroSAT that ship with the package; groups are cells of 100 km."""

    splits = ('all',)
    classes = EuroSAT200.classes

    def __init__(
        self, split: str = 'all', bands: BandSpec | None = None, transforms: Transform | None = None
    ) -> None:
        """List the chips; arguments as of :class:`~torchgeo_aom.data.samples.EuroSAT200`."""
        super().__init__(resolve_bands('sentinel2:eurosat'), bands, EuroSAT200.product, transforms)
        self.split = checked_split(split, self.splits)
        self._chips = EuroSAT200(self.bands)
        self.files, self.groups = self._chips.files, self._chips.cells

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._chips)

    def load(self, index: int) -> dict[str, Any]:
        """Read a chip; see :meth:`EuroSAT200.__getitem__`."""
        return self._chips[index]


@dataclass(frozen=True)
class ProbeData:
    """Samples of all splits in a row.

    Attributes:
        name: name of the data set.
        dataset: the samples, in stored values.
        bands: bands of the channels, each with its sensor.
        classes: names of the classes.
        splits: split of each sample, by the names train, val and test; all of them ``'all'`` where
            the data are to be cut into folds.
        groups: group of each sample; None where nothing is known of it.
        names: name of each sample.
        normalize: transform of whole batches.
        size: height and width of the first image in px.
    """

    name: str
    dataset: Dataset[dict[str, Any]]
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_] | None
    names: tuple[str, ...]
    normalize: Normalize
    size: tuple[int, int]


def open_data(
    dataset: str | type[BandDataset],
    arguments: Mapping[str, Any] | None = None,
    bands: BandSpec | None = None,
    splits: Sequence[str] | None = ('train', 'val', 'test'),
    normalization: str = 'catalogue',
    every: int = 1,
    ignore_groups: bool = False,
) -> ProbeData:
    """Open a data set for a probe.

    Args:
        dataset: name in `torchgeo_aom.datasets`, an import path, a class, or ``'EuroSAT200'``.
        arguments: arguments of that class, such as ``root``, without split and bands.
        bands: bands wanted; all where not given.
        splits: names that the data set gives to what to train, validate and test on, or two of them
            without one to validate on; None to cut everything into folds.
        normalization: ``'catalogue'``, ``'measured'`` (on the training split) or the name of
            statistics; see `BandDataModule`.
        every: take only every n-th sample of each split.
        ignore_groups: act as if nothing were known of groups.

    Returns:
        The data.

    Raises:
        ConfigError: if an argument is unknown, the data set has no single classes for its images,
            or statistics cannot be measured.
    """
    found = SampleChips if dataset == 'EuroSAT200' else find_dataset(dataset)
    given = dict(arguments or {})
    known = [k for k in inspect.signature(found).parameters if k not in ('split', 'bands')]
    for name in given:
        if name not in known:
            raise ConfigError(
                f'{found.__name__} has no argument {name!r}{suggest(name, known)}. It has '
                f'{", ".join(known)}; bands and splits have options of their own'
            )
    chosen = _split_names(found, splits)
    options = given if bands is None else {**given, 'bands': bands}
    parts = {word: found(split=name, **options) for word, name in chosen.items()}  # type: ignore[call-arg]
    first = next(iter(parts.values()))
    if first.target not in ('class', 'classes'):
        raise ConfigError(
            f'{found.__name__} has a class for each pixel, and a probe needs classes of whole '
            'images: take it for segmentation, with torchgeo-aom fit'
        )
    normalize = _normalize(first, normalization, splits is None)
    if every < 1:
        raise ConfigError(f'every must be at least 1, got {every}')
    places = {word: range(0, len(part), every) for word, part in parts.items()}
    rows = [(word, part, k) for word, part in parts.items() for k in places[word]]
    if not rows:
        raise ConfigError(f'{found.__name__} is empty')
    known_groups = not ignore_groups and all(part.groups is not None for part in parts.values())
    height, width = first.load(0)['image'].shape[-2:]
    return ProbeData(
        name=found.__name__ if found is not SampleChips else 'EuroSAT200',
        dataset=ConcatDataset([Subset(parts[word], places[word]) for word in parts]),
        bands=first.bands,
        classes=first.classes,
        splits=np.asarray([word for word, _, _ in rows]),
        groups=np.asarray([str(part.groups[k]) for _, part, k in rows]) if known_groups else None,  # type: ignore[index]
        names=tuple(_name(word, part, k) for word, part, k in rows),
        normalize=normalize,
        size=(int(height), int(width)),
    )


def _split_names(found: type[BandDataset], splits: Sequence[str] | None) -> dict[str, str]:
    """What each part is called by the data set."""
    if splits is None:
        return {'all': 'all'} if 'all' in found.splits else {name: name for name in found.splits}
    if len(splits) not in (2, 3):
        raise ConfigError(
            f'splits are what to train, validate and test on, or to train and test on, got '
            f'{list(splits)}'
        )
    if found.splits == ('all',):
        raise ConfigError(f'{found.__name__} has no splits: give folds= (--folds 5)')
    words = ('train', 'val', 'test') if len(splits) == 3 else ('train', 'test')
    return dict(zip(words, splits, strict=True))


def _normalize(first: BandDataset, normalization: str, folded: bool) -> Normalize:
    if normalization == 'measured':
        if folded:
            raise ConfigError(
                'with folds, statistics measured on all images would know those to test on: take '
                "normalization='catalogue'; the probe standardizes features by itself"
            )
        facts = measured(first)
        return first.normalize(mean=facts.mean, std=facts.std, nodata_fill=True)
    statistics = None if normalization == 'catalogue' else normalization
    return first.normalize(statistics=statistics, nodata_fill=True)


def _name(word: str, part: BandDataset, index: int) -> str:
    if len(part.files) == len(part):
        return str(part.files[index])
    names = getattr(part, 'names', ())
    return str(names[index]) if len(names) == len(part) else f'{word}[{index}]'
