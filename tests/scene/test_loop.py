"""Scenes through Lightning's predict loop: the same files from one process or several."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Trainer
from scene_tools import pixels, pooled, read, run, scene_of, tiny_weights, write

from torchgeo_aom.cli import main
from torchgeo_aom.errors import ConfigError, DataError
from torchgeo_aom.scene import RunOptions

QUIET: dict[str, Any] = {
    'accelerator': 'cpu', 'logger': False, 'enable_checkpointing': False,
    'enable_progress_bar': False, 'enable_model_summary': False,
}  # fmt: skip


def one_process() -> Trainer:
    return Trainer(devices=1, **QUIET)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / 'in.tif', pixels())


class TestTrainer:
    def test_same_as_without(self, path: Path, tmp_path: Path) -> None:
        scene = scene_of(path)
        run(scene, tmp_path / 'a.tif', lambda x: pooled(x, 2), 4, 2)
        result = run(scene, tmp_path / 'b.tif', lambda x: pooled(x, 2), 4, 2, trainer=one_process())
        np.testing.assert_array_equal(read(tmp_path / 'a.tif'), read(tmp_path / 'b.tif'))
        assert result.done
        assert result.windows == 3 * 4

    def test_goes_on_after_an_error(self, path: Path, tmp_path: Path) -> None:
        scene, calls = scene_of(path), []

        def fails(x: Any) -> Any:
            calls.append(len(x))
            if len(calls) == 5:
                raise DataError('stopped')
            return x

        options = {'trainer': one_process(), 'batch_size': 2}
        with pytest.raises(DataError, match='stopped'):
            run(scene, tmp_path / 'a.tif', fails, 4, **options)
        assert not (tmp_path / 'a.tif').exists()
        result = run(scene, tmp_path / 'a.tif', fails, 4, **options)
        assert result.done
        assert result.windows < 3 * 4  # rows that were complete are not computed again

    def test_other_strategies_and_precisions_are_refused(self) -> None:
        with pytest.raises(ConfigError, match='ddp'):
            RunOptions(trainer=Trainer(devices=2, strategy='ddp_spawn', **QUIET))
        with pytest.raises(ConfigError, match='precision'):
            RunOptions(trainer=Trainer(devices=1, precision='bf16-mixed', **QUIET))
        with pytest.raises(ConfigError, match='shard'):
            RunOptions(trainer=one_process(), shard=(0, 2))


class TestCommand:
    def test_numbers_of_devices(self, path: Path, tmp_path: Path) -> None:
        line = f'scene embed {path} {tmp_path}/e.tif --sensor sentinel2 --product l2a'
        assert main(f'{line} --devices 0'.split()) == 1
        assert main(f'{line} --devices 2 --shard 0/2'.split()) == 1
        assert not (tmp_path / 'e.tif').exists()

    @pytest.mark.slow
    def test_two_processes_write_what_one_writes(self, path: Path, tmp_path: Path) -> None:
        weights = tiny_weights(tmp_path / 'tiny.safetensors')
        line = (
            f'scene embed {path} OUT.tif --sensor sentinel2 --product l2a --weights {weights} '
            f'--patch 8 --chip 32 --overlap 8 --batch 1 --vectors OUT.parquet'
        )
        assert main(line.replace('OUT', f'{tmp_path}/one').split()) == 0
        two = f'{line} --devices 2'.replace('OUT', f'{tmp_path}/two').split()
        command = [sys.executable, '-m', 'torchgeo_aom', *two]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert 'MEMBER: 2/2' in done.stderr
        np.testing.assert_array_equal(read(tmp_path / 'one.tif'), read(tmp_path / 'two.tif'))
        assert (tmp_path / 'two.parquet').is_file()
