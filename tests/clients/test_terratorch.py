"""TerraTorch: AOM from its registry, under its decoders, and a UPerNet through its own command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from common import close, image, perturb

from torchgeo_aom.errors import BandError, CheckpointError, ConfigError

terratorch = pytest.importorskip(
    'terratorch', reason="needs TerraTorch: 'make test-terratorch', in an environment of its own"
)

from terratorch.datasets import HLSBands  # noqa: E402 -- after the skip
from terratorch.models import EncoderDecoderFactory  # noqa: E402 -- after the skip
from terratorch.registry import BACKBONE_REGISTRY  # noqa: E402 -- after the skip

import torchgeo_aom.clients.terratorch as client  # noqa: E402 -- after the skip

SIX = ['BLUE', 'GREEN', 'RED', 'NIR_NARROW', 'SWIR_1', 'SWIR_2']


def test_registry() -> None:
    for name in ('aom_vitt', 'aom_vits', 'aom_vitb', 'aom_vitl'):
        assert name in BACKBONE_REGISTRY and f'terratorch_{name}' in list(BACKBONE_REGISTRY)
    with torch.device('meta'):
        for name, width in (('aom_vits', 384), ('aom_vitb', 768), ('aom_vitl', 1024)):
            assert BACKBONE_REGISTRY.build(name).out_channels == [width] * 4


def test_bands_by_names_of_terratorch() -> None:
    backbone = BACKBONE_REGISTRY.build('aom_vitt', bands=[*map(HLSBands, SIX[:3]), *SIX[3:]])
    bands = backbone.encoder.bands
    assert [band.index for band in bands] == [1, 2, 3, 8, 11, 12]
    assert [band.common_name for band in bands[3:]] == ['nir08', 'swir16', 'swir22']
    every = client.read_bands(list(HLSBands))
    assert len(every) == 15 and all(name.islower() for name in every)
    own = BACKBONE_REGISTRY.build('aom_vitt', bands='landsat8:rgb', patch_size=8)
    assert [band.label for band in own.encoder.bands] == [
        'landsat8:B4',
        'landsat8:B3',
        'landsat8:B2',
    ]
    with pytest.raises(BandError, match='VV'):
        BACKBONE_REGISTRY.build('aom_vitt', bands=['BLUE', 'VV'])


def test_maps_and_weights() -> None:
    """The maps of AOM's own encoder, with the weights that ship."""
    backbone = BACKBONE_REGISTRY.build('aom_vitt', bands=SIX, pretrained=True).eval()
    model = timm.create_model('aom_vitt', bands=client.read_bands(SIX), pretrained=True).eval()
    x = image(6, 70, 40)
    with torch.inference_mode():
        maps = backbone(x)
        close(backbone.encoder.forward_features(x), model.forward_features(x), 0)
    assert [tuple(level.shape[2:]) for level in maps] == [(18, 10), (9, 5), (5, 3), (3, 2)]
    assert [level.shape[1] for level in maps] == backbone.out_channels
    named = BACKBONE_REGISTRY.build('aom_vitt', weights='AOMTiny_Weights.OPTICAL')
    assert len(named.encoder.bands) == 12  # those of the weights
    with pytest.raises(CheckpointError, match='aom_vits'):
        BACKBONE_REGISTRY.build('aom_vits', pretrained=True)
    with pytest.raises(ConfigError, match='one of the two'):
        client.aom_vitt(pretrained=True, weights='AOMTiny_Weights.OPTICAL')


@pytest.mark.parametrize(
    ('decoder', 'options'),
    [('UperNetDecoder', {'channels': 16}), ('UNetDecoder', {'channels': [32, 16, 8, 8]})],
)
def test_decoders(decoder: str, options: dict[str, Any]) -> None:
    model = EncoderDecoderFactory().build_model(
        task='segmentation',
        backbone='aom_vitt',
        backbone_kwargs={'bands': SIX},
        decoder=decoder,
        decoder_kwargs=options,
        num_classes=3,
    )
    perturb(model).train()
    for height, width in ((64, 96), (50, 70)):
        output = model(image(6, height, width)).output
        assert output.shape == (2, 3, height, width)
    output.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_timm_of_terratorch() -> None:
    """TerraTorch takes timm's models too, with maps that all have the stride of the patch."""
    backbone = BACKBONE_REGISTRY.build('timm_aom_vitt', bands='sentinel2:10m')
    assert [level.shape[1:] for level in backbone(image(4, 32, 48))] == [(192, 2, 3)] * 4


def test_command(root: Path, tmp_path: Path) -> None:
    """Training and test of the example by TerraTorch's own command, on images that ship."""
    config = root / 'examples' / 'terratorch' / 'upernet.yaml'
    for verb in ('fit', 'test'):
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'terratorch', verb, '--config', str(config)),
                *('--trainer.default_root_dir', str(tmp_path), '--trainer.max_epochs', '1'),
            ],
            cwd=root,
            env={**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'test/mIoU' in done.stdout
