"""A frozen RGB network that says what the features of an image should tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bands import Band
from ..errors import CheckpointError, ConfigError, suggest

__all__ = ('Teacher', 'rgb_channels')

RGB_INDEX = (3.0, 2.0, 1.0)  # channel indices of red, green and blue
NEAR = 0.5  # farther from it, a band is another color
GRAY, CONTRAST = 0.45, 0.22  # mean and deviation of pictures between 0 and 1


def rgb_channels(bands: Sequence[Band]) -> tuple[int, int, int] | None:
    """Channels of red, green and blue, in this order.

    Args:
        bands: bands of an image.

    Returns:
        The channels, or None where the image lacks one of them.
    """
    found = []
    for index in RGB_INDEX:
        distance, channel = min((abs(band.index - index), k) for k, band in enumerate(bands))
        if distance > NEAR:
            return None
        found.append(channel)
    return found[0], found[1], found[2]


class Teacher(nn.Module):
    """EfficientNet of timm, frozen.

    It sees the red, green and blue bands as they are normalized for the student, mean 0 and
    standard deviation 1, brought to the brightness and contrast of pictures.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        name: str = 'tf_efficientnet_lite0.in1k',
        file: str | os.PathLike[str] | None = None,
        size: int = 128,
        stages: Sequence[int] = (4, 5, 6),
    ) -> None:
        """Build the teacher and load its weights.

        Args:
            name: EfficientNet or MobileNet of timm.
            file: its weights as timm names them, where timm should not fetch them.
            size: height and width in px at which it sees an image.
            stages: stages whose features are wanted. Those of all are averaged over the image; the
                map has those of all but the last.

        Raises:
            CheckpointError: if there are no weights or they do not fit.
            ConfigError: if timm does not know the name, or it is no such network.
        """
        super().__init__()
        if not timm.is_model(name.partition('.')[0]):
            known = timm.list_models('*efficientnet*')
            raise ConfigError(f'timm has no model {name!r}{suggest(name, known)}.')
        if file is not None and not Path(file).is_file():
            raise CheckpointError(
                f'{file} is no file: give the weights of {name}, named as in timm.'
            )
        overlay = None if file is None else {'file': os.fspath(file)}
        try:
            net: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:
            raise CheckpointError(
                f'The weights of {name} could not be loaded ({error}). Without a connection give '
                'their file.'
            ) from error
        if not (hasattr(net, 'conv_stem') and hasattr(net, 'blocks')):
            raise ConfigError(
                f'{name} is no EfficientNet; take one, such as tf_efficientnet_lite0.'
            )
        if len(stages) < 2 or not 0 <= min(stages) <= max(stages) < len(net.blocks):
            raise ConfigError(
                f'stages must be at least two of 0 to {len(net.blocks) - 1}, got {tuple(stages)}.'
            )
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.blocks: nn.Sequential = net.blocks[: max(stages) + 1]
        self.stages = tuple(stages)
        self.size = size
        cfg = net.pretrained_cfg
        self.register_buffer('mean', torch.tensor(cfg['mean'])[:, None, None])
        self.register_buffer('std', torch.tensor(cfg['std'])[:, None, None])
        self.mean: Tensor
        self.std: Tensor
        self.requires_grad_(False).eval()
        places, feature = self(torch.zeros(1, 3, size, size))
        self.widths = places.shape[1], feature.shape[1]

    def train(self, mode: bool = True) -> Teacher:
        """Stay as it is: a teacher does not learn."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the teacher sees.

        Args:
            image: normalized red, green and blue, of shape (B, 3, H, W).

        Returns:
            Map of shape (B, D, N, N), and image feature of shape (B, D').
        """
        size = (self.size, self.size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode='bilinear', antialias=True)
        picture = (image * CONTRAST + GRAY).clamp(0, 1)
        x = (picture - self.mean) / self.std
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps: dict[int, Tensor] = {}
        for k, stage in enumerate(self.blocks):
            x = stage(x)
            if k in self.stages:
                maps[k] = x.float()
        feature = torch.cat([maps[k].mean((2, 3)) for k in self.stages], dim=1)
        grid = maps[self.stages[0]].shape[2:]
        places = [F.interpolate(maps[k], grid, mode='bilinear') for k in self.stages[:-1]]
        return torch.cat(places, dim=1), feature
