"""Pixel values reach the encoder in one unit, standardized once, and never in silence."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchgeo_aom.bands import Product, resolve_bands
from torchgeo_aom.errors import BandError, ConfigError, InputError, UnitWarning
from torchgeo_aom.layers.collate import collate_bands
from torchgeo_aom.spectrum import SENTINEL2_BANDS
from torchgeo_aom.transforms import Normalize, NormalizeSample, check_image

RGB = 'sentinel2:rgb'


def dn(*shape: int, dtype: torch.dtype = torch.uint16) -> Tensor:
    """Digital numbers of a plausible Sentinel-2 image."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(200, 4000, shape, generator=generator, dtype=torch.int32).to(dtype)


def test_golden_values() -> None:
    x = torch.tensor([1000, 2000, 3000], dtype=torch.uint16).reshape(3, 1, 1)
    out = Normalize(RGB, 'l1c', mean=[0.1, 0.1, 0.1], std=[0.1, 0.2, 0.1])(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0.5, 2.0]))


def test_offset_of_2022_is_applied_once() -> None:
    old = Normalize(RGB, 'l2a')(dn(3, 8, 8))
    new = Normalize(RGB, 'l2a_2022')((dn(3, 8, 8).int() + 1000).to(torch.uint16))
    torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)
    landsat = Normalize('landsat8', 'c2l2', mean=0.0, std=1.0)
    x = torch.full((7, 1, 1), 10000, dtype=torch.uint16)
    torch.testing.assert_close(landsat(x), torch.full((7, 1, 1), 10000 * 2.75e-5 - 0.2))


def test_same_image_in_three_units() -> None:
    x = dn(3, 8, 8)
    expected = Normalize(RGB, 'l1c')(x)
    torch.testing.assert_close(
        Normalize(RGB, unit='reflectance', statistics='sentinel2:l1c')(x.float() * 1e-4),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )
    custom = Product('percent', 0.01, 0.0, 'dn', quantity='toa')
    torch.testing.assert_close(
        Normalize(RGB, custom)(x.float() * 1e-2), expected, rtol=1e-4, atol=1e-5
    )


def test_level_selects_statistics() -> None:
    assert Normalize('sentinel2:l2a', 'l2a').mean[0] == 0.03408
    assert Normalize('sentinel2:l2a', 'l1c').mean[0] == 0.16129
    assert Normalize('eurosat', 'eurosat').mean[-1] == 0.263033  # B8A is last
    assert Normalize('sentinel2:l2a', 'l1c', statistics='sentinel2:l2a').mean[0] == 0.03408


@given(st.permutations(SENTINEL2_BANDS), st.integers(1, 13))
@settings(deadline=None, max_examples=20)
def test_bands_and_channels_permute_together(names: list[str], count: int) -> None:
    names = names[:count]
    x = dn(13, 4, 4)
    full = Normalize('sentinel2', 'l1c')(x)
    order = [SENTINEL2_BANDS.index(name) for name in names]
    part = Normalize(names, 'l1c', sensor='sentinel2')
    torch.testing.assert_close(
        part(torch.stack([x[k] for k in order])), full[order], rtol=0, atol=0
    )
    assert len(part.mean) == len(part.std) == count


@pytest.mark.parametrize(
    'dtype',
    [torch.uint16, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64],
)
def test_types_give_the_same_values(dtype: torch.dtype) -> None:
    x = dn(3, 8, 8)
    out = Normalize(RGB, 'l1c')(x.to(dtype))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, Normalize(RGB, 'l1c')(x), rtol=0, atol=0)


def test_uint16_uint8_and_float16_are_exact() -> None:
    identity = {'mean': 0.0, 'std': 1.0}
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).reshape(1, 256, 256)
    plain = Normalize('sentinel2:B04', Product('raw', 1.0, 0.0, 'dn', dtype='uint16'), **identity)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UnitWarning)
        assert torch.equal(plain(every).flatten(), torch.arange(65536, dtype=torch.float32))
    byte = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    raw = Normalize('rgb:red', Product('raw', 1.0, 0.0, 'uint8'), **identity)
    assert torch.equal(raw(byte).flatten(), torch.arange(256, dtype=torch.float32))
    half = torch.rand(1, 8, 8).half()
    reflectance = Normalize('sentinel2:B04', unit='reflectance', **identity)
    assert torch.equal(reflectance(half), half.float())


@pytest.mark.parametrize('fill', [False, True])
@pytest.mark.parametrize('dtype', [torch.uint16, torch.float32])
def test_caller_keeps_the_image(dtype: torch.dtype, fill: bool) -> None:
    x = dn(2, 3, 8, 8, dtype=dtype)
    before = x.clone()
    Normalize(RGB, 'l1c', nodata=300, nodata_fill=True)(x)
    out = Normalize(RGB, 'l1c', nodata_fill=fill)(x)
    out.zero_()
    assert torch.equal(x, before)


def test_memory_layouts_and_numpy() -> None:
    normalize = Normalize(RGB, 'l1c')
    x = dn(2, 3, 8, 6, dtype=torch.int32)
    expected = normalize(x)
    assert torch.equal(normalize(x.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(normalize(x.transpose(2, 3)).transpose(2, 3), expected)
    assert torch.equal(normalize(x[0]), expected[0])
    assert torch.equal(normalize(x[:, None])[:, 0], expected)
    array = x.numpy().astype(np.uint16)
    array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert torch.equal(normalize(array), expected)
        assert torch.equal(normalize(array[:, :, ::-1]).flip(2), expected)
        assert torch.equal(normalize(array.astype('>u2')), expected)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_nan_is_an_error_unless_filled(bad: float) -> None:
    x = dn(2, 3, 8, 8, dtype=torch.float32)
    x[1, 2, 3, 4] = bad
    with pytest.raises(InputError, match=r"1 of 384 .*'sentinel2:B02'.*nodata_fill=True"):
        Normalize(RGB, 'l1c')(x)
    out = Normalize(RGB, 'l1c', nodata_fill=True)(x)
    assert torch.isfinite(out).all() and out[1, 2, 3, 4] == 0
    good = x.nan_to_num(500, 500, 500)
    torch.testing.assert_close(out[0], Normalize(RGB, 'l1c')(good)[0])


def test_nodata_value() -> None:
    x = dn(6, 8, 8, dtype=torch.int16)
    x[:, 0] = -777
    with pytest.raises(InputError, match='48 of 384 .* nodata=-777,.*nodata_fill=True'):
        Normalize('hls', 'v2', nodata=-777)(x)
    out = Normalize('hls', 'v2', nodata=-777, nodata_fill=True)(x)
    assert (out[:, 0] == 0).all() and (out[:, 1:] != 0).all()
    with pytest.raises(ConfigError, match="'product', got 'zero'"):
        Normalize('hls', 'v2', nodata='zero')


@pytest.mark.parametrize(
    ('bands', 'product', 'value', 'words'),
    [
        ('landsat8', 'c2l2', 0, 'nodata=0,'),
        ('hls', 'v2', -9999, 'nodata=-9999,'),
        ('hls_s30:rgb', 'v2', -9999, 'nodata=-9999,'),
        ('modis', 'mod09', -28672, 'nodata=-28672,'),
        ('sentinel2', 'l1c', 0, 'nodata=0 in all bands'),
        ('sentinel2', 'l1c_2022', 0, 'nodata=0 in all bands'),
        ('sentinel2:l2a', 'l2a', 0, 'nodata=0 in all bands'),
        ('sentinel2:rgb', 'sentinel2:l2a_2022', 0, 'nodata=0 in all bands'),
        ('eurosat', 'eurosat', 0, 'nodata=0 in all bands'),
    ],
)
def test_fill_value_of_the_product_is_no_data(
    bands: str, product: str, value: int, words: str
) -> None:
    options = {'mean': 0.1, 'std': 0.1}
    channels = len(resolve_bands(bands))
    whole = torch.full((channels, 4, 4), value, dtype=torch.int32)
    count = f'{whole.numel()} of {whole.numel()} values are NaN, infinite or {words}'
    with pytest.raises(InputError, match=f'{count}.*nodata_fill=True.*nodata=None'):
        Normalize(bands, product, **options)(whole)
    part = dn(2, channels, 4, 4, dtype=torch.int32)
    part[1, :, 0] = value
    with pytest.raises(InputError, match=f'{channels * 4} of {part.numel()} values'):
        Normalize(bands, product, **options)(part)
    out = Normalize(bands, product, **options, nodata_fill=True, strict=True)(part)
    assert (out[1, :, 0] == 0).all()
    plain = Normalize(bands, product, **options, nodata=None)
    assert torch.equal(out[0], plain(part[0]))
    assert torch.equal(out[1, :, 1:], plain(part[1, :, 1:]))


def test_a_band_of_sentinel2_may_measure_zero() -> None:
    x = dn(2, 2, 13, 4, 4)  # samples and dates
    x[:, :, 10] = 0  # cirrus
    x[0, 0, 0, 1] = 0
    normalize = Normalize('sentinel2', 'l1c')
    assert torch.equal(normalize(x), Normalize('sentinel2', 'l1c', nodata=None)(x))
    assert not torch.isnan(normalize.channel_index(x[:, 0])).any()
    with pytest.raises(InputError, match="'sentinel2:B10'"):
        Normalize('sentinel2', 'l1c', nodata=0)(x)
    landsat = dn(7, 4, 4)
    landsat[3, 0, 0] = 0  # never measured
    with pytest.raises(InputError, match=r"1 of 112 .*'landsat8:B4'"):
        Normalize('landsat8', 'c2l2')(landsat)


def test_display_values_have_no_fill() -> None:
    out = Normalize('rgb', unit='uint8')(torch.zeros(3, 4, 4, dtype=torch.uint8))
    assert (out < 0).all()


def test_band_without_any_pixel_is_missing() -> None:
    x = dn(2, 6, 8, 8, dtype=torch.int16)
    x[0, 3] = -9999
    normalize = Normalize('hls', 'v2', nodata=-9999, nodata_fill=True)
    assert torch.isfinite(normalize(x)).all()
    index = normalize.channel_index(x)
    assert torch.isnan(index).nonzero().tolist() == [[0, 3]]
    assert index[1].tolist() == [1, 2, 3, 8, 11, 12]
    assert normalize.channel_index(x[1]).shape == (6,)


def test_zero_and_constant_bands_stay_finite() -> None:
    normalize = Normalize(RGB, 'l1c', mean=[0.1, 0.0, 0.2], std=[0.0, 0.0, 0.1], nodata=None)
    out = normalize(torch.zeros(3, 8, 8, dtype=torch.uint16))
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([-0.1, 0.0, -2.0]))


@pytest.mark.parametrize(
    ('image', 'error', 'words'),
    [
        (torch.zeros(4, 8, 8), BandError, '4 channels but 3 bands'),
        (torch.zeros(8, 8), InputError, r'got shape \(8, 8\)'),
        (torch.zeros(0, 3, 8, 8), InputError, 'not empty'),
        (torch.zeros(3, 8, 0), InputError, 'not empty'),
        (torch.zeros(3, 8, 8, dtype=torch.bool), InputError, 'torch.bool'),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), InputError, 'complex64'),
        ([[[1.0]]], InputError, 'must be a tensor of numbers.* got list'),
    ],
)
def test_bad_image(image: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Normalize(RGB, 'l1c')(image)


def test_transform_is_a_plain_module() -> None:
    normalize = Normalize(RGB, 'l1c')
    assert list(normalize.parameters()) == [] and normalize.state_dict() == {}
    x = dn(3, 8, 8)
    for twin in (copy.deepcopy(normalize), pickle.loads(pickle.dumps(normalize))):
        assert torch.equal(twin(x), normalize(x))
    assert 'sentinel2:B04' in repr(normalize) and "'l1c'" in repr(normalize)
    assert normalize.bands == resolve_bands(RGB)


def test_sample() -> None:
    image, mask = dn(3, 8, 8), torch.ones(8, 8)
    sample = {'image': image, 'mask': mask, 'crs': 'EPSG:32632'}
    normalize = Normalize(RGB, 'l1c')
    for out in (normalize(sample), NormalizeSample(normalize)(sample)):
        assert torch.equal(out['image'], normalize(image)) and out is not sample
        assert out['mask'] is mask and out['crs'] == 'EPSG:32632'
    assert sample['image'] is image and image.dtype == torch.uint16
    pair = NormalizeSample(normalize, keys=('image1', 'image2'))({'image1': image, 'image2': image})
    assert torch.equal(pair['image2'], normalize(image))
    with pytest.raises(InputError, match="no 'image'; it has mask"):
        NormalizeSample(normalize)({'mask': mask})
    with pytest.raises(InputError, match="no 'image'; it has mask"):
        normalize({'mask': mask})
    with pytest.raises(InputError, match='got str'):
        normalize({'image': 'a.tif'})
    with pytest.raises(InputError, match='must be a dict, got Tensor'):
        NormalizeSample(normalize)(image)
    batch = normalize({'image': dn(2, 3, 8, 8), 'label': torch.tensor([1, 2])})
    assert batch['image'].shape == (2, 3, 8, 8) and batch['label'].tolist() == [1, 2]


def test_collate_keeps_floats_and_refuses_integers() -> None:
    bands = ['sentinel2:rgb', 'sentinel2:B08']
    half, full = torch.rand(3, 4, 4).half(), torch.rand(1, 4, 4)
    x, index = collate_bands([half, full], bands)
    assert x.dtype == torch.float32 and torch.equal(x[0], half.float())
    assert torch.equal(x[1, :1], full) and torch.isnan(index[1, 1:]).all()
    swapped, _ = collate_bands([full, half], bands[::-1])
    assert swapped.dtype == torch.float32 and torch.equal(swapped[0, :1], full)
    assert collate_bands([half], bands[:1])[0].dtype == torch.float16
    for wrong in (dn(1, 4, 4), full.int(), full > 0):
        with pytest.raises(InputError, match=r'Image 1 is of type torch\.'):
            collate_bands([half, wrong], bands)
    with pytest.raises(InputError, match='Image 0 is of type list'):
        collate_bands([[[[0.5]]]], bands[1:])  # type: ignore[list-item]


def test_check_image() -> None:
    check_image(torch.rand(2, 3, 8, 8), 3)
    check_image(torch.rand(2, 3, 8, 8).to(torch.bfloat16))
    for dtype in (torch.uint8, torch.uint16, torch.int16, torch.int64, torch.bool):
        with pytest.raises(InputError, match='AOM expects normalized floats'):
            check_image(torch.zeros(1, 3, 8, 8, dtype=dtype))
    with pytest.raises(BandError, match='3 channels but 4 bands'):
        check_image(torch.rand(2, 3, 8, 8), 4)
    for shape in ((3, 8, 8), (0, 3, 8, 8), (2, 0, 8, 8), (2, 3, 0, 8), (1, 2, 3, 8, 8)):
        with pytest.raises(InputError, match='got shape'):
            check_image(torch.zeros(shape))
    for bad in (float('nan'), float('inf')):
        x = torch.rand(1, 3, 8, 8)
        x[0, 1, 2, 3] = bad
        with pytest.raises(InputError, match='1 of 192 values'):
            check_image(x)
    with pytest.raises(InputError, match='ndarray'):
        check_image(np.zeros((1, 3, 8, 8)))


@pytest.mark.parametrize(
    'product, stored',
    [('l2a', dn(3, 16, 16)), ('uint8', (dn(3, 16, 16).int() // 16).to(torch.uint8))],
)
def test_stored_numbers_for_an_image(product: str, stored: torch.Tensor) -> None:
    normalize = Normalize('sentinel2:rgb', product, mean=0.2, std=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_image(normalize(stored)[None])
    with pytest.warns(UnitWarning, match='look like stored numbers'):
        check_image(stored.float()[None])
