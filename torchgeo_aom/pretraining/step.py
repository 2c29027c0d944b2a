"""One guided step: tokens of visible places, and how far they are from what they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.tokenizer import band_codes
from ..losses import spectral_loss, spectral_targets
from ..models.aom import AOM
from .heads import Heads, contrast, index_weights
from .packed import PackedCorpus
from .targets import TargetMaps
from .views import View, cut, cut_map, jitter, zoomed

__all__ = ('Batch', 'Weights', 'guided_loss', 'prepare', 'visible_tokens')


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the loss.

    Attributes:
        place: distance of places from each teacher's, by its name.
        image: the same of the image feature.
        contrast: finding one's image among those of the batch, in the features of each teacher.
        spectral: distance from the spectra of places.
        token: of tokens of single bands or groups, beside those of their mean.
    """

    place: Mapping[str, float] = field(default_factory=dict)
    image: Mapping[str, float] = field(default_factory=dict)
    contrast: float = 0.1
    spectral: float = 4.0
    token: float = 0.5


@dataclass
class Batch:
    """What one step needs, on its device.

    Attributes:
        view: what is seen.
        image: seen bands of shape (B, C, H, W), jittered.
        codes: channel codes of these bands, (C,).
        spectrum: spectral targets of visible places, (B, K, C', 5), of all bands of the source.
        counts: which of them count, (B, K, C').
        weights: of `index_weights` for all bands.
        places: targets of each teacher at visible places, (B, K, d).
        images: the same of the image, (B, d).
    """

    view: View
    image: Tensor
    codes: Tensor
    spectrum: Tensor
    counts: Tensor
    weights: Tensor
    places: dict[str, Tensor]
    images: dict[str, Tensor]


def prepare(
    corpus: PackedCorpus, teachers: Mapping[str, TargetMaps], view: View, strength: float = 0.12
) -> Batch:
    """Cut what a view shows and its targets.

    Args:
        corpus: the chips.
        teachers: their maps, by name.
        view: the view.
        strength: of the changes in brightness, see `jitter`.

    Returns:
        The batch, on the CPU.
    """
    source = corpus.source(view.source)
    chips, valid = corpus.read(view.source, view.chips)
    part = cut(chips, view)
    good = None if valid is None else cut(valid, view)
    # Measured before the view is enlarged: the same numbers from fewer pixels.
    spectrum, counts = spectral_targets(part, round(view.shape.patch / view.shape.zoom), good)
    patch, image = view.shape.patch, zoomed(part[:, list(view.channels)], view.shape.zoom)
    index = view.keep[:, :, None, None].expand(-1, -1, *spectrum.shape[2:])
    spectrum, counts = spectrum.gather(1, index), counts.gather(1, index[..., 0])
    weights = index_weights(source.resolved)
    counts = counts & (weights.sum(1) > 0)
    places, images = {}, {}
    for name, maps in teachers.items():
        whole = maps.read(view.source, view.chips)
        if whole is not None:
            rows, mean = cut_map(whole, view, image.shape[-1] // patch)
            places[name], images[name] = rows / maps.place_unit, mean / maps.image_unit
    bands = [source.resolved[c] for c in view.channels]
    codes = torch.tensor(band_codes(tuple(bands), 'index'), dtype=torch.float64)
    seen = jitter(image, view.seed, strength=strength)
    return Batch(view, seen, codes, spectrum, counts, weights, places, images)


def visible_tokens(encoder: AOM, batch: Batch) -> Tensor:
    """Tokens of the visible places of all seen bands, before the first block: (B, C, K, D)."""
    grid, _ = encoder.patch_embed(batch.image, batch.codes, batch.view.shape.patch)
    tokens = grid.flatten(2, 3)  # (B, C, N, D)
    keep = batch.view.keep.to(tokens.device)[:, None, :, None]
    return tokens.gather(2, keep.expand(-1, tokens.shape[1], -1, tokens.shape[3]))


def guided_loss(
    heads: Heads,
    norm: nn.Module,
    tokens: Tensor,
    pooled: Tensor,
    batch: Batch,
    weights: Weights,
) -> tuple[Tensor, dict[str, float]]:
    """How far tokens are from what they are asked for.

    Args:
        heads: the linear maps.
        norm: last norm of the encoder.
        tokens: tokens after the last block, (B, G, K, D).
        pooled: their mean over bands, (B, K, D).
        batch: what is asked for.
        weights: of the parts.

    Returns:
        The loss, and its parts as numbers.
    """
    feature = norm(pooled.mean(1))
    asked = [(norm(pooled), 1.0)]
    if weights.token and tokens.shape[1] > 1:
        asked.append((norm(tokens), weights.token))
    total = feature.new_zeros((), dtype=torch.float32)
    parts: dict[str, float] = {}

    def add(name: str, value: Tensor, weight: float) -> None:
        nonlocal total
        total = total + weight * value
        parts[name] = parts.get(name, 0.0) + float(value.detach())

    for rows, factor in asked:
        mark = '' if rows.ndim == 3 else '_tokens'
        for name, wanted in batch.places.items():
            if weight := weights.place.get(name, 0.0):
                found = heads.place[name](rows).float()
                goal = wanted if rows.ndim == 3 else wanted[:, None].expand_as(found)
                add(f'place_{name}{mark}', F.mse_loss(found, goal), weight * factor)
        if weights.spectral:
            flat = rows if rows.ndim == 3 else rows.flatten(0, 1)
            groups = 1 if rows.ndim == 3 else rows.shape[1]
            goal = batch.spectrum.repeat_interleave(groups, 0)
            loss = spectral_loss(
                heads.spectra(flat, batch.weights), goal, batch.counts.repeat_interleave(groups, 0)
            )
            add(f'spectral{mark}', loss, weights.spectral * factor)
    for name, wanted in batch.images.items():
        found = heads.image[name](feature).float()
        add(f'image_{name}', F.mse_loss(found, wanted), weights.image.get(name, 0.0))
        if weights.contrast and len(found) > 1:
            add(f'contrast_{name}', contrast(found, wanted), weights.contrast)
    return total, parts
