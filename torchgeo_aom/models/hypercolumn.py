"""A head for maps that sees single pixels: bands, their local statistics, and reduced context.

Each pixel is classified by a small network of 1 x 1 layers over a *hypercolumn* (Hariharan et al.,
2015, https://arxiv.org/abs/1411.5752): its own bands, their mean and standard deviation in windows
around it, and a few principal components of the maps of the encoder. The weights of the bands are
made from their codes, so the head runs on other bands than it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers.encodings import sinusoid
from ..layers.pyramid import resample_map
from .smp_encoder import AOMEncoder

__all__ = ('STRENGTHS', 'WINDOWS', 'Hypercolumn', 'HypercolumnModel', 'local_statistics')

#: sides of the windows, in px
WINDOWS = (5, 11, 21)
#: how much of the encoder the head sees: components, and the dropout that keeps sites from being
#: learned by heart
STRENGTHS = {'none': (0, 0.0), 'weak': (32, 0.3), 'strong': (128, 0.8)}
KINDS = 1 + 2 * len(WINDOWS)  # numbers a pixel and band: its value, means, standard deviations
CODE = 32  # width of a band's code
WIDTH = 64
SCALE = 1.0  # deviation of the first component


def local_statistics(image: Tensor) -> Tensor:
    """Values of the bands, and their means and standard deviations in windows around each pixel.

    Args:
        image: normalized images of shape (B, C, H, W).

    Returns:
        Tensor of shape (B, C, 7, H, W): value, means in windows of 5, 11 and 21 px, deviations.
        At the border, windows hold the pixels that there are.
    """
    means, deviations = [], []
    for side in WINDOWS:
        mean, square = _average(image, side), _average(image.square(), side)
        means.append(mean)
        deviations.append((square - mean.square()).clamp(min=1e-6).sqrt())
    return torch.stack([image, *means, *deviations], 2)


def _average(x: Tensor, side: int) -> Tensor:
    """Average in a window: of the rows, then of the columns, which is less work."""
    half = side // 2
    rows = F.avg_pool2d(x, (side, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)


class Hypercolumn(nn.Module):
    """The head. Pixels and context are joined by a sum, then follow two layers of 1 x 1."""

    def __init__(
        self, channels: int, classes: int, strength: str = 'weak', width: int = WIDTH
    ) -> None:
        """Initialize the head.

        Args:
            channels: channels of all maps of the encoder together.
            classes: number of classes.
            strength: key of `STRENGTHS`: how much of the encoder it sees.
            width: width of the hidden layers.

        Raises:
            ConfigError: if there is no such strength.
        """
        super().__init__()
        if strength not in STRENGTHS:
            raise ConfigError(
                f'context must be one of {", ".join(STRENGTHS)}, got {strength!r}: how much of '
                'the encoder the head sees'
            )
        self.components, dropout = STRENGTHS[strength]
        self.width = width
        self.bands = nn.Linear(CODE, KINDS * width, bias=False)
        nn.init.normal_(self.bands.weight, std=0.1)
        self.offset = nn.Parameter(torch.zeros(width))
        self.drop = nn.Dropout(dropout)
        self.context: nn.Module | None = None
        if self.components:
            self.context = nn.Linear(self.components, width, bias=False)
            rows = torch.eye(channels)[: self.components]
            self.register_buffer('axes', rows)  # (K, channels), until components are fitted
            self.register_buffer('origin', torch.zeros(self.components))
        self.register_buffer('kind_mean', torch.zeros(KINDS))
        self.register_buffer('kind_scale', torch.ones(KINDS))
        self.register_buffer('fitted', torch.tensor(False))
        self.axes: Tensor
        self.origin: Tensor
        self.kind_mean: Tensor
        self.kind_scale: Tensor
        self.fitted: Tensor
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
        )

    def pixel_weights(self, codes: Tensor) -> Tensor:
        """Weights of the bands, made from their codes.

        Args:
            codes: channel indices of shape (C,).

        Returns:
            Weights of shape (C, 7, width).
        """
        code = sinusoid(codes, CODE) / (CODE / 2) ** 0.5  # of length 1
        made: Tensor = self.bands(code.to(self.bands.weight.dtype))
        return made.unflatten(1, (KINDS, self.width))

    def standardized(self, statistics: Tensor) -> Tensor:
        """Statistics (..., 7, H, W) in units of their deviation over the training pixels."""
        shape = (-1, 1, 1)
        return (statistics - self.kind_mean.view(shape)) * self.kind_scale.view(shape)

    def reduced(self, maps: Sequence[Tensor]) -> Tensor:
        """Principal components of the maps of some blocks.

        Args:
            maps: maps of shape (B, D, Nh, Nw).

        Returns:
            Map of shape (B, K, Nh, Nw).
        """
        joined = torch.cat(list(maps), 1)
        axes = self.axes.to(joined.dtype)
        return F.conv2d(joined, axes[:, :, None, None], -self.origin.to(joined.dtype))

    def rows(self, pixels: Tensor, codes: Tensor, context: Tensor | None) -> Tensor:
        """Logits of single pixels.

        Args:
            pixels: standardized statistics of shape (N, C, 7).
            codes: channel indices of shape (C,).
            context: components at these pixels, (N, K).

        Returns:
            Logits of shape (N, classes).
        """
        hidden = pixels.flatten(1) @ self.pixel_weights(codes).flatten(0, 1) + self.offset
        if self.context is not None:
            hidden = hidden + self.context(self.drop(context))
        out: Tensor = self.layers(hidden)
        return out

    def forward(
        self, image: Tensor, codes: Tensor, maps: Sequence[Tensor], patch: tuple[int, int]
    ) -> Tensor:
        """Logits of images.

        Args:
            image: normalized images of shape (B, C, H, W).
            codes: channel indices of shape (C,).
            maps: maps of some blocks of the encoder, (B, D, Nh, Nw) each.
            patch: patch size in px, (height, width).

        Returns:
            Logits of shape (B, classes, H, W).
        """
        pixels = self.standardized(local_statistics(image)).flatten(1, 2)  # (B, C*7, H, W)
        weight = self.pixel_weights(codes).flatten(0, 1).T
        hidden = F.conv2d(pixels, weight[:, :, None, None], self.offset)
        if self.context is not None:
            grid = self.context(self.drop(self.reduced(maps).movedim(1, 3))).movedim(3, 1)
            hidden = hidden + resample_map(grid, patch, (image.shape[2], image.shape[3]), 1)
        out: Tensor = self.layers(hidden.movedim(1, 3))
        return out.movedim(3, 1)

    @torch.no_grad()
    def fit_context(self, tokens: Tensor) -> None:
        """Fit the components: tokens are standardized, then turned to their principal axes.

        Args:
            tokens: tokens of training images, (N, channels); at least as many as components.

        Raises:
            ConfigError: if there are fewer tokens than components.
        """
        if not self.components:
            return
        if len(tokens) < self.components:
            raise ConfigError(
                f'{len(tokens)} tokens are too few for {self.components} components; use more '
                "images, smaller patches, or context='none'"
            )
        values = tokens.double()
        mean, scale = values.mean(0), 1 / values.std(0, correction=0).clamp(min=1e-6)
        standard = (values - mean) * scale
        spectrum, axes = torch.linalg.eigh(standard.T @ standard / len(standard))
        best = axes[:, -self.components :].flip(1).T  # (K, channels)
        # Components keep their size relative to the first: small ones are noise.
        folded = best * scale / spectrum[-1].clamp(min=1e-12).sqrt() * SCALE
        self.axes.copy_(folded)
        self.origin.copy_(folded @ mean)

    @torch.no_grad()
    def fit_statistics(self, pixels: Tensor) -> None:
        """Fit the units of values, means and deviations, the same for all bands.

        Args:
            pixels: statistics of training pixels, (N, C, 7).
        """
        values = pixels.double()
        self.kind_mean.copy_(values.mean((0, 1)))
        self.kind_scale.copy_(1 / values.std((0, 1), correction=0).clamp(min=1e-3))
        self.fitted.fill_(True)


class HypercolumnModel(nn.Module):
    """An encoder and the head, with the parts that SMP's models have.

    .. versionadded:: 0.2
    """

    def __init__(self, encoder: AOMEncoder, classes: int, strength: str = 'weak') -> None:
        """Join them.

        Args:
            encoder: the encoder; its pyramid is not used, its maps are.
            classes: number of classes.
            strength: see :class:`Hypercolumn`.

        Raises:
            ConfigError: if there is no such strength.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = Hypercolumn(4 * encoder.embed_dim, classes, strength)

    def codes(self) -> Tensor:
        """Channel indices of the bands; positions where no bands are named."""
        tokenizer = self.encoder.patch_embed
        count = tokenizer.in_chans
        named = [band.index for band in tokenizer.bands or ()]
        listed = named * (count // len(named)) if named else list(range(count))
        return torch.tensor(listed, dtype=torch.float32, device=self.decoder.offset.device)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes, H, W)."""
        patch = self.encoder.patch_embed.patch_size
        maps = self.encoder.token_maps(x) if self.decoder.components else []
        out: Tensor = self.decoder(x, self.codes(), maps, patch)
        return out
