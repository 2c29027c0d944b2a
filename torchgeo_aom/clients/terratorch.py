"""AOM as backbones of TerraTorch (``pip install terratorch``): importing this registers them.

For example::

    from terratorch.registry import BACKBONE_REGISTRY
    import torchgeo_aom.clients.terratorch

    BACKBONE_REGISTRY.build('aom_vitb', bands=['BLUE', 'GREEN', 'RED', 'NIR_NARROW'])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY
from torch import Tensor, nn

from ..bands import BandSpec
from ..errors import ConfigError
from ..models.aom import SIZES
from ..models.smp_encoder import AOMEncoder
from ..models.speed import Speed
from ..models.weights import as_source, read_source

__all__ = ('PyramidBackbone', 'aom_vitb', 'aom_vitl', 'aom_vits', 'aom_vitt', 'read_bands')

# TerraTorch's names of optical bands, and STAC's.
NAMES = {
    'COASTAL_AEROSOL': 'coastal',
    'BLUE': 'blue',
    'GREEN': 'green',
    'RED': 'red',
    'RED_EDGE_1': 'rededge071',
    'RED_EDGE_2': 'rededge075',
    'RED_EDGE_3': 'rededge078',
    'NIR_BROAD': 'nir',
    'NIR_NARROW': 'nir08',
    'WATER_VAPOR': 'nir09',
    'CIRRUS': 'cirrus',
    'SWIR_1': 'swir16',
    'SWIR_2': 'swir22',
    'THERMAL_INFRARED_1': 'lwir11',
    'THERMAL_INFRARED_2': 'lwir12',
}


def read_bands(bands: Any) -> Any:
    """TerraTorch's names of bands as names that AOM knows; everything else stays as it is.

    Args:
        bands: one entry or several: members or names of ``HLSBands`` and ``OpticalBands``, or what
            :func:`~torchgeo_aom.bands.resolve_bands` takes.

    Returns:
        Bands for :func:`~torchgeo_aom.bands.resolve_bands`.
    """
    if isinstance(bands, Enum):
        return read_bands(bands.value)
    if isinstance(bands, str):
        return NAMES.get(bands, bands)
    return [read_bands(band) for band in bands] if isinstance(bands, Iterable) else bands


class PyramidBackbone(nn.Module):
    """AOM as TerraTorch wants a backbone: images in, a list of maps out, ``out_channels``.

    The maps have the strides 4, 8, 16 and 32, so decoders for pyramids take them without necks.

    .. versionadded:: 0.1
    """

    def __init__(self, encoder: AOMEncoder) -> None:
        """Initialize the backbone.

        Args:
            encoder: the encoder with its pyramid.
        """
        super().__init__()
        self.encoder = encoder
        #: channels of each map
        self.out_channels = encoder.out_channels[2:]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) to four maps of shape (B, D, ceil(H / s), ceil(W / s))."""
        return self.encoder(x)[2:]


def _build(
    name: str,
    bands: BandSpec | None,
    pretrained: bool,
    weights: str | bool | None,
    patch_size: int | Sequence[int],
    in_channels: int | None,
    speed: Speed,
) -> PyramidBackbone:
    if pretrained and weights is not None:
        raise ConfigError(
            'pretrained means the default weights and weights others: give one of the two.'
        )
    size = {key if key != 'depth' else 'blocks': value for key, value in SIZES[name].items()}
    source = as_source(True if pretrained else weights, name)
    state_dict, facts = ({}, {}) if source is None else read_source(source)
    if bands is None and in_channels is None:
        bands = facts.get('bands')
    encoder = AOMEncoder(
        bands=None if bands is None else read_bands(bands),
        in_chans=in_channels,
        patch_size=patch_size,
        speed=speed,
        **size,
    )
    if state_dict:
        encoder.load_state_dict(state_dict)
        encoder.speed_loss = dict(facts.get('speed_loss') or {})
        encoder.warn_speed()
    return PyramidBackbone(encoder)


@TERRATORCH_BACKBONE_REGISTRY.register
def aom_vitt(
    bands: BandSpec | None = None,
    pretrained: bool = False,
    weights: str | bool | None = None,
    patch_size: int | Sequence[int] = 16,
    in_channels: int | None = None,
    speed: Speed = 'exact',
) -> PyramidBackbone:
    """AOM with a ViT-Ti encoder and a pyramid; in a configuration with ``backbone_`` in front.

    .. versionadded:: 0.1

    Args:
        bands: bands of the channels in file order: TerraTorch's names (``'NIR_NARROW'``), or those
            of :func:`~torchgeo_aom.bands.resolve_bands`. Those of the weights where not given.
        pretrained: load the default weights of this size.
        weights: a member of the enum of weights, its name, or a file.
        patch_size: patch size in px.
        in_channels: number of channels; follows from the bands.
        speed: speed mode or merge schedule, see
            :func:`~torchgeo_aom.models.speed.merge_schedule`.

    Returns:
        The backbone.

    Raises:
        BandError: if the bands are unknown, or their number is not *in_channels*.
        CheckpointError: if the weights cannot be loaded.
        ConfigError: if an option is unknown.
    """
    return _build('aom_vitt', bands, pretrained, weights, patch_size, in_channels, speed)


@TERRATORCH_BACKBONE_REGISTRY.register
def aom_vits(
    bands: BandSpec | None = None,
    pretrained: bool = False,
    weights: str | bool | None = None,
    patch_size: int | Sequence[int] = 16,
    in_channels: int | None = None,
    speed: Speed = 'exact',
) -> PyramidBackbone:
    """AOM with a ViT-S encoder and a pyramid; see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _build('aom_vits', bands, pretrained, weights, patch_size, in_channels, speed)


@TERRATORCH_BACKBONE_REGISTRY.register
def aom_vitb(
    bands: BandSpec | None = None,
    pretrained: bool = False,
    weights: str | bool | None = None,
    patch_size: int | Sequence[int] = 16,
    in_channels: int | None = None,
    speed: Speed = 'exact',
) -> PyramidBackbone:
    """AOM with a ViT-B encoder and a pyramid; see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _build('aom_vitb', bands, pretrained, weights, patch_size, in_channels, speed)


@TERRATORCH_BACKBONE_REGISTRY.register
def aom_vitl(
    bands: BandSpec | None = None,
    pretrained: bool = False,
    weights: str | bool | None = None,
    patch_size: int | Sequence[int] = 16,
    in_channels: int | None = None,
    speed: Speed = 'exact',
) -> PyramidBackbone:
    """AOM with a ViT-L encoder and a pyramid; see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _build('aom_vitl', bands, pretrained, weights, patch_size, in_channels, speed)
