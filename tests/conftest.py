"""What every test gets: no network, no home directory, no window, fixed seeds."""

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Read once, at import of the libraries: so before they are imported.
HF_HOME = tempfile.mkdtemp(prefix='torchgeo_aom_tests_')
atexit.register(shutil.rmtree, HF_HOME, ignore_errors=True)
os.environ['MPLBACKEND'] = 'agg'
os.environ['HF_HOME'] = HF_HOME
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ.pop('TORCHGEO_AOM_SENSORS', None)

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import settings

# The same examples each time, and none is too slow on a busy machine.
settings.register_profile('torchgeo_aom', derandomize=True, deadline=None)
settings.load_profile('torchgeo_aom')


@pytest.fixture(autouse=True)
def sandbox(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Point every cache to an empty folder of this test, and remove it after the test."""
    home = tmp_path_factory.mktemp('home')
    monkeypatch.setenv('TORCH_HOME', str(home / 'torch'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / 'cache'))
    yield
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Make the global generators start equal for every test, in whatever order they run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Close what a test has plotted."""
    yield
    plt.close('all')


@pytest.fixture(scope='session')
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[1]
