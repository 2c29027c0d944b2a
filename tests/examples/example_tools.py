"""Starts the scripts of ``examples``, and small images for them."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'datasets'))
from true_files import chip, write

EXAMPLES = Path(__file__).parents[2] / 'examples'

#: Marks of tests that start runs: warnings of Lightning about runs that are so short.
QUIET = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore:LightningCLI:UserWarning'),
    pytest.mark.filterwarnings('ignore:.*num_workers'),
    pytest.mark.filterwarnings('ignore:.*lr_scheduler.step'),
    pytest.mark.filterwarnings('ignore:.*already exists and is not empty'),
]

#: Options of ``torchgeo-aom fit`` with which a run is as short as it can be.
SHORT = (
    '--trainer.accelerator=cpu',
    '--trainer.max_steps=1',
    '--trainer.enable_progress_bar=false',
    '--trainer.enable_model_summary=false',
    '--trainer.callbacks.every_n_train_steps=1',
    '--data.init_args.num_workers=0',
    '--data.init_args.batch_size=4',
    '--model.init_args.batch_size=4',
)


def start(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """Run a script as ``python examples/NAME ARGUMENTS`` does."""
    path = EXAMPLES / name
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    monkeypatch.syspath_prepend(path.parent)
    try:
        runpy.run_path(str(path), run_name='__main__')
    except SystemExit as left:
        assert left.code in (0, None), left.code


def load(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a script, for a test that makes its numbers smaller."""
    path = EXAMPLES / name
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f'example_{path.stem}', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def folder(path: Path, channels: list[int], dtype: str = 'uint16', count: int = 5) -> Path:
    """A folder of chips of 64 px, real values of these channels of EuroSAT."""
    values = chip()[channels]
    if dtype == 'uint8':
        values = np.clip(values // 12, 1, 255)
    for k in range(count):
        write(path / f'{k}.tif', np.roll(values, 9 * k, axis=1).astype(dtype))
    return path
