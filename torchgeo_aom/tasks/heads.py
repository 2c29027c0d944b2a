"""Segmentation heads over maps of one stride, as others put them on plain vision transformers."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..models.smp_encoder import AOMEncoder

__all__ = ('HEADS', 'FCNHead', 'build_upernet')

#: variants of UPerNet: SMP's, DOFA's (mmseg's), and that of AOM's authors (SpectralGPT's)
HEADS = ('smp', 'dofa', 'spectralgpt')
BRANCHES = ((512, 256), (512, 512), (1024, 1024), (2048, 2048))  # channels inside, and out
POOLS = (1, 2, 3, 6)


class LearnedPyramid(nn.Module):
    """Maps of the stride of a token p to maps of strides p/4, p/2, p and 2p, with parameters."""

    def __init__(self, channels: int) -> None:
        """Initialize the neck.

        Args:
            channels: channels of all maps.
        """
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(channels, channels, 2, 2),
                    nn.BatchNorm2d(channels),
                    nn.GELU(),
                    nn.ConvTranspose2d(channels, channels, 2, 2),
                ),
                nn.ConvTranspose2d(channels, channels, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps of one size to a pyramid."""
        return [level(grid) for level, grid in zip(self.levels, maps, strict=True)]


class NeckedDecoder(nn.Module):
    """A decoder of SMP behind a neck."""

    def __init__(self, neck: nn.Module, decoder: nn.Module) -> None:
        """Initialize the decoder.

        Args:
            neck: makes a pyramid of the maps after the image and the empty map of stride 2.
            decoder: decoder of SMP.
        """
        super().__init__()
        self.neck = neck
        self.decoder = decoder

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of the encoder to a map."""
        out: Tensor = self.decoder([*features[:2], *self.neck(features[2:])])
        return out


def _conv(inside: int, outside: int, kernel: int, groups: int = 16) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2),
        nn.GroupNorm(groups, outside),
        nn.GELU(),
    )


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode='bilinear', align_corners=False)


class GroupNormUPerNet(nn.Module):
    """UPerNet with group norms and max pooling, from one map, up to the full resolution.

    Four branches enlarge the map to strides 1, 2, 4 and 8; the coarsest is pooled at four scales,
    the others are added from coarse to fine, and all are joined at stride 1.
    """

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        """Initialize the decoder.

        Args:
            channels: channels of the map.
            patch_size: its stride in px.
            width: channels of the result.
        """
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                _conv(channels, inside, 1, 32),
                nn.ConvTranspose2d(inside, outside, patch_size // stride, patch_size // stride),
                nn.GroupNorm(16, outside),
                nn.GELU(),
                nn.Dropout(0.5),
            )
            for (inside, outside), stride in zip(BRANCHES, (1, 2, 4, 8), strict=True)
        )
        coarsest = BRANCHES[-1][1]
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveMaxPool2d(size), _conv(coarsest, width, 1)) for size in POOLS
        )
        self.pooled = _conv(coarsest + len(POOLS) * width, width, 3)
        self.laterals = nn.ModuleList(_conv(outside, width, 1) for _, outside in BRANCHES[:-1])
        self.smooth = nn.ModuleList(_conv(width, width, 3) for _ in BRANCHES[:-1])
        self.join = _conv(len(BRANCHES) * width, width, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of the encoder to a map of the image's size."""
        levels = [branch(features[-1]) for branch in self.branches]
        coarsest = levels[-1]
        pools = [_enlarged(pool(coarsest), coarsest) for pool in self.pools]
        maps = [self.pooled(torch.cat([coarsest, *pools], 1))]
        for lateral, level in zip(reversed(self.laterals), reversed(levels[:-1]), strict=True):
            side = lateral(level)
            maps.insert(0, side + _enlarged(maps[0], side))
        smooth = [conv(grid) for conv, grid in zip(self.smooth, maps[:-1], strict=True)]
        finest = smooth[0]
        out: Tensor = self.join(
            torch.cat([finest, *(_enlarged(grid, finest) for grid in [*smooth[1:], maps[-1]])], 1)
        )
        return out


class FCNHead(nn.Sequential):
    """Auxiliary head on a single map, as mmseg's: one convolution and a classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        """Initialize the head.

        Args:
            channels: channels of the map.
            classes: number of classes.
        """
        width = 256
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, classes, 1),
        )


def _classifier(width: int, classes: int, scale: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout2d(0.1),
        nn.Conv2d(width, classes, 1),
        nn.Upsample(scale_factor=scale, mode='bilinear') if scale > 1 else nn.Identity(),
    )


def build_upernet(
    backbone: str,
    in_channels: int,
    classes: int,
    variant: str = 'smp',
    channels: int | None = None,
    patch_size: tuple[int, int] = (16, 16),
    last: bool = False,
) -> nn.Module:
    """Build a variant of UPerNet over an AOM.

    Args:
        backbone: name of the backbone.
        in_channels: number of channels of the image.
        classes: number of classes.
        variant: one of ``HEADS``.
        channels: channels of the decoder; 256 where not given, and 512 with ``'dofa'``.
        patch_size: patch size in px, (height, width).
        last: whether all levels of the pyramid are of the last block.

    Returns:
        The model, with random weights.

    Raises:
        ConfigError: if the variant does not take the patch size or the width.
    """
    width = channels or (512 if variant == 'dofa' else 256)
    if width < 16 or width % 16:
        raise ConfigError(f'decoder_channels must be a multiple of 16, got {channels}.')
    model = smp.UPerNet(
        backbone,
        encoder_weights=None,
        in_channels=in_channels,
        classes=classes,
        decoder_channels=width,
    )
    encoder: AOMEncoder = model.encoder
    if last:
        encoder._take = (encoder._take[-1],) * 4
    if variant == 'smp':
        return model
    side, multiple = patch_size[0], 4 if variant == 'dofa' else 8
    if patch_size[0] != patch_size[1] or side % multiple:
        raise ConfigError(
            f'decoder_variant={variant!r} takes square patches of a multiple of {multiple} px, got '
            f"{patch_size[0]} x {patch_size[1]}; choose one, or 'smp', which takes any."
        )
    encoder._strides = (side,) * 4  # the maps as they are: the variants enlarge them themselves
    if variant == 'dofa':
        model.decoder = NeckedDecoder(LearnedPyramid(encoder.embed_dim), model.decoder)
        model.segmentation_head = _classifier(width, classes, side / 4)
    else:
        model.decoder = GroupNormUPerNet(encoder.embed_dim, side, width)
        model.segmentation_head = nn.Conv2d(width, classes, 3, padding=1)
    return model
