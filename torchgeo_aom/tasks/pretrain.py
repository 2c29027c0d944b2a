"""Pretraining: masked spectral-spatial reconstruction with multi-scale alignment (Eq. 4 to 8)."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from timm.optim.muon import Muon
from torch import Tensor, distributed, nn

from ..bands import resolve_bands
from ..errors import AOMWarning, ConfigError, DataError, suggest
from ..models.aom import AOM, SIZES
from ..models.decoder import Decoder, ProjectionHead
from ..models.weights import load_state
from .compiled import compile_blocks
from .pretrain_metrics import (
    CollapseAlarm,
    embedding_std,
    rank_me,
    reconstruction_figure,
    scale_similarity,
    write_samples,
)
from .pretrain_options import check_options
from .pretrain_step import MaskedScales, SaveOnTerm, StepResult, check_batch
from .processes import world_size
from .schedule import decay_groups, muon_groups, warmup_cosine

__all__ = ('PretrainTask',)

VALIDATION_STEP = -1  # one mask a sample for the whole run, so that epochs compare


class PretrainTask(MaskedScales):
    """Pretraining of an AOM on batches of any sensors, one source a batch.

    A batch is a mapping with ``image`` (B, C, H, W), normalized; ``valid``, bool of the same shape,
    where pixels are missing; ``bands``, one plain spec a channel; ``key``, the number of each
    sample; and ``source``, its name. Masks depend on seed, step and key alone.

    If you use this in your research, please cite the following paper:

    * https://arxiv.org/abs/2512.17224

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        model: str = 'aom_vitb',
        patch_sizes: tuple[int, ...] = (16, 24, 32, 48, 64),
        scales_per_step: int | None = None,
        mask_ratio: float = 0.75,
        mask_kind: str = 'token',
        negatives: str = 'batch',
        recon_weight: float = 0.2,
        align_weight: float = 0.8,
        temperature: float = 0.5,
        norm_pix_loss: bool = False,
        base_lr: float = 1e-4,
        lr_scaling: bool = True,
        batch_size: int = 1024,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        optimizer: str = 'adamw',
        warmup_epochs: float = 20,
        epochs: float = 220,
        view_size: int | None = None,
        view_scale: tuple[float, float] = (0.2, 1.0),
        memory: str = 'all',
        grad_checkpointing: bool = False,
        seed: int = 0,
        weights: str | None = None,
        kernel_sizes: tuple[int, ...] = (16, 32, 64),
        channel_encoding: str = 'index',
        bands: str | list[str] | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        max_tokens: int = 65536,
        decoder_width: int | None = None,
        decoder_depth: int = 4,
        decoder_heads: int | None = None,
        projector_dim: int = 256,
        projector_norm: str = 'batch',
        metrics_every: int = 50,
        figure_every: int = 0,
        collapse_std: float = 0.01,
        collapse_steps: int = 200,
        on_collapse: str = 'warn',
        compile: bool = False,
    ) -> None:
        """Initialize the task. The defaults are the paper's, see ``docs/pretraining.md``.

        Args:
            model: ``'aom_vitt'``, ``'aom_vits'``, ``'aom_vitb'`` or ``'aom_vitl'``.
            patch_sizes: patch sizes in px, each with a decoder and a projection head.
            scales_per_step: how many of them a step takes, in turns; all where not given.
            mask_ratio: share of the tokens that is masked.
            mask_kind: ``'token'``, ``'spatial'``, ``'channel'`` or ``'mixed'``.
            negatives: ``'batch'`` for the other images of the batch, on all devices, as negatives,
                or ``'none'`` for Eq. 7 as printed, whose features were worse than untrained ones.
            recon_weight: lambda 1 of Eq. 8; 0 for no decoders.
            align_weight: lambda 2 of Eq. 8; 0 for no projection heads.
            temperature: tau of Eq. 7.
            norm_pix_loss: normalise each target patch by itself, as MAE does.
            base_lr: learning rate for 256 images a step.
            lr_scaling: whether to multiply it by ``batch_size / 256``.
            batch_size: images a step, over all devices and accumulated batches; sets the learning
                rate, not the loader.
            weight_decay: of all but biases, norms, patch kernels and mask tokens.
            betas: of AdamW.
            optimizer: ``'adamw'``, or ``'muon'``: timm's, for the matrices of the blocks only.
            warmup_epochs: of the ``epochs`` of the run, those of linear warm-up.
            epochs: what ``warmup_epochs`` is a part of; how long a run is, the Trainer says.
            view_size: height and width in px of a view of its own that each scale sees of an
                image, cropped, turned and mirrored at random; where not given, all scales see the
                image as it comes, as in the paper.
            view_scale: smallest and largest share of the image's area that a view shows.
            memory: ``'all'`` keeps the activations of all scales for the backward pass, ``'scale'``
                computes each scale twice and keeps one at a time.
            grad_checkpointing: compute each block twice and keep the activations of one.
            seed: of masks and of the order of scales. Initial weights follow the global seed.
            weights: to start from, see :func:`torchgeo_aom.models.weights.load_state`.
            kernel_sizes: of the kernel bank in px.
            channel_encoding: ``'index'`` or ``'wavelength'``.
            bands: that the exported encoder has where its user names none. Training does not look
                at them.
            embed_dim: width of the encoder where not that of *model*.
            depth: blocks of the encoder where not those of *model*.
            num_heads: attention heads of the encoder where not those of *model*.
            max_tokens: largest number of tokens C * Nh * Nw of one image.
            decoder_width: see :func:`torchgeo_aom.models.decoder.decoder_size`.
            decoder_depth: blocks of each decoder.
            decoder_heads: see :func:`torchgeo_aom.models.decoder.decoder_size`.
            projector_dim: width d of the projections.
            projector_norm: ``'batch'`` (over the images of all devices), ``'layer'`` or ``'none'``.
            metrics_every: steps between two logs of all that is slower than the loss.
            figure_every: steps between two TensorBoard figures; 0 for none.
            collapse_std: smallest spread of the embeddings that is no collapse.
            collapse_steps: steps in a row below it that raise the alarm.
            on_collapse: ``'warn'``, ``'stop'`` or ``'off'``.
            compile: compile the blocks (torch.compile): a minute or two before the first step.

        Raises:
            CheckpointError: if *weights* cannot be read or do not fit.
            ConfigError: if an option or a combination is impossible.
            SizeError: if a patch size is impossible.
        """
        self.weights = weights
        self.alarm = CollapseAlarm(collapse_std, collapse_steps, on_collapse)
        self._codes: dict[str, list[float]] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._images, self._since = 0, time.monotonic()
        super().__init__()

    def configure_models(self) -> None:
        """Build encoder, decoders and projection heads."""
        hparams = self.hparams
        check_options(hparams)
        model, patch_sizes = hparams['model'], hparams['patch_sizes']
        if model not in SIZES:
            raise ConfigError(
                f'model must be one of {", ".join(SIZES)}, got {model!r}{suggest(model, SIZES)}.'
            )
        given = {key: hparams[key] for key in ('embed_dim', 'depth', 'num_heads')}
        size: dict[str, Any] = SIZES[model] | {k: v for k, v in given.items() if v is not None}
        self.encoder = AOM(
            patch_size=patch_sizes[0],
            kernel_sizes=hparams['kernel_sizes'],
            bands=hparams['bands'],
            channel_encoding=hparams['channel_encoding'],
            max_tokens=hparams['max_tokens'],
            **size,
        )
        width = size['embed_dim']
        names = [str(p) for p in sorted(patch_sizes)]
        decoder = [hparams[f'decoder_{key}'] for key in ('width', 'depth', 'heads')]
        head = {'dim': hparams['projector_dim'], 'norm': hparams['projector_norm']}
        self.decoders = nn.ModuleDict(
            {p: Decoder(int(p), width, *decoder) for p in names} if hparams['recon_weight'] else {}
        )
        aligned = names if hparams['align_weight'] else []
        self.projectors = nn.ModuleDict({p: ProjectionHead(width, **head) for p in aligned})
        if self.weights is not None:
            load_state(self.encoder, self.weights)
        self.encoder.set_grad_checkpointing(hparams['grad_checkpointing'])
        for module in self.decoders.values():
            module.grad_checkpointing = hparams['grad_checkpointing']
        if hparams['compile']:
            compile_blocks(self)

    # -- Lightning ---------------------------------------------------------------------------

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """One step on one batch.

        Raises:
            DataError: if the loss is not finite; the numbers of the samples are saved before.
        """
        step = self.global_step
        detail = step % self.hparams['metrics_every'] == 0
        self._stop_if_not_finite(check_batch(batch)[0].sum(), 'sum of the pixels', batch, step)
        result = self.losses(batch, step, detail)
        self._stop_if_not_finite(result.loss.detach(), 'loss', batch, step)
        spread = float(embedding_std(result.features[0]))
        if result.features.shape[1] > 1:
            self.alarm.update(spread, step)
        self._count(batch)
        size = len(batch['image'])
        self.log('train/loss', result.loss.detach(), prog_bar=True, batch_size=size)
        self.log('train/embedding_std', spread, batch_size=size)
        lr = self.trainer.optimizers[0].param_groups[0]['lr']
        self.log('train/lr', lr, batch_size=size)
        if detail:
            self.log_dict(self._details(result, batch), batch_size=size)
        every = self.hparams['figure_every']
        if every and step % every == 0 and self.trainer.is_global_zero and self.decoders:
            self._log_figure(batch, step, result.sizes[0])
        return result.loss

    def _details(self, result: StepResult, batch: Mapping[str, Any]) -> dict[str, float]:
        source = batch.get('source', 'data')
        values = {'train/align': float(result.alignment)}
        if result.guidance:
            values['train/guidance'] = float(result.guidance)
        for size, loss in zip(result.sizes, result.reconstruction, strict=True):
            values[f'train/recon/{size}px'] = float(loss)
        if result.per_band.shape[1]:
            means = result.per_band.mean(0).tolist()
            for band, value in zip(resolve_bands(list(batch['bands'])), means, strict=True):
                values[f'train/recon/{source}/{band.label}'] = value
        for size, features in zip(result.sizes, result.features, strict=True):
            values[f'train/rank_me/{size}px'] = float(rank_me(features.cpu()))
        if len(result.projections) > 1:
            values['train/scale_similarity'] = float(scale_similarity(result.projections))
        now = time.monotonic()
        values['train/images_per_s'] = self._images * world_size() / max(now - self._since, 1e-9)
        self._images, self._since = 0, now
        return values

    def _count(self, batch: Mapping[str, Any]) -> None:
        """Count images, of each source too, and compare the batch with the one promised."""
        size = len(batch['image'])
        self._images += size
        name = batch.get('source', 'data')
        entry = self._seen.setdefault(name, {'bands': list(batch['bands']), 'images': 0})
        entry['images'] += size * world_size()
        whole = size * world_size() * self.trainer.accumulate_grad_batches
        promised = self.hparams['batch_size']
        if self.global_step == 0 and self.hparams['lr_scaling'] and whole != promised:
            warnings.warn(
                f'A step takes {whole} images, but the learning rate is scaled for batch_size='
                f'{promised}; set batch_size={whole} or lr_scaling=False.',
                AOMWarning,
                stacklevel=2,
            )

    def _stop_if_not_finite(
        self, value: Tensor, what: str, batch: Mapping[str, Any], step: int
    ) -> None:
        """Stop all processes before the weights take a loss that is no number."""
        bad = (~value.isfinite()).float()
        if world_size() > 1:
            distributed.all_reduce(bad, op=distributed.ReduceOp.MAX)
        if not bad:
            return
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        path = folder / f'not_finite_step{step}_rank{self.global_rank}.json'
        infinite = (~check_batch(batch)[0].isfinite()).flatten(1).any(1).tolist()
        write_samples(path, batch, infinite, {'step': step, what: repr(float(value))})
        raise DataError(
            f'The {what} of step {step} is not finite; the samples are listed in {path}. The '
            'weights are those before this step. Leave out broken samples (pixels), or lower the '
            'learning rate (loss).'
        )

    def _log_figure(self, batch: Mapping[str, Any], step: int, patch_size: int) -> None:
        first = {k: v[:1] if k in ('image', 'valid', 'key') else v for k, v in batch.items()}
        predicted, masked = self.predict_masked(first, step, patch_size)
        valid = first['valid'][0] if first.get('valid') is not None else None
        names = [band.label for band in resolve_bands(list(batch['bands']))]
        title = f'{batch.get("source", "")} {int(first["key"][0])}, {patch_size} px'
        figure = reconstruction_figure(
            first['image'][0], predicted[0], masked[0], names, valid, title
        )
        for logger in self.loggers:
            add = getattr(getattr(logger, 'experiment', None), 'add_figure', None)
            if add is not None:
                add(f'reconstruction/{batch.get("source", "data")}', figure, step)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Loss of a batch at all patch sizes, with the same masks at each epoch."""
        result = self.losses(batch, VALIDATION_STEP, gather=False)
        values = {'val/loss': result.loss, 'val/align': result.alignment}
        for size, loss in zip(result.sizes, result.reconstruction, strict=True):
            values[f'val/recon/{size}px'] = loss
        values[f'val/loss/{batch.get("source", "data")}'] = result.loss
        self.log_dict(values, batch_size=len(batch['image']), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW or Muon; the learning rate is set at each step (:meth:`on_train_batch_start`)."""
        options = self.hparams
        if options['optimizer'] == 'muon':
            groups = muon_groups(self, options['weight_decay'])
            return Muon(groups, lr=self.learning_rate, betas=tuple(options['betas']))
        return torch.optim.AdamW(
            decay_groups(self, options['weight_decay']),
            lr=self.learning_rate,
            betas=tuple(options['betas']),
        )

    @property
    def learning_rate(self) -> float:
        """Highest learning rate of the run."""
        options = self.hparams
        scale = options['batch_size'] / 256 if options['lr_scaling'] else 1.0
        return float(options['base_lr'] * scale)

    def on_train_start(self) -> None:
        """Lay out warm-up and cosine over the steps of this run.

        Not earlier: to ask for the number of steps while the optimizer is made opens the data
        loader before Lightning restores its place, which is then lost without a word.

        Raises:
            ConfigError: if the run has no end.
        """
        options = self.hparams
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ConfigError('The learning rate needs an end: give the Trainer max_epochs.')
        warmup = round(total * options['warmup_epochs'] / options['epochs'])
        self._factor = warmup_cosine(warmup, int(total))

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Set the learning rate, a function of the step alone."""
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = self.learning_rate * self._factor(self.global_step)

    def configure_callbacks(self) -> list[Callback]:
        """Save and leave when asked to."""
        return [SaveOnTerm()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep which sources the weights have seen."""
        checkpoint['pretraining'] = {
            'patch_sizes': list(self.hparams['patch_sizes']),
            'sources': self._seen,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self._seen = dict(checkpoint.get('pretraining', {}).get('sources', {}))
