"""Encoders and trained tasks over scenes, from Python and from the command line."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import LightningModule, Trainer
from scene_tools import pixels, read, scene_of, tiny_weights, write

from torchgeo_aom import tasks
from torchgeo_aom.cli import main
from torchgeo_aom.errors import AOMWarning, BandError, CheckpointError, ConfigError
from torchgeo_aom.models.weights import load_backbone
from torchgeo_aom.scene import RunOptions, SceneResult, embed_scene, predict_scene
from torchgeo_aom.scene.reader import SceneReader
from torchgeo_aom.scene.runner import agreement

scene_embed = import_module('torchgeo_aom.scene.embed')
OPTIONS = RunOptions(chip=32, overlap=8, progress=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / 'in.tif', pixels())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tiny_weights(tmp_path / 'tiny.safetensors')


def checkpoint(task: LightningModule, path: Path) -> Path:
    trainer = Trainer(
        max_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        accelerator='cpu',
    )  # fmt: skip
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


class TestEmbed:
    def test_cells_are_what_the_encoder_says(
        self, path: Path, weights: Path, tmp_path: Path
    ) -> None:
        scene = scene_of(path)
        result = embed_scene(
            scene, tmp_path / 'e.tif', weights=weights, patch_size=8, dtype='float32',
            vectors=tmp_path / 'e.parquet', options=RunOptions(chip=128, progress=False),
        )  # fmt: skip
        image = SceneReader(scene).read((0, 0, 72, 96))
        model = load_backbone(weights, bands=scene.bands)
        with torch.inference_mode():
            features = model.forward_features(
                scene.normalize()(torch.from_numpy(image)[None]), patch_size=8
            )
        np.testing.assert_allclose(
            read(tmp_path / 'e.tif'), features[0, 1:].T.reshape(24, 9, 12), atol=1e-4
        )
        frame = geopandas.read_parquet(tmp_path / 'e.parquet')
        np.testing.assert_allclose(np.stack(frame['vector']), features[:, 0], atol=1e-4)
        with rasterio.open(path) as file:
            assert frame.total_bounds.tolist() == list(file.bounds)
            assert frame.crs == file.crs.to_string()
        assert result.done
        assert len(result.tags['AOM_WEIGHTS_SHA256']) == 64

    def test_vectors_of_all_windows(self, path: Path, weights: Path, tmp_path: Path) -> None:
        embed_scene(
            scene_of(path), tmp_path / 'e.tif', weights=weights, patch_size=8,
            vectors=tmp_path / 'e.parquet', options=OPTIONS,
        )  # fmt: skip
        frame = geopandas.read_parquet(tmp_path / 'e.parquet')
        assert len(frame) == 3 * 4
        assert not frame[['row', 'column']].duplicated().any()
        assert frame.union_all().area == pytest.approx(700 * 900)

    def test_random_weights_warn(self, path: Path, tmp_path: Path) -> None:
        with pytest.warns(AOMWarning, match='random'):
            embed_scene(
                scene_of(path), tmp_path / 'e.tif', weights='random', patch_size=16,
                options=RunOptions(chip=48, overlap=0, progress=False),
            )  # fmt: skip
        assert read(tmp_path / 'e.tif').shape == (192, 5, 6)

    def test_agreement(self, path: Path, weights: Path, tmp_path: Path) -> None:
        result = embed_scene(
            scene_of(path), tmp_path / 'e.tif', weights=weights, patch_size=8,
            agree=tmp_path / 'a.tif', agree_sizes=[8, 16], options=OPTIONS,
        )  # fmt: skip
        values = read(tmp_path / 'a.tif')
        assert values.shape == (1, 5, 6)
        assert (np.abs(values) <= 1 + 1e-6).all()
        assert values.std() > 0
        assert len(result.files) == 2

    def test_stopped_in_the_agreement(
        self, path: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same command goes on, and does not compute the embedding again."""
        out, agree = tmp_path / 'e.tif', tmp_path / 'a.tif'

        def stopped(x: torch.Tensor) -> None:
            raise KeyboardInterrupt

        def embed(**more: Any) -> SceneResult:
            return embed_scene(
                scene_of(path), out, weights=weights, patch_size=8, agree=agree,
                agree_sizes=[8, 16], options=OPTIONS, **more,
            )  # fmt: skip

        with monkeypatch.context() as patched:
            patched.setattr(
                scene_embed, 'agreement', lambda *a: replace(agreement(*a), function=stopped)
            )
            with pytest.raises(KeyboardInterrupt):
                embed()
        before = out.stat().st_mtime_ns
        assert not agree.exists()
        with pytest.raises(ConfigError, match='exists'):  # other embeddings would replace these
            embed(dtype='float32')
        result = embed()
        assert result.files == (out, agree)
        assert result.windows == 0
        assert out.stat().st_mtime_ns == before
        assert not list(tmp_path.glob('.*'))
        with pytest.raises(ConfigError, match='exists'):
            embed()

    def test_files_of_the_same_name(self, path: Path, weights: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='its own'):
            embed_scene(
                scene_of(path), tmp_path / 'e.tif', weights=weights, agree=tmp_path / 'e.tif',
                options=OPTIONS,
            )  # fmt: skip

    def test_statistics_of_your_own(self, path: Path, weights: Path, tmp_path: Path) -> None:
        line = (
            f'scene embed {path} {tmp_path}/e.tif --sensor sentinel2 --product l2a --weights '
            f'{weights} --patch 8 --mean 0.1 0.2 0.3 0.4'
        )
        assert main([*line.split(), '--std', '0.1', '0.1', '0.1', '0.1']) == 0
        with rasterio.open(tmp_path / 'e.tif') as file:
            assert file.tags()['AOM_MEAN'] == '0.1 0.2 0.3 0.4'
        assert main([*line.split(), '--overwrite']) == 1  # a mean without std

    def test_no_weights(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError):
            embed_scene(scene_of(path), tmp_path / 'e.tif', weights=tmp_path / 'no.safetensors')
        with pytest.raises(ConfigError, match='random'):
            embed_scene(scene_of(path), tmp_path / 'e.tif', weights=None)

    def test_command(
        self, path: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code = main(
            f'scene embed {path} {tmp_path}/e.tif --sensor sentinel2 --product l2a --weights '
            f'{weights} --patch 8 --chip 64 --components 3 --dtype int8 --json --quicklook '
            f'{tmp_path}/e.png'.split()
        )
        out = capsys.readouterr()
        assert code == 0
        assert json.loads(out.out)['files'] == [f'{tmp_path}/e.tif']
        assert 'sentinel2:B04 -> 3' in out.err
        assert read(tmp_path / 'e.tif').shape == (3, 9, 12)
        assert (tmp_path / 'e.png').stat().st_size > 10_000

    def test_command_refuses(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        base = f'scene embed {path} {tmp_path}/e.tif --weights random'
        assert main(base.split()) == 1
        assert 'sensor' in capsys.readouterr().err
        assert main(f'{base} --sensor sentinel2'.split()) == 1
        assert '--product' in capsys.readouterr().err
        assert main(f'{base} --sensor sentinel2 --product l2a --shard 4'.split()) == 1
        assert '--shard' in capsys.readouterr().err


def segmentation(**options: object) -> LightningModule:
    torch.manual_seed(0)
    return tasks.SemanticSegmentationTask(
        **{
            'model': 'unet', 'backbone': 'aom_vitt', 'bands': 'sentinel2:rgb', 'num_classes': 3,
            **options,
        }
    )  # fmt: skip


class TestPredict:
    def test_segmentation(self, path: Path, tmp_path: Path) -> None:
        """The task gets its own bands, in its order, out of a scene with more."""
        task = segmentation()
        file = checkpoint(task, tmp_path / 'seg.ckpt')
        scene = scene_of(path)
        predict_scene(
            scene, tmp_path / 'm.tif', weights=file, probabilities=tmp_path / 'p.tif',
            classes=['a', 'b', 'c'], options=RunOptions(chip=128, progress=False),
        )  # fmt: skip
        part = scene.select(task.backbones[0].bands)
        image = part.normalize()(torch.from_numpy(SceneReader(part).read((0, 0, 70, 90)))[None])
        with torch.inference_mode():
            expected = task.eval()(image).softmax(1)[0]
        np.testing.assert_allclose(read(tmp_path / 'p.tif'), expected, atol=1e-4)
        np.testing.assert_array_equal(read(tmp_path / 'm.tif')[0], expected.argmax(0))
        with rasterio.open(tmp_path / 'm.tif') as out, rasterio.open(path) as source:
            assert (out.crs, out.transform, out.bounds) == (
                source.crs, source.transform, source.bounds,
            )  # fmt: skip
            assert out.tags()['AOM_CLASSES'] == 'a, b, c'

    def test_agreement_of_patch_sizes(self, path: Path, tmp_path: Path) -> None:
        file = checkpoint(segmentation(), tmp_path / 'seg.ckpt')
        predict_scene(
            scene_of(path), tmp_path / 'm.tif', weights=file, agree=tmp_path / 'a.tif',
            options=RunOptions(chip=96, progress=False),
        )  # fmt: skip
        values = read(tmp_path / 'a.tif')
        assert values.shape == (1, 3, 3)
        assert ((values > 0) & (values < 1)).all()

    def test_missing_bands(self, path: Path, tmp_path: Path) -> None:
        file = checkpoint(segmentation(bands='sentinel2:common6'), tmp_path / 'seg.ckpt')
        with pytest.raises(BandError, match=r'B11.*--missing use'):
            predict_scene(scene_of(path), tmp_path / 'm.tif', weights=file, options=OPTIONS)
        with pytest.warns(AOMWarning, match='It runs on sentinel2:B02, sentinel2:B03'):
            predict_scene(
                scene_of(path), tmp_path / 'm.tif', weights=file, missing='use', options=OPTIONS
            )
        with rasterio.open(tmp_path / 'm.tif') as out:
            assert out.tags()['AOM_BANDS'] == 'sentinel2:B02 sentinel2:B03 sentinel2:B04'

    def test_classification_is_one_value_a_window(self, path: Path, tmp_path: Path) -> None:
        task = tasks.ClassificationTask(model='aom_vitt', bands='sentinel2:rgbn', num_classes=5)
        file = checkpoint(task, tmp_path / 'cls.ckpt')
        predict_scene(scene_of(path), tmp_path / 'm.tif', weights=file, options=OPTIONS)
        values = read(tmp_path / 'm.tif')
        assert values.shape == (1, 3, 3)
        image = SceneReader(scene_of(path)).read((32, 0, 32, 32))
        with torch.inference_mode():
            expected = task.eval()(scene_of(path).normalize()(torch.from_numpy(image)[None]))
        assert values[0, 1, 0] == int(expected.argmax())

    @pytest.mark.parametrize('dense', [True, False])
    def test_regression(self, path: Path, tmp_path: Path, dense: bool) -> None:
        task = (
            tasks.PixelwiseRegressionTask(model='unet', backbone='aom_vitt', bands='sentinel2:rgb')
            if dense
            else tasks.RegressionTask(model='aom_vitt', bands='sentinel2:rgb')
        )
        file = checkpoint(task, tmp_path / 'reg.ckpt')
        predict_scene(scene_of(path), tmp_path / 'm.tif', weights=file, options=OPTIONS)
        values = read(tmp_path / 'm.tif')
        assert values.dtype == np.float32
        assert values.shape == ((1, 70, 90) if dense else (1, 3, 3))
        assert np.isfinite(values).all()

    @pytest.mark.parametrize('kind', ['binary', 'multilabel'])
    def test_other_segmentations(self, path: Path, tmp_path: Path, kind: str) -> None:
        labels = {'num_labels': 4} if kind == 'multilabel' else {}
        task = segmentation(task=kind, loss='bce', num_classes=None, **labels)
        file = checkpoint(task, tmp_path / 'seg.ckpt')
        predict_scene(scene_of(path), tmp_path / 'm.tif', weights=file, options=OPTIONS)
        values = read(tmp_path / 'm.tif')
        if kind == 'binary':
            assert values.dtype == np.uint8
            assert set(np.unique(values)) <= {0, 1}
        else:
            assert values.shape == (4, 70, 90)
            assert ((values > 0) & (values < 1)).all()

    def test_checkpoint_of_something_else(self, path: Path, weights: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match='scene embed'):
            predict_scene(scene_of(path), tmp_path / 'm.tif', weights=weights)
        (tmp_path / 'bad.ckpt').write_bytes(b'no')
        with pytest.raises(CheckpointError):
            predict_scene(scene_of(path), tmp_path / 'm.tif', weights=tmp_path / 'bad.ckpt')


class TestPosition:
    def test_what_repeats_with_windows_is_removed(self, tmp_path: Path, weights: Path) -> None:
        """Noise alike everywhere: what is left of positions is chance."""
        noise = np.random.default_rng(0).integers(500, 2500, (4, 200, 200)).astype('uint16')
        path = write(tmp_path / 'noise.tif', noise)
        found = {}
        for position in ('keep', 'remove'):
            out = tmp_path / f'{position}.tif'
            options = RunOptions(chip=40, overlap=0, progress=False)
            result = embed_scene(
                scene_of(path), out, weights=weights, patch_size=8, dtype='float32',
                position=position, options=options,
            )  # fmt: skip
            assert result.tags['AOM_POSITION'] == {'keep': 'kept', 'remove': 'removed'}[position]
            cells = read(out).reshape(24, 5, 5, 5, 5)
            cells = cells - cells.mean((1, 2, 3, 4), keepdims=True)
            at = cells.mean((1, 3))
            found[position] = (at**2).mean() / (cells**2).mean()
        assert found['keep'] > 0.3
        assert found['remove'] < 0.1

    def test_few_windows_keep_theirs(self, path: Path, weights: Path, tmp_path: Path) -> None:
        result = embed_scene(
            scene_of(path), tmp_path / 'e.tif', weights=weights, patch_size=8,
            options=RunOptions(chip=72, overlap=0, progress=False),
        )  # fmt: skip
        assert result.tags['AOM_POSITION'] == 'kept'

    def test_wrong_word(self, path: Path, weights: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='remove, keep'):
            embed_scene(
                scene_of(path), tmp_path / 'e.tif', weights=weights, patch_size=8, position='x',
                options=OPTIONS,
            )  # fmt: skip
