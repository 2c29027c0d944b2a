"""The teacher: what it sees, which bands, that it stays frozen, and wrong input."""

from pathlib import Path

import pytest
import timm
import torch
from torch.nn import functional as F

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.models.teacher import CONTRAST, GRAY, Teacher, rgb_channels

NAME = 'tf_efficientnet_lite0'


@pytest.fixture(scope='module')
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.manual_seed(0)
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ('bands', 'channels'),
    [
        ('sentinel2', (3, 2, 1)),
        ('landsat8', (3, 2, 1)),
        ('naip', (0, 1, 2)),
        (['blue', 'nir08', 'red', 'green'], (2, 3, 0)),
        (['sentinel2:B08', 'sentinel2:B03', 'sentinel2:B02'], None),
        (['nir08'], None),
    ],
)
def test_rgb_channels(bands: str | list[str], channels: tuple[int, int, int] | None) -> None:
    assert rgb_channels(resolve_bands(bands)) == channels


def test_features_are_those_of_timm(file: Path) -> None:
    teacher = Teacher(NAME, file, size=64)
    net = timm.create_model(NAME).eval()
    net.load_state_dict(torch.load(file, weights_only=True))
    image = torch.randn(2, 3, 64, 64).clamp(-2, 2)
    picture = (image * CONTRAST + GRAY - 0.5) / 0.5
    with torch.no_grad():
        _, maps = net.forward_intermediates(picture, indices=[3, 4])
    places, feature = teacher(image)
    assert teacher.widths == (places.shape[1], feature.shape[1]) == (112 + 192, 112 + 192 + 320)
    assert places.shape[2:] == (4, 4)
    torch.testing.assert_close(places[:, :112], maps[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(feature[:, -320:], maps[1].mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_other_sizes_are_resized(file: Path) -> None:
    teacher = Teacher(NAME, file, size=64)
    image = torch.randn(1, 3, 100, 80)
    small = F.interpolate(image, (64, 64), mode='bilinear', antialias=True)
    torch.testing.assert_close(teacher(image)[1], teacher(small)[1])


def test_frozen(file: Path) -> None:
    teacher = Teacher(NAME, file, size=64).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    teacher(torch.randn(2, 3, 64, 64))
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_wrong_input(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'tf_efficientnet_lite9'"):
        Teacher('tf_efficientnet_lite9', file)
    with pytest.raises(CheckpointError, match='is no file'):
        Teacher(NAME, tmp_path / 'no.pth')
    with pytest.raises(CheckpointError, match='could not be loaded'):
        Teacher('tf_efficientnet_lite1', file)
    with pytest.raises(ConfigError, match='stages must be'):
        Teacher(NAME, file, stages=(4,))
    torch.save(timm.create_model('resnet18').state_dict(), tmp_path / 'resnet18.pth')
    with pytest.raises(ConfigError, match='no EfficientNet'):
        Teacher('resnet18', tmp_path / 'resnet18.pth')
