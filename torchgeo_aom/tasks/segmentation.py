"""Semantic segmentation on any bands: heads, auxiliary loss, and a mean IoU over what counts."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_info
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, InputError, suggest
from ..layers.tokenizer import checked_patch_size
from ..models.hypercolumn import STRENGTHS, HypercolumnModel
from . import upstream
from .bands import SMP_DECODERS, DenseTask
from .finetune import FineTuneMixin
from .frozen_maps import FrozenMapsMixin
from .heads import HEADS, FCNHead, build_upernet

__all__ = ('SemanticSegmentationTask', 'Variant')

Variant: TypeAlias = Literal['smp', 'dofa', 'spectralgpt']
AUX_LEVEL = 4  # of [image, nothing, four maps]: the third map, as in mmseg


class SemanticSegmentationTask(
    FrozenMapsMixin, FineTuneMixin, DenseTask, upstream.SemanticSegmentation
):
    """Semantic segmentation on any bands; of a time series (B, T, C, H, W) too.

    Besides SMP's decoders, *model* may be ``'hypercolumn'``: a light head that sees single pixels,
    their local statistics and reduced maps of the backbone, and runs on other bands than it was
    trained on, see :class:`~torchgeo_aom.models.hypercolumn.Hypercolumn`.

    The maps of a frozen backbone are computed once an image and kept in memory for later epochs.

    .. versionadded:: 0.1
    """

    decoders = (*SMP_DECODERS, 'hypercolumn')

    def __init__(
        self,
        *args: Any,
        decoder_variant: Variant = 'smp',
        decoder_channels: int | None = None,
        levels: Literal['spread', 'last'] = 'spread',
        aux_weight: float = 0.0,
        ignored_classes: list[int] | None = None,
        context: Literal['none', 'weak', 'strong'] = 'weak',
        **kwargs: Any,
    ) -> None:
        """Initialize the task.

        Args:
            *args: model and backbone.
            decoder_variant: which UPerNet: ``'smp'``; ``'dofa'``, with a learned pyramid in front
                and dropout, as DOFA has it of mmseg; or ``'spectralgpt'``, that of AOM's authors.
            decoder_channels: channels of UPerNet; 256 where not given, and 512 with ``'dofa'``.
            levels: what UPerNet sees: four blocks spread over the backbone, or the last block at
                all four levels.
            aux_weight: weight of the loss of an auxiliary FCN head on the third map, 0.4 in mmseg;
                no such head where 0, or where the backbone is frozen: it would train nothing.
            ignored_classes: classes whose IoU is left out of the mean, besides *ignore_index*; a
                run names them.
            context: how much of the backbone ``model='hypercolumn'`` sees: ``'none'``, ``'weak'``
                (32 principal components, dropout 0.3) or ``'strong'`` (128, dropout 0.8).
            **kwargs: bands, patch size and what else TorchGeo's task takes.

        Raises:
            BandError: if the bands are unknown or do not fit ``in_channels``.
            CheckpointError: if the weights cannot be read or do not fit.
            ConfigError: if a name is unknown, or options contradict each other.
        """
        if decoder_variant not in HEADS:
            raise ConfigError(
                f'decoder_variant must be one of {HEADS}, got {decoder_variant!r}'
                f'{suggest(decoder_variant, HEADS)}.'
            )
        if levels not in ('spread', 'last'):
            raise ConfigError(f"levels must be 'spread' or 'last', got {levels!r}.")
        if not 0 <= aux_weight < float('inf'):
            raise ConfigError(f'aux_weight must not be negative, got {aux_weight!r}.')
        if context not in STRENGTHS:
            raise ConfigError(
                f'context must be one of {tuple(STRENGTHS)}, got {context!r}'
                f'{suggest(context, STRENGTHS)}.'
            )
        super().__init__(*args, **kwargs)

    def build(self) -> None:
        """Build the decoder that was asked for, and the auxiliary head."""
        hparams = self.hparams
        self._check_ignored()
        asked = (hparams['decoder_variant'], hparams['levels']) != ('smp', 'spread')
        asked = asked or hparams['decoder_channels'] is not None
        if asked:
            if hparams['model'] != 'upernet':
                raise ConfigError(
                    "decoder_variant, decoder_channels and levels are options of model='upernet', "
                    f'got model={hparams["model"]!r}.'
                )
            self.model = build_upernet(
                hparams['backbone'],
                hparams['in_channels'],
                self.outputs,
                hparams['decoder_variant'],
                hparams['decoder_channels'],
                checked_patch_size(self._patch_size() or 16),
                hparams['levels'] == 'last',
            )
        elif hparams['model'] == 'hypercolumn':
            encoder = get_encoder(hparams['backbone'], hparams['in_channels'], weights=None)
            self.model = HypercolumnModel(encoder, self.outputs, hparams['context'])
        else:
            super().build()
        if isinstance(self.model, HypercolumnModel) or asked:
            self.model.encoder.requires_grad_(not hparams['freeze_backbone'])
            self.model.decoder.requires_grad_(not hparams['freeze_decoder'])
        self.aux_head: nn.Module | None = None
        self._aux_map: Tensor | None = None
        if hparams['aux_weight'] and hparams['model'] in ('dpt', 'hypercolumn'):
            raise ConfigError(
                'aux_weight needs a pyramid, which DPT and the hypercolumn head have not; use '
                f'upernet, got model={hparams["model"]!r}.'
            )
        if hparams['aux_weight'] and hparams['freeze_backbone']:
            rank_zero_info(
                'AOM aux_weight is left out: the auxiliary head reads the frozen backbone only, so '
                'its loss would train nothing that is used.'
            )
        elif hparams['aux_weight']:
            self.aux_head = FCNHead(self.backbones[0].embed_dim, self.outputs)
            self.model.encoder.register_forward_hook(self._keep_map)

    @property
    def outputs(self) -> int:
        """Channels of the logits."""
        return int(self.hparams['num_classes'] or self.hparams['num_labels'] or 1)

    def _check_ignored(self) -> None:
        ignored, classes = self.hparams['ignored_classes'] or [], self.hparams['num_classes'] or 0
        if not ignored:
            return
        wrong = [k for k in ignored if isinstance(k, bool) or k not in range(classes)]
        if wrong or self.hparams['task'] != 'multiclass':
            raise ConfigError(
                f'ignored_classes={ignored} are not classes 0 to {classes - 1} of a multiclass '
                'task. A value that is no class belongs into ignore_index.'
            )
        if not set(range(classes)) - {*ignored, self.hparams['ignore_index']}:
            raise ConfigError(f'ignored_classes={ignored} leaves no class to average over.')

    def _keep_map(self, module: nn.Module, args: Any, output: list[Tensor]) -> None:
        self._aux_map = output[AUX_LEVEL] if self.training else None

    def setup(self, stage: str) -> None:
        """Report the facts, and which classes do not count."""
        super().setup(stage)
        given = {*(self.hparams['ignored_classes'] or ()), self.hparams['ignore_index']}
        left_out = given & set(range(self.outputs))  # other values stand for no class
        if left_out:
            datamodule = getattr(self.trainer, 'datamodule', None)
            names: Any = getattr(datamodule, 'classes', None) or self.hparams.get('labels') or ()
            listed = ', '.join(
                f'{k} ({names[k]})' if k < len(names) else str(k) for k in sorted(left_out)
            )
            rank_zero_info(f'AOM mean IoU (AverageJaccardIndex) leaves out: {listed}')

    def _check_batch(self, batch: Any) -> None:
        """Refuse masks that cannot be learned from, and batches that batch norm cannot take."""
        mask, image = batch['mask'], batch['image']
        if mask.shape[-2:] != image.shape[-2:]:
            raise InputError(
                f'masks of {tuple(mask.shape[-2:])} px belong to images of '
                f'{tuple(image.shape[-2:])} px: both must have one size'
            )
        if self.hparams['task'] == 'multiclass':
            classes, ignore = self.hparams['num_classes'], self.hparams['ignore_index']
            odd = (mask < 0) | (mask >= classes)
            wrong = mask[odd if ignore is None else odd & (mask != ignore)].unique()
            if len(wrong):
                raise InputError(
                    f'masks hold {wrong.tolist()[:10]}, which are no classes (0 to {classes - 1}) '
                    f'and not ignore_index={ignore}; correct the masks, num_classes or ignore_index'
                )
        if len(image) == 1 and any(
            isinstance(part, nn.BatchNorm2d) and part.training for part in self.model.modules()
        ):
            raise ConfigError(
                f'{self.hparams["model"]} has batch norms, which need batches of two images or '
                'more in training, and this batch has one: raise batch_size (or drop_last=True), '
                "or use model='hypercolumn', which takes any"
            )

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Loss of a batch, the auxiliary head's included.

        Args:
            *args: the batch and its number.
            **kwargs: of TorchGeo's task.

        Returns:
            The loss.
        """
        batch = args[0] if args else kwargs['batch']
        self._check_batch(batch)
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.aux_head is None or self._aux_map is None:
            return loss
        target = batch['mask']
        logits = self.aux_head(self._aux_map)
        self._aux_map = None
        height, width = target.shape[-2:]
        size = [side + -side % step for side, step in zip((height, width), self.steps, strict=True)]
        logits = F.interpolate(logits, size, mode='bilinear', align_corners=False)
        logits = logits[..., :height, :width].squeeze(1)
        if self.hparams['loss'] == 'bce':
            target = target.float()
        auxiliary: Tensor = self.criterion(logits, target)
        self.log('train_aux_loss', auxiliary, batch_size=len(target))
        return loss + self.hparams['aux_weight'] * auxiliary
