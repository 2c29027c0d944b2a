"""What labelled data sets share: bands by name, a declared product, checks and pictures."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchgeo.datasets import NonGeoDataset

from ..bands import Band, BandSpec, Product, get_product, resolve_bands
from ..errors import BandError, ConfigError, InputError, suggest
from ..transforms import Normalize
from .pictures import sample_figure

__all__ = ('BandDataset', 'Target', 'Transform', 'as_image', 'checked_split', 'select_bands')

#: What a sample is labelled with: one class, several classes, or a class for each pixel.
Target = Literal['class', 'classes', 'mask']

Transform = Callable[[dict[str, Any]], dict[str, Any]]


def select_bands(
    spec: BandSpec | None, stored: Sequence[Band], sensor: str | None = None
) -> tuple[tuple[Band, ...], list[int]]:
    """Choose bands by name among those that files hold.

    Args:
        spec: bands wanted, in their order; all, in file order, where not given.
        stored: the bands in file order.
        sensor: what band names without a sensor belong to.

    Returns:
        The bands, and the channel of each in the file.

    Raises:
        BandError: if a band is unknown, or not stored.
    """
    if spec is None:
        return tuple(stored), list(range(len(stored)))
    place = {(band.sensor, band.name): channel for channel, band in enumerate(stored)}
    chosen = resolve_bands(spec, sensor)
    common = {band.common_name: key for key, band in zip(place, stored, strict=True)}
    channels = []
    for band in chosen:
        key = (band.sensor, band.name)
        if key not in place and band.sensor is None and band.common_name in common:
            key = common[band.common_name]  # 'red' asked of a sensor that has it
        if key not in place:
            names = [other.label for other in stored]
            raise BandError(
                f'band {band.label!r} is not in these files{suggest(band.label, names)}. '
                f'They hold {", ".join(names)}'
            )
        channels.append(place[key])
    return tuple(stored[channel] for channel in channels), channels


def checked_split(split: str, splits: Sequence[str]) -> str:
    """Check the name of a split.

    Args:
        split: the name given.
        splits: the names allowed.

    Returns:
        The name.

    Raises:
        ConfigError: if it is none of them.
    """
    if split not in splits:
        raise ConfigError(
            f'split must be one of {", ".join(map(repr, splits))}, got {split!r}'
            f'{suggest(str(split), splits)}'
        )
    return split


def as_image(values: np.ndarray[Any, Any]) -> Tensor:
    """Turn stored values into an image.

    Args:
        values: of shape (C, H, W) and any number type, in any byte order.

    Returns:
        The same values as float32, in memory of their own.
    """
    return torch.from_numpy(np.array(values, dtype=np.float32))


class BandDataset(NonGeoDataset):
    """Base of data sets whose channels have names.

    Samples hold ``image``, float32 (C, H, W) of stored values: they are normalized once, outside:
    by :meth:`normalize` or by a data module. Beside it stands ``label``, int64, a number or zeros
    and ones (K,), or ``mask``, int64 (H, W).

    .. versionadded:: 0.1
    """

    splits: ClassVar[tuple[str, ...]] = ('train', 'val', 'test')
    target: Target = 'class'
    classes: tuple[str, ...] = ()
    #: value of a mask that counts nowhere; None where every pixel has a class
    ignore_index: int | None = None
    #: color of each class, as matplotlib takes them; a palette where there are none
    colors: tuple[str, ...] = ()
    #: what each sample belongs to and must not be torn from in a split (a site, a scene); None
    #: where nothing is known of it
    groups: Sequence[str] | None = None
    #: files that samples are read from; empty where they are not known
    files: Sequence[str | os.PathLike[str]] = ()

    def __init__(
        self,
        stored: Sequence[Band],
        bands: BandSpec | None,
        product: str | Product,
        transforms: Transform | None = None,
    ) -> None:
        """Choose the bands.

        Args:
            stored: what the files hold, in file order.
            bands: bands wanted, in their order; all where not given.
            product: how values are stored.
            transforms: takes and returns a sample.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if the product is unknown.
        """
        sensors = {band.sensor for band in stored}
        sensor = sensors.pop() if len(sensors) == 1 else None
        chosen, self.channels = select_bands(bands, stored, sensor)
        self.band_objects = chosen
        #: bands of the channels, each with its sensor
        self.bands: tuple[str, ...] = tuple(band.label for band in chosen)
        self.product = get_product(product, sensor) if isinstance(product, str) else product
        self.transforms = transforms

    def normalize(self, **options: Any) -> Normalize:
        """Make the transform that fits these bands and this product.

        Args:
            **options: of :class:`torchgeo_aom.transforms.Normalize`, such as ``statistics``.

        Returns:
            The transform, for ``transforms=`` or for whole batches.

        Raises:
            ConfigError: if there are no statistics for these bands, and none are given.
        """
        return Normalize(self.band_objects, self.product, **options)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @abstractmethod
    def load(self, index: int) -> dict[str, Any]:
        """Read a sample, before transforms.

        Args:
            index: which one, 0 to ``len(self) - 1``.

        Returns:
            The sample, with all its values.

        Raises:
            DataError: if a file is missing or damaged.
        """

    def fingerprint(self) -> str:
        """Hash that changes whenever the stored values do.

        Returns:
            Hash of bands, product, and name, length and time of change of every file; of all
            samples where the files are not known.
        """
        product = (self.product.name, self.product.scale, self.product.offset, self.product.nodata)
        digest = hashlib.sha256(repr((type(self).__name__, self.bands, product)).encode())
        for path in self.files:
            facts = os.stat(path)
            digest.update(os.fsencode(path) + f' {facts.st_size} {facts.st_mtime_ns}\n'.encode())
        for index in () if self.files else range(len(self)):
            for key, value in sorted(self.load(index).items()):
                if isinstance(value, Tensor):
                    digest.update(f'{key} {tuple(value.shape)}'.encode() + value.numpy().tobytes())
        return digest.hexdigest()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample, after transforms.

        Args:
            index: which one; negative ones count from the end.

        Returns:
            The sample.

        Raises:
            DataError: if a file is missing or damaged.
            IndexError: if there is no such sample.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f'index {index} is out of range: there are {len(self)} samples')
        sample = self.load(index % len(self))
        return sample if self.transforms is None else self.transforms(sample)

    def _shown(self, image: Tensor) -> Tensor:
        """The image with its smallest values where it has no data, for a picture."""
        valid = torch.isfinite(image)
        if self.product.nodata is not None:
            filled = image == self.product.nodata
            valid &= ~(filled.all(0, keepdim=True) if self.product.nodata_in == 'all' else filled)
        low = torch.where(valid, image, torch.inf).amin((1, 2), keepdim=True)
        return torch.where(valid, image, torch.where(torch.isfinite(low), low, 0.0))

    def plot(
        self, sample: Mapping[str, Any], show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a sample in true color, or in its first bands where one of those is missing.

        Args:
            sample: a sample, normalized or not, perhaps with a ``prediction``.
            show_titles: whether to name panels and classes.
            suptitle: title of the figure.

        Returns:
            The figure.

        Raises:
            InputError: if it has no image (C, H, W) of these bands.
        """
        image = sample.get('image')
        if not isinstance(image, Tensor) or image.ndim != 3 or len(image) != len(self.bands):
            raise InputError(
                f'a sample of this data set has an image of shape ({len(self.bands)}, H, W), got '
                f'{tuple(image.shape) if isinstance(image, Tensor) else image!r}'
            )
        shown = {**sample, 'image': self._shown(image)}
        return sample_figure(
            shown, self.band_objects, self.classes, self.target, self.ignore_index, self.colors,
            show_titles, suptitle,
        )  # fmt: skip
