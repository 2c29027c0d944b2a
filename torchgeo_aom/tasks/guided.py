"""Pretraining that is guided by the features of a frozen RGB network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bands import resolve_bands
from ..errors import CheckpointError, ConfigError
from ..models.checkpoint import read_state_dict
from ..models.teacher import Teacher, rgb_channels
from .pretrain import PretrainTask
from .pretrain_step import StepResult

__all__ = ('Guide', 'GuidedPretrainTask')

MOMENTUM = 0.01


class Guide(nn.Module):
    """Linear maps from the features of the student to those of the teacher.

    The teacher's features are standardized, each dimension by its running mean and variance, so
    that no dimension rules the distance. One pair of maps serves all patch sizes, so that features
    mean the same at each of them.
    """

    def __init__(self, width: int, wanted: tuple[int, int]) -> None:
        """Initialize the maps.

        Args:
            width: width D of the student.
            wanted: widths of the map and of the image feature of the teacher.
        """
        super().__init__()
        self.place, self.image = (nn.Linear(width, one) for one in wanted)
        self.place_scale, self.image_scale = (
            nn.BatchNorm1d(one, affine=False, momentum=MOMENTUM) for one in wanted
        )

    def standardize(self, places: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Standardize what the teacher wants; in training the statistics follow.

        Args:
            places: map of shape (B, D, N, N).
            feature: image feature of shape (B, D').

        Returns:
            The same, each dimension with mean 0 and variance 1.
        """
        flat = self.place_scale(places.flatten(2).transpose(1, 2).flatten(0, 1))
        rows = flat.unflatten(0, (len(places), -1)).transpose(1, 2)
        return rows.unflatten(2, places.shape[2:]), self.image_scale(feature)

    def forward(
        self,
        tokens: Tensor,
        feature: Tensor,
        ids_keep: Tensor,
        grid: tuple[int, int],
        wanted: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Distance of the student from the teacher.

        Args:
            tokens: normed visible tokens of shape (B, K, D).
            feature: image feature of shape (B, D).
            ids_keep: places and bands of the tokens, of shape (B, K).
            grid: (Nh, Nw) of the student.
            wanted: standardized map and image feature of the teacher.

        Returns:
            Mean squared error over places, plus that of the image feature.
        """
        places = math.prod(grid)
        target = _resample(wanted[0], grid).flatten(2).transpose(1, 2)  # (B, N, D)
        ids = (ids_keep % places)[:, :, None].expand(-1, -1, target.shape[2])
        near = F.mse_loss(self.place(tokens).float(), target.gather(1, ids))
        return near + F.mse_loss(self.image(feature).float(), wanted[1])


def _resample(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Teacher's map (B, D, N, N) on the grid of the student: means where that is coarser."""
    if grid[0] <= places.shape[2] and grid[1] <= places.shape[3]:
        return F.adaptive_avg_pool2d(places, grid)
    return F.interpolate(places, grid, mode='bilinear', align_corners=False)


def load_guide(guide: Guide, path: str) -> None:
    """Load the linear maps of an earlier run.

    Args:
        guide: the maps.
        path: checkpoint of a guided run.

    Raises:
        CheckpointError: if the file cannot be read, or has no maps of these sizes.
    """
    parameters, _ = read_state_dict(path)
    start = 'guide.'
    state = {k.removeprefix(start): v for k, v in parameters.items() if k.startswith(start)}
    wanted = {key: value.shape for key, value in guide.state_dict().items()}
    found = {key: value.shape for key, value in state.items()}
    if found != wanted:
        raise CheckpointError(
            f'{path} has no guide for this encoder and teacher: its shapes are {found or "none"}, '
            f'wanted {wanted}. Give a checkpoint of a guided run of the same two.'
        )
    guide.load_state_dict(state)


class GuidedPretrainTask(PretrainTask):
    """Pretraining of an AOM that also learns to see what an RGB network sees.

    The losses of the paper stay (Eq. 8). Besides, visible tokens of all bands and the image feature
    predict, through linear maps, what a frozen teacher sees at their place in red, green and blue.
    Batches without these three bands have the losses of the paper alone. An extension: the paper
    has no teacher.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        teacher: str = 'tf_efficientnet_lite0.in1k',
        teacher_file: str | None = None,
        teacher_size: int = 128,
        guidance_weight: float = 1.0,
        guide: str | None = None,
        **pretraining: Any,
    ) -> None:
        """Initialize the task.

        Args:
            teacher: EfficientNet of timm, fetched over the network if *teacher_file* is not given.
            teacher_file: its weights, named as in timm.
            teacher_size: height and width in px at which the teacher sees an image.
            guidance_weight: of the distance from the teacher, beside those of Eq. 8.
            guide: checkpoint of an earlier guided run, whose linear maps this one goes on with;
                new ones where not given.
            **pretraining: options of :class:`PretrainTask`.

        Raises:
            CheckpointError: if the teacher has no weights, or *guide* has no maps that fit.
            ConfigError: if an option or a combination is impossible.
        """
        if pretraining.get('view_size') is not None:
            raise ConfigError('A teacher sees the image as it comes: leave out view_size.')
        self._guide_file = guide  # needed before the hyperparameters are there
        # Not a child: the teacher is neither trained nor saved.
        self._teacher = [Teacher(teacher, teacher_file, teacher_size)]
        super().__init__(**pretraining)
        self.save_hyperparameters(
            {
                **pretraining,
                'teacher': teacher,
                'teacher_file': teacher_file,
                'teacher_size': teacher_size,
                'guidance_weight': guidance_weight,
                'guide': guide,
            }
        )

    def configure_models(self) -> None:
        """Build what the student learns with, too."""
        super().configure_models()
        self.guide = Guide(self.encoder.embed_dim, self._teacher[0].widths)
        if self._guide_file is not None:
            load_guide(self.guide, self._guide_file)

    def losses(
        self, batch: Mapping[str, Any], step: int, detail: bool = False, gather: bool = True
    ) -> StepResult:
        """Loss of a batch; arguments as of :meth:`MaskedScales.losses`."""
        result = super().losses(batch, step, detail, gather)
        # Batches without red, green and blue leave zero gradients: DDP waits for all parameters.
        unused = 0 * sum(p.flatten()[0] for p in self.guide.parameters())
        return replace(result, loss=result.loss + unused)

    def teach(self, image: Tensor, bands: Sequence[Any]) -> tuple[Tensor, Tensor] | None:
        """What the teacher makes of a batch; None where it lacks red, green or blue."""
        channels = rgb_channels(resolve_bands(list(bands)))
        if channels is None:
            return None
        teacher = self._teacher[0].to(self.device)
        places, feature = teacher(image[:, channels])
        with torch.autocast(self.device.type, enabled=False):
            wanted: tuple[Tensor, Tensor] = self.guide.standardize(places, feature)
        return wanted

    def guidance(
        self,
        tokens: Tensor,
        feature: Tensor,
        ids_keep: Tensor,
        grid: tuple[int, int],
        wanted: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Distance of visible tokens and image feature from what the teacher wants."""
        distance: Tensor = self.guide(self.encoder.norm(tokens), feature, ids_keep, grid, wanted)
        return distance
