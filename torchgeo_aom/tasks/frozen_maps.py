"""Lets a segmentation task with a frozen backbone compute the maps of each image once."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from ..models.feature_memory import LIMIT, FeatureMemory
from ..models.hypercolumn import HypercolumnModel, local_statistics
from ..models.smp_encoder import AOMEncoder

__all__ = ('FrozenMapsMixin', 'frozen_encoder')

BATCHES = 16  # of training images, for the components and units of the hypercolumn head
DRAWN = 512  # pixels of an image, for the units


def frozen_encoder(model: nn.Module) -> AOMEncoder | None:
    """The encoder of a model, if the same image always gets the same maps from it.

    Args:
        model: model with an encoder.

    Returns:
        The encoder; None where it is trained, or where it has dropout.
    """
    encoder = getattr(model, 'encoder', None)
    if not isinstance(encoder, AOMEncoder) or any(p.requires_grad for p in encoder.parameters()):
        return None
    drops = [getattr(part, 'p', getattr(part, 'drop_prob', 0.0)) for part in encoder.modules()
             if 'Drop' in type(part).__name__]  # fmt: skip
    return None if any(drops) else encoder


class FrozenMapsMixin(LightningModule):
    """Keeps maps of a frozen backbone while a task is fitted, and says so."""

    def on_train_start(self) -> None:
        """Start to keep maps, and fit the units of the hypercolumn head."""
        super().on_train_start()
        self._told = False
        model: Any = self.model
        encoder = frozen_encoder(model)
        if encoder is not None:
            count = len(getattr(self.trainer.train_dataloader, 'dataset', ())) or None
            encoder.memory = FeatureMemory(LIMIT, None if count is None else 2 * count + 1)
            rank_zero_info(
                'AOM backbone is frozen: the maps of each image are computed once and kept, in '
                f'memory, up to {LIMIT / 2**30:.0f} GiB.'
            )
        if isinstance(model, HypercolumnModel) and not bool(model.decoder.fitted):
            self._fit_head(model)

    def on_train_epoch_end(self) -> None:
        """Say when nothing can be kept."""
        super().on_train_epoch_end()
        memory = getattr(getattr(self.model, 'encoder', None), 'memory', None)
        if memory is None or self._told or self.current_epoch < 1:
            return
        self._told = True
        if not memory.hits:
            rank_zero_info(
                'AOM maps are computed every time: no image came twice, so its crops or '
                'augmentation are new each time. Without them (or with flips only) an epoch costs '
                'the head alone.'
            )
        else:
            rank_zero_info(
                f'AOM maps: {memory.hits:,} reused, {memory.misses:,} computed, {len(memory):,} '
                f'kept in {memory.size / 2**20:.0f} MiB.'
            )

    def on_fit_end(self) -> None:
        """Let go of the maps."""
        super().on_fit_end()
        encoder = getattr(self.model, 'encoder', None)
        if isinstance(encoder, AOMEncoder):
            encoder.memory = None

    @torch.no_grad()
    def _fit_head(self, model: HypercolumnModel) -> None:
        """Fit units and components of the head on the first training batches."""
        pixels, tokens = [], []
        for k, raw in enumerate(self.trainer.train_dataloader or ()):
            if k == BATCHES:
                break
            batch: Any = self.trainer.strategy.batch_to_device(raw, self.device)
            image: Tensor = batch['image']
            image = image.flatten(1, 2) if image.ndim == 5 else image
            found = local_statistics(image).flatten(3)
            step = max(1, found.shape[3] // DRAWN)
            pixels.append(found[..., ::step].permute(0, 3, 1, 2).flatten(0, 1))
            if model.decoder.components:
                maps = torch.cat(model.encoder.token_maps(image), 1)
                tokens.append(maps.flatten(2).transpose(1, 2).flatten(0, 1))
        model.decoder.fit_statistics(torch.cat(pixels))
        if tokens:
            model.decoder.fit_context(torch.cat(tokens))
