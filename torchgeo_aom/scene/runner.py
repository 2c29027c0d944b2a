"""What runs on each window: an encoder, a trained task, or the decoder that completes bands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_aom.bands import Band
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.checkpoint import file_sha256
from torchgeo_aom.models.registry import random_backbone
from torchgeo_aom.models.speed import speed_text
from torchgeo_aom.models.weights import AOMWeights, as_source, load_backbone
from torchgeo_aom.tasks.feature_cache import module_digest

from .pipeline import Output

__all__ = ('Encoder', 'Runner', 'agreement', 'embedding', 'load_encoder')


@dataclass(frozen=True)
class Runner:
    """A model, and what its values mean.

    Attributes:
        model: its parameters, for the device and the hash.
        function: normalized images (B, C, H, W) to values (B, K, H / cell, W / cell).
        bands: what the channels of the images are.
        cell: px that a value stands for; 0 for the whole window.
        channels: values a cell, K.
        vectors: length D of the vector of a window; 0 for none.
        tags: facts for the file.
        facts: what the values depend on, besides the parameters.
    """

    model: nn.Module
    function: Callable[[Tensor], Output]
    bands: tuple[Band, ...]
    cell: int
    channels: int
    vectors: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    facts: tuple[Any, ...] = ()

    def digest(self) -> str:
        """Hash of the parameters and of all else that the values depend on."""
        digest = hashlib.sha256(module_digest(self.model))
        bands = [(band.label, band.index) for band in self.bands]
        digest.update(repr((bands, self.cell, self.channels, self.facts)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Encoder:
    """An encoder and where its parameters come from.

    Attributes:
        model: the encoder.
        name: what is said of the weights.
        sha256: hash of their file; empty for random ones.
        patch_sizes: sizes that they were trained at, where that is known.
    """

    model: AOM
    name: str
    sha256: str = ''
    patch_sizes: tuple[int, ...] = ()


def load_encoder(weights: object, model: str, bands: Sequence[Band]) -> Encoder:
    """Load an encoder for the bands of a scene.

    Args:
        weights: a weights file, a checkpoint, a member or its name, True for the default weights of
            the model, or ``'random'``.
        model: name of the model, where the weights do not say it.
        bands: bands of the scene.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        CheckpointError: if weights cannot be read, or there are no default ones.
        ConfigError: if a name is unknown.
    """
    if weights == 'random':
        return Encoder(random_backbone(model, bands), f'{model}, random (untrained)')
    source = as_source(weights, model)
    if source is None:
        raise ConfigError(
            "give weights= (--weights): a file, a name, or 'random' to see what an untrained model "
            'does'
        )
    encoder = load_backbone(source, bands=tuple(bands))
    if isinstance(source, AOMWeights):
        sizes = tuple(source.meta.get('patch_sizes') or ())
        return Encoder(encoder, str(source), str(source.meta['sha256']), sizes)
    return Encoder(encoder, Path(source).name, file_sha256(source))


def embedding(encoder: Encoder, bands: Sequence[Band], patch_size: int) -> Runner:
    """Embeddings of each patch, and of each window.

    Args:
        encoder: the encoder.
        bands: what the channels are.
        patch_size: px of a patch.

    Returns:
        The runner.
    """
    model, chosen = encoder.model, tuple(bands)

    def run(x: Tensor) -> Output:
        features = model.forward_features(x, bands=chosen, patch_size=patch_size)
        grid = x.shape[2] // patch_size, x.shape[3] // patch_size
        return Output(features[:, 1:].transpose(1, 2).unflatten(2, grid), features[:, 0])

    tags = {'AOM_PATCH_SIZE': str(patch_size), 'AOM_SPEED': speed_text(model.speed)}
    dim = model.embed_dim
    return Runner(model, run, chosen, patch_size, dim, dim, tags, (patch_size, 'embedding'))


def agreement(
    run_at: Callable[[int], Callable[[Tensor], Tensor]],
    patch_sizes: Sequence[int],
    model: nn.Module,
    bands: Sequence[Band],
    cell: int,
    probabilities: bool,
) -> Runner:
    """How far results of several patch sizes agree, for each cell: 1 where they are the same.

    Of embeddings it is the mean cosine of each two patch sizes; of probabilities one minus the mean
    total variation, that is the share of probability that both give to the same classes.

    Args:
        run_at: patch size to a function of normalized images (B, C, H, W) to values (B, K, h, w).
        patch_sizes: two or more patch sizes in px.
        model: its parameters.
        bands: what the channels are.
        cell: px of a cell of the result; values are averaged over it. 0 for the whole window.
        probabilities: whether the values are probabilities.

    Returns:
        The runner.

    Raises:
        ConfigError: if there are not two patch sizes.
    """
    sizes = sorted(set(patch_sizes))
    if len(sizes) < 2:
        raise ConfigError(f'agreement needs two patch sizes or more, got {list(patch_sizes)}')
    functions = [run_at(size) for size in sizes]

    def run(x: Tensor) -> Output:
        grid = (x.shape[2] // cell, x.shape[3] // cell) if cell else (1, 1)
        maps = [F.adaptive_avg_pool2d(function(x).float(), grid) for function in functions]
        pairs = []
        for one, two in combinations(maps, 2):
            if probabilities:
                pairs.append(1 - (one - two).abs().sum(1) / 2)
            else:
                pairs.append(F.cosine_similarity(one, two, dim=1))
        return Output(torch.stack(pairs).mean(0)[:, None])

    facts = ('agreement', tuple(sizes), probabilities)
    tags = {'AOM_AGREEMENT_OF_PATCH_SIZES': ' '.join(map(str, sizes))}
    return Runner(model, run, tuple(bands), cell, 1, 0, tags, facts)
