"""torchgeo-bench: AOM in its command on real chips, and which bands its data sets have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from common import close, image

from torchgeo_aom.data.samples import SAMPLES
from torchgeo_aom.errors import BandError, ConfigError

pytest.importorskip(
    'torchgeo_bench',
    reason="needs torchgeo-bench: 'make test-torchgeo-bench', in an environment of its own",
)

from torchgeo_bench.datasets import get_bench_dataset_class
from torchgeo_bench.datasets.base import BandSpec
from torchgeo_bench.segmentation_probe import SegmentationProbe

from torchgeo_aom.clients.torchgeo_bench import AOMBench, read_band

LAYERS = [f'maps.{k}' for k in (3, 2, 1, 0)]


def specs(name: str) -> list[BandSpec]:
    return list(get_bench_dataset_class(name)().bands)


def indices(name: str) -> list[float | None]:
    return [band.index if band else None for band in map(read_band, specs(name))]


def test_bands_by_wavelength() -> None:
    assert indices('eurosat') == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8]
    assert indices('burn_scars') == [1, 2, 3, 8, 11, 12]
    assert indices('m-forestnet')[:3] == [1, 2, 3]


def test_wrong_names_of_geobench() -> None:
    """What m-eurosat calls B8A is B09; m-brick-kiln ends with a picture."""
    assert indices('m-eurosat') == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8]
    assert indices('m-brick-kiln') == [0, 1, 2, 3, 4, 6, 8, 7, 11, 12, None, None, None]


def test_features_are_those_of_the_model() -> None:
    bands = specs('eurosat')
    bench = AOMBench(bands=bands).eval()
    model = timm.create_model('aom_vitt', bands='eurosat', pretrained=True).eval()
    raw = 500 + 300 * image(13, 48, 48)
    mean, std = (torch.tensor([getattr(b, key) for b in bands]) for key in ('mean', 'std'))
    normalized = (raw - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        close(bench(raw), model(normalized), 1e-4)
    assert bench(raw).shape == (2, 192) and not bench(raw).requires_grad


def test_channels_that_are_not_optical() -> None:
    radar = BandSpec('s1', 'vv', 'VV', mean=0, std=1, min=-1, max=1)
    bands = [radar, *specs('burn_scars')]
    with pytest.raises(BandError, match='s1:vv.*other_bands=drop'):
        AOMBench(bands=bands, weights=None)
    bench = AOMBench(bands=bands, weights=None, other_bands='drop').eval()
    assert bench.channels == [1, 2, 3, 4, 5, 6]
    x = image(7, 32, 32)
    other = x.clone()
    other[:, 0] = 7
    close(bench(x), bench(other), 0)
    with pytest.raises(BandError, match='no channel is optical'):
        AOMBench(bands=[radar], other_bands='drop')
    with pytest.raises(ConfigError, match='other_bands'):
        AOMBench(bands=bands, other_bands='zero')


@pytest.mark.parametrize('head', ['linear', 'fpn', 'dpt'])
def test_segmentation_probe(head: str) -> None:
    bench = AOMBench(bands=specs('burn_scars'), weights=None)
    probe = SegmentationProbe(bench, LAYERS, num_classes=3, head_type=head, hidden_dim=16)
    assert probe.channels_list == [192] * 4 and probe.feature_hw_list == [(14, 14)] * 4
    output = probe(image(6, 64, 96))
    assert output.shape == (2, 3, 64, 96)
    output.mean().backward()
    assert all(parameter.grad is None for parameter in bench.parameters())


def test_command(root: Path, tmp_path: Path) -> None:
    """Its own command on 200 chips of EuroSAT that ship with AOM, in EuroSAT's folders."""
    data = tmp_path / 'data' / 'eurosat'
    tifs = data / 'ds/images/remote_sensing/otherDatasets/sentinel_2/tif'
    shutil.copytree(SAMPLES / 'eurosat200', tifs)
    names = [path.name for path in sorted(tifs.rglob('*.tif'))]
    assert len(names) == 200
    splits = {'train': names[::2], 'val': names[1::4], 'test': names[3::4]}
    for split, part in splits.items():
        lines = '\n'.join(name.replace('.tif', '.jpg') for name in part)
        (data / f'eurosat-{split}.txt').write_text(lines)
    done = subprocess.run(
        [
            # what the script torchgeo-bench calls
            *(sys.executable, '-m', 'torchgeo_bench.cli', 'run'),
            *('--config-dir', str(root / 'examples' / 'torchgeo_bench'), 'model=aom_vitt'),
            *('dataset.names=[eurosat]', 'dataset.bands=all', 'dataset.image_size=64'),
            *('dataset.num_workers=0', 'device=cpu', 'output=aom.csv'),
            *('eval.bootstrap=10', 'eval.c_range=[-2,1,3]'),
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    rows = pd.read_csv(tmp_path / 'aom.csv')
    found = rows[rows.metric_name == 'accuracy'].set_index('method')
    assert set(found.dataset) == {'eurosat'} and set(found.name) == {'aom_vitt'}
    # Ten classes, 50 chips: far from chance (0.1) with weights that ship.
    assert found.metric_value['linear'] > 0.4
    assert found.metric_value['knn5'] > 0.3
