"""Mistakes that raise nothing anywhere else: band order, band names and units, as golden tables."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torchgeo.datamodules.eurosat import MEAN, STD
from torchgeo.datasets import (
    NAIP,
    SSL4EOL,
    SSL4EOS12,
    EuroSAT,
    Landsat5TM,
    Landsat7,
    Landsat8,
    Landsat9,
    SeasonalContrastS2,
    Sentinel2,
    So2Sat,
)

from torchgeo_aom.bands import get_sensor, resolve_bands
from torchgeo_aom.errors import BandError, UnitWarning
from torchgeo_aom.transforms import Normalize

# TorchGeo 0.8 has the thermal band among the default ones of TM, 0.10 has not.
TM = [1, 2, 3, 7, 11, 13, 12] if 'SR_B6' in Landsat5TM.default_bands else [1, 2, 3, 7, 11, 12]
S2 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]

# Data set, its band names in file order, their sensor, the channel indices they must get.
GOLDEN: list[tuple[str, Sequence[str], str, list[float]]] = [
    ('EuroSAT', EuroSAT.all_band_names, 'sentinel2', [*S2[:8], 9, 10, 11, 12, 8]),
    ('EuroSAT rgb', EuroSAT.BAND_SETS['rgb'], 'sentinel2', [3, 2, 1]),
    ('Sentinel2', Sentinel2.all_bands, 'sentinel2', S2),
    ('SSL4EOS12 L1C', SSL4EOS12.metadata['s2c']['bands'], 'sentinel2', S2),
    ('SSL4EOS12 L2A', SSL4EOS12.metadata['s2a']['bands'], 'sentinel2', [*S2[:10], 11, 12]),
    ('SeasonalContrastS2', SeasonalContrastS2.all_bands, 'sentinel2', [*S2[:10], 11, 12]),
    ('So2Sat', So2Sat.all_band_names[8:], 'sentinel2', [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]),
    ('Landsat8', Landsat8.default_bands, 'landsat8', [0, 1, 2, 3, 8, 11, 12]),
    ('Landsat9', Landsat9.default_bands, 'landsat9', [0, 1, 2, 3, 8, 11, 12]),
    ('Landsat7', Landsat7.default_bands, 'landsat7', [1, 2, 3, 7, 11, 12]),
    ('Landsat5TM', Landsat5TM.default_bands, 'landsat5', TM),
    ('NAIP', NAIP.all_bands, 'naip', [3, 2, 1, 7]),
    ('SSL4EOL', SSL4EOL.metadata['oli_sr']['all_bands'], 'landsat8', [0, 1, 2, 3, 8, 11, 12]),
    ('SSL4EOL tm', SSL4EOL.metadata['tm_toa']['all_bands'], 'landsat5', [1, 2, 3, 7, 11, 13, 12]),
]
IDS = [row[0] for row in GOLDEN]


@pytest.mark.parametrize(('names', 'sensor', 'indices'), [g[1:] for g in GOLDEN], ids=IDS)
def test_band_order_of_torchgeo_datasets(
    names: Sequence[str], sensor: str, indices: list[float]
) -> None:
    assert [b.index for b in resolve_bands(names, sensor=sensor)] == indices


@pytest.mark.parametrize('names', [g[1] for g in GOLDEN], ids=IDS)
def test_names_alone_never_choose_a_sensor(names: Sequence[str]) -> None:
    with pytest.raises(BandError, match='belongs to a sensor and none was named'):
        resolve_bands(names)


def test_radar_bands_are_not_optical() -> None:
    for name in ('VV', 'VH', 'S1_B1'):
        with pytest.raises(BandError, match='unknown band'):
            resolve_bands([name], sensor='sentinel2')


def test_eurosat_preset_is_the_file_order() -> None:
    assert tuple(b.name for b in resolve_bands('eurosat')) == EuroSAT.all_band_names
    assert resolve_bands('eurosat') != resolve_bands('sentinel2')


def test_eurosat_statistics_belong_to_the_right_bands() -> None:
    """Swapping B8A and B09 would be off by a factor of three, B10 and B11 by a hundred."""
    normalize = Normalize('eurosat', 'eurosat')
    for name, mean, std in zip(EuroSAT.all_band_names, normalize.mean, normalize.std, strict=True):
        assert mean * 1e4 == pytest.approx(MEAN[name], rel=0.05)
        assert std * 1e4 == pytest.approx(STD[name], rel=0.1)


@pytest.mark.parametrize(
    ('sensor', 'dataset'),
    [
        ('landsat5', Landsat5TM),
        ('landsat7', Landsat7),
        ('landsat8', Landsat8),
        ('landsat9', Landsat9),
    ],
)
def test_landsat_wavelengths_are_torchgeos(sensor: str, dataset: type[Landsat8]) -> None:
    for band in get_sensor(sensor).bands:
        if band.name in dataset.wavelengths:
            assert band.wavelength_um == pytest.approx(dataset.wavelengths[band.name])


def test_sentinel2_wavelengths_are_torchgeos() -> None:
    """Nominal centers here, those of Sentinel-2A in TorchGeo: up to 13 nm apart."""
    for band in get_sensor('sentinel2').bands:
        assert band.wavelength_um == pytest.approx(Sentinel2.wavelengths[band.name], abs=0.013)


def test_wrong_band_order_changes_the_result() -> None:
    x = torch.randint(200, 4000, (13, 8, 8), dtype=torch.int32)
    file_order = Normalize('eurosat', 'l1c')(x)
    assert not torch.allclose(file_order, Normalize('sentinel2', 'l1c')(x))


def test_micrometers_and_nanometers_are_the_same_band() -> None:
    um = [0.443, 0.49, 0.56, 0.665, 0.842, 1.61, 2.19]
    nm = [443, 490, 560, 665, 842, 1610, 2190]
    assert [b.index for b in resolve_bands(um)] == [b.index for b in resolve_bands(nm)]
    with pytest.raises(BandError):
        resolve_bands([value / 1000 for value in um])
    with pytest.raises(BandError):
        resolve_bands([value * 1000 for value in nm])


def test_digital_numbers_through_a_reflectance_transform_are_noticed() -> None:
    x = torch.randint(200, 4000, (13, 8, 8), dtype=torch.int32)
    with pytest.warns(UnitWarning, match='reflectance'):
        Normalize('sentinel2', unit='reflectance')(x)
    with pytest.warns(UnitWarning, match='l1c'):
        Normalize('sentinel2', 'l1c')(x * 1e-4)
