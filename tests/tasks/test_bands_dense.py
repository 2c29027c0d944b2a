"""Dense tasks with bands: decoders, patch sizes, image sizes, dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bands_tools import build, indices, models
from task_tools import CLASSES, MODEL, SIZE, fit, label, loader

from torchgeo_aom.errors import ConfigError, SizeError

pytestmark = [
    pytest.mark.filterwarnings('ignore:MoCo:UserWarning'),
    pytest.mark.filterwarnings('ignore:SimCLR:UserWarning'),
]


class TestDense:
    @pytest.mark.parametrize('model', ['unet', 'upernet', 'segformer', 'deeplabv3+', 'dpt'])
    @pytest.mark.parametrize('patch_size', [8, 16])
    def test_decoders(self, model: str, patch_size: int) -> None:
        task = build('segmentation', model=model, bands='rgb', patch_size=patch_size).eval()
        x = torch.randn(1, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert task(x).shape == (1, CLASSES, SIZE, SIZE)

    @pytest.mark.parametrize('patch_size', [12, [16, 8], 2])
    def test_dpt_patch_size(self, patch_size: Any) -> None:
        with pytest.raises(ConfigError, match='DPT takes patch sizes 4, 8, 16'):
            build('segmentation', model='dpt', bands='rgb', patch_size=patch_size)

    @pytest.mark.parametrize(
        ('name', 'model', 'patch'),
        [
            ('segmentation', 'dpt', 16),
            ('segmentation', 'dpt', 64),
            ('segmentation', 'unet', 16),
            ('segmentation', 'upernet', 24),
            ('segmentation', 'deeplabv3+', 16),
            ('pixelwise', 'segformer', 16),
            ('change', 'changevit', 16),
            ('change', 'fcsiamdiff', 16),
        ],
    )
    def test_any_image_size(self, name: str, model: str, patch: int) -> None:
        """Padded for the decoder and cropped back; DPT and ChangeViT alone would fail."""
        task = build(name, model=model, bands='rgb', patch_size=patch).eval()
        dates = (2,) if name == 'change' else ()
        x = torch.randn(1, *dates, 3, 45, 70)
        before = x.clone()
        with torch.inference_mode():
            assert task(x).shape[-2:] == (45, 70)
        assert torch.equal(x, before)

    def test_kernels_of_other_patch_sizes_are_not_worn_away(self, tmp_path: Path) -> None:
        """Weight decay alone would change them: the checkpoint would serve one patch size only."""
        task = build('classification', bands='rgb', patch_size=8, lr=1e-2)
        kernels = task.model.patch_embed.kernels
        before = {size: kernel.weight.detach().clone() for size, kernel in kernels.items()}
        fit(task, loader(3, SIZE, SIZE, label=label), tmp_path)
        same = {size: torch.equal(before[size], kernels[size].weight) for size in kernels}
        assert same == {'16': False, '32': True, '64': True}

    def test_non_square_patch(self) -> None:
        task = build('segmentation', bands='rgb', patch_size=[8, 16]).eval()
        assert task.hparams['patch_size'] == [8, 16]
        assert task(torch.randn(1, 3, 40, 52)).shape == (1, CLASSES, 40, 52)
        with pytest.raises(ConfigError, match='square'):
            build('change', model='changevit', patch_size=[8, 16])

    @pytest.mark.parametrize('patch_size', [0, 129, [16, 16, 16]])
    def test_impossible_patch_size(self, patch_size: Any) -> None:
        with pytest.raises(SizeError, match='patch_size'):
            build('segmentation', patch_size=patch_size)

    @pytest.mark.parametrize('name', ['segmentation', 'pixelwise'])
    @pytest.mark.filterwarnings('error')
    def test_time_series(self, name: str) -> None:
        task = build(name, bands='rgb', in_channels=6).eval()
        x = torch.randn(1, 2, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert torch.equal(task(x), task(x.flatten(1, 2)))

    @pytest.mark.parametrize(
        'model', ['unet', 'dpt', 'fcsiamdiff', 'fcsiamconc', 'changevit', 'upernet']
    )
    @pytest.mark.filterwarnings('error')
    def test_change(self, model: str) -> None:
        task = build('change', model=model, bands='rgb').eval()
        stacked = model in ('unet', 'dpt', 'upernet')
        assert models(task)[0].patch_embed.in_chans == (6 if stacked else 3)
        x = torch.randn(1, 2, 3, SIZE, SIZE)
        with torch.inference_mode():
            assert task(x.flatten(1, 2) if stacked else x).shape[-2:] == (SIZE, SIZE)

    @pytest.mark.parametrize('model', ['fcn', 'btc', 'unett'])
    def test_no_backbone(self, model: str) -> None:
        with pytest.raises(ConfigError, match=f"model='{model}' takes no AOM backbone"):
            build('change', model=model)

    def test_one_output(self) -> None:
        with pytest.raises(ConfigError, match='one value a pixel'):
            build('pixelwise', num_outputs=2)

    def test_prefix(self) -> None:
        assert indices(build('segmentation', name=f'tu-{MODEL}.sentinel2_rgb')) == [3, 2, 1]
