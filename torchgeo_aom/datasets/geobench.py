"""GEO-Bench v1 (Lacoste et al. 2023): the twelve tasks, among them those of the paper's Table 1."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ..bands import BandSpec, Product
from ..errors import ConfigError, DataError
from ..transforms import Normalize
from .base import BandDataset, Transform, as_image, checked_split
from .geobench_files import find_folder, label_table, read_arrays, read_json, read_label, where
from .geobench_tasks import Task, find_task
from .rasters import no_download

__all__ = ('GeoBench',)

#: Names of the statistics that a task brings itself.
OWN = ('task', 'geobench:task')


class GeoBench(BandDataset):
    """A task of GEO-Bench v1, with the names that its bands and classes should have.

    The bands of m-eurosat and m-brick-kiln and the classes of m-chesapeake are named wrongly in the
    files; here they have their true names. Bands are found by name and only those wanted are read.
    Bands that are not optical (Sentinel-1, canopy height, cloud probability, pictures) are left
    out. Labels are read without unpickling anything.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        task: str = 'm-eurosat',
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        partition: str = 'default',
        product: str | Product | None = None,
        ignore_no_data: bool = False,
        transforms: Transform | None = None,
        download: bool = False,
    ) -> None:
        """List the samples of a split.

        Args:
            task: name of the task, such as ``'m-eurosat'``.
            root: the folder that holds ``classification_v1.0`` and ``segmentation_v1.0``, or the
                folder of the task itself.
            split: ``'train'``, ``'val'`` (or ``'valid'``) or ``'test'``.
            bands: bands wanted, in their order; all optical ones where not given.
            partition: which list of samples: ``'default'``, or ``'0.01x_train'`` and others with
                fewer samples to train on.
            product: how values are stored, instead of what is known of the task.
            ignore_no_data: leave pixels of the class "no data" out of losses and scores; the
                benchmark itself counts them as a class.
            transforms: takes and returns a sample.
            download: must stay False.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such task, split or partition, or h5py is missing.
            DataError: if files are missing or damaged.
        """
        #: what is known of the task
        self.task: Task = find_task(task)
        super().__init__(self.task.bands, bands, product or self.task.product, transforms)
        no_download(download, where(self.task))
        # The files' own name for it is no split of its own: folds take each split once.
        self.split = checked_split('val' if split == 'valid' else split, self.splits)
        if ignore_no_data and self.task.no_data is None:
            raise ConfigError(f'{self.task.name} has no class "no data": leave ignore_no_data out')
        self.target, self.classes = self.task.target, self.task.classes
        if self.target == 'mask':  # 255 occurs nowhere, and may fill what is padded
            self.ignore_index = self.task.no_data if ignore_no_data else 255
        self.root = find_folder(root, self.task)
        self.partition = partition
        #: names of the samples
        self.names = self._listed()
        present = {entry.name for entry in os.scandir(self.root)}
        missing = [name for name in self.names if f'{name}.hdf5' not in present]
        if missing:
            raise DataError(
                f'{len(missing)} of {len(self.names)} files of {self.task.name} are missing, the '
                f'first one is {self.root / missing[0]}.hdf5. {where(self.task)}'
            )
        self.files = [self.root / f'{name}.hdf5' for name in self.names]
        labels = {} if self.target == 'mask' else label_table(self.root, self.task)
        self._labels = {name: labels[name] for name in self.names if name in labels}
        self._stored = [list(self.task.stored.values())[channel] for channel in self.channels]

    def _listed(self) -> list[str]:
        ending = '_partition.json'
        known = sorted(path.name.removesuffix(ending) for path in self.root.glob('*' + ending))
        if self.partition not in known:
            raise ConfigError(
                f'{self.task.name} has no partition {self.partition!r} in {self.root}: it has '
                f'{", ".join(map(repr, known))}'
            )
        path = self.root / f'{self.partition}{ending}'
        names = read_json(path, self.task).get({'val': 'valid'}.get(self.split, self.split))
        if not isinstance(names, list) or not names:
            raise DataError(f'{path} lists no samples of split {self.split!r}. {where(self.task)}')
        for name in names:
            if not (isinstance(name, str) and name and os.path.basename(name) == name):
                raise DataError(f'{path} is damaged: {name!r} is no name of a sample')
        return names

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.names)

    def load(self, index: int) -> dict[str, Any]:
        """Read the bands wanted of a sample, and its label.

        Args:
            index: which one.

        Returns:
            ``image`` (C, H, W), and ``label``, a class or zeros and ones, or ``mask`` (H, W).

        Raises:
            DataError: if the file is missing or damaged.
        """
        path, masked = self.files[index], self.target == 'mask'
        arrays = read_arrays(path, [*self._stored, *(['label'] if masked else [])])
        sample: dict[str, Any] = {}
        if masked:
            mask = arrays.pop()
            right = mask.dtype.kind in 'iub' and mask.min() >= 0
            if not right or not ((mask < self.num_classes) | (mask == 255)).all():
                raise DataError(
                    f'the mask of {path} must hold classes 0 to {self.num_classes - 1}, it holds '
                    f'{mask.min()} to {mask.max()}'
                )
            sample['mask'] = torch.from_numpy(mask.astype(np.int64))
        else:
            sample['label'] = self._label(index)
        return {'image': as_image(np.stack(arrays)), **sample}

    def _label(self, index: int) -> torch.Tensor:
        label = self._labels.get(self.names[index])
        if label is None:
            label = read_label(self.files[index])
        if self.target == 'class':
            right = isinstance(label, int) and 0 <= label < self.num_classes
        else:
            right = isinstance(label, list) and len(label) == self.num_classes
        if not right:
            raise DataError(
                f'the label of {self.files[index]} does not fit {self.task.name}, which has '
                f'{self.num_classes} classes: {str(label)[:80]}'
            )
        return torch.tensor(label, dtype=torch.int64)

    def band_statistics(self) -> dict[str, tuple[float, float]]:
        """Read the statistics that the task brings, of all its splits together.

        Returns:
            Mean and standard deviation in reflectance of each band of this data set, under the
            names that bands should have, for ``mean=`` and ``std=`` of `Normalize`.

        Raises:
            DataError: if there are none.
        """
        path = self.root / 'band_stats.json'
        table = read_json(path, self.task)
        found = {}
        for band, stored in zip(self.bands, self._stored, strict=True):
            row = table.get(stored)
            try:
                mean, std = float(row['mean']), float(row['std'])  # type: ignore[index]
            except (TypeError, KeyError, ValueError) as error:
                raise DataError(f'{path} has no mean and std of {stored!r}, {band}') from error
            scale = self.product.scale
            found[band] = (mean * scale + self.product.offset, std * scale)
        return found

    def normalize(self, **options: Any) -> Normalize:
        """Make the transform that fits these bands and this product.

        Args:
            **options: of `Normalize`. ``statistics='task'`` takes those of :meth:`band_statistics`.

        Returns:
            The transform, for ``transforms=`` or for whole batches.

        Raises:
            ConfigError: if there are no statistics for these bands, and none are given.
        """
        if options.get('statistics') in OWN:
            if options.get('mean') is not None or options.get('std') is not None:
                raise ConfigError('give either mean and std or statistics, not both')
            pairs = self.band_statistics().values()
            own = {'mean': [m for m, _ in pairs], 'std': [s for _, s in pairs]}
            return super().normalize(**{**options, 'statistics': None, **own})
        try:
            return super().normalize(**options)
        except ConfigError as error:
            if options.get('statistics') or options.get('mean') is not None:
                raise
            raise ConfigError(
                f"{error}. {self.task.name} brings statistics of its own: statistics='task', in a "
                f"data module normalization='geobench:task'"
            ) from error
