"""What an AOM sees: token maps of each band, key regions, attention, band tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..models.aom import AOM

__all__ = ('attention', 'band_maps', 'likeness', 'region_maps', 'token_components')


@torch.inference_mode()
def band_maps(model: AOM, image: Tensor, patch_size: int) -> NDArray[np.float32]:
    """Token map of each band as it leaves SiTok (Figure 4 of the paper).

    Args:
        model: the encoder, with the bands of the image.
        image: normalized, (C, H, W).
        patch_size: in px.

    Returns:
        (C, Nh, Nw): the length of each token, less the token of an even image of value 0, so that
        the codes of band and place, which are the same for every image, do not count.

    .. versionadded:: 0.1
    """
    tokens, _ = model.patch_embed(image[None], None, patch_size)
    codes, _ = model.patch_embed(torch.zeros_like(image[None]), None, patch_size)
    return (tokens - codes).norm(dim=-1)[0].cpu().numpy()


@torch.inference_mode()
def region_maps(
    model: AOM, image: Tensor, patch_sizes: Sequence[int]
) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
    """Key regions of the final map at several patch sizes (Figure 6 of the paper).

    Args:
        model: the encoder, with the bands of the image.
        image: normalized, (C, H, W).
        patch_sizes: in px.

    Returns:
        For each patch size (Nh, Nw): distance of the feature of a place from the mean of all; and
        the cosine between the image features of each two patch sizes, (P, P).

    .. versionadded:: 0.1
    """
    maps: dict[int, NDArray[np.float32]] = {}
    features = []
    for patch in patch_sizes:
        tokens = model.forward_features(image[None], patch_size=patch)[0]  # (1 + N, D)
        rows, cols = (-(-side // patch) for side in image.shape[-2:])
        places = tokens[1:]
        energy = (places - places.mean(0)).norm(dim=-1)
        maps[patch] = energy.unflatten(0, (rows, cols)).cpu().numpy()
        features.append(tokens[0])
    stacked = F.normalize(torch.stack(features), dim=-1)
    return maps, (stacked @ stacked.T).cpu().numpy()


@torch.inference_mode()
def attention(model: AOM, image: Tensor, patch_size: int, block: int = -1) -> NDArray[np.float32]:
    """Attention of one block, averaged over heads.

    Args:
        model: the encoder, with the bands of the image.
        image: normalized, (C, H, W).
        patch_size: in px.
        block: which block; the last where not given.

    Returns:
        Weights (C, N, C, N): from the token of a band and place to that of another; the last two
        axes sum to 1.

    .. versionadded:: 0.1
    """
    seen: list[Tensor] = []

    def keep(module: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    chosen: Any = model.blocks[block]
    handle = chosen.register_forward_pre_hook(keep)
    try:
        tokens = model.forward_band_tokens(image[None], patch_size=patch_size)
    finally:
        handle.remove()
    x, own = chosen.norm1(seen[0]), chosen.attn
    shape = (1, x.shape[1], 3, own.num_heads, -1)
    query, key, _ = own.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
    query, key = own.q_norm(query), own.k_norm(key)
    weights = (query @ key.transpose(-2, -1) * own.scale).softmax(-1).mean(1)[0]  # (C*N, C*N)
    bands, places = tokens.shape[1], tokens.shape[2] * tokens.shape[3]
    return weights.reshape(bands, places, bands, places).cpu().numpy()


@torch.inference_mode()
def token_components(
    model: AOM, images: Tensor, patch_size: int, batch_size: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Band tokens of many images, by their first two principal components.

    Args:
        model: the encoder, with the bands of the images.
        images: normalized, (N, C, H, W).
        patch_size: in px.
        batch_size: images a batch.

    Returns:
        Components (N, C, 2) of the final tokens averaged over places, and the shares of the
        variance that they explain, (2,).

    .. versionadded:: 0.1
    """
    parts = [
        model.forward_band_tokens(part, patch_size=patch_size).mean((2, 3)).cpu()
        for part in images.split(batch_size)
    ]
    tokens = torch.cat(parts).double()  # (N, C, D)
    flat = tokens.flatten(0, 1)
    centered = flat - flat.mean(0)
    _, values, vectors = torch.linalg.svd(centered, full_matrices=False)
    share = (values**2 / (values**2).sum())[:2]
    return (centered @ vectors[:2].T).unflatten(0, tokens.shape[:2]).numpy(), share.numpy()


def likeness(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlation over places between the maps of each two bands, (C, Nh, Nw) -> (C, C).

    .. versionadded:: 0.1
    """
    return np.corrcoef(maps.reshape(len(maps), -1).astype(np.float64))
