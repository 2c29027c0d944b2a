"""GEO-Bench-2: data sets of the package ``geobenchv2``, with bands by name and stored values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..bands import BandSpec, Product, resolve_bands
from ..errors import ConfigError, DataError
from .base import BandDataset, Transform
from .geobench_tasks import TOA

__all__ = ('GeoBench2',)

SURFACE = Product('surface', 1.0, 0.0, 'reflectance', 'surface reflectance', quantity='surface')


@dataclass(frozen=True)
class _Known:
    """What is known of a modality; values are judged by the means that the package publishes."""

    sensor: str
    product: str | Product | None
    ignore_index: int | None = None


# By class and modality ('' where there is one only). Where the product is None it must be given.
KNOWN: dict[tuple[str, str], _Known] = {
    ('GeoBenchBENV2', 's2'): _Known('sentinel2', 'sentinel2:l2a'),  # mean of B01 356, no B10
    ('GeoBenchBurnScars', ''): _Known('hls', SURFACE, 2),  # mean of B8A 0.23; -1 becomes 2
    ('GeoBenchCloudSen12', ''): _Known('sentinel2', None),  # called L1C, but without B10
    ('GeoBenchDynamicEarthNet', 'planet'): _Known('rgbn', None),
    ('GeoBenchDynamicEarthNet', 's2'): _Known('sentinel2', None),
    ('GeoBenchFLAIR2', 'aerial'): _Known('rgbn', 'uint8'),  # means of 104 to 115
    ('GeoBenchFieldsOfTheWorld', ''): _Known('rgbn', None),
    ('GeoBenchForestnet', ''): _Known('landsat8', 'uint8'),  # means of GEO-Bench v1
    ('GeoBenchPASTIS', 's2'): _Known('sentinel2', None),
    ('GeoBenchSo2Sat', 's2'): _Known('sentinel2', TOA),  # means of GEO-Bench v1
    ('GeoBenchSpaceNet2', 'worldview'): _Known('worldview3', None),
    ('GeoBenchSpaceNet6', 'rgbn'): _Known('rgbn', None),
    ('GeoBenchSpaceNet7', ''): _Known('rgb', 'uint8'),  # means of 77 to 117
    ('GeoBenchTreeSatAI', 'aerial'): _Known('rgbn', 'uint8'),  # means of 79 to 154
    ('GeoBenchTreeSatAI', 's2'): _Known('sentinel2', 'sentinel2:l2a'),  # mean of B02 245
}
# Names of the package that the catalogue has otherwise. The package names bands of Landsat-8 and
# HLS as those of Sentinel-2 that are closest.
RENAMED = {
    'hls': {
        'B02': 'blue', 'B03': 'green', 'B04': 'red', 'B8A': 'nir08', 'B11': 'swir16',
        'B12': 'swir22',
    },
    'landsat8': {'B02': 'B2', 'B03': 'B3', 'B04': 'B4', 'B8A': 'B5', 'B11': 'B6', 'B12': 'B7'},
}  # fmt: skip


class GeoBench2(BandDataset):
    """A data set of ``geobenchv2``, made by you, as one whose channels have names.

    Make it with ``data_normalizer=torch.nn.Identity``, since values are normalized once and later,
    without transforms, and with the bands of one optical sensor in ``band_order``. Labels of images
    and masks are read; boxes, series and continuous targets are not.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        dataset: Any,
        bands: BandSpec | None = None,
        sensor: str | None = None,
        product: str | Product | None = None,
        ignore_index: int | None = None,
        transforms: Transform | None = None,
    ) -> None:
        """Ask the data set for its bands.

        Args:
            dataset: an object of a class of ``geobench_v2.datasets``.
            bands: bands wanted among those of its ``band_order``; all where not given.
            sensor: what its names of bands belong to, where that is not known.
            product: how values are stored, where that is not known.
            ignore_index: value of a mask that counts nowhere, where that is not known.
            transforms: takes and returns a sample.

        Raises:
            BandError: if a band is unknown.
            ConfigError: if the data set normalizes, or sensor or product must be given.
        """
        self.dataset = dataset
        kind = type(dataset).__name__
        if not hasattr(dataset, 'band_order'):
            raise ConfigError(
                f'a data set of geobench_v2 has a band_order, {kind} has none. Install it with '
                f"pip install 'torchgeo_aom[geobenchv2]' and make one, such as "
                f'geobench_v2.datasets.GeoBenchBENV2(root, split, ...)'
            )
        if not isinstance(getattr(dataset, 'data_normalizer', None), nn.Identity):
            raise ConfigError(
                f'{kind} normalizes values itself, and values must be normalized once: make it '
                f'with data_normalizer=torch.nn.Identity'
            )
        if getattr(dataset, 'transforms', None) is not None:
            raise ConfigError(f'give transforms= to GeoBench2, and not to {kind}')
        modality, names = _one_modality(dataset.band_order, kind)
        self.keys = ('image', f'image_{modality}') if modality else ('image',)
        known = _known(dataset, modality)
        sensor = sensor or (known.sensor if known else None)
        product = product or (known.product if known else None)
        if sensor is None or product is None:
            missing = 'sensor=' if sensor is None else 'product='
            raise ConfigError(
                f'give {missing}: it is not known of {kind}'
                f'{f", modality {modality!r}" if modality else ""} '
                f"(product= for example 'l1c', 'l2a', 'uint8' or 'reflectance')"
            )
        renamed = RENAMED.get(sensor, {})
        stored = resolve_bands([renamed.get(name, name) for name in names], sensor)
        super().__init__(stored, bands, product, transforms)
        self.stored = stored
        self.classes = tuple(getattr(dataset, 'classes', ()))
        self.ignore_index = ignore_index
        if ignore_index is None and known is not None:
            self.ignore_index = known.ignore_index
        #: ``'train'``, ``'validation'`` or ``'test'``
        self.split: str = getattr(dataset, 'split', '')
        if len(dataset):
            self.target = 'class'
            label = dataset[0]
            if 'mask' in label:
                self.target = 'mask'
            elif getattr(dataset, 'multilabel', False):
                self.target = 'classes'

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def load(self, index: int) -> dict[str, Any]:
        """Read a sample.

        Args:
            index: which one.

        Returns:
            ``image`` (C, H, W), and ``label``, a class or zeros and ones, or ``mask`` (H, W).

        Raises:
            DataError: if it has another form.
        """
        found: Mapping[str, Any] = self.dataset[index]
        kind = f'{type(self.dataset).__name__}[{index}]'
        if 'bbox_xyxy' in found:
            raise DataError(f'{kind} has boxes: object detection is not read')
        image = next((found[key] for key in self.keys if key in found), None)
        if not isinstance(image, Tensor):
            raise DataError(
                f'{kind} has no {" or ".join(self.keys)}, it has {", ".join(found)}: leave '
                f'rename_modalities out, and take one image of a pair or series'
            )
        if image.ndim != 3 or len(image) != len(self.stored):
            raise DataError(
                f'the image of {kind} must have the shape ({len(self.stored)}, H, W), it has '
                f'{tuple(image.shape)}: take a single time step'
            )
        key = 'mask' if self.target == 'mask' else 'label'
        if key not in found:
            raise DataError(f'{kind} has no {key}, it has {", ".join(found)}')
        target = torch.as_tensor(found[key])
        dims = {'mask': 2, 'classes': 1, 'class': 0}[self.target]
        target = target.squeeze(0) if target.ndim == dims + 1 and len(target) == 1 else target
        whole = target.is_floating_point() and not bool((target == target.round()).all())
        if target.ndim != dims or whole:
            raise DataError(
                f'the {key} of {kind} holds no classes, but {target.dtype} of shape '
                f'{tuple(target.shape)}'
            )
        stored = image.to(torch.float32)[self.channels].clone()
        return {'image': stored, key: target.to(torch.int64)}


def _one_modality(order: Any, kind: str) -> tuple[str, list[str]]:
    """The modality, '' where there are none, and its names of bands."""
    modality = ''
    if isinstance(order, Mapping):
        if len(order) != 1:
            raise ConfigError(
                f'{kind} mixes {", ".join(map(str, order))}: make it with the band_order of one '
                f"optical sensor, for example band_order={{'s2': ['B04', 'B03', 'B02']}}"
            )
        ((modality, order),) = order.items()
    for name in order:
        if not isinstance(name, str):
            raise ConfigError(f'{kind} fills a channel with {name!r}: name bands only')
    return modality, list(order)


def _known(dataset: Any, modality: str) -> _Known | None:
    """What is known of a data set, or of one that its class is derived from."""
    for base in type(dataset).__mro__:
        found = KNOWN.get((base.__name__, modality))
        if found is not None:
            return found
    return None
