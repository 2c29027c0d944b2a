"""AOM as a model of torchgeo-bench (``pip install torchgeo-bench``, Python 3.12 or newer)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torchgeo_bench.datasets.base import BandSpec
from torchgeo_bench.datasets.m_brick_kiln import MBrickKiln
from torchgeo_bench.datasets.m_eurosat import MEurosat
from torchgeo_bench.models.interface import BenchModel

from ..bands import Band, resolve_bands
from ..datasets.geobench_tasks import BRICK_KILN, EUROSAT
from ..errors import BandError, ConfigError
from ..models.aom import AOM, pyramid_blocks
from ..models.registry import register
from ..models.speed import Speed

__all__ = ('AOMBench', 'read_band')

OTHER_BANDS = ('refuse', 'drop')
# Data sets whose names of bands are wrong: what each stored band is, see datasets.geobench_tasks.
WRONG = (
    (frozenset(MEurosat.bands), {stored: name for name, stored in EUROSAT.items()}),
    (frozenset(MBrickKiln.bands), {stored: name for name, stored in BRICK_KILN.items()}),
)

logger = logging.getLogger(__name__)


def read_band(spec: BandSpec) -> Band | None:
    """What a channel of torchgeo-bench is to AOM: its wavelength, with two data sets corrected.

    m-eurosat and m-brick-kiln of GEO-Bench store bands under names of others, and torchgeo-bench
    took over their wavelengths.

    Args:
        spec: description of the channel.

    Returns:
        The band, or None where it is not optical: radar, elevation, a picture.
    """
    for specs, names in WRONG:
        if spec in specs:
            name = names.get(spec.source_name)
            return resolve_bands(name, 'sentinel2')[0] if name else None
    return None if spec.wavelength_um is None else resolve_bands(float(spec.wavelength_um))[0]


class AOMBench(BenchModel):
    """A frozen AOM: the image feature, and maps of four blocks for segmentation.

    The layers of segmentation are ``maps.3``, ``maps.2``, ``maps.1`` and ``maps.0`` (deepest
    first): band-pooled maps of shape (B, D, Nh, Nw). Blocks themselves hold tokens of all bands.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        bands: Sequence[BandSpec],
        *,
        model: str = 'aom_vitt',
        weights: str | bool | None = True,
        patch_size: int = 16,
        other_bands: str = 'refuse',
        speed: Speed = 'exact',
        normalization: str = 'bandspec_zscore',
        name: str = 'aom',
        eval: Any = None,
    ) -> None:
        """Initialize the model; torchgeo-bench does it once for each data set.

        Args:
            bands: channels, handed over by torchgeo-bench.
            model: name of the model.
            weights: True for the default weights, a member, its name or a file; None for random.
            patch_size: patch size in px.
            other_bands: ``'refuse'`` channels that are not optical, or ``'drop'`` them.
            speed: speed mode or merge schedule, see
                :func:`~torchgeo_aom.models.speed.merge_schedule`.
            normalization: strategy of torchgeo-bench; its default, by the statistics of the data
                set, is what AOM was trained with.
            name: label of the results, read by torchgeo-bench.
            eval: options of the evaluation, read by torchgeo-bench.

        Raises:
            BandError: if a channel is not optical, or none is.
            ConfigError: if an option is unknown.
            CheckpointError: if the weights cannot be loaded.
        """
        super().__init__(bands=list(bands), normalization=normalization)
        if other_bands not in OTHER_BANDS:
            raise ConfigError(f'other_bands must be one of {OTHER_BANDS}, got {other_bands!r}.')
        read = [read_band(spec) for spec in bands]
        others = [
            f'{spec.sensor}:{spec.name}' for spec, band in zip(bands, read, strict=True) if not band
        ]
        if others and other_bands == 'refuse':
            raise BandError(
                f'AOM takes optical bands, these are none: {", ".join(others)}. Name others in '
                f'dataset.bands, or let them be dropped with model.other_bands=drop.'
            )
        if len(others) == len(read):
            raise BandError(
                f'no channel is optical: {", ".join(others)}. Name others in dataset.bands.'
            )
        if others:
            logger.warning('AOM drops channels that are not optical: %s', ', '.join(others))
        #: positions of the channels that the model sees
        self.channels = [k for k, band in enumerate(read) if band]
        register()
        self.backbone = cast(
            AOM,
            timm.create_model(
                model,
                weights=weights,
                bands=[band for band in read if band],
                patch_size=patch_size,
                speed=speed,
            ),
        )
        self.maps = nn.ModuleList(nn.Identity() for _ in range(4))

    @torch.no_grad()
    def _forward_patch_features(self, images: Tensor) -> Tensor:
        """Image features (B, D) of images (B, C, H, W) that torchgeo-bench has normalized."""
        taken = pyramid_blocks(len(self.backbone.blocks))
        features, maps = self.backbone.forward_intermediates(
            images[:, self.channels], list(taken), norm=True
        )
        for tap, grid in zip(cast('Iterable[nn.Module]', self.maps), maps, strict=True):
            tap(grid)  # where the hooks of a segmentation probe listen
        pooled: Tensor = features[:, 0]
        return pooled
