"""Linear maps from tokens to what they are asked for: teachers' maps, spectra of places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bands import Band
from ..losses import SPECTRAL_NUMBERS

__all__ = ('Heads', 'contrast', 'index_weights')

POSITIONS = 13  # channel indices 0 to 12, those of Sentinel-2
TEMPERATURE = 0.1


def index_weights(bands: Sequence[Band], positions: int = POSITIONS) -> Tensor:
    """Share of each whole channel index in each band: linear between the two next ones.

    Args:
        bands: the bands.
        positions: number of whole indices, from 0.

    Returns:
        Weights of shape (C, positions); a band beyond the last index has a row of zeros.
    """
    weights = torch.zeros(len(bands), positions)
    for row, band in zip(weights, bands, strict=True):
        if band.index is None or not 0 <= band.index <= positions - 1:
            continue
        low = math.floor(band.index)
        row[low] = 1 - (band.index - low)
        if band.index > low:
            row[low + 1] = band.index - low
    return weights


class Heads(nn.Module):
    """One linear map for each teacher's places and image, and one for spectra.

    The spectral map predicts the numbers of `spectral_targets` at thirteen whole channel indices;
    a band between two of them takes its share of both. So one map serves all sensors.

    Args:
        width: width D of the encoder.
        teachers: width of the maps of each teacher, by its name.
    """

    def __init__(self, width: int, teachers: Mapping[str, int]) -> None:
        """Initialize the maps."""
        super().__init__()
        self.place = nn.ModuleDict({name: nn.Linear(width, dim) for name, dim in teachers.items()})
        self.image = nn.ModuleDict({name: nn.Linear(width, dim) for name, dim in teachers.items()})
        self.spectrum = nn.Linear(width, POSITIONS * SPECTRAL_NUMBERS)

    def spectra(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Predicted numbers of all bands.

        Args:
            tokens: normed tokens of shape (B, K, D).
            weights: of `index_weights`, (C, positions).

        Returns:
            Numbers of shape (B, K, C, 5).
        """
        found = self.spectrum(tokens).float().unflatten(-1, (POSITIONS, SPECTRAL_NUMBERS))
        return torch.einsum('bkps,cp->bkcs', found, weights.to(found))


def contrast(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of finding one's own target among those of the batch, by cosine.

    Args:
        predicted: of shape (B, d).
        wanted: of shape (B, d).

    Returns:
        Mean over the batch.
    """
    left, right = (F.normalize(x.float(), dim=1) for x in (predicted, wanted))
    rows = left @ right.T / TEMPERATURE
    return F.cross_entropy(rows, torch.arange(len(rows), device=rows.device))
