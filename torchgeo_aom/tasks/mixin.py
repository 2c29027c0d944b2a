"""Gives any TorchGeo task bands and a patch size: resolved once, checked, saved, reported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchvision.models import WeightsEnum

from ..bands import Band, BandSpec, plain_band, preset_tags, resolve_bands
from ..errors import BandError
from ..layers.tokenizer import band_codes, checked_patch_size
from ..models.checkpoint import file_sha256
from ..models.patch_rule import check_gsd, choose_patch_size, explain_patch_size, is_auto
from ..models.registry import check_name
from ..models.smp_encoder import AOMEncoder
from ..models.speed import MAX_DEPTH, merge_schedule
from ..models.weights import AOMWeights, as_source, load_state
from ..transforms import check_image
from .metrics import add_class_iou, add_multilabel
from .report import ReportMixin

__all__ = (
    'Bands',
    'BandsMixin',
    'PatchSize',
    'SpeedMode',
    'channels_of',
    'plain_bands',
    'spec_of',
)

OneBand: TypeAlias = str | int | float | dict[str, Any]
Bands: TypeAlias = OneBand | list[OneBand]
PatchSize: TypeAlias = int | list[int] | Literal['auto']
SpeedMode: TypeAlias = Literal['exact', 'balanced', 'fast'] | list[list[int]]
FACTS = 'torchgeo_aom'


def plain_bands(spec: BandSpec | None) -> Bands | None:
    """Bands as plain values, which a checkpoint keeps and ``weights_only`` loading takes.

    Args:
        spec: bands in any form that :func:`~torchgeo_aom.bands.resolve_bands` takes, or None.

    Returns:
        A string, a number, a dict, a list of them, or None.

    Raises:
        BandError: if they have no order, or are of a type that names no bands.
    """
    if spec is None or isinstance(spec, str):
        return spec
    if isinstance(spec, Band):
        return plain_band(spec)
    if isinstance(spec, Mapping):
        return {key: float(v) if isinstance(v, Real) else v for key, v in spec.items()}
    if isinstance(spec, Real) and not isinstance(spec, bool):
        return int(spec) if isinstance(spec, Integral) else float(spec)
    if isinstance(spec, AbstractSet) or not isinstance(spec, Iterable):
        resolve_bands(spec)  # raises: it has no order, or is no band
    return [plain_bands(entry) for entry in spec]  # type: ignore[misc, union-attr]


def _bare_name(name: str) -> str:
    """Name of the model without SMP's prefix and without a tag; ConfigError if it is not ours."""
    return check_name(str(name).removeprefix('tu-')).partition('.')[0]


def spec_of(name: str, bands: Bands | None) -> Bands | None:
    """Bands of a task: the explicit ones, then those of the name's tag, then none."""
    tag = check_name(str(name).removeprefix('tu-')).partition('.')[2]
    return preset_tags()[tag] if bands is None and tag else bands


def channels_of(spec: Bands | None, in_channels: int | None, dates: bool) -> int:
    """Number of channels that the bands make, checked against what was given."""
    if spec is None:
        return 3 if in_channels is None else in_channels
    bands = resolve_bands(spec)
    if in_channels is None:
        return len(bands)
    if in_channels % len(bands) or (in_channels != len(bands) and not dates):
        raise BandError(
            f'{len(bands)} bands were named ({", ".join(band.label for band in bands[:20])}), but '
            f'in_channels={in_channels}. Leave in_channels out: it follows from the bands'
            + (', or give a multiple for a time series.' if dates else '.')
        )
    return in_channels


class BandsMixin(ReportMixin):
    """Gives a TorchGeo task bands and a patch size.

    TorchGeo builds the model; this then says what its channels are, and loads the weights with all
    checks. Everything is saved with the hyperparameters, in plain values.

    .. versionadded:: 0.1
    """

    #: whether an image may be a time series, stacked as channels
    dates = False

    #: whether weights may bring the classification head along
    head = 'drop'

    weights: WeightsEnum | str | os.PathLike[str] | bool | None

    def configure_models(self) -> None:
        """Build the model for the bands and load its weights.

        Raises:
            BandError: if the bands are unknown or do not fit ``in_channels``.
            CheckpointError: if the weights cannot be read or do not fit.
            ConfigError: if a name is unknown, or a merge schedule impossible.
        """
        hparams = self.hparams
        given, weights = hparams[self.named], self.weights
        hparams['bands'] = plain_bands(hparams['bands'])
        spec = spec_of(given, hparams['bands'])
        self._channels_follow = hparams['in_channels'] is None
        hparams['in_channels'] = channels_of(spec, hparams['in_channels'], self.dates)
        patch_size = self._patch_size()
        if patch_size is not None:
            height, width = checked_patch_size(patch_size)
            patch_size = hparams['patch_size'] = height if height == width else [height, width]

        speed = hparams['speed']
        if not isinstance(speed, str):
            speed = merge_schedule(speed, MAX_DEPTH)
            hparams['speed'] = [list(pair) for pair in speed]

        hparams[self.named], self.weights = _bare_name(given), None
        try:
            self.build()
        finally:
            hparams[self.named], self.weights = given, weights
        for backbone in self.backbones:
            backbone.patch_embed._set_bands(spec, backbone.patch_embed.in_chans, dates=True)
            if isinstance(backbone, AOMEncoder):
                backbone._spec = spec
            backbone.set_input_size(patch_size=patch_size)
            backbone.set_speed(speed)
            # The task never uses the other kernels; optimizers would wear them away by weight
            # decay, and the weights would no longer serve every patch size.
            used = str(backbone.patch_embed.nearest_kernel(backbone.patch_embed.patch_size))
            for size, kernel in backbone.patch_embed.kernels.items():
                if size != used:
                    kernel.requires_grad_(False)
        self._load(weights)

    def _patch_size(self) -> Any:
        """Patch size that was given, or the one that the rule says, with its reason."""
        patch_size, size = self.hparams['patch_size'], self.hparams['image_size']
        gsd_m = self.hparams['gsd_m']
        if patch_size is None:  # a number may be what the rule said when the task was made
            check_gsd(gsd_m, patch_size)
        if is_auto(patch_size):
            patch_size = self.hparams['patch_size'] = choose_patch_size(size, gsd_m=gsd_m)
            rank_zero_info(explain_patch_size(patch_size, size, gsd_m))
        return patch_size

    def build(self) -> None:
        """Let TorchGeo build the model, with random weights and positional channels."""
        super().configure_models()  # type: ignore[misc]

    def _load(self, weights: WeightsEnum | str | os.PathLike[str] | bool | None) -> None:
        source = as_source(weights, _bare_name(self.hparams[self.named]))
        if source is None:
            return
        for backbone in self.backbones:
            load_state(backbone, source, head=self.head)
        known = isinstance(source, AOMWeights)
        sha256 = source.meta['sha256'] if known else file_sha256(source)  # type: ignore[union-attr]
        self.weights_from = f'{source} (SHA-256 {sha256[:16]}...)'

    def configure_metrics(self) -> None:
        """Add IoU of each class and averaged over them, and mAP of several labels."""
        super().configure_metrics()  # type: ignore[misc]
        if 'task' in self.hparams:
            for stage in ('train', 'val', 'test'):
                metrics = getattr(self, f'{stage}_metrics')
                add_class_iou(metrics, self.hparams)
                if self.hparams['task'] == 'multilabel' and self.named == 'model':
                    add_multilabel(metrics, self.hparams['num_labels'])

    def check(self, x: Tensor) -> None:
        """Check an image batch at the border; it stays as it is.

        Raises:
            InputError: if it is empty, has integer type or NaN, or has the wrong shape.
        """
        check_image(x)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Forward pass of TorchGeo's task, behind a check of the image.

        Args:
            x: normalized images of shape (B, C, H, W); (B, T, C, H, W) where the task takes dates.
            *args: of TorchGeo's task.
            **kwargs: of TorchGeo's task, or of the model.

        Returns:
            What TorchGeo's task returns.
        """
        if self.dates and x.ndim == 5:
            x = x.flatten(1, 2)  # (B, T*C, H, W)
        self.check(x)
        return super().forward(x, *args, **kwargs)

    def _identity(self) -> dict[str, Any]:
        """What the channels mean to the encoder."""
        bands = self.backbones[0].bands
        encoding = self.backbones[0].patch_embed.channel_encoding
        return {
            'bands': None if bands is None else [band.label for band in bands],
            'codes': None if bands is None else band_codes(bands, encoding),
            'weights': self.weights_from,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the bands were resolved to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[FACTS] = self._identity()
        if self._channels_follow:
            # So that load_from_checkpoint(path, bands=...) runs the model on other bands.
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]['in_channels'] = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose bands mean something else by now.

        Raises:
            BandError: if the same names are resolved to other channel indices.
        """
        super().on_load_checkpoint(checkpoint)
        now, then = self._identity(), checkpoint.get(FACTS)
        if then and then['bands'] == now['bands'] and then['codes'] != now['codes']:
            raise BandError(
                f'The checkpoint was trained with bands {then["bands"]} at {then["codes"]}; the '
                f'same names now mean {now["codes"]}. Load the sensor file of that run '
                '(load_sensors), or name the bands by index.'
            )
        epoch, step = checkpoint.get('epoch'), checkpoint.get('global_step')
        self.weights_from = f'checkpoint of epoch {epoch}, step {step}'
        if self._trainer is not None:  # otherwise the run to come says so
            rank_zero_info(f'AOM {self.hparams[self.named]}: weights now: {self.weights_from}')
