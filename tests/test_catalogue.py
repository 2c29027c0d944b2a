"""The catalogue of sensors: products and statistics agree with the bands."""

from __future__ import annotations

import pytest

from torchgeo_aom.bands import (
    band_statistics,
    get_product,
    get_sensor,
    index_to_wavelength,
    list_sensors,
    resolve_bands,
    wavelength_to_index,
)
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.spectrum import SENTINEL2_BANDS


def test_catalogue_is_consistent() -> None:
    for name in list_sensors():
        sensor = get_sensor(name)
        assert sensor.title and sensor.default_group in sensor.groups
        for band in sensor.bands:
            assert band.sensor == name and band.wavelength_um is not None
            um = band.wavelength_um
            if um <= 2.5 and band.index.is_integer():
                # A counterpart is close to the band whose index it takes (MODIS B7: 60 nm).
                center = index_to_wavelength(band.index)
                assert center is not None and abs(um - center) < 0.061, band.label
            if not band.index.is_integer():
                assert band.index == pytest.approx(wavelength_to_index(um))
        for table in sensor.statistics.values():
            assert len(table.source) > 20
            assert table.quantity in ('toa', 'surface', 'display')
            assert all(-0.1 < m < 1 for m in table.mean.values())
            assert all(0 < s < 1 for s in table.std.values())


def test_products() -> None:
    assert get_product('sentinel2:l2a_2022').offset == -0.1
    assert get_product('l2a', 'sentinel2').scale == 1e-4
    landsat = get_product('landsat8:c2l2')
    assert (landsat.scale, landsat.offset) == (2.75e-5, -0.2)
    assert get_product('uint8').scale == 1 / 255
    assert get_product('reflectance', 'modis') == get_product('reflectance')
    with pytest.raises(ConfigError, match="did you mean 'l2a'"):
        get_product('sentinel2:l2aa')


def test_products_state_fill_and_quantity() -> None:
    found = {
        f'{sensor}:{name}': (product.quantity, product.nodata, product.nodata_in)
        for sensor in list_sensors()
        for name, product in get_sensor(sensor).products.items()
    }
    assert found['sentinel2:l1c'] == found['sentinel2:eurosat'] == ('toa', 0, 'all')
    assert found['sentinel2:l2a_2022'] == ('surface', 0, 'all')
    assert found['landsat5:c2l2'] == found['landsat9:c2l2'] == ('surface', 0, 'each')
    assert found['landsat8:c2l1'] == ('toa_uncorrected', 0, 'each')
    assert found['hls:v2'] == found['hls_l30:v2'] == ('surface', -9999, 'each')
    assert found['modis:mod09'] == ('surface', -28672, 'each')
    assert all(quantity and nodata is not None for quantity, nodata, _ in found.values())
    assert get_product('uint8').nodata is None and get_product('reflectance').nodata is None


def test_statistics_follow_the_bands() -> None:
    full = dict(zip(SENTINEL2_BANDS, band_statistics(resolve_bands('sentinel2'))[0], strict=True))
    names = ['B12', 'B02', 'B8A']
    mean, std = band_statistics(resolve_bands(names, 'sentinel2'))
    assert list(mean) == [full[n] for n in names] and len(std) == 3


def test_statistics_of_a_counterpart_only_on_request() -> None:
    bands = resolve_bands(['modis:B1', 'modis:B5', 0.705])
    with pytest.raises(ConfigError, match=r'modis:B1, modis:B5, 0\.705um'):
        band_statistics(bands)
    mean, _ = band_statistics(bands, 'sentinel2:l1c')
    s2 = {b.name: b.mean for b in resolve_bands('sentinel2')}
    assert mean[0] == s2['B04'] and mean[2] == s2['B05']
    assert s2['B11'] < mean[1] < s2['B8A']  # not the dark absorption bands beside 1.24 um
    with pytest.raises(ConfigError, match='landsat8:B10'):
        band_statistics(resolve_bands('landsat8:B10'), 'sentinel2:l1c')
    with pytest.raises(ConfigError, match='sentinel2:B10'):
        band_statistics(resolve_bands('sentinel2'), 'sentinel2:l2a')
