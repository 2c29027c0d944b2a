"""Windows like a place, and completed bands."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from scene_tools import TINY, as_is, pixels, read, scene_of, stub, tiny_weights, write
from torch import Tensor, nn

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.cli import main
from torchgeo_aom.errors import BandError, CheckpointError, ConfigError, DataError
from torchgeo_aom.scene import RunOptions, complete_scene, similar_places
from torchgeo_aom.scene.pipeline import Output
from torchgeo_aom.scene.run import execute
from torchgeo_aom.scene.runner import Runner
from torchgeo_aom.scene.similar import similarities
from torchgeo_aom.scene.sinks import ValueSink
from torchgeo_aom.scene.vectors import VectorSink, read_vectors
from torchgeo_aom.tasks import PretrainTask


def vectors(folder: Path, name: str, values: np.ndarray, tag: str = 'x') -> Path:
    """Means of windows of 32 px as vectors."""
    scene = scene_of(write(folder / f'{name}.tif', values))

    def run(x: Tensor) -> Output:
        return Output(x[:, :1], x.mean((2, 3)))

    base = stub(scene, nn.Identity(), 1)
    runner = Runner(base.model, run, base.bands, 1, 1, 4, {'AOM_PATCH_SIZE': '1'})
    path = folder / f'{name}.parquet'
    sinks = [
        ValueSink('v', folder / f'{name}_v.tif', ['v']),
        VectorSink('x', path, 4, f'{name}.tif', values.shape[1:]),
    ]
    options = RunOptions(chip=32, overlap=0, progress=False)
    execute(scene, runner, as_is(scene), lambda _: sinks, options, {'AOM_WEIGHTS_SHA256': tag})
    return path


class TestSimilar:
    def test_the_same_pixels_come_first(self, tmp_path: Path) -> None:
        values = pixels(height=96, width=96)
        values[:, 64:, 64:] = values[:, :32, :32]
        one = vectors(tmp_path, 'one', values)
        two = vectors(tmp_path, 'two', values + 300)  # another light
        found = similar_places(
            [one, two], tmp_path / 'o.parquet', at=(500_100, 4_649_900), count=3,
            figure=tmp_path / 'o.png',
        )  # fmt: skip
        places = [(s, r, c) for s, r, c in found[['scene', 'row', 'column']].to_numpy().tolist()]
        assert places[0] == ('one.tif', 0, 0)
        assert set(places[1:]) == {('one.tif', 2, 2), ('two.tif', 0, 0), ('two.tif', 2, 2)}
        np.testing.assert_allclose(found['similarity'], 1, atol=1e-3)
        again = geopandas.read_parquet(tmp_path / 'o.parquet')
        assert again.crs == 'EPSG:32631'
        assert again.geometry[0].bounds == (500_000, 4_649_680, 500_320, 4_650_000)
        assert (tmp_path / 'o.png').stat().st_size > 10_000

    def test_scenes_of_one_name_are_several(self, tmp_path: Path) -> None:
        values = pixels(height=96, width=96)
        paths = []
        for name, light in (('june', 0), ('july', 300)):
            (tmp_path / name).mkdir()
            paths.append(vectors(tmp_path / name, 'scene', values + light))
        found = similar_places(paths, tmp_path / 'o.parquet', at=(500_100, 4_649_900), count=1)
        assert found[['row', 'column']].to_numpy().tolist() == [[0, 0], [0, 0]]
        np.testing.assert_allclose(found['similarity'], 1, atol=1e-3)

    def test_degrees(self, tmp_path: Path) -> None:
        path = vectors(tmp_path, 'one', pixels(height=96, width=96))
        code = main(
            f'scene similar {path} {tmp_path}/o.parquet --lonlat --at 3.0005 41.9999 --json'.split()
        )
        assert code == 0
        first = geopandas.read_parquet(tmp_path / 'o.parquet').iloc[0]
        assert (first['row'], first['column']) == (0, 0)

    def test_refused(self, tmp_path: Path) -> None:
        path = vectors(tmp_path, 'one', pixels(height=96, width=96))
        other = vectors(tmp_path, 'two', pixels(height=96, width=96), 'y')
        out = tmp_path / 'o.parquet'
        with pytest.raises(ConfigError, match='covers'):
            similar_places(path, out, at=(0, 0))
        with pytest.raises(ConfigError, match='AOM_WEIGHTS_SHA256'):
            similar_places([path, other], out, at=(500_100, 4_649_900))
        with pytest.raises(ConfigError, match='input'):
            similar_places(path, path, at=(500_100, 4_649_900), overwrite=True)
        with pytest.raises(DataError, match='GeoParquet'):
            similar_places(tmp_path / 'one.tif', out, at=(500_100, 4_649_900))
        assert not out.exists()

    def test_windows_without_data_have_no_vector(self, tmp_path: Path) -> None:
        values = pixels(height=96, width=96)
        values[:, :32, 40:] = 0
        frame, rows, tags = read_vectors(vectors(tmp_path, 'one', values))
        assert len(frame) == len(rows) == 8
        assert frame['valid_share'].min() == pytest.approx(0.25)
        assert tags['AOM_PATCH_SIZE'] == '1'

    def test_centering_takes_away_what_scenes_have_in_common(self) -> None:
        rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
        both = np.concatenate((rows, rows + 100))
        found = similarities(both, 0, ['a'] * 6 + ['b'] * 6)
        np.testing.assert_allclose(found[:6], found[6:], atol=1e-4)
        assert similarities(both, 0, None, center=False)[6:].max() < 0.9


class TestComplete:
    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        task = PretrainTask(
            'aom_vitt', patch_sizes=(8, 16), decoder_depth=1, warmup_epochs=1, epochs=2, **TINY
        )
        trainer = Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator='cpu'
        )
        trainer.strategy.connect(task)
        trainer.save_checkpoint(tmp_path / 'pre.ckpt')
        return tmp_path / 'pre.ckpt'

    def test_reflectance_on_the_same_grid(self, checkpoint: Path, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels())
        options = RunOptions(chip=32, progress=False)
        scene = scene_of(path)
        wanted = ['sentinel2:B11', 'sentinel2:B8A']
        complete_scene(scene, tmp_path / 'o.tif', wanted, weights=checkpoint, options=options)
        with rasterio.open(tmp_path / 'o.tif') as file, rasterio.open(path) as source:
            assert file.descriptions == tuple(wanted)
            assert (file.transform, file.bounds) == (source.transform, source.bounds)
            assert file.tags()['AOM_COMPLETED'] == ' '.join(wanted)
        values = read(tmp_path / 'o.tif')
        assert np.isfinite(values).all()
        target = scene.normalize(bands=resolve_bands(wanted))
        # An untrained decoder stays near 0, which is the mean of the band.
        np.testing.assert_allclose(values.mean((1, 2)), target.mean, atol=2 * max(target.std))

    def test_refused(self, checkpoint: Path, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels())
        with pytest.raises(BandError, match='B04'):
            complete_scene(scene_of(path), tmp_path / 'o.tif', 'sentinel2:B04', weights=checkpoint)
        weights = tiny_weights(tmp_path / 'tiny.safetensors')
        with pytest.raises(CheckpointError, match='PretrainTask'):
            complete_scene(scene_of(path), tmp_path / 'o.tif', 'sentinel2:B11', weights=weights)
        assert not (tmp_path / 'o.tif').exists()
