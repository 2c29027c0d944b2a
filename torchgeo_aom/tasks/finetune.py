"""Optimizer and schedule of downstream tasks: TorchGeo's, or with decay by layer and by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from lightning.pytorch import LightningModule
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..errors import ConfigError
from ..models.aom import AOM
from .schedule import decay_groups, warmup_cosine

__all__ = ('FineTuneMixin', 'Schedule', 'layer_groups')

Schedule: TypeAlias = Literal['plateau', 'cosine', 'poly', 'constant']
SCHEDULES = ('plateau', 'cosine', 'poly', 'constant')
WEIGHT_DECAY = 0.05  # where only layer_decay is given: that of BEiT and MAE


def layer_groups(
    module: nn.Module, lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups with a learning rate for each layer of the backbone.

    Head and decoder learn at *lr*, the last block and the last norm at ``lr * layer_decay``, the
    block before at ``lr * layer_decay ** 2``, and so on down to the patch kernels.
    Biases, norms and what modules exclude are not decayed.

    Args:
        module: a task with one or several AOMs.
        lr: learning rate of the head.
        layer_decay: factor from one layer to the one before, above 0 and at most 1.
        weight_decay: weight decay of the others.

    Returns:
        Groups for an optimizer; frozen parameters are in none.
    """
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for backbone in (child for child in module.modules() if isinstance(child, AOM)):
        found = param_groups_layer_decay(
            backbone,
            weight_decay=weight_decay,
            no_weight_decay_list=backbone.no_weight_decay(),
            layer_decay=layer_decay,
        )
        # timm counts the head as the last layer; without one, the last block is.
        top = 1.0 if backbone.num_classes else layer_decay
        groups += [{**group, 'lr': lr * top * group['lr_scale']} for group in found]
        seen |= {id(parameter) for parameter in backbone.parameters()}
    for group in decay_groups(module, weight_decay):
        own = [parameter for parameter in group['params'] if id(parameter) not in seen]
        groups.append({'params': own, 'weight_decay': group['weight_decay'], 'lr': lr})
    return [group for group in groups if group['params']]


def _poly(warmup: int, total: int) -> Callable[[int], float]:
    """Factor of the learning rate: linear warm-up, then a straight line down to zero."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1 - (step - warmup) / max(1, total - warmup))

    return factor


class FineTuneMixin(LightningModule):
    """Adds decay by layer and schedules by step to a task of TorchGeo.

    .. versionadded:: 0.1
    """

    monitor: str
    mode: str

    def __init__(
        self,
        *args: Any,
        layer_decay: float | None = None,
        weight_decay: float | None = None,
        schedule: Schedule = 'plateau',
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        """Initialize the task.

        Args:
            *args: of the task.
            layer_decay: factor of the learning rate from one layer of the backbone to the one
                before, for full fine-tuning (0.75 is usual); one rate for all where not given.
            weight_decay: weight decay, with biases, norms and patch kernels left out; where not
                given, PyTorch's on everything (0.01), or 0.05 if *layer_decay* is given.
            schedule: ``'plateau'``, TorchGeo's, or by step: ``'cosine'``, ``'poly'`` (linear) or
                ``'constant'``.
            warmup_steps: steps of linear warm-up, not with ``'plateau'``.
            **kwargs: other arguments of the task.

        Raises:
            ConfigError: if an option has an impossible value.
        """
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ConfigError(f'layer_decay must be above 0 and at most 1, got {layer_decay!r}.')
        if weight_decay is not None and not 0 <= weight_decay < math.inf:
            raise ConfigError(f'weight_decay must not be negative, got {weight_decay!r}.')
        if schedule not in SCHEDULES:
            raise ConfigError(f'schedule must be one of {SCHEDULES}, got {schedule!r}.')
        if warmup_steps < 0 or (warmup_steps and schedule == 'plateau'):
            raise ConfigError(
                f"warmup_steps={warmup_steps} is not possible with schedule='{schedule}'; choose "
                "'cosine', 'poly' or 'constant' and a number from 0."
            )
        super().__init__(*args, **kwargs)

    def configure_optimizers(self) -> Any:
        """AdamW with the groups and the schedule that were asked for.

        Returns:
            Optimizer and learning rate scheduler.
        """
        hparams = self.hparams
        lr, decay, layers = hparams['lr'], hparams['weight_decay'], hparams['layer_decay']
        if layers is not None:
            groups: Any = layer_groups(self, lr, layers, WEIGHT_DECAY if decay is None else decay)
        elif decay is not None:
            groups = decay_groups(self, decay)
        else:
            groups = self.parameters()
        optimizer = AdamW(groups, lr=lr)
        if hparams['schedule'] == 'plateau':
            best: Any = self.mode
            plateau = ReduceLROnPlateau(optimizer, mode=best, patience=hparams['patience'])
            return {
                'optimizer': optimizer,
                'lr_scheduler': {'scheduler': plateau, 'monitor': self.monitor},
            }
        warmup, total = hparams['warmup_steps'], int(self.trainer.estimated_stepping_batches)
        factors: dict[str, Callable[[int], float]] = {
            'cosine': warmup_cosine(warmup, total),
            'poly': _poly(warmup, total),
            'constant': lambda step: min(1.0, (step + 1) / max(1, warmup)),
        }
        scheduler = LambdaLR(optimizer, factors[hparams['schedule']])
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'},
        }
