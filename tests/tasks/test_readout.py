"""Features of an image from the maps of a frozen encoder."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch.utils.data import Dataset

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.tasks.features import extract_features
from torchgeo_aom.tasks.probe_run import ProbeConfig
from torchgeo_aom.tasks.readout import read_out


@pytest.fixture(scope='module')
def model() -> AOM:
    torch.manual_seed(0)
    return timm.create_model('aom_vitt', bands='rgb', embed_dim=48, depth=4, num_heads=3).eval()


@pytest.fixture(scope='module')
def image() -> torch.Tensor:
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_mean_is_the_feature_of_the_model(model: AOM, image: torch.Tensor) -> None:
    assert torch.equal(read_out(model, image, patch_size=8), model(image, patch_size=8))


@torch.inference_mode()
def test_pyramid(model: AOM, image: torch.Tensor) -> None:
    found = read_out(model, image, patch_size=8, readout='pyramid')
    assert found.shape == (2, 12 * 48)
    maps = model.forward_intermediates(image, patch_size=8, intermediates_only=True)
    want = [f(m.numpy(), axis=(2, 3)) for m in maps for f in (np.mean, np.std, np.max)]
    np.testing.assert_allclose(found.numpy(), np.concatenate(want, axis=1), atol=1e-5)


@torch.inference_mode()
def test_one_place(model: AOM, image: torch.Tensor) -> None:
    one = read_out(model, image[:, :, :16, :16], patch_size=16, readout='pyramid')
    mean, spread, largest = one[:, :48], one[:, 48:96], one[:, 96:144]
    assert torch.equal(mean, largest) and not spread.any()


def test_missing_bands_do_not_matter(model: AOM, image: torch.Tensor) -> None:
    """A channel that a sample lacks does not show, whatever its pixels are."""
    index = torch.tensor([[2.0, 3.0, 4.0], [2.0, float('nan'), 4.0]])
    other = image.clone()
    other[1, 1] = 7
    with torch.inference_mode():
        pair = [read_out(model, x, index, 16, 'pyramid') for x in (image, other)]
    torch.testing.assert_close(pair[0], pair[1])


class Images(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {'image': self.image[index], 'label': torch.tensor(index)}


def test_kept_by_readout(model: AOM, image: torch.Tensor, tmp_path: Path) -> None:
    options = {'patch_size': 8, 'cache_dir': str(tmp_path)}
    plain = extract_features(model, Images(image), **options)
    rich = extract_features(model, Images(image), readout='pyramid', **options)
    again = extract_features(model, Images(image), readout='pyramid', **options)
    assert plain.values.shape == (2, 48) and rich.values.shape == (2, 576)
    assert again.cached and not rich.cached and plain.key != rich.key


def test_half_the_digits(model: AOM, image: torch.Tensor, tmp_path: Path) -> None:
    options = {'patch_size': 8, 'cache_dir': str(tmp_path)}
    whole = extract_features(model, Images(image), **options)
    half = extract_features(model, Images(image), precision='bfloat16', **options)
    assert half.values.dtype == np.float32 and half.key != whole.key
    np.testing.assert_allclose(half.values, whole.values, atol=0.1)
    assert (half.values != whole.values).any()


def test_refused(model: AOM, image: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="mean, pyramid, got 'pyramids'"):
        read_out(model, image, readout='pyramids')
    with pytest.raises(ConfigError, match='readout'):
        ProbeConfig(readout='cls')
    with pytest.raises(ConfigError, match="float32, bfloat16, got 'float16'"):
        ProbeConfig(precision='float16')
