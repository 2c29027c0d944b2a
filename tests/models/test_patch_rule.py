"""Patch size by rule."""

from __future__ import annotations

import pytest

from torchgeo_aom.errors import ConfigError, SizeError
from torchgeo_aom.models.patch_rule import choose_patch_size, explain_patch_size, is_auto


@pytest.mark.parametrize(
    ('size', 'expected'),
    # data sets of the paper: EuroSAT, BigEarthNet, UC Merced, m-pv4ger-seg, m-NeonTree,
    # m-nz-cattle, HLS Burn Scars, SPARCS
    [(64, 16), (120, 16), (256, 16), (320, 16), (400, 24), (500, 32), (512, 32), (1000, 64)],
)
def test_image_size(size: int, expected: int) -> None:
    assert choose_patch_size(size) == expected
    assert choose_patch_size((size, size)) == expected


def test_not_square() -> None:
    assert choose_patch_size((256, 1024)) == 32  # the root of the area is 512
    assert choose_patch_size([1024, 256]) == 32


def test_other_sizes_to_choose_from() -> None:
    assert choose_patch_size(128, pretrained=(8, 16)) == 8
    assert choose_patch_size(192, pretrained=(16, 8)) == 8  # 12: a tie


@pytest.mark.parametrize(
    ('gsd_m', 'size', 'expected'),
    [(10, None, 16), (30, None, 16), (5, None, 32), (0.1, None, 64), (0.1, 256, 32), (0.1, 64, 16),
     (4, 1024, 32), (10, 512, 16)],
)  # fmt: skip
def test_resolution(gsd_m: float, size: int | None, expected: int) -> None:
    assert choose_patch_size(size, gsd_m=gsd_m) == expected


def test_errors() -> None:
    with pytest.raises(ConfigError, match='give image_size'):
        choose_patch_size()
    with pytest.raises(ConfigError, match='gsd_m must be a positive'):
        choose_patch_size(256, gsd_m=0)
    with pytest.raises(ConfigError, match='ground_m must be a positive'):
        choose_patch_size(256, gsd_m=1, ground_m=float('nan'))
    with pytest.raises(ConfigError, match='pretrained is empty'):
        choose_patch_size(256, pretrained=())
    with pytest.raises(SizeError, match='image_size'):
        choose_patch_size(0)


def test_words() -> None:
    assert is_auto('auto') and not is_auto(16) and not is_auto(None)
    with pytest.raises(ConfigError, match="'automatic'"):
        is_auto('automatic')
    line = explain_patch_size(24, (400, 500))
    assert '24 px for images of 400 x 500 px' in line and '17 x 21 patches' in line
    assert '16 px kernel)' in line
    assert 'covers 160 m' in explain_patch_size(16, gsd_m=10)
    assert '16 px kernel, losing' in explain_patch_size(8, 128)
