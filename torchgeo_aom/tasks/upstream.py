"""TorchGeo's task classes, under one name at both ends of the supported versions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchgeo.trainers import BYOLTask as BYOL
    from torchgeo.trainers import ChangeDetectionTask as ChangeDetection
    from torchgeo.trainers import ClassificationTask as Classification
    from torchgeo.trainers import InstanceSegmentationTask as InstanceSegmentation
    from torchgeo.trainers import MoCoTask as MoCo
    from torchgeo.trainers import ObjectDetectionTask as ObjectDetection
    from torchgeo.trainers import PixelwiseRegressionTask as PixelwiseRegression
    from torchgeo.trainers import RegressionTask as Regression
    from torchgeo.trainers import SemanticSegmentationTask as SemanticSegmentation
    from torchgeo.trainers import SimCLRTask as SimCLR
else:
    NAMES = (
        'BYOL',
        'ChangeDetection',
        'Classification',
        'InstanceSegmentation',
        'MoCo',
        'ObjectDetection',
        'PixelwiseRegression',
        'Regression',
        'SemanticSegmentation',
        'SimCLR',
    )
    try:  # 0.10: without the suffix; its torchgeo.trainers is a deprecated alias
        from torchgeo import tasks

        globals().update({name: getattr(tasks, name) for name in NAMES})
    except (ImportError, AttributeError):
        from torchgeo import trainers

        globals().update({name: getattr(trainers, f'{name}Task') for name in NAMES})

__all__ = (
    'BYOL',
    'ChangeDetection',
    'Classification',
    'InstanceSegmentation',
    'MoCo',
    'ObjectDetection',
    'PixelwiseRegression',
    'Regression',
    'SemanticSegmentation',
    'SimCLR',
)
