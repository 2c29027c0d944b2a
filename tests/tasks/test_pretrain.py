"""Pretraining task: losses of a step, gradients, alarms, logs, band completion."""

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from pretrain_tools import BANDS, tiny
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import AOMWarning, BandError, ConfigError, DataError, InputError
from torchgeo_aom.layers.masking import visible_count
from torchgeo_aom.models.checkpoint import export_checkpoint
from torchgeo_aom.models.weights import load_backbone
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.schedule import decay_groups


def gradients(task: PretrainTask, batch: dict[str, Any], step: int = 0) -> dict[str, Tensor]:
    task.zero_grad()
    task.losses(batch, step).loss.backward()
    return {k: p.grad.clone() for k, p in task.named_parameters() if p.grad is not None}


class TestStep:
    def test_overfits_one_batch(self, batch: dict[str, Any]) -> None:
        """Reconstruction falls tenfold; alignment reaches its floor n (n - 1) log n."""
        task = tiny(patch_sizes=(8, 16), decoder_width=64, embed_dim=64, negatives='none')
        optimizer = torch.optim.AdamW(decay_groups(task, 0.0), lr=4e-3, betas=(0.9, 0.95))
        first = task.losses(batch, 0)
        for _ in range(200):
            loss = task.losses(batch, 0).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        last = task.losses(batch, 0)
        assert (last.reconstruction * 10 < first.reconstruction).all()
        floor = 2 * torch.tensor(2.0).log()
        assert last.alignment - floor < (first.alignment - floor) / 10

    @pytest.mark.parametrize('negatives', ['none', 'batch'])
    def test_every_parameter_learns(self, batch: dict[str, Any], negatives: str) -> None:
        task = tiny(kernel_sizes=(8, 16), negatives=negatives)
        grads = gradients(task, batch)
        assert set(grads) == {k for k, _ in task.named_parameters()}
        assert [k for k, g in grads.items() if not g.abs().sum() > 0] == []

    def test_every_parameter_learns_over_a_cycle(self, batch: dict[str, Any]) -> None:
        task = tiny(patch_sizes=(8, 12, 16), scales_per_step=2, kernel_sizes=(8, 16))
        total: dict[str, float] = {}
        for step in range(3):
            grads = gradients(task, batch, step)
            assert set(grads) == {k for k, _ in task.named_parameters()}  # DDP waits for all
            for key, grad in grads.items():
                total[key] = total.get(key, 0) + float(grad.abs().sum())
        assert [k for k, v in total.items() if not v] == []

    @pytest.mark.parametrize('options', [{'memory': 'scale'}, {'grad_checkpointing': True}])
    def test_less_memory_same_gradients(
        self, batch: dict[str, Any], options: dict[str, Any]
    ) -> None:
        task, frugal = tiny(negatives='batch'), tiny(negatives='batch', **options)
        expected, actual = gradients(task, batch), gradients(frugal, batch)
        for key, grad in expected.items():
            torch.testing.assert_close(actual[key], grad, rtol=1e-5, atol=1e-7, msg=key)

        def kept(task: PretrainTask) -> int:
            """Bytes that the forward pass leaves for the backward pass."""
            held: dict[int, int] = {}

            def pack(x: Tensor) -> Tensor:
                held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
                return x

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                task.losses(batch, 0)
            return sum(held.values())

        assert kept(frugal) < kept(task) / 2

    def test_weights_of_the_parts(self, batch: dict[str, Any]) -> None:
        result = tiny(recon_weight=0.3, align_weight=0.7).losses(batch, 0)
        expected = 0.3 * result.reconstruction.mean() + 0.7 * result.alignment
        torch.testing.assert_close(result.loss.detach(), expected)

    def test_loss_of_a_band_is_that_of_its_pixels(self, batch: dict[str, Any]) -> None:
        task = tiny()
        result = task.losses(batch, 0, detail=True)
        assert result.per_band.shape == (2, 4)
        predicted, masked = task.predict_masked(batch, 0, 8)
        error = (predicted - batch['image']).square()
        torch.testing.assert_close(error[masked].mean(), result.reconstruction[0])
        for c in range(4):
            mean = error[:, c][masked[:, c]].mean()
            torch.testing.assert_close(mean, result.per_band[0, c])
        assert torch.equal(predicted[~masked], batch['image'][~masked])

    @pytest.mark.parametrize('size', [(32, 32), (24, 32), (25, 31)])
    @pytest.mark.parametrize('ratio', [0.5, 0.75])
    def test_mask_ratio_is_exact(
        self, batch: dict[str, Any], size: tuple[int, int], ratio: float
    ) -> None:
        task = tiny(mask_ratio=ratio)
        image = batch['image'][:, :3, : size[0], : size[1]]
        for patch in (8, 16):
            tokens = 3 * -(-size[0] // patch) * -(-size[1] // patch)
            ids = task._masks(image, patch, [0, 1, 2, 3], 0)
            assert ids.shape == (4, visible_count(tokens, ratio))

    def test_masks_follow_the_sample_not_its_place(self, batch: dict[str, Any]) -> None:
        task = tiny(align_weight=0)
        order = torch.tensor([2, 0, 3, 1])
        other = {**batch, 'image': batch['image'][order], 'key': batch['key'][order]}
        same = task.losses(other, 3).loss
        torch.testing.assert_close(same, task.losses(batch, 3).loss)
        assert not torch.allclose(task.losses(batch, 4).loss, same)

    def test_missing_and_padded_pixels_do_not_count(self, batch: dict[str, Any]) -> None:
        task = tiny(align_weight=0)
        valid = torch.ones_like(batch['image'], dtype=torch.bool)
        valid[:, :, :5] = False
        clean = {**batch, 'valid': valid}
        dirty = {**clean, 'image': batch['image'].masked_fill(~valid, float('nan'))}
        assert torch.equal(task.losses(clean, 0).loss, task.losses(dirty, 0).loss)
        # Pixels past the edge: the same loss whatever a decoder predicts there.
        odd = {**batch, 'image': batch['image'][:, :, :30, :27]}
        before = task.losses(odd, 0).reconstruction
        with torch.no_grad():
            for size, decoder in task.decoders.items():
                bias = decoder.head.bias.view(int(size), int(size))
                bias[0, 0] += 1  # inside
        assert not torch.equal(task.losses(odd, 0).reconstruction, before)
        predicted, masked = task.predict_masked(odd, 0, 8)
        error = (predicted - odd['image'])[masked].square().mean()
        torch.testing.assert_close(error, task.losses(odd, 0).reconstruction[0])

    def test_bands_are_known_by_name(self, batch: dict[str, Any]) -> None:
        task = tiny()
        renamed = {**batch, 'bands': ['sentinel2:B11', *BANDS[1:]]}
        assert not torch.allclose(task.losses(renamed, 0).loss, task.losses(batch, 0).loss)
        with pytest.raises(BandError, match='B99'):
            task.losses({**batch, 'bands': ['sentinel2:B99', *BANDS[1:]]}, 0)

    def test_bfloat16(self, batch: dict[str, Any]) -> None:
        task = tiny(negatives='batch')
        expected = task.losses(batch, 0).loss
        with torch.autocast('cpu', torch.bfloat16):
            actual = task.losses(batch, 0).loss
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=0.03, atol=0)

    def test_bad_batches_are_refused(self, batch: dict[str, Any]) -> None:
        task = tiny()
        with pytest.raises(InputError, match='key'):
            task.losses({k: v for k, v in batch.items() if k != 'key'}, 0)
        with pytest.raises(InputError, match='float'):
            task.losses({**batch, 'image': batch['image'].to(torch.int16)}, 0)
        with pytest.raises(InputError, match='valid'):
            task.losses({**batch, 'valid': torch.ones(4, 4, dtype=torch.bool)}, 0)
        one = {**batch, 'image': batch['image'][:1], 'key': batch['key'][:1]}
        with pytest.raises(ConfigError, match='projector_norm'):
            task.losses(one, 0)
        with pytest.raises(ConfigError, match='negatives'):
            tiny(projector_norm='layer', negatives='batch').losses(one, 0)
        alone = tiny(projector_norm='layer', negatives='none')
        assert alone.losses(one, 0).loss.isfinite()


@pytest.mark.parametrize(
    'options',
    [
        {'model': 'aom_vitx'},
        {'patch_sizes': (8, 8)},
        {'patch_sizes': ()},
        {'patch_sizes': (8,)},
        {'scales_per_step': 3},
        {'scales_per_step': 1},
        {'recon_weight': 0, 'align_weight': 0},
        {'align_weight': -1},
        {'mask_ratio': 1.0},
        {'mask_kind': 'tokens'},
        {'negatives': 'paper'},
        {'memory': 'none'},
        {'on_collapse': 'raise'},
        {'metrics_every': 0},
        {'figure_every': -1},
        {'temperature': 0.0},
        {'epochs': 0},
        {'epochs': 10},  # of which 20 of warm-up
        {'warmup_epochs': -1},
        {'batch_size': 0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tiny(**options)


class Keyed(torch.utils.data.Dataset[dict[str, Any]]):
    """Batches of the chips, four at a time."""

    def __init__(self, images: Tensor, count: int) -> None:
        self.images, self.count = images, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        key = (torch.arange(4) + 4 * index) % len(self.images)
        return {'image': self.images[key], 'bands': BANDS, 'key': key, 'source': 'eurosat'}


def fit(task: PretrainTask, images: Tensor, root: Path, steps: int, **options: Any) -> Trainer:
    trainer = Trainer(
        accelerator='cpu', devices=1, max_steps=steps, default_root_dir=root, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
        **{'logger': False, 'enable_checkpointing': False, **options},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*does not have many workers')
        loader = DataLoader(Keyed(images, steps), batch_size=None)
        trainer.fit(task, loader, DataLoader(Keyed(images, 1), batch_size=None))
    return trainer


class TestFit:
    def test_logs_and_export(self, images: Tensor, tmp_path: Path) -> None:
        logger = TensorBoardLogger(tmp_path, name='', version='')
        task = tiny(metrics_every=1, figure_every=2, bands=BANDS)
        trainer = fit(task, images, tmp_path, 3, logger=logger)
        names = {
            'train/loss', 'train/align', 'train/recon/8px', 'train/recon/16px',
            'train/recon/eurosat/sentinel2:B04', 'train/embedding_std', 'train/rank_me/8px',
            'train/scale_similarity', 'train/images_per_s', 'val/loss', 'val/recon/8px',
        }  # fmt: skip
        assert names <= set(trainer.logged_metrics)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path)).Reload()
        assert len(events.Images('reconstruction/eurosat')) == 2
        assert len(events.Scalars('train/loss')) == 3
        path = tmp_path / 'run.ckpt'
        trainer.save_checkpoint(path)
        saved = torch.load(path, map_location='cpu', weights_only=True)['pretraining']
        assert saved['sources'] == {'eurosat': {'bands': BANDS, 'images': 12}}
        export_checkpoint(path, tmp_path / 'encoder.safetensors')
        encoder = load_backbone(tmp_path / 'encoder.safetensors', num_heads=2)
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, task.encoder.state_dict()[key])

    def test_collapse_raises_the_alarm(self, images: Tensor, tmp_path: Path) -> None:
        task = tiny(collapse_steps=2, on_collapse='stop')
        torch.nn.init.zeros_(task.encoder.norm.weight)
        torch.nn.init.ones_(task.encoder.norm.bias)
        with pytest.raises(DataError, match='collapsed'):
            fit(task, images, tmp_path, 4)

    @pytest.mark.parametrize('what', ['loss', 'pixels'])
    def test_stops_at_what_is_no_number(self, images: Tensor, tmp_path: Path, what: str) -> None:
        values = images.clone()
        if what == 'pixels':
            values[5, 2, 3, 3] = float('inf')  # in the second batch
        else:
            values[4:] *= 1e30  # finite, but not when squared
        task = tiny(base_lr=1e-3)
        with pytest.raises(DataError, match=f'{what} of step 1 is not finite'):
            fit(task, values, tmp_path, 4)
        (path,) = tmp_path.glob('not_finite_step1_*.json')
        record = json.loads(path.read_text())
        assert record['samples'] == [4, 5, 6, 7]
        assert record['samples_with_infinite_pixels'] == ([5] if what == 'pixels' else [])
        assert all(p.isfinite().all() for p in task.parameters())

    def test_another_batch_size_than_promised_warns(self, images: Tensor, tmp_path: Path) -> None:
        with pytest.warns(AOMWarning, match='batch_size=4'):
            fit(tiny(batch_size=1024), images, tmp_path, 1)


class TestBandCompletion:
    def test_refuses(self, batch: dict[str, Any]) -> None:
        task = tiny()
        with pytest.raises(BandError, match='B03'):
            task.reconstruct(batch['image'], BANDS, ['sentinel2:B03'])
        with pytest.raises(ConfigError, match='patch_size=4'):
            task.reconstruct(batch['image'], BANDS, ['sentinel2:B05'], 4)
        with pytest.raises(ConfigError, match='norm_pix_loss'):
            tiny(norm_pix_loss=True).reconstruct(batch['image'], BANDS, ['sentinel2:B05'])

    def test_shape_at_any_size(self, batch: dict[str, Any]) -> None:
        image = batch['image'][:2, :, :30, :21]
        missing = ['sentinel2:B05', 'sentinel2:B11']
        for size in (8, 16):
            made = tiny().reconstruct(image, BANDS, missing, size)
            assert made.shape == (2, 2, 30, 21)
            assert not made.requires_grad

    def test_codes_are_those_of_the_bands(self) -> None:
        expected = [band.index for band in resolve_bands(BANDS)]
        assert tiny().codes(BANDS).tolist() == expected


@pytest.mark.parametrize('name', ['paper', 'small'])
def test_examples_build(root: Path, name: str) -> None:
    import yaml

    config = yaml.safe_load((root / 'examples' / 'pretrain' / f'{name}.yaml').read_text())
    for part in ('model', 'data'):
        module, _, cls = config[part]['class_path'].rpartition('.')
        options = config[part]['init_args']
        with torch.device('meta'):
            built = getattr(importlib.import_module(module), cls)(**options)
        assert built.hparams['batch_size'] == options['batch_size']
    devices = config['trainer']['devices'] * config['trainer'].get('num_nodes', 1)
    images = config['data']['init_args']['batch_size'] * devices
    assert images == config['model']['init_args']['batch_size']
