"""Lightning tasks: TorchGeo's own, with bands and a patch size."""

from .bands import (
    BandsMixin,
    BYOLTask,
    ChangeDetectionTask,
    ClassificationTask,
    MoCoTask,
    PixelwiseRegressionTask,
    RegressionTask,
    SemanticSegmentationTask,
    SimCLRTask,
)

__all__ = (
    'BYOLTask',
    'BandsMixin',
    'ChangeDetectionTask',
    'ClassificationTask',
    'MoCoTask',
    'PixelwiseRegressionTask',
    'RegressionTask',
    'SemanticSegmentationTask',
    'SimCLRTask',
)
