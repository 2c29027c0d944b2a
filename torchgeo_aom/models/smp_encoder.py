"""AOM as an encoder of segmentation-models-pytorch: UPerNet and others on any bands."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bands import BandSpec
from ..errors import BandWarning, CheckpointError, ConfigError
from ..layers.checks import ceil_div
from ..layers.pyramid import resample_map
from .aom import AOM, pyramid_blocks
from .feature_memory import FeatureMemory
from .loading import strip_prefix
from .weights_enum import UnknownWeights, enum_of

__all__ = ('AOMEncoder', 'NoHubWeights')


class NoHubWeights(dict[str, Any]):
    """SMP's table of an encoder's weights on a hub, of which there are none; says where ours go.

    SMP means ``imagenet`` where it is not told, and TorchGeo hands ``weights=True`` on as that.
    """

    def __init__(self, model: str) -> None:
        """Initialize the empty table of *model*."""
        super().__init__()
        self.model = model

    def __contains__(self, name: object) -> bool:
        """Refuse any name.

        Raises:
            UnknownWeights: always; a KeyError too, as SMP's own answer.
        """
        members = list(enum_of(self.model).__members__)
        known = f'{enum_of(self.model).__name__}.{members[0]}' if members else 'a weights file'
        raise UnknownWeights(
            f'SMP loads weights from a hub only, where {self.model} has none named {name!r} '
            f'(imagenet also stands for weights=True of TorchGeo). Give encoder_weights=None to '
            f'SMP and load {known} by torchgeo_aom.models.weights.load_state(model.encoder, ...); '
            f'or take the tasks of torchgeo_aom.tasks, which load {known} by weights=.'
        )


class AOMEncoder(AOM):
    """AOM with the interface of an SMP encoder: images in, a pyramid of maps out.

    The maps of four evenly spaced blocks are normed, pooled over bands and resampled without
    parameters to strides 4, 8, 16 and 32, so a frozen encoder has no untrained part.

    .. versionadded:: 0.1
    """

    _is_torch_scriptable = False
    _is_torch_exportable = True
    _is_torch_compilable = True

    def __init__(
        self,
        depth: int = 5,
        output_stride: int = 32,
        bands: BandSpec | None = None,
        blocks: int = 12,
        **backbone: Any,
    ) -> None:
        """Initialize the encoder.

        Args:
            depth: number of pyramid levels (SMP's meaning): level k has stride 2 ** k.
            output_stride: for SMP's callers, who then call :meth:`make_dilated`.
            bands: bands of the channels, or None for positions.
            blocks: number of transformer blocks, ``depth`` of :class:`AOM`: SMP takes that name.
            **backbone: other arguments of :class:`AOM`, passed on unchanged.

        Raises:
            ConfigError: if the depth is impossible, or the backbone has too few blocks.
        """
        super().__init__(bands=bands, depth=blocks, **backbone)
        if not 3 <= depth <= 5:
            raise ConfigError(f'encoder_depth must be 3, 4 or 5 for AOM, got {depth}.')
        self._spec = bands
        self._levels = depth
        self._strides: tuple[int, ...] = (4, 8, 16, 32)
        if blocks < 4:
            raise ConfigError(f'A pyramid takes 4 blocks, this backbone has {blocks}.')
        self._take = pyramid_blocks(blocks)
        #: keeps maps where the encoder is frozen; nothing is kept where None
        self.memory: FeatureMemory | None = None

    @property
    def out_channels(self) -> list[int]:
        """Channels of each level: the image, nothing at stride 2, then D."""
        channels = [self.patch_embed.in_chans, 0] + [self.embed_dim] * 4
        return channels[: self._levels + 1]

    @property
    def output_stride(self) -> int:
        """What SMP demands image sizes to be a multiple of.

        The encoder itself takes any size; decoders enlarge the stride-4 map fourfold.
        """
        return self._strides[-1] if self._strides[-1] != 32 else 4

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Set the number of channels; no parameter depends on it.

        Args:
            in_channels: number of channels. With bands: their number, or a multiple of it where
                several dates are stacked as channels (change detection, time series).
            pretrained: for SMP's callers; no kernel has to be adapted.
        """
        self.patch_embed._set_bands(self._spec, in_channels, dates=True)
        if self.bands and in_channels != len(self.bands):
            warnings.warn(
                f'{in_channels} channels are read as {in_channels // len(self.bands)} dates of '
                f'the {len(self.bands)} bands {[band.label for band in self.bands]}.',
                BandWarning,
                stacklevel=2,
            )

    def make_dilated(self, output_stride: int) -> None:
        """Cap the strides of the pyramid, as DeepLabV3+ asks for."""
        if output_stride not in (8, 16):
            raise ConfigError(f'output_stride must be 8, 16 or 32, got {output_stride}.')
        self._strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a backbone, or the backbone inside the checkpoint of a larger model.

        Args:
            state_dict: parameters by name, with or without the prefix of an enclosing model; heads
                and decoders are left out.
            strict: whether keys must match exactly.
            assign: whether to take over the tensors instead of copying their values.

        Returns:
            Missing and unexpected keys, as of :meth:`torch.nn.Module.load_state_dict`.

        Raises:
            CheckpointError: if the checkpoint holds no AOM backbone.
        """
        own = strip_prefix(state_dict)
        if not any(key.startswith('patch_embed.') for key in own):
            raise CheckpointError(
                f'The checkpoint holds no AOM backbone: none of its {len(state_dict)} keys is '
                f"'patch_embed...', the first are {list(state_dict)[:3]}."
            )
        return super().load_state_dict(own, strict=strict, assign=assign)

    def token_maps(self, x: Tensor, patch_size: int | Sequence[int] | None = None) -> list[Tensor]:
        """Maps of the blocks that dense heads see, on the grid of the tokens.

        Args:
            x: normalized images of shape (B, C, H, W).
            patch_size: patch size in px where not that of the constructor.

        Returns:
            A map of shape (B, D, Nh, Nw) for each block taken, in order.
        """
        patch = self.patch_embed.checked_patch_size(patch_size)

        def compute(images: Tensor) -> list[Tensor]:
            maps: list[Tensor] = self.forward_intermediates(
                images,
                sorted(set(self._take)),
                norm=True,
                stop_early=True,
                intermediates_only=True,
                patch_size=patch,
            )
            return maps

        if self.memory is None or torch.compiler.is_compiling():
            return compute(x)
        kind = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled() else x.dtype
        return self.memory.maps(compute, x, f'{patch} {kind}')

    def forward(  # type: ignore[override]
        self, x: Tensor, patch_size: int | Sequence[int] | None = None
    ) -> list[Tensor]:
        """Images to a pyramid of maps.

        Args:
            x: normalized images of shape (B, C, H, W).
            patch_size: patch size in px where not that of the constructor.

        Returns:
            The image, an empty map of stride 2, and maps of shape (B, D, ceil(H / s), ceil(W / s))
            for the strides s = 4, 8, 16, 32.
        """
        size = (x.shape[2], x.shape[3])
        patch = self.patch_embed.checked_patch_size(patch_size)
        taken = sorted(set(self._take))
        maps = self.token_maps(x, patch)
        half = x.new_empty(x.shape[0], 0, ceil_div(size[0], 2), ceil_div(size[1], 2))
        levels = [
            resample_map(maps[taken.index(block)], patch, size, stride)
            for block, stride in zip(self._take, self._strides, strict=True)
        ]
        return [x, half, *levels][: self._levels + 1]
