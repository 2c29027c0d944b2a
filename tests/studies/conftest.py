"""Tests of studies read their data set by its import path, and keep no features of each other."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / 'datasets'))


@pytest.fixture
def bright() -> str:
    return 'study_tools.Bright'
