"""The small interface behind which every model of a study stands, and how each of them is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchgeo.models import RCF

from ..bands import Band
from ..commands.choices import FLOOR
from ..errors import ConfigError, suggest
from ..layers.tokenizer import checked_patch_size
from ..models.aom import AOM, SIZES
from ..models.patch_rule import PRETRAINED, choose_patch_size, is_auto
from ..models.precision import mixed_precision
from ..models.registry import random_backbone
from ..models.speed import read_speed
from ..models.weights import default_weights, load_backbone, read_source
from ..tasks.baselines import KERNEL_SIZE, band_statistics, convolve
from ..tasks.feature_cache import module_digest
from .peers import PEERS, Batch, build_peer

__all__ = (
    'RANDOM',
    'Encoder',
    'build_encoder',
    'check_models',
    'load_aom',
    'model_names',
    'weights_title',
)

#: what a row says of a model that nobody has trained
RANDOM = 'random'
RCF_FEATURES = 512


@dataclass(frozen=True)
class Encoder:
    """A frozen model, seen as a function from images of some bands to features.

    Attributes:
        name: its name.
        weights: name of its weights; ``'random'`` where nobody has trained it, ``'none'`` where
            there is nothing to train.
        given: how it is told which bands it sees.
        takes_any: whether it takes some of the bands as they are; otherwise it fills the others
            with zeros by itself.
        fixed_size: whether features are as many with some bands as with all.
        facts: all that features depend on besides images and bands.
        function: features (B, D) of a batch.
        per_band: whether features are some values of each band, (B, values * C), so that those of
            some bands need not be computed again.
        as_reflectance: whether features depend on reflectance, so on mean and standard deviation
            of the bands too.
    """

    name: str
    weights: str
    given: str
    takes_any: bool
    fixed_size: bool
    facts: bytes
    function: Callable[[Batch], Tensor]
    per_band: bool = False
    as_reflectance: bool = False

    @property
    def seeded(self) -> bool:
        """Whether another seed gives other features."""
        return self.weights == RANDOM or self.name == 'rcf'

    @property
    def label(self) -> str:
        """Name with weights, for tables and figures."""
        return self.name if self.weights == 'none' else f'{self.name} ({self.weights})'


def model_names() -> tuple[str, ...]:
    """All models that a study knows."""
    return (*FLOOR, *SIZES, *PEERS)


def check_models(models: Sequence[str]) -> None:
    """Refuse unknown models.

    Args:
        models: names, those of AOM perhaps with ``=WEIGHTS``.

    Raises:
        ConfigError: if a name is unknown or named twice, or weights are given to another model.
    """
    known = model_names()
    for entry in models:
        name, sign, _ = entry.partition('=')
        if name not in known:
            raise ConfigError(
                f'unknown model {name!r}{suggest(name, known)}. A study knows {", ".join(known)}'
            )
        if sign and name not in SIZES:
            raise ConfigError(
                f'{entry!r}: only {", ".join(SIZES)} take weights of yours; for peers, load their '
                "authors' weights with --peer-weights"
            )
    if not models or len(set(models)) < len(models):
        raise ConfigError(f'name at least one model, each once, got {list(models)}')


def build_encoder(
    entry: str,
    seed: int,
    bands: Sequence[Band],
    size: tuple[int, int],
    *,
    patch_size: int | str = 'auto',
    weights: str | None = None,
    peer_weights: bool = False,
    peer_size: int | None = None,
    device: str = 'cpu',
    precision: str = 'float32',
    speed: str = 'exact',
) -> Encoder:
    """Make a model.

    Args:
        entry: name, for an AOM perhaps with its weights: ``'aom_vitt=default'``.
        seed: of random weights and kernels.
        bands: all bands of the data.
        size: height and width of the images in px.
        patch_size: patch size of an AOM in px, or ``'auto'``.
        weights: weights of an AOM that names none: a file, a registered name or ``'default'``.
        peer_weights: whether peers load their authors' weights, which downloads them.
        peer_size: height and width in px that peers see images in; their own where they load
            weights, else about that of the images.
        device: where to run it.
        precision: of the products of networks, ``'float32'`` or ``'bfloat16'``; baselines are
            computed in float32.
        speed: speed mode of an AOM, or a merge schedule such as ``'1:4,4:1'``.

    Returns:
        The model, frozen.

    Raises:
        ConfigError: if the name is unknown.
        CheckpointError: if weights cannot be read or do not fit.
        DataError: if weights cannot be downloaded.
    """
    check_models([entry])
    name, _, own = entry.partition('=')
    if name == 'statistics':
        return Encoder(
            name, 'none', 'each by itself', True, False, b'statistics', _statistics, per_band=True
        )
    if name == 'rcf':
        return _rcf(seed, device)
    if name in SIZES:
        found = _aom(name, seed, bands, size, patch_size, own or weights, device, speed)
        return _at_precision(found, device, precision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peer = build_peer(name, size, peer_weights, peer_size)
    module = peer.module.to(device).eval()
    facts = module_digest(module) + f'{name} {peer.size}'.encode()
    found = Encoder(
        name, peer.weights or RANDOM, peer.given, peer.takes_any, True, facts, peer.function,
        as_reflectance=peer.as_reflectance,
    )  # fmt: skip
    return _at_precision(found, device, precision)


def _at_precision(encoder: Encoder, device: str, precision: str) -> Encoder:
    if precision == 'float32':
        return encoder

    def function(batch: Batch) -> Tensor:
        with mixed_precision(torch.device(device), precision):
            return encoder.function(batch).float()

    facts = encoder.facts + precision.encode()
    return replace(encoder, function=function, facts=facts, given=f'{encoder.given}; {precision}')


def _statistics(batch: Batch) -> Tensor:
    return torch.from_numpy(band_statistics(batch.images.cpu()))


def _rcf(seed: int, device: str) -> Encoder:
    def function(batch: Batch) -> Tensor:
        # TorchGeo takes the seed 0 for none at all.
        model = RCF(batch.images.shape[1], RCF_FEATURES, KERNEL_SIZE, seed=seed + 1).to(device)
        return convolve(model, batch.images, RCF_FEATURES)

    facts = f'rcf {RCF_FEATURES} {seed}'.encode()
    return Encoder('rcf', 'none', 'kernels over all of them', True, False, facts, function)


def _aom(
    name: str,
    seed: int,
    bands: Sequence[Band],
    size: tuple[int, int],
    patch_size: int | str,
    weights: str | None,
    device: str,
    speed: str,
) -> Encoder:
    model, title, facts = load_aom(name, weights, bands, seed)
    model.set_speed(read_speed(speed))
    patch = (
        choose_patch_size(size, facts.get('patch_sizes') or PRETRAINED)
        if is_auto(patch_size)
        else checked_patch_size(patch_size)[0]
    )
    model = model.to(device)

    def function(batch: Batch) -> Tensor:
        tokens = model.forward_features(batch.images, bands=batch.bands, patch_size=patch)
        return model.forward_head(tokens, pre_logits=True)

    merged = '' if speed == 'exact' else f', speed {speed}'
    own = module_digest(model) + f'patch {patch}'.encode()
    return Encoder(
        name, title, f'by channel index, patches of {patch} px{merged}', True, True, own, function
    )


def load_aom(
    name: str, weights: str | None, bands: Sequence[Band], seed: int = 0
) -> tuple[AOM, str, dict[str, Any]]:
    """Load an AOM for the bands of a study.

    Args:
        name: name of the model.
        weights: a file, a registered name, ``'default'``, or None for random ones.
        bands: bands of the channels.
        seed: of random weights.

    Returns:
        The model in evaluation mode, the name of its weights, and what is known of them.

    Raises:
        CheckpointError: if weights cannot be read or do not fit.
        ConfigError: if a name is unknown.
    """
    if weights is None:
        return random_backbone(name, bands, seed), RANDOM, {}
    source: Any = default_weights(name) if weights == 'default' else weights
    model = load_backbone(source, name, bands=list(bands))
    return model, weights_title(source), read_source(source)[1]


def weights_title(source: Any) -> str:
    """Name of weights for tables: that of a file without its folder."""
    text = str(source)
    return Path(text).name if Path(text).suffix else text
