"""Models of others, as TorchGeo has them, each given its bands in the way its authors mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchgeo.models import get_model, get_model_weights

from ..bands import Band
from ..errors import BandError, ConfigError, DataError

__all__ = ('PEERS', 'Batch', 'BuiltPeer', 'Peer', 'build_peer')

#: channel indices of Sentinel-2 in the order of SSL4EO-S12 (B1 ... B8, B8A, B9 ... B12)
L1C = tuple(range(13))
#: and of CROMA, without the cirrus band
L2A = tuple(k for k in L1C if k != 10)
RGB = (3, 2, 1)
UM_TO_NM = 1000.0
MIN_SIDE = 2  # patches along an image


@dataclass(frozen=True)
class Batch:
    """Images of some bands.

    Attributes:
        images: (B, C, H, W), each band with mean 0 and standard deviation 1.
        bands: bands of the channels.
        mean: of each band in reflectance, (C, 1, 1).
        std: of each band in reflectance, (C, 1, 1).
    """

    images: Tensor
    bands: tuple[Band, ...]
    mean: Tensor
    std: Tensor

    def reflectance(self) -> Tensor:
        """The images in reflectance, (B, C, H, W)."""
        return self.images * self.std + self.mean


@dataclass(frozen=True)
class Peer:
    """How a model is made and fed.

    Attributes:
        given: how it is told which bands it sees, for tables.
        step: image sizes are multiples of this, in px.
        native: image size of its weights in px.
        member: name of its weights in TorchGeo; None where there are none.
        slots: channel indices that it takes, in its order; None where it takes any bands.
        options: arguments of its builder, from the image size in px.
        run: features (B, D) of a model and images (B, C, H, W) at its size.
        as_reflectance: whether it reads reflectance instead of standardized bands.
    """

    given: str
    step: int
    native: int
    member: str | None
    slots: tuple[int, ...] | None
    options: Callable[[int], dict[str, Any]]
    run: Callable[[nn.Module, Tensor, tuple[Band, ...]], Tensor]
    as_reflectance: bool = False


@dataclass(frozen=True)
class BuiltPeer:
    """A model that is ready."""

    module: nn.Module
    weights: str | None
    given: str
    takes_any: bool
    size: int
    function: Callable[[Batch], Tensor]
    as_reflectance: bool = False


def _wavelengths_um(bands: Sequence[Band]) -> list[float]:
    unknown = [band.label for band in bands if band.wavelength_um is None]
    if unknown:
        raise BandError(f'this model needs wavelengths, and {", ".join(unknown)} has none')
    return [float(band.wavelength_um or 0) for band in bands]


def _dofa(model: Any, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    return model.forward_features(x, _wavelengths_um(bands))


def _panopticon(model: Any, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    # A tensor for each call: the model writes into it.
    nm = torch.tensor([um * UM_TO_NM for um in _wavelengths_um(bands)], device=x.device)
    return model({'imgs': x, 'chn_ids': nm.expand(len(x), -1).contiguous()})


def _copernicus(model: Any, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    unknown = torch.full((len(x), 4), float('nan'), device=x.device)
    widths = [band.bandwidth_um for band in bands]
    if None in widths:
        raise BandError('Copernicus-FM needs the bandwidth of every band')
    return model.forward_features(
        x,
        unknown,
        wavelengths=[um * UM_TO_NM for um in _wavelengths_um(bands)],
        bandwidths=[um * UM_TO_NM for um in widths if um is not None],
    )


def _croma(model: Any, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    """Images in the range of two standard deviations around their mean, as its authors do."""
    mean, std = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)
    scaled = ((x - mean + 2 * std) / (4 * std).clamp_min(1e-6)).clamp(0, 1)
    filled = (std == 0).expand_as(scaled)  # a missing band stays at zero
    return model(x_optical=scaled.masked_fill(filled, 0))['optical_GAP']


def _timm(model: Any, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
    return model.forward_head(model.forward_features(x), pre_logits=True)


def _image(size: int) -> dict[str, Any]:
    return {'img_size': size}


_DOFA = Peer('by wavelength', 16, 224, 'DOFA_MAE', None, _image, _dofa)
_SSL4EO = Peer(
    'the 13 bands of Sentinel-2 in reflectance, missing ones zero',
    16, 224, 'SENTINEL2_ALL_MOCO', L1C, lambda size: {'in_chans': 13, 'img_size': size}, _timm,
    as_reflectance=True,
)  # fmt: skip
_CROMA = Peer(
    'the 12 bands of Sentinel-2 L2A, missing ones zero',
    8, 120, 'CROMA_VIT', L2A, lambda size: {'modalities': ['optical'], 'image_size': size}, _croma,
)  # fmt: skip

#: By the names of TorchGeo's builders.
PEERS: dict[str, Peer] = {
    'dofa_small_patch16_224': replace(_DOFA, member=None),
    'dofa_base_patch16_224': _DOFA,
    'dofa_large_patch16_224': _DOFA,
    'panopticon_vitb14': Peer('by wavelength', 14, 224, 'VIT_BASE14', None, _image, _panopticon),
    'croma_base': _CROMA,
    'croma_large': _CROMA,
    'copernicusfm_base': Peer(
        'by wavelength and bandwidth', 16, 224, 'CopernicusFM_ViT', None, _image, _copernicus
    ),
    'scalemae_large_patch16': Peer(
        'red, green, blue, missing ones zero', 16, 224, 'FMOW_RGB', RGB, _image, _timm
    ),
    'resnet50': replace(_SSL4EO, step=32, options=lambda size: {'in_chans': 13}),
    'vit_small_patch16_224': _SSL4EO,
    'vit_base_patch16_224': replace(_SSL4EO, member='SENTINEL2_ALL_MAE'),
}


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let downloaded files hold tensors only: older TorchGeo unpickles anything."""
    name = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    before = os.environ.get(name)
    os.environ[name] = '1'
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def build_peer(
    name: str, size: tuple[int, int], pretrained: bool = False, peer_size: int | None = None
) -> BuiltPeer:
    """Make a model of others.

    Args:
        name: one of ``PEERS``.
        size: height and width of the images in px.
        pretrained: whether to load its authors' weights, which downloads them.
        peer_size: side in px that it sees images in.

    Returns:
        The model; without weights it is random, by torch's global generator.

    Raises:
        ConfigError: if there are no weights of it, or its size is impossible.
        DataError: if weights cannot be downloaded.
    """
    peer = PEERS[name]
    near = max(round(max(size) / peer.step), MIN_SIDE) * peer.step
    side = peer_size or (peer.native if pretrained else near)
    if side % peer.step:
        raise ConfigError(f'{name} takes images of a multiple of {peer.step} px, got {side}')
    if not pretrained:
        module = get_model(name, **peer.options(side))
        return _built(peer, module, side, None)
    if peer.member is None:
        raise ConfigError(f'nobody has published weights of {name}; take one of its larger sizes')
    weights = get_model_weights(name)[peer.member]
    try:
        with _tensors_only():
            module = get_model(name, weights=weights, **peer.options(side))
    except OSError as error:
        raise DataError(
            f'the weights {weights} of {name} cannot be downloaded ({error}); without '
            '--peer-weights it runs with random ones'
        ) from error
    return _built(peer, module, side, str(weights).partition('.')[2])


def _built(peer: Peer, module: nn.Module, side: int, weights: str | None) -> BuiltPeer:
    run = _function(peer, module, side)
    return BuiltPeer(module, weights, peer.given, not peer.slots, side, run, peer.as_reflectance)


def _function(peer: Peer, module: nn.Module, side: int) -> Callable[[Batch], Tensor]:
    def function(batch: Batch) -> Tensor:
        x = batch.reflectance() if peer.as_reflectance else batch.images
        if peer.slots is not None:
            x = _in_slots(x, batch.bands, peer.slots)
        if tuple(x.shape[-2:]) != (side, side):
            x = F.interpolate(x, (side, side), mode='bilinear', antialias=True)
        return peer.run(module, x, batch.bands)

    return function


def _in_slots(x: Tensor, bands: tuple[Band, ...], slots: tuple[int, ...]) -> Tensor:
    """Put channels where a model wants them, (B, C, H, W) -> (B, len(slots), H, W)."""
    places = [slots.index(int(b.index)) if b.index in slots else None for b in bands]
    known = [(k, place) for k, place in enumerate(places) if place is not None]
    if not known:
        raise BandError(
            f'this model has no place for any of {", ".join(band.label for band in bands)}'
        )
    filled = x.new_zeros(len(x), len(slots), *x.shape[-2:])
    for channel, place in known:
        filled[:, place] = x[:, channel]
    return filled
