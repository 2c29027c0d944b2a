"""Callback that stops a run whose images have other bands than its model believes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

from lightning.pytorch import Callback, LightningModule, Trainer

from ..bands import Band, get_sensor
from ..errors import BandError, BandWarning, listing
from ..layers.tokenizer import band_codes
from ..models.aom import AOM
from .dataset_bands import dataset_bands, stated_bands

__all__ = ('BandCheck', 'compare_bands')

SPLITS = ('train_dataset', 'val_dataset', 'test_dataset', 'predict_dataset', 'dataset')


def _datasets(loaders: object) -> Iterator[object]:
    """Data sets behind whatever Lightning takes as data loaders."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        for loader in loaders:
            yield from _datasets(loader)
    elif (dataset := getattr(loaders, 'dataset', None)) is not None:
        yield dataset


def _labels(bands: tuple[Band, ...] | None, count: int) -> list[str]:
    if bands is None:
        return [f'position {k}' for k in range(count)]
    return [band.label for band in bands]


def compare_bands(backbone: AOM, bands: tuple[Band, ...], source: str) -> None:
    """Compare what a model believes its channels to be with what they are.

    Bands are equal if the model cannot tell them apart: same channel index (or wavelength),
    whatever their names.

    Args:
        backbone: the model.
        bands: bands of the images.
        source: where the images come from, for the message.

    Raises:
        BandError: if they differ, in order too.
    """
    tokenizer = backbone.patch_embed
    encoding = tokenizer.channel_encoding
    if backbone.bands is not None:
        model = band_codes(backbone.bands, encoding)
    elif encoding == 'index':
        model = [float(k) for k in range(tokenizer.in_chans)]
    else:  # positions have no wavelengths of their own
        return
    data = band_codes(bands, encoding)
    unequal = [k for k, (a, b) in enumerate(zip(model, data, strict=False)) if abs(a - b) > 1e-6]
    if len(model) == len(data) and not unequal:
        return
    ours, theirs = _labels(backbone.bands, len(model)), _labels(bands, len(data))
    if len(model) != len(data):
        what = f'{len(model)} against {len(data)}'
    else:
        order = 'the same in another order, ' if sorted(model) == sorted(data) else ''
        what = f'{order}first at channel {unequal[0]}: {ours[unequal[0]]} against '
        what += theirs[unequal[0]]
    raise BandError(
        f'The model and {source} have different bands ({what}). Model: {listing(ours)}. Data: '
        f'{listing(theirs)}. Give the task the bands of the data in their order, or the data the '
        'bands of the task.'
    )


class BandCheck(Callback):
    """Compares the bands of a model with those of the data before the first batch.

    It works with the tasks of this package and with TorchGeo's own, and never sets bands.

    .. versionadded:: 0.1
    """

    def __init__(self, sensor: str | None = None, strict: bool = False) -> None:
        """Initialize the callback.

        Args:
            sensor: sensor that the names in the data set's ``bands`` belong to, for data sets that
                are not TorchGeo's; the sensor is never guessed from names.
            strict: raise instead of warn where the bands of the data are not known.

        Raises:
            BandError: if there is no such sensor.
        """
        if sensor is not None:
            get_sensor(sensor)
        self.sensor = sensor
        self.strict = strict

    def check(self, module: LightningModule, dataset: object) -> None:
        """Compare a model with a data set.

        Args:
            module: a task with an AOM in it.
            dataset: the data set.

        Raises:
            BandError: if their bands differ, or are unknown and *strict* is set.
        """
        backbone = next((m for m in module.modules() if isinstance(m, AOM)), None)
        name = type(dataset).__name__
        problem = None
        if backbone is None:
            problem = f'{type(module).__name__} has no AOM, so its bands cannot be checked.'
        elif (bands := dataset_bands(dataset, self.sensor)) is not None:
            compare_bands(backbone, bands, name)
        else:
            stated = stated_bands(dataset) or 'nothing'
            problem = (
                f'The bands of {name} are not known (it states {stated}), so they are not checked '
                'against the model. Give BandCheck(sensor=...), or a data set whose bands name '
                "their sensors too, e.g. 'sentinel2:B04'."
            )
        if problem is not None and self.strict:
            raise BandError(problem)
        if problem is not None:
            warnings.warn(problem, BandWarning, stacklevel=2)

    def _check_all(self, module: LightningModule, datasets: Iterator[object]) -> None:
        seen: set[object] = set()
        for dataset in datasets:
            key = (type(dataset), tuple(stated_bands(dataset)) or id(dataset))
            if key not in seen:
                seen.add(key)
                self.check(module, dataset)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the data module's data sets as soon as they exist."""
        module = getattr(trainer, 'datamodule', None)
        found = [getattr(module, split, None) for split in SPLITS]
        self._done = any(dataset is not None for dataset in found)
        self._check_all(pl_module, (dataset for dataset in found if dataset is not None))

    def _check_loaders(self, module: LightningModule, loaders: object) -> None:
        if not self._done:
            self._check_all(module, _datasets(loaders))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check loaders that came without a data module."""
        self._check_loaders(pl_module, trainer.train_dataloader)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check loaders that came without a data module."""
        if trainer.sanity_checking or trainer.state.fn == 'validate':
            self._check_loaders(pl_module, trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check loaders that came without a data module."""
        self._check_loaders(pl_module, trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check loaders that came without a data module."""
        self._check_loaders(pl_module, trainer.predict_dataloaders)
