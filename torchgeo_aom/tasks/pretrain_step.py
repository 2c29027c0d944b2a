"""One step of pretraining: what a batch costs at several scales (Eq. 4 to 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..bands import resolve_bands
from ..errors import BandError, ConfigError, InputError
from ..layers.checks import ceil_div
from ..layers.masking import keep_ids, split_tokens
from ..layers.tokenizer import band_codes
from ..layers.views import random_views
from ..losses import alignment_loss, patchify, reconstruction_loss, total_loss
from ..models.aom import AOM
from ..models.decoder import unpatchify
from .processes import gather_images, world_size
from .schedule import scales_of_step

if TYPE_CHECKING:  # TorchGeo 0.10 does not export it there in so many words
    from torchgeo.trainers import BaseTask  # type: ignore[attr-defined, unused-ignore]
else:
    try:  # TorchGeo 0.10: torchgeo.trainers is a deprecated alias
        from torchgeo.tasks import BaseTask
    except ModuleNotFoundError:
        from torchgeo.trainers import BaseTask

__all__ = (
    'MaskedScales',
    'SaveOnTerm',
    'StepResult',
    'check_batch',
)


@dataclass
class StepResult:
    """Loss of a batch and what it is made of; everything but the loss is detached."""

    loss: Tensor
    sizes: tuple[int, ...]
    reconstruction: Tensor  # (n,)
    per_band: Tensor  # (n, C), or (n, 0) where not asked for
    alignment: Tensor
    features: Tensor  # (n, B, D), of all processes
    projections: list[Tensor]  # n of shape (B, d), of all processes
    guidance: Tensor  # distance from the teacher; 0 without one


def check_batch(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Image and valid pixels of a batch, missing pixels set to zero, the mean of a band.

    Args:
        batch: see :class:`MaskedScales`.

    Returns:
        Image, and valid pixels or None where all are.

    Raises:
        InputError: if something is missing or shapes do not fit.
    """
    lacking = [key for key in ('image', 'bands', 'key') if key not in batch]
    if lacking:
        raise InputError(f'A batch needs image, bands and key, {", ".join(lacking)} is missing.')
    image, valid = batch['image'], batch.get('valid')
    if image.ndim != 4 or not image.is_floating_point() or len(batch['key']) != len(image):
        raise InputError(
            'A batch has normalized float images of shape (B, C, H, W) and B keys, got '
            f'{image.dtype} of shape {tuple(image.shape)} and {len(batch["key"])} keys.'
        )
    if valid is None:
        return image, None
    if valid.shape != image.shape or valid.dtype != torch.bool:
        raise InputError(
            f'valid must be bool of shape {tuple(image.shape)}, got {valid.dtype} of '
            f'{tuple(valid.shape)}.'
        )
    return image.masked_fill(~valid, 0), valid


class SaveOnTerm(Callback):
    """Saves ``sigterm.ckpt`` when the run is asked to leave (SIGTERM); it then exits with 143."""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save after the step that was running."""
        if isinstance(exception, SIGTERMException):
            folder = getattr(trainer.checkpoint_callback, 'dirpath', None)
            trainer.save_checkpoint(Path(folder or trainer.default_root_dir) / 'sigterm.ckpt')
            exception.code = 143


class MaskedScales(BaseTask):
    """Encoder, decoders and projection heads, and what a batch costs.

    A batch is a mapping with ``image`` (B, C, H, W), normalized; ``valid``, bool of the same shape,
    where pixels are missing; ``bands``, one plain spec a channel; ``key``, the number of each
    sample; and ``source``, its name.
    """

    encoder: AOM
    decoders: nn.ModuleDict
    projectors: nn.ModuleDict
    _codes: dict[str, list[float]]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Image features of the encoder; arguments as of :meth:`AOM.forward`."""
        feature: Tensor = self.encoder(*args, **kwargs)
        return feature

    def codes(self, bands: Sequence[Any]) -> Tensor:
        """What the channel encoding of each band is the sinusoid of, of shape (C,)."""
        key = repr(list(bands))  # a spec may be a mapping
        if key not in self._codes:
            encoding = self.encoder.patch_embed.channel_encoding
            self._codes[key] = band_codes(resolve_bands(list(bands)), encoding)
        return torch.tensor(self._codes[key], dtype=torch.float64, device=self.device)

    def _one_scale(
        self,
        patch_size: int,
        image: Tensor,
        valid: Tensor | None,
        codes: Tensor,
        ids_keep: Tensor,
        detail: bool,
        wanted: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Reconstruction loss, its number of pixels, image feature, band losses, guidance."""
        tokens = self.encoder.forward_visible(image, ids_keep, codes, patch_size)
        feature = self.encoder.norm(tokens.mean(1))
        zero = feature.new_zeros(())
        guidance = zero
        if wanted is not None:
            grid = self._grid(image, patch_size)
            guidance = self.guidance(tokens, feature, ids_keep, grid, wanted)
        if not self.decoders:
            return zero, zero, feature, feature.new_zeros(0), guidance
        pixels, target, ok, ids = self._decode(patch_size, tokens, image, valid, codes, ids_keep)
        norm = self.hparams['norm_pix_loss']
        every = torch.ones_like(ids, dtype=torch.bool)
        loss = reconstruction_loss(pixels, target, every, ok, norm)
        count = target.new_tensor(target.numel()) if ok is None else ok.sum().to(target.dtype)
        per_band = feature.new_zeros(0)
        if detail:
            places = math.prod(self._grid(image, patch_size))
            per_band = torch.stack(
                [
                    reconstruction_loss(pixels.detach(), target, ids // places == c, ok, norm)
                    for c in range(len(codes))
                ]
            )
        return loss, count, feature, per_band, guidance

    def teach(self, image: Tensor, bands: Sequence[Any]) -> tuple[Tensor, Tensor] | None:
        """What a teacher makes of a batch: a map and an image feature; None without a teacher."""
        return None

    def guidance(
        self,
        tokens: Tensor,
        feature: Tensor,
        ids_keep: Tensor,
        grid: tuple[int, int],
        wanted: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Distance of visible tokens and image feature from what a teacher wants."""
        raise NotImplementedError

    @staticmethod
    def _grid(image: Tensor, patch_size: int) -> tuple[int, int]:
        return (ceil_div(image.shape[2], patch_size), ceil_div(image.shape[3], patch_size))

    def _decode(
        self,
        patch_size: int,
        tokens: Tensor,
        image: Tensor,
        valid: Tensor | None,
        codes: Tensor,
        ids_keep: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Predicted and true pixels of masked tokens, which of them hold data, and the tokens."""
        grid = self._grid(image, patch_size)
        decoder = self.decoders[str(patch_size)]
        pixels, ids = decoder(self.encoder.norm(tokens), ids_keep, codes, grid)
        pad = (0, -image.shape[3] % patch_size, 0, -image.shape[2] % patch_size)
        if any(pad) and valid is None:
            valid = torch.ones_like(image, dtype=torch.bool)
        size = (patch_size, patch_size)
        target = split_tokens(patchify(F.pad(image, pad), size), ids)
        ok = None
        if valid is not None:
            ok = split_tokens(patchify(F.pad(valid, pad), size), ids)
        return pixels.to(target.dtype), target, ok, ids

    def _masks(self, image: Tensor, patch_size: int, keys: Sequence[int], step: int) -> Tensor:
        options = self.hparams
        places = math.prod(self._grid(image, patch_size))
        ids = keep_ids(
            image.shape[1], places, options['mask_ratio'], keys, options['seed'], step,
            options['mask_kind'],
        )  # fmt: skip
        return ids.to(image.device)

    def _view(
        self, image: Tensor, valid: Tensor | None, keys: Sequence[int], step: int, patch_size: int
    ) -> tuple[Tensor, Tensor | None]:
        """What a scale sees of the images: the same for all scales, or a view of its own."""
        options = self.hparams
        if options['view_size'] is None:
            return image, valid
        return random_views(
            image, valid, keys, options['seed'], step, patch_size, options['view_size'],
            tuple(options['view_scale']),
        )  # fmt: skip

    def losses(
        self, batch: Mapping[str, Any], step: int, detail: bool = False, gather: bool = True
    ) -> StepResult:
        """Loss of a batch (Eq. 8).

        Args:
            batch: see the class.
            step: number of the step; decides masks and scales.
            detail: whether to compute the reconstruction of each band.
            gather: whether embeddings of other processes count.

        Returns:
            The loss and its parts.

        Raises:
            BandError: if bands do not fit the image.
            ConfigError: if a batch of one image asks for statistics over images.
            InputError: if the batch lacks something or its shapes do not fit.
        """
        options = self.hparams
        image, valid = check_batch(batch)
        codes = self.codes(batch['bands'])
        keys = [int(key) for key in batch['key']]
        count = options['scales_per_step'] if self.training else None
        sizes = scales_of_step(step, options['patch_sizes'], count, options['seed'])
        results = []
        wanted = self.teach(image, batch['bands'])
        for size in sizes:
            seen, known = self._view(image, valid, keys, step, size)
            ids = self._masks(seen, size, keys, step)
            arguments = (size, seen, known, codes, ids, detail, wanted)
            if options['memory'] == 'scale' and torch.is_grad_enabled():
                results.append(checkpoint(self._one_scale, *arguments, use_reentrant=False))
            else:
                results.append(self._one_scale(*arguments))
        parts = (torch.stack(x) for x in zip(*results, strict=True))
        recon, counts, features, per_band, guidance = parts
        shown = recon.detach()
        if gather and world_size() > 1:
            # The mean over the pixels of all processes, of which DDP takes the mean once more.
            total = counts.clone()
            distributed.all_reduce(total)
            recon = recon * (counts * world_size() / total.clamp(min=1))
            features = gather_images(features)
        align, projections = self._align(sizes, features)
        weights = options['recon_weight'], options['align_weight']
        loss = total_loss(list(recon), align, *weights)
        if wanted is not None:
            loss = loss + options['guidance_weight'] * guidance.mean()
        if self.training and len(sizes) < len(options['patch_sizes']):
            for part in (self.decoders, self.projectors):
                for name, module in part.items():
                    if int(name) not in sizes:  # a zero gradient: DDP waits for all parameters
                        loss = loss + 0 * sum(p.flatten()[0] for p in module.parameters())
        return StepResult(
            loss, sizes, shown, per_band.detach(), align.detach(), features.detach(),
            [x.detach() for x in projections], guidance.detach().mean(),
        )  # fmt: skip

    def _align(self, sizes: Sequence[int], features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Alignment loss of the image features (n, B, D), and their projections."""
        options = self.hparams
        if not self.projectors:
            return features.new_zeros(()), []
        alone = features.shape[1] < 2
        if alone and self.training and options['projector_norm'] == 'batch':
            raise ConfigError(
                "A batch of one image has no batch statistics; use projector_norm='layer', a "
                'larger batch, or leave out an incomplete last batch.'
            )
        heads = [self.projectors[str(size)] for size in sizes]
        projections = [g(x) for g, x in zip(heads, features, strict=True)]
        if alone and not self.training and options['negatives'] == 'batch':
            return features.new_zeros(()), projections
        loss = alignment_loss(projections, options['temperature'], options['negatives'])
        return loss, projections

    # -- prediction --------------------------------------------------------------------------

    @torch.no_grad()
    def predict_masked(
        self, batch: Mapping[str, Any], step: int, patch_size: int
    ) -> tuple[Tensor, Tensor]:
        """What the decoder makes of the masked pixels of a batch, for pictures.

        Args:
            batch: see the class.
            step: number of the step; decides masks.
            patch_size: one of the patch sizes trained.

        Returns:
            Images of shape (B, C, H, W) with masked pixels predicted, and which were masked, bool.
        """
        image, valid = check_batch(batch)
        codes = self.codes(batch['bands'])
        ids_keep = self._masks(image, patch_size, [int(key) for key in batch['key']], step)
        tokens = self.encoder.forward_visible(image, ids_keep, codes, patch_size)
        pixels, target, _, ids = self._decode(patch_size, tokens, image, valid, codes, ids_keep)
        if self.hparams['norm_pix_loss']:
            spread = target.var(-1, correction=0, keepdim=True).add(1e-6).sqrt()
            pixels = pixels * spread + target.mean(-1, keepdim=True)
        grid = self._grid(image, patch_size)
        pad = (0, -image.shape[3] % patch_size, 0, -image.shape[2] % patch_size)
        patches = patchify(F.pad(image, pad), (patch_size, patch_size))
        places = ids[:, :, None].expand_as(pixels)
        predicted = unpatchify(patches.scatter(1, places, pixels), grid, patch_size)
        hidden = torch.zeros_like(patches, dtype=torch.bool).scatter(1, places, True)
        masked = unpatchify(hidden, grid, patch_size)
        height, width = image.shape[2:]
        return predicted[:, :, :height, :width], masked[:, :, :height, :width]

    @torch.no_grad()
    def reconstruct(
        self,
        image: Tensor,
        bands: Sequence[Any],
        missing: Sequence[Any],
        patch_size: int | None = None,
    ) -> Tensor:
        """Predict bands that an image lacks from those that it has.

        Args:
            image: normalized images of shape (B, C, H, W).
            bands: bands of the channels, plain specs.
            missing: bands to predict; any that the model knows, best those that it was trained on.
            patch_size: one of the patch sizes trained; the smallest where not given.

        Returns:
            Normalized bands of shape (B, len(missing), H, W).

        Raises:
            BandError: if bands do not fit the image, or a missing one is there.
            ConfigError: if there is no decoder of this patch size, or it does not predict pixels.
        """
        have = resolve_bands(list(bands), channels=image.shape[1])
        wanted = resolve_bands(list(missing))
        twice = sorted({b.label for b in have} & {b.label for b in wanted})
        if twice:
            raise BandError(f'{", ".join(twice)} cannot be missing: the image has them.')
        size = patch_size or min(self.hparams['patch_sizes'])
        if str(size) not in self.decoders or self.hparams['norm_pix_loss']:
            raise ConfigError(
                f'patch_size={size} cannot be reconstructed: there are decoders of '
                f'{list(self.decoders)} px, and they must be trained with norm_pix_loss=False.'
            )
        image = image.to(self.device)
        known = self.codes(bands)
        grid = self._grid(image, size)
        places = math.prod(grid)
        ids = torch.arange(image.shape[1] * places, device=image.device).expand(len(image), -1)
        tokens = self.encoder.norm(self.encoder.forward_visible(image, ids, known, size))
        codes = torch.cat((known, self.codes(missing)))
        pixels, _ = self.decoders[str(size)](tokens, ids, codes, grid)
        return unpatchify(pixels, grid, size)[:, :, : image.shape[2], : image.shape[3]]
