"""Fixtures of the tests of tasks."""

from pretrain_tools import batch, images
from task_tools import checkpoints, eurosat, fresh, weights

__all__ = ('batch', 'checkpoints', 'eurosat', 'fresh', 'images', 'weights')
