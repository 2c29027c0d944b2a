"""Object detection and instance segmentation on any bands: torchvision's heads over AOM's maps."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any, Literal, TypeAlias

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from ..errors import ConfigError, suggest
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

__all__ = ('InstanceSegmentationTask', 'ObjectDetectionTask')

Target: TypeAlias = dict[str, Tensor]
CHANNELS = 256
STRIDES = 5  # maps of strides 4, 8, 16, 32 and one or two more
MAPS = ['0', '1', '2', '3']


class AsIs(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Images into a batch: neither normalized nor resized, which the data module has done.

    Only padded at the bottom and at the right with 0, the mean of a normalized band.
    """

    def __init__(self) -> None:
        """Initialize the transform."""
        super().__init__(min_size=0, max_size=0, image_mean=[0.0], image_std=[1.0])

    def normalize(self, image: Tensor) -> Tensor:
        """Leave the image as it is."""
        return image

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        """Leave image and target as they are."""
        return image, target


class DetectionBackbone(nn.Module):
    """An AOM with a feature pyramid network: maps of strides 4, 8, 16, 32 and more."""

    def __init__(self, name: str, in_channels: int, extra: nn.Module) -> None:
        """Initialize the backbone.

        Args:
            name: name of the AOM.
            in_channels: number of channels of the image.
            extra: makes coarser maps.
        """
        super().__init__()
        self.encoder = get_encoder(name, in_channels=in_channels, depth=5, weights=None)
        self.fpn = FeaturePyramidNetwork(
            [self.encoder.embed_dim] * len(MAPS),
            CHANNELS,
            extra_blocks=extra,  # type: ignore[arg-type, unused-ignore]
        )
        self.out_channels = CHANNELS

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images to maps by name."""
        levels = self.encoder(x)[2:]
        maps: dict[str, Tensor] = self.fpn(OrderedDict(zip(MAPS, levels, strict=True)))
        return maps


class _BoxTask(FineTuneMixin, BandsMixin):
    """What both tasks share: names, checks, and a clear word where a package is missing."""

    named = 'backbone'
    models: tuple[str, ...] = ()
    ignore: Any = ('weights', 'weights_backbone')

    def __init__(
        self,
        model: str,
        backbone: str = 'aom_vitb',
        *,
        weights: WeightsEnum | str | bool | None = None,
        bands: Bands | None = None,
        patch_size: PatchSize | None = None,
        image_size: int | list[int] | None = None,
        gsd_m: float | None = None,
        speed: SpeedMode = 'exact',
        in_channels: int | None = None,
        num_classes: int = 2,
        anchor_scale: float = 1.0,
        lr: float = 1e-4,
        patience: int = 10,
        freeze_backbone: bool = False,
        layer_decay: float | None = None,
        weight_decay: float | None = None,
        schedule: Literal['plateau', 'cosine', 'poly', 'constant'] = 'plateau',
        warmup_steps: int = 0,
    ) -> None:
        """Initialize the task.

        Args:
            model: name of the detector.
            backbone: name of the backbone, with or without a band preset as tag.
            weights: initial weights of the backbone: True for the default ones of the size, an enum
                member or its full name, or the path of a checkpoint or a weights file.
            bands: bands of the channels in file order; they win over the tag.
            patch_size: patch size in px, 16 where not given; ``'auto'`` for the rule of
                :func:`~torchgeo_aom.models.patch_rule.choose_patch_size`.
            image_size: image size in px, for the rule.
            gsd_m: ground sampling distance in meters, for the rule.
            speed: ``'exact'``, ``'balanced'``, ``'fast'`` or a merge schedule, see
                :func:`~torchgeo_aom.models.speed.merge_schedule`.
            in_channels: number of channels; follows from the bands, 3 without bands.
            num_classes: number of classes, the background (0) included.
            anchor_scale: factor of the sizes of all anchors, which TorchGeo chose for photographs:
                32 px and more; smaller than 1 for small objects.
            lr: learning rate.
            patience: of TorchGeo's schedule, which looks at the mAP of validation.
            freeze_backbone: train the pyramid network and the heads only.
            layer_decay: see :class:`~torchgeo_aom.tasks.finetune.FineTuneMixin`.
            weight_decay: see there.
            schedule: see there.
            warmup_steps: see there.

        Raises:
            BandError: if the bands are unknown or do not fit *in_channels*.
            CheckpointError: if the weights cannot be read or do not fit.
            ConfigError: if a name is unknown, or a package is missing.
        """
        if model not in self.models:
            raise ConfigError(
                f'model must be one of {self.models}, got {model!r}{suggest(model, self.models)}.'
            )
        if not 0 < anchor_scale < float('inf') or num_classes < 2:
            raise ConfigError(
                'anchor_scale must be positive and num_classes at least 2 (the background is one), '
                f'got {anchor_scale!r} and {num_classes!r}.'
            )
        bands = plain_bands(bands)
        channels = channels_of(spec_of(backbone, bands), in_channels, False)
        self.weights = weights
        super().__init__(
            model=model,
            backbone=backbone,
            weights=weights,
            in_channels=channels,
            num_classes=num_classes,
            lr=lr,
            patience=patience,
            freeze_backbone=freeze_backbone,
            layer_decay=layer_decay,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup_steps=warmup_steps,
        )

    def configure_metrics(self) -> None:
        """Mean average precision.

        Raises:
            ConfigError: if pycocotools is missing.
        """
        try:
            super().configure_metrics()
        except ModuleNotFoundError as error:
            raise ConfigError(
                'Detection needs torchmetrics with pycocotools: '
                'pip install "torchgeo_aom[detection]".'
            ) from error

    def build(self) -> None:
        """Build the detector, with random weights."""
        self.hparams.pop('trainable_layers', None)  # TorchGeo's, of a ResNet
        model, classes = self.hparams['model'], self.hparams['num_classes']
        extra: nn.Module
        if model in ('fcos', 'retinanet'):
            extra = LastLevelP6P7(CHANNELS, CHANNELS)
        else:
            extra = LastLevelMaxPool()
        backbone = DetectionBackbone(self.hparams['backbone'], self.hparams['in_channels'], extra)
        backbone.encoder.requires_grad_(not self.hparams['freeze_backbone'])
        if model == 'fcos':
            points = tuple((self._anchor(8 * 2**k),) for k in range(STRIDES + 1))
            anchors = AnchorGenerator(points, ((1.0,),) * len(points))
            self.model: Any = FCOS(backbone, classes, anchor_generator=anchors)
        elif model == 'retinanet':
            sizes = tuple(
                tuple(self._anchor(16 * 2**k * 2 ** (third / 3)) for third in range(3))
                for k in range(STRIDES + 1)
            )
            anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
            norm = partial(nn.GroupNorm, 32)
            count = anchors.num_anchors_per_location()[0]
            head = RetinaNetHead(CHANNELS, count, classes, norm_layer=norm)
            self.model = RetinaNet(backbone, classes, anchor_generator=anchors, head=head)
        else:
            sizes = tuple((self._anchor(32 * 2**k),) for k in range(STRIDES))
            anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
            pool = partial(MultiScaleRoIAlign, featmap_names=MAPS, sampling_ratio=2)
            options: dict[str, Any] = {
                'rpn_anchor_generator': anchors,
                'box_roi_pool': pool(output_size=7),
            }
            if model == 'mask-rcnn':
                options['mask_roi_pool'] = pool(output_size=14)
            detector = MaskRCNN if model == 'mask-rcnn' else FasterRCNN
            self.model = detector(backbone, classes, **options)
        self.model.transform = AsIs()

    def _anchor(self, size: float) -> int:
        return max(1, round(size * self.hparams['anchor_scale']))

    def check(self, x: Any) -> None:
        """Check images at the border; they stay as they are.

        Args:
            x: a batch (B, C, H, W), or images (C, H, W) of any sizes.
        """
        for image in x:
            check_image(image[None])

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Loss of a batch, all its parts added.

        Args:
            *args: the batch and its number.
            **kwargs: of TorchGeo's task.

        Returns:
            The loss.
        """
        loss: Any = super().training_step(*args, **kwargs)
        batch = args[0] if args else kwargs['batch']
        self.log('train_loss', loss, batch_size=len(batch['image']))
        return loss  # type: ignore[no-any-return, unused-ignore]


class ObjectDetectionTask(_BoxTask, upstream.ObjectDetection):
    """Object detection on any bands: ``'faster-rcnn'``, ``'retinanet'`` or ``'fcos'``.

    A batch holds ``image`` (B, C, H, W), normalized, and lists of ``bbox_xyxy`` (N, 4) in px and
    ``label`` (N,), from 1.

    .. versionadded:: 0.1
    """

    models = ('faster-rcnn', 'retinanet', 'fcos')

    def __init__(self, model: str = 'faster-rcnn', *args: Any, **kwargs: Any) -> None:
        """Initialize the task.

        Args:
            model: ``'faster-rcnn'``, ``'retinanet'`` or ``'fcos'``.
            *args: backbone.
            **kwargs: bands, patch size and what else both detection tasks take.
        """
        super().__init__(model, *args, **kwargs)


class InstanceSegmentationTask(_BoxTask, upstream.InstanceSegmentation):
    """Instance segmentation on any bands with Mask R-CNN.

    A batch holds what object detection takes, and a list of ``mask`` (N, H, W), uint8.

    .. versionadded:: 0.1
    """

    models = ('mask-rcnn',)

    def __init__(self, model: str = 'mask-rcnn', *args: Any, **kwargs: Any) -> None:
        """Initialize the task.

        Args:
            model: ``'mask-rcnn'``.
            *args: backbone.
            **kwargs: bands, patch size and what else both detection tasks take.
        """
        super().__init__(model, *args, **kwargs)
