"""Lightning tasks: TorchGeo's own, with bands and a patch size."""

from .bands import (
    BandsMixin,
    BYOLTask,
    ChangeDetectionTask,
    ClassificationTask,
    MoCoTask,
    PixelwiseRegressionTask,
    RegressionTask,
    SimCLRTask,
)
from .callbacks import BandCheck
from .dataset_bands import dataset_bands
from .detection import InstanceSegmentationTask, ObjectDetectionTask
from .pretrain import PretrainTask
from .segmentation import SemanticSegmentationTask

__all__ = (
    'BYOLTask',
    'BandCheck',
    'BandsMixin',
    'ChangeDetectionTask',
    'ClassificationTask',
    'InstanceSegmentationTask',
    'MoCoTask',
    'ObjectDetectionTask',
    'PixelwiseRegressionTask',
    'PretrainTask',
    'RegressionTask',
    'SemanticSegmentationTask',
    'SimCLRTask',
    'dataset_bands',
)
