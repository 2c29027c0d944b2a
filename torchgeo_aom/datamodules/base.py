"""One data module for every labelled data set: bands, one normalization, sizes, augmentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, TypeAlias, TypeVar, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule

from ..datasets.base import BandDataset
from ..errors import ConfigError, DataError, InputError, suggest
from ..transforms import Normalize
from .batches import Collate, Sides, dihedral, resized, sides
from .measured import measured

__all__ = ('BandDataModule', 'find_dataset')

OneBand: TypeAlias = str | int | float | dict[str, Any]
Bands: TypeAlias = OneBand | list[OneBand]
F = TypeVar('F', bound=Callable[..., None])
NORMALIZATIONS = ('catalogue', 'measured')


def find_dataset(dataset: str | type[BandDataset]) -> type[BandDataset]:
    """Find the class of a data set.

    Args:
        dataset: the class, its import path, or its name in `torchgeo_aom.datasets`.

    Returns:
        The class.

    Raises:
        ConfigError: if there is none, or it is no `BandDataset`.
    """
    found: Any = dataset
    if isinstance(dataset, str):
        path, _, name = dataset.rpartition('.')
        try:
            module = import_module(path or 'torchgeo_aom.datasets')
        except ImportError as error:
            raise ConfigError(f'data set {dataset!r} cannot be imported: {error}') from error
        found = getattr(module, name, None)
        if found is None:
            names = getattr(module, '__all__', ())
            raise ConfigError(
                f'there is no data set {name!r} in {module.__name__}{suggest(name, names)}. '
                f'It has {", ".join(names)}'
            )
    if not (inspect.isclass(found) and issubclass(found, BandDataset)):
        raise ConfigError(
            f'dataset must be a BandDataset, its import path or its name in torchgeo_aom.datasets, '
            f"got {dataset!r}. Folders of one's own: RasterFolder"
        )
    return found


def _known_arguments(init: F) -> F:
    """Let a constructor say where an unknown argument belongs.

    TorchGeo's own data modules take arguments of the data set directly. The signature stays as it
    is, since the command line reads it.
    """
    known = list(inspect.signature(init).parameters)

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        unknown = {name: value for name, value in kwargs.items() if name not in known}
        if unknown:
            raise ConfigError(
                f'{type(self).__name__} has no argument {", ".join(map(repr, unknown))}. If the '
                f'data set has it, give dataset_args={unknown!r}; else take one of '
                f'{", ".join(known[1:])}.'
            )
        init(self, *args, **kwargs)

    return cast('F', checked)


class BandDataModule(NonGeoDataModule):
    """Splits of a `BandDataset` as normalized batches.

    Samples are padded and cut on their way into a batch. The batch is normalized once, on its
    device, from stored values to mean 0 and standard deviation 1 (pixels without data become 0, the
    mean), then resized, and in training flipped and turned.

    .. versionadded:: 0.1
    """

    @_known_arguments
    def __init__(
        self,
        dataset: str | type[BandDataset],
        dataset_args: dict[str, Any] | None = None,
        bands: Bands | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        normalization: str = 'catalogue',
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop: Sides | None = None,
        eval_crop: Sides | None = None,
        pad: Sides | None = None,
        resize: Sides | None = None,
        flip: bool = True,
        rotate: bool = True,
        strict: bool = False,
        train_split: str = 'train',
        val_split: str = 'val',
        test_split: str = 'test',
        cache_dir: str | None = None,
    ) -> None:
        """Check the arguments; files are looked at later.

        Args:
            dataset: the data set: a class, its import path, or its name in
                `torchgeo_aom.datasets`.
            dataset_args: arguments of that class, such as ``root``, without split and bands.
            bands: bands wanted, in their order; all where not given.
            batch_size: images a batch in training.
            eval_batch_size: images a batch elsewhere; the same where not given.
            num_workers: processes that load.
            normalization: mean and standard deviation of each band: ``'catalogue'``, those that fit
                the product; ``'measured'``, those of the training split, measured once and kept; or
                the name of statistics, such as ``'sentinel2:l2a'``.
            mean: instead, the mean of each band, in reflectance.
            std: standard deviation of each band, together with *mean*.
            crop: in training, cut out this height and width anywhere.
            eval_crop: elsewhere, cut this height and width from the middle; whole images where not
                given.
            pad: pad images to at least this height and width first.
            resize: resize images to this height and width, masks by nearest neighbor.
            flip: flip images in training.
            rotate: turn images by multiples of 90 degrees in training.
            strict: raise instead of warn where values contradict the product of the data set.
            train_split: split to train on.
            val_split: split to validate on.
            test_split: split to test and predict on.
            cache_dir: where measured statistics are kept; the user's cache where not given.

        Raises:
            ConfigError: if an argument is unknown, or two contradict each other.
        """
        dataset_class = find_dataset(dataset)
        arguments = _checked_arguments(dataset_class, dict(dataset_args or {}))
        super().__init__(dataset_class, batch_size, num_workers, **arguments)
        for name, number in (('batch_size', batch_size), ('eval_batch_size', eval_batch_size)):
            if number is not None and number < 1:
                raise ConfigError(f'{name} must be at least 1, got {number}')
        if (mean is None) != (std is None):
            raise ConfigError('mean and std belong together: give both or neither')
        if mean is not None and normalization != 'catalogue':
            raise ConfigError('give either mean and std or normalization, not both')
        if normalization not in NORMALIZATIONS and ':' not in normalization:
            raise ConfigError(
                f'normalization must be {", ".join(map(repr, NORMALIZATIONS))} or the name of '
                f"statistics such as 'sentinel2:l2a', got {normalization!r}"
                f'{suggest(normalization, NORMALIZATIONS)}'
            )
        self.selected = bands
        self.normalization = normalization
        self.given = (mean, std)
        self.train_crop, self.eval_crop = sides(crop, 'crop'), sides(eval_crop, 'eval_crop')
        self.pad, self.resize = sides(pad, 'pad'), sides(resize, 'resize')
        self.flip, self.rotate, self.strict = flip, rotate, strict
        self.split_names = {'train': train_split, 'val': val_split, 'test': test_split}
        self.split_names['predict'] = test_split
        self.cache_dir = cache_dir
        self.val_batch_size = self.test_batch_size = self.predict_batch_size = eval_batch_size
        #: the transform of batches, once :meth:`setup` has run
        self.normalize: Normalize | None = None
        self.aug = nn.Identity()  # TorchGeo's own would divide by 255
        self._facts: BandDataset | None = None

    def build(self, split: str) -> BandDataset:
        """Make the data set of a split.

        Args:
            split: name that the data set gives it.

        Returns:
            The data set.
        """
        chosen = {} if self.selected is None else {'bands': self.selected}
        found = self.dataset_class(split=split, **chosen, **self.kwargs)  # type: ignore[call-arg]
        self._facts = found  # type: ignore[assignment]
        return found  # type: ignore[return-value]

    def _built(self) -> BandDataset:
        """Any split that exists, to ask what all of them share."""
        return self.build(self.split_names['train']) if self._facts is None else self._facts

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of the channels, each with its sensor."""
        return self._built().bands

    @property
    def target(self) -> str:
        """Key of what samples are labelled with: ``'label'`` or ``'mask'``."""
        return self._built().target

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._built().classes

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._built().num_classes

    @property
    def ignore_index(self) -> int | None:
        """Value of a mask that counts nowhere."""
        return self._built().ignore_index

    def prepare_data(self) -> None:
        """Download the data, where that is asked for and possible."""
        if self.kwargs.get('download', False):
            self.build(self.split_names['train'])

    def setup(self, stage: str) -> None:
        """Make the data sets of a stage, and the normalization.

        Args:
            stage: ``'fit'``, ``'validate'``, ``'test'`` or ``'predict'``.

        Raises:
            ConfigError: if the data set has no such split, or there are no statistics.
            DataError: if files are missing.
        """
        stages = {'fit': ('train', 'val'), 'validate': ('val',), 'test': ('test',)}
        for name in stages.get(stage, ('predict',)):
            if getattr(self, f'{name}_dataset') is None:
                found = self.build(self.split_names[name])
                if len(found) == 0:
                    raise DataError(
                        f'split {self.split_names[name]!r} of {type(found).__name__} is empty'
                    )
                setattr(self, f'{name}_dataset', found)
        if self.normalize is None:
            self.normalize = self._make_normalize()
            # In stored values, as TorchGeo's tasks want them to undo it for their pictures.
            self.mean = self.normalize.shift.flatten()
            self.std = 1 / self.normalize.gain.flatten()

    def _make_normalize(self) -> Normalize:
        dataset = self._built()
        mean, std = self.given
        statistics, source = None, 'given'
        if mean is None and self.normalization == 'measured':
            train = self.train_dataset or self.build(self.split_names['train'])
            found = measured(train, self.cache_dir)  # type: ignore[arg-type]
            mean, std, source = found.mean, found.std, f'measured on {found.images} images'
        elif mean is None:
            source = self.normalization
            statistics = None if source == 'catalogue' else source
        normalize = dataset.normalize(
            mean=mean, std=std, statistics=statistics, nodata_fill=True, strict=self.strict
        )
        rank_zero_info(
            f'{type(dataset).__name__}: bands {", ".join(dataset.bands)}; product '
            f'{dataset.product.name!r}; normalization: {source}'
        )
        return normalize

    def _dataloader_factory(self, split: str) -> DataLoader[dict[str, Tensor]]:
        dataset: Any = self._valid_attribute(f'{split}_dataset', 'dataset')
        batch_size: int = self._valid_attribute(f'{split}_batch_size', 'batch_size')
        training = split == 'train'
        return DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=training,
            num_workers=self.num_workers,
            collate_fn=Collate(
                pad=self.pad,
                crop=self.train_crop if training else self.eval_crop,
                random=training,
                ignore_index=getattr(dataset, 'ignore_index', None),
                any_size=self.resize is not None,
            ),
            # A data set smaller than a batch is a batch all the same.
            drop_last=training and len(dataset) >= batch_size,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def prepare(self, batch: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalize a batch of stored values, resize it, and augment it in training.

        Args:
            batch: a batch as it comes from a loader of this module, on any device.
            training: whether to augment.

        Returns:
            A new batch.

        Raises:
            InputError: if :meth:`setup` has not run.
            UnitError: if *strict* and the values contradict the product.
        """
        if self.normalize is None:
            raise InputError("batches are normalized after setup('fit'), setup('test') ... only")
        image, mask = batch['image'], batch.get('mask')
        if isinstance(image, list):  # of different sizes
            pairs = [
                self._one_size(one[None], None if mask is None else mask[k][None])
                for k, one in enumerate(image)
            ]
            image = torch.cat([one for one, _ in pairs])
            mask = torch.cat([one for _, one in pairs if one is not None]) if mask else None
        else:
            image, mask = self._one_size(image, mask)
        if training and (self.flip or self.rotate):
            image, mask = dihedral(image, mask, self.flip, self.rotate)
        return {**batch, 'image': image, **({} if mask is None else {'mask': mask})}

    def _one_size(self, image: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        normalized: Tensor = self.normalize(image)  # type: ignore[misc]
        return (normalized, mask) if self.resize is None else resized(normalized, mask, self.resize)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalize a batch on its device, and augment it in training.

        Args:
            batch: stored values.
            dataloader_idx: number of the loader.

        Returns:
            A new batch.
        """
        trainer = self.trainer
        return self.prepare(batch, training=trainer is not None and trainer.training)

    def plot(self, *args: Any, **kwargs: Any) -> Figure | None:
        """Plot a sample, normalized or not.

        Args:
            *args: the sample, and more of the data set's ``plot``.
            **kwargs: of the data set's ``plot``.

        Returns:
            The figure.
        """
        return self._built().plot(*args, **kwargs)


def _checked_arguments(
    dataset_class: type[BandDataset], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Refuse what the data module gives itself, what is unknown, and a second normalization."""
    known = inspect.signature(dataset_class).parameters
    for name in arguments:
        if name in ('split', 'bands'):
            raise ConfigError(
                f'{name} is not an argument of dataset_args: give bands=, train_split='
            )
        if name not in known:
            allowed = [key for key in known if key not in ('split', 'bands')]
            raise ConfigError(
                f'{dataset_class.__name__} has no argument {name!r}{suggest(name, allowed)}. '
                f'It has {", ".join(allowed)}'
            )
    transforms = arguments.get('transforms')
    modules = transforms.modules() if isinstance(transforms, nn.Module) else [transforms]
    if any(isinstance(module, Normalize) for module in modules):
        raise ConfigError(
            'transforms= of the data set normalizes, and so does the data module: leave one out'
        )
    return arguments
