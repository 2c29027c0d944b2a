"""First lines of a run: what was resolved, before hours go into the wrong thing."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from ..layers.pi_resize import kernel_loss
from ..models.aom import AOM
from ..models.plan import describe
from ..models.speed import speed_text

__all__ = ('ReportMixin', 'facts_line', 'size_line')

MAX_LISTED = 20


def facts_line(name: str, backbone: AOM, weights: str) -> str:
    """Facts that hold for images of any size, in one line.

    Args:
        name: name of the model.
        backbone: the model.
        weights: where its parameters come from.

    Returns:
        Bands with their channel indices, patch size with its kernel, speed mode, weights.
    """
    tokenizer = backbone.patch_embed
    if backbone.bands is None:
        bands = f'positional 0..{tokenizer.in_chans - 1} (no bands named)'
    else:
        listed = [f'{band.label} -> {band.index:.4g}' for band in backbone.bands]
        more = len(listed) - MAX_LISTED
        bands = ', '.join(listed[:MAX_LISTED]) + (f', ... ({more} more)' if more > 0 else '')
        dates = tokenizer.in_chans // len(listed)
        bands += f', on each of {dates} dates' if dates > 1 else ''
    patch = tokenizer.patch_size
    kernel = tokenizer.nearest_kernel(patch)
    loss = kernel_loss(kernel, patch)
    lost = f', PI-resize loses {loss:.0%} of its freedom' if loss >= 0.005 else ''
    return (
        f'AOM {name}: bands {bands}; patch {patch[0]} x {patch[1]} px from the {kernel} px kernel'
        f'{lost}; speed {speed_text(backbone.speed)}; weights: {weights}'
    )


def size_line(backbone: AOM, size: tuple[int, int], batch_size: int, dtype: str) -> str:
    """What images of a size cost, in one line.

    Args:
        backbone: the model.
        size: (height, width) of an image in px.
        batch_size: images a batch.
        dtype: see :func:`~torchgeo_aom.models.plan.describe`.

    Returns:
        Token grid, tokens and an estimate of the memory.
    """
    channels = backbone.patch_embed.in_chans
    bands: Any = backbone.bands or list(range(channels))
    dates = channels // len(bands)
    plan = describe(
        backbone, bands, size, backbone.patch_embed.patch_size, batch_size * dates, dtype
    )
    return (
        f'AOM images of {size[0]} x {size[1]} px: grid {plan.grid[0]} x {plan.grid[1]}, '
        f'{plan.tokens * dates:,} tokens each ({plan.merging}); a batch of {batch_size} takes '
        f'about {plan.inference_bytes / 2**30:.2f} GiB for inference, '
        f'{plan.training_bytes / 2**30:.2f} GiB for training the whole backbone ({dtype})'
    )


def _dtype(precision: str) -> str:
    for text, dtype in {'bf16': 'bfloat16', '16': 'float16', '64': 'float64'}.items():
        if text in precision:
            return dtype
    return 'float32'


class ReportMixin(LightningModule):
    """Says at the start of each run, on rank zero, what the task has resolved."""

    #: name of the hyperparameter that names the backbone
    named = 'model'

    #: where the backbone's parameters come from
    weights_from = 'random initialization'

    _sized = False

    @property
    def backbones(self) -> list[AOM]:
        """All AOM models of the task: one, or two where the method keeps a slow copy."""
        return [module for module in self.modules() if isinstance(module, AOM)]

    def setup(self, stage: str) -> None:
        """Report the facts, before anything else of the run is shown."""
        super().setup(stage)
        self._sized = False
        name = self.hparams[self.named]
        rank_zero_info(facts_line(name, self.backbones[0], self.weights_from))

    def _report_size(self, batch: Any) -> None:
        if self._sized or not isinstance(batch, dict) or 'image' not in batch:
            return
        self._sized = True
        image = batch['image']
        dtype = _dtype(str(self.trainer.precision))
        size = (int(image.shape[-2]), int(image.shape[-1]))
        rank_zero_info(size_line(self.backbones[0], size, int(image.shape[0]), dtype))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Report the cost of the first batch."""
        self._report_size(batch)

    def on_validation_batch_start(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Report the cost of the first batch."""
        self._report_size(batch)

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Report the cost of the first batch."""
        self._report_size(batch)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Report the cost of the first batch."""
        self._report_size(batch)
