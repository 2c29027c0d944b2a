"""Guided pretraining: the losses of the paper and a teacher's, in one step."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.tasks.guided import Guide, GuidedPretrainTask

RGB = ['sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02']


@pytest.fixture(scope='module')
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.manual_seed(0)
    torch.save(timm.create_model('tf_efficientnet_lite0').state_dict(), path)
    return path


def build(teacher: Path, **options: Any) -> GuidedPretrainTask:
    small: dict[str, Any] = {
        'model': 'aom_vitt', 'depth': 2, 'decoder_depth': 1, 'patch_sizes': (16, 32),
        'kernel_sizes': (16,), 'batch_size': 4, 'negatives': 'batch',
    }  # fmt: skip
    return GuidedPretrainTask('tf_efficientnet_lite0', str(teacher), 64, **{**small, **options})


def batch(bands: list[str] = RGB, size: int = 64) -> dict[str, Any]:
    torch.manual_seed(1)
    image = torch.randn(4, len(bands), size, size)
    return {'image': image, 'bands': bands, 'key': list(range(4)), 'source': 'x'}


def test_loss_is_that_of_the_paper_and_guidance(teacher: Path) -> None:
    task = build(teacher, guidance_weight=3.0).eval()
    plain = build(teacher, guidance_weight=0.0).eval()
    plain.load_state_dict(task.state_dict())
    with_guidance, without = task.losses(batch(), 0), plain.losses(batch(), 0)
    assert with_guidance.guidance > 0
    torch.testing.assert_close(
        with_guidance.loss, without.loss + 3 * with_guidance.guidance, rtol=1e-5, atol=1e-5
    )


def test_bands_without_rgb_have_the_losses_of_the_paper(teacher: Path) -> None:
    task = build(teacher)
    result = task.losses(batch(['sentinel2:B08', 'sentinel2:B11']), 0)
    assert result.guidance == 0
    assert task.teach(torch.randn(1, 1, 64, 64), ['nir08']) is None
    result.loss.backward()
    # Every parameter has a gradient, or several processes would wait for each other.
    assert all(p.grad is not None for p in task.guide.parameters())
    assert all(not p.grad.any() for p in task.guide.parameters() if p.grad is not None)


def test_guidance_falls(teacher: Path) -> None:
    task = build(teacher, recon_weight=0.0)
    optimizer = torch.optim.AdamW(task.parameters(), 2e-3)
    values = []
    for _ in range(30):
        result = task.losses(batch(), 0)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        values.append(float(result.guidance))
    assert values[-1] < 0.7 * values[0]


def test_targets_lie_at_the_place_of_their_token() -> None:
    """Two bands, 2 x 2 places: token 5 is the second band at the second place."""
    guide = Guide(3, (1, 1)).eval()
    with torch.no_grad():
        guide.place.weight.zero_()
        guide.place.bias.zero_()
        guide.image.weight.zero_()
        guide.image.bias.zero_()
    places = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    ids = torch.tensor([[5, 6]])
    found = guide(torch.zeros(1, 2, 3), torch.zeros(1, 3), ids, (2, 2), (places, torch.ones(1, 1)))
    assert float(found) == pytest.approx((2.0**2 + 3.0**2) / 2 + 1)


def test_teacher_is_neither_trained_nor_saved(teacher: Path, tmp_path: Path) -> None:
    task = build(teacher, lr_scaling=False)
    assert not any('teacher' in key or key.startswith('vit') for key in task.state_dict())
    before = {k: v.clone() for k, v in task._teacher[0].state_dict().items()}
    trainer = Trainer(
        max_steps=2, accelerator='cpu', logger=False, default_root_dir=tmp_path,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, DataLoader([batch(), batch()], batch_size=None))  # type: ignore[arg-type]
    for key, value in task._teacher[0].state_dict().items():
        assert torch.equal(value, before[key]), key
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    again = GuidedPretrainTask.load_from_checkpoint(tmp_path / 'last.ckpt', map_location='cpu')
    assert again.hparams['guidance_weight'] == task.hparams['guidance_weight']
    for key, value in task.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)


def test_views_are_refused(teacher: Path) -> None:
    with pytest.raises(ConfigError, match='leave out view_size'):
        build(teacher, view_size=32)


def test_guide_of_an_earlier_run(teacher: Path, tmp_path: Path) -> None:
    first, path = build(teacher), tmp_path / 'first.ckpt'
    torch.save({'state_dict': first.state_dict()}, path)
    second = build(teacher, guide=str(path))
    for a, b in zip(first.guide.parameters(), second.guide.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.save({'state_dict': first.encoder.state_dict()}, path)
    with pytest.raises(CheckpointError, match='has no guide for this encoder and teacher'):
        build(teacher, guide=str(path))


def test_muon_learns_and_its_run_goes_on(teacher: Path, tmp_path: Path) -> None:
    loader = DataLoader([batch()] * 4, batch_size=None)
    options: dict[str, Any] = {
        'accelerator': 'cpu', 'logger': False, 'default_root_dir': tmp_path,
        'enable_progress_bar': False, 'num_sanity_val_steps': 0,
    }  # fmt: skip
    task = build(teacher, optimizer='muon', base_lr=0.3, weight_decay=0.0)
    before = {k: v.clone() for k, v in task.encoder.blocks.state_dict().items()}
    trainer = Trainer(max_epochs=1, **options)
    trainer.fit(task, loader)
    moved = task.encoder.blocks.state_dict()
    assert not torch.equal(before['0.attn.qkv.weight'], moved['0.attn.qkv.weight'])
    trainer.save_checkpoint(tmp_path / 'run.ckpt')
    again = build(teacher, optimizer='muon', base_lr=0.3, weight_decay=0.0)
    trainer = Trainer(max_epochs=2, **options)
    trainer.fit(again, loader, ckpt_path=tmp_path / 'run.ckpt')
    assert trainer.global_step == 8
