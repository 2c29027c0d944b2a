"""Fixtures of the tests of tasks."""

from task_tools import checkpoints, eurosat, fresh, weights

__all__ = ('checkpoints', 'eurosat', 'fresh', 'weights')
