"""Units and statistics: what is declared, what an image looks like, what does not go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torchgeo_aom.bands import Product
from torchgeo_aom.errors import ConfigError, UnitError, UnitWarning
from torchgeo_aom.transforms import Normalize

RGB = 'sentinel2:rgb'
INVERSE = {'product': Product('inverse', -0.01, 1.0, 'dn'), 'mean': 0.5, 'std': 0.2}
REFLECTANCE = {'unit': 'reflectance', 'statistics': 'sentinel2:l1c'}


def dn(*shape: int, dtype: torch.dtype = torch.uint16) -> Tensor:
    """Digital numbers of a plausible Sentinel-2 image."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(200, 4000, shape, generator=generator, dtype=torch.int32).to(dtype)


@pytest.mark.parametrize(
    ('bands', 'declared', 'image'),
    [
        (RGB, {'product': 'l1c'}, torch.rand(3, 8, 8)),
        (RGB, REFLECTANCE, dn(3, 8, 8)),
        (RGB, REFLECTANCE, dn(3, 8, 8, dtype=torch.float32)),
        (RGB, {'product': 'l1c'}, dn(3, 8, 8).int().clamp(max=255).to(torch.uint8)),
        (RGB, {'product': 'l2a'}, torch.randn(3, 8, 8)),
        ('rgb', {'unit': 'uint8'}, torch.rand(3, 8, 8)),
        ('rgb', {'unit': 'uint8'}, dn(3, 8, 8)),
        (RGB, REFLECTANCE, torch.full((3, 8, 8), 200, dtype=torch.uint8)),
        ('hls', {'product': 'v2'}, torch.full((6, 8, 8), -8888, dtype=torch.int16)),
        ('hls', {'unit': 'reflectance'}, torch.full((6, 8, 8), -9999.0)),
    ],
)
def test_wrong_unit(bands: str, declared: dict[str, Any], image: Tensor) -> None:
    normalize = Normalize(bands, **declared)
    with pytest.warns(UnitWarning, match=r'holds about .* the image holds .*') as record:
        out = normalize(image)
        normalize(image)
    assert len(record) == 1  # once for each transform, not once for each image
    assert str(image.dtype) in str(record[0].message)
    assert torch.isfinite(out).all()
    with pytest.raises(UnitError, match='do not look like'):
        Normalize(bands, **declared, strict=True)(image)


@pytest.mark.parametrize(
    ('bands', 'declared', 'image'),
    [
        (RGB, {'product': 'l1c'}, dn(3, 8, 8)),
        (RGB, {'product': 'l1c', 'nodata': None}, torch.zeros(3, 8, 8)),
        (RGB, {'product': 'l1c'}, torch.full((3, 8, 8), 1, dtype=torch.uint16)),
        (RGB, {'product': 'l1c'}, torch.full((3, 8, 8), 65535, dtype=torch.uint16)),
        (RGB, REFLECTANCE, torch.rand(3, 8, 8) * 1.8 - 0.1),
        ('rgb', {'unit': 'uint8'}, torch.zeros(3, 8, 8, dtype=torch.uint8)),
        ('rgb', {'unit': 'uint8'}, torch.rand(3, 8, 8) * 255),
        ('hls', {'product': 'v2'}, torch.full((6, 8, 8), -300, dtype=torch.int16)),
        ('landsat8', {'product': 'c2l2'}, dn(7, 8, 8)),
        # resized with a filter that overshoots
        ('rgb', {'unit': 'uint8'}, torch.tensor([-0.4, 100.0, 255.4])[:, None, None]),
        # values that fall where reflectance rises
        ('3', INVERSE, torch.linspace(0, 100, 16).reshape(1, 4, 4)),
    ],
)
def test_right_unit_is_quiet(bands: str, declared: dict[str, Any], image: Tensor) -> None:
    Normalize(bands, **declared, strict=True)(image)


def test_normalized_twice_is_noticed() -> None:
    normalize = Normalize(RGB, 'l1c')
    with pytest.warns(UnitWarning, match='normalized only once'):
        normalize(normalize(dn(3, 8, 8)))


@pytest.mark.parametrize(
    ('args', 'kwargs', 'words'),
    [
        ((RGB,), {}, 'either product='),
        ((RGB, 'l1c'), {'unit': 'reflectance'}, 'either product='),
        ((RGB,), {'unit': 'dn'}, 'l1c_2022'),
        ((RGB, 'l1d'), {}, "did you mean 'l1c'"),
        (('landsat8', 'sentinel2:l2a'), {}, "'landsat8:B1' is not"),
        (('landsat5', 'c2l2'), {}, 'landsat5:B1'),
        (([0.5, 0.6],), {'unit': 'reflectance'}, "statistics='sentinel2:l1c'"),
        ((RGB, 'l1c'), {'mean': [0.1, 0.2, 0.3]}, 'belong together'),
        ((RGB, 'l1c'), {'mean': [0.1, 0.2], 'std': [1, 1, 1]}, 'each of the 3 bands'),
        ((RGB, 'l1c'), {'mean': 0.0, 'std': float('nan')}, 'finite'),
        ((RGB, 'l1c'), {'mean': 0.0, 'std': -1.0}, 'negative'),
        ((RGB, 'l1c'), {'mean': 0.0, 'std': 1.0, 'statistics': 'sentinel2'}, 'not both'),
        ((RGB, 'l1c'), {'statistics': 'sentinel2:l1d'}, "did you mean 'sentinel2:l1c'"),
    ],
)
def test_bad_options(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as info:
        Normalize(*args, **kwargs)
    assert words in str(info.value)


def test_general_units_take_statistics_of_their_quantity_only() -> None:
    assert Normalize('sentinel2:l2a', unit='reflectance', strict=True).mean[0] == 0.03408
    assert Normalize('sentinel2', unit='reflectance', strict=True).mean[0] == 0.16129
    assert Normalize('hls', unit='reflectance', strict=True).mean[0] == 0.0495
    assert Normalize('naip', unit='uint8', strict=True).mean[0] == 0.3789
    # These bands are in both: in doubt, and never in silence.
    with pytest.warns(UnitWarning, match=r"'sentinel2:l1c' are used, .*'sentinel2:l2a' \(surf"):
        assert Normalize(RGB, unit='reflectance').mean == Normalize(RGB, 'l1c').mean
    with pytest.raises(UnitError, match=r"statistics='sentinel2:l2a' \(surface\)"):
        Normalize(RGB, unit='reflectance', strict=True)
    Normalize(RGB, unit='reflectance', statistics='sentinel2:l2a', strict=True)


@pytest.mark.parametrize(
    ('bands', 'unit', 'words'),
    [
        ('rgb', 'reflectance', "statistics='rgb:display' (display)"),
        ('naip', 'reflectance', "statistics='naip:display' (display)"),
        ('rgbn:red', 'reflectance', 'mean=[...]'),
        ('sentinel2:rgb', 'uint8', "statistics='sentinel2:l2a' (surface)"),
        ('landsat8', 'uint8', "statistics='landsat8:sr' (surface)"),
        (['sentinel2:B10', 'hls:red'], 'reflectance', 'no mean and std are known'),
    ],
)
def test_statistics_of_another_quantity_are_refused(
    bands: str | list[str], unit: str, words: str
) -> None:
    with pytest.raises(ConfigError) as info:
        Normalize(bands, unit=unit)
    assert words in str(info.value)
    assert Normalize(bands, unit=unit, mean=0.4, std=0.2).mean[0] == 0.4


def test_statistics_that_bands_bring_are_used() -> None:
    own = {'name': 'B04', 'sensor': 'sentinel2', 'mean': 0.3, 'std': 0.1}
    assert Normalize([own], unit='uint8').mean == (0.3,)
    assert Normalize([own, 'sentinel2:B03'], 'l2a').mean == (0.3, 0.06142)


@pytest.mark.parametrize('sensor', ['landsat8', 'landsat9'])
def test_landsat_level1_is_not_top_of_atmosphere_reflectance(sensor: str) -> None:
    with pytest.raises(ConfigError, match='toa_uncorrected'):
        Normalize(sensor, 'c2l1')
    corrected = Normalize(sensor, unit='reflectance', statistics=f'{sensor}:toa')
    assert corrected.mean[0] == 0.1149 and corrected.std[0] == 0.0289


def test_statistics_given_by_hand() -> None:
    bands = [0.5, 0.6]
    for mean in ([0.1, 0.2], (0.1, 0.2), torch.tensor([0.1, 0.2]), np.array([0.1, 0.2])):
        normalize = Normalize(bands, unit='reflectance', mean=mean, std=0.1)
        assert normalize.mean == pytest.approx((0.1, 0.2)) and normalize.std == (0.1, 0.1)
    stand_in = Normalize('landsat5', 'c2l2', statistics='sentinel2:l2a')
    assert stand_in.mean == (0.04299, 0.06142, 0.05902, 0.22189, 0.15944, 0.10093)
