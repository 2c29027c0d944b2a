"""TorchGeo's tasks with ``bands=`` and ``patch_size=``, under their names of TorchGeo 0.8."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import WeightsEnum

from ..errors import ConfigError, suggest
from ..layers.tokenizer import checked_patch_size
from ..transforms import check_image
from . import upstream
from .finetune import FineTuneMixin
from .mixin import (
    Bands,
    BandsMixin,
    PatchSize,
    SpeedMode,
    channels_of,
    plain_bands,
    spec_of,
)

__all__ = (
    'BYOLTask',
    'BandsMixin',
    'ChangeDetectionTask',
    'ClassificationTask',
    'DenseTask',
    'MoCoTask',
    'PixelwiseRegressionTask',
    'RegressionTask',
    'SimCLRTask',
)

SMP_DECODERS = ('unet', 'deeplabv3+', 'upernet', 'segformer', 'dpt')
# What decoders of a fixed pyramid demand of image heights and widths, in px.
MULTIPLES = {
    'unet': (32, 32),
    'fcsiamdiff': (32, 32),
    'fcsiamconc': (32, 32),
    'upernet': (4, 4),
    'segformer': (4, 4),
    'deeplabv3+': (16, 16),
    'dpt': (32, 32),
    'hypercolumn': (1, 1),
}


class _ImageTask(BandsMixin):
    """Tasks whose ``model`` is the backbone."""

    def __init__(
        self,
        model: str = 'aom_vitb',
        *,
        weights: WeightsEnum | str | bool | None = None,
        bands: Bands | None = None,
        patch_size: PatchSize | None = None,
        image_size: int | list[int] | None = None,
        gsd_m: float | None = None,
        speed: SpeedMode = 'exact',
        in_channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the task.

        Args:
            model: name of the backbone: ``aom_vitt``, ``aom_vits``, ``aom_vitb``, ``aom_vitl``, or
                one with a band preset as tag, ``aom_vitb.sentinel2_rgb``.
            weights: initial weights: True for the default ones of the size, an enum member or its
                full name, or the path of a checkpoint of any task, or of a weights file.
            bands: bands of the channels in file order: a preset, names, wavelengths, indices (see
                :func:`~torchgeo_aom.bands.resolve_bands`). They win over the tag.
            patch_size: patch size in px, 16 where not given; ``'auto'`` for the rule of
                :func:`~torchgeo_aom.models.patch_rule.choose_patch_size`.
            image_size: image size in px, one number or height and width, for the rule.
            gsd_m: ground sampling distance in meters, for the rule.
            speed: ``'exact'``, ``'balanced'``, ``'fast'`` or a merge schedule, see
                :func:`~torchgeo_aom.models.speed.merge_schedule`.
            in_channels: number of channels; follows from the bands, 3 without bands.
            **kwargs: arguments of TorchGeo's task of the same name.

        Raises:
            BandError: if the bands are unknown or do not fit *in_channels*.
            CheckpointError: if the weights cannot be read or do not fit.
            ConfigError: if a name is unknown.
        """
        bands = plain_bands(bands)
        channels = channels_of(spec_of(model, bands), in_channels, self.dates)
        super().__init__(model=model, weights=weights, in_channels=channels, **kwargs)


class DenseTask(BandsMixin):
    """Tasks whose ``model`` is a decoder over the ``backbone``."""

    named = 'backbone'
    decoders: tuple[str, ...] = SMP_DECODERS
    dates = True
    images = 1

    def __init__(
        self,
        model: str = 'upernet',
        backbone: str = 'aom_vitb',
        *,
        weights: WeightsEnum | str | bool | None = None,
        bands: Bands | None = None,
        patch_size: PatchSize | None = None,
        image_size: int | list[int] | None = None,
        gsd_m: float | None = None,
        speed: SpeedMode = 'exact',
        in_channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the task.

        Args:
            model: name of the decoder.
            backbone: name of the backbone: ``aom_vitt``, ``aom_vits``, ``aom_vitb``, ``aom_vitl``,
                or one with a band preset as tag, ``aom_vitb.sentinel2_rgb``.
            weights: initial weights: True for the default ones of the size, an enum member or its
                full name, or the path of a checkpoint of any task, or of a weights file.
            bands: bands of the channels in file order: a preset, names, wavelengths, indices (see
                :func:`~torchgeo_aom.bands.resolve_bands`). They win over the tag.
            patch_size: patch size in px, 16 where not given; ``'auto'`` for the rule of
                :func:`~torchgeo_aom.models.patch_rule.choose_patch_size`.
            image_size: image size in px, one number or height and width, for the rule.
            gsd_m: ground sampling distance in meters, for the rule.
            speed: ``'exact'``, ``'balanced'``, ``'fast'`` or a merge schedule, see
                :func:`~torchgeo_aom.models.speed.merge_schedule`.
            in_channels: number of channels; follows from the bands, 3 without bands.
            **kwargs: arguments of TorchGeo's task of the same name.

        Raises:
            BandError: if the bands are unknown or do not fit *in_channels*.
            CheckpointError: if the weights cannot be read or do not fit.
            ConfigError: if a name is unknown, or the decoder takes no AOM.
        """
        if model not in self.decoders:
            raise ConfigError(
                f'model={model!r} takes no AOM backbone{suggest(model, self.decoders)}. Possible: '
                f'{", ".join(self.decoders)}. (fcn has no backbone and btc takes Swin only: use '
                "TorchGeo's own task for them.)"
            )
        bands = plain_bands(bands)
        channels = channels_of(spec_of(backbone, bands), in_channels, self.dates)
        super().__init__(
            model=model, backbone=backbone, weights=weights, in_channels=channels, **kwargs
        )

    def build(self) -> None:
        """Let TorchGeo build the model; DPT is built here, since it needs the patch size."""
        hparams = self.hparams
        # Not in __init__: the command line would take it for an argument of all dense tasks.
        if hparams.get('num_outputs', 1) != 1:
            raise ConfigError(
                f'num_outputs={hparams["num_outputs"]} is not possible: TorchGeo regresses one '
                'value a pixel. Leave it out, and train one task for each value.'
            )
        height, width = checked_patch_size(self._patch_size() or 16)
        if hparams['model'] == 'changevit' and height != width:
            raise ConfigError(f'ChangeViT takes square patches, got {hparams["patch_size"]}.')
        if hparams['model'] != 'dpt':
            super().build()
            return
        if height != width or height & (height - 1) or height < 4:
            raise ConfigError(
                f'DPT takes patch sizes 4, 8, 16, 32, 64 and 128, got {hparams["patch_size"]}; use '
                'one of them, or UPerNet, which takes any.'
            )
        self.model = smp.DPT(
            encoder_name=f'tu-{hparams["backbone"]}',
            encoder_weights=None,
            in_channels=hparams['in_channels'] * self.images,
            classes=hparams.get('num_classes') or hparams.get('num_labels') or 1,
            patch_size=height,
        )
        for part in ('backbone', 'decoder'):
            module = self.model.encoder if part == 'backbone' else self.model.decoder
            module.requires_grad_(not hparams[f'freeze_{part}'])

    def check(self, x: Tensor) -> None:
        """Check an image batch at the border; it stays as it is."""
        check_image(x.flatten(0, 1) if x.ndim == 5 else x)

    @property
    def steps(self) -> tuple[int, int]:
        """What heights and widths are padded to multiples of, in px."""
        height, width = self.backbones[0].patch_embed.patch_size
        if self.hparams.get('decoder_variant', 'smp') != 'smp':
            return height, width
        dpt = max(*MULTIPLES['dpt'], height, width)
        multiples = {**MULTIPLES, 'changevit': (height, width), 'dpt': (dpt, dpt)}
        return multiples[self.hparams['model']]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Forward pass at any image size: padded for the decoder, and cropped back.

        Args:
            x: normalized images of shape (B, C, H, W), or (B, T, C, H, W) where dates are separate.
            *args: of TorchGeo's task.
            **kwargs: of TorchGeo's task.

        Returns:
            Logits or values of shape (B, K, H, W).
        """
        if x.ndim not in (4, 5):
            self.check(x)  # raises, with the shape
        rows, cols = self.steps
        height, width = x.shape[-2:]
        # Zero is the mean of a normalized band, as in the encoder's own padding.
        padded = F.pad(x, (0, -width % cols, 0, -height % rows))
        return super().forward(padded, *args, **kwargs)[..., :height, :width]


class ClassificationTask(FineTuneMixin, _ImageTask, upstream.Classification):
    """Image classification on any bands.

    .. versionadded:: 0.1
    """

    head = 'keep'


class RegressionTask(_ImageTask, upstream.Regression):
    """Image regression on any bands.

    .. versionadded:: 0.1
    """

    head = 'keep'


class MoCoTask(_ImageTask, upstream.MoCo):
    """MoCo on any bands; weights go into both encoders.

    .. versionadded:: 0.1
    """


class SimCLRTask(_ImageTask, upstream.SimCLR):
    """SimCLR on any bands.

    .. versionadded:: 0.1
    """


class BYOLTask(_ImageTask, upstream.BYOL):
    """BYOL on any bands; weights go into both encoders.

    .. versionadded:: 0.1
    """


class PixelwiseRegressionTask(DenseTask, upstream.PixelwiseRegression):
    """Pixelwise regression on any bands; of a time series (B, T, C, H, W) too.

    .. versionadded:: 0.1
    """


class ChangeDetectionTask(DenseTask, upstream.ChangeDetection):
    """Change detection on any bands.

    The siamese decoders (``fcsiamdiff``, ``fcsiamconc``, ``changevit``) encode each date by itself.
    The others stack both dates as channels; the encoder has no code for the date, so it sees that
    something changed, but not in which direction.

    .. versionadded:: 0.1
    """

    decoders = (*SMP_DECODERS, 'fcsiamdiff', 'fcsiamconc', 'changevit')
    dates = False
    images = 2
