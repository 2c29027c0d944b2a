"""A user's own sensors, from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torchgeo_aom import catalogue
from torchgeo_aom.bands import get_product, list_presets, list_sensors, load_sensors, resolve_bands
from torchgeo_aom.errors import BandError


@pytest.fixture
def fresh_catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A catalogue of its own, so that sensors added by a test are gone afterwards."""
    monkeypatch.setattr(catalogue, '_catalogue', None)
    yield


MINE = """
[sensors.mycam]
title = "My camera"
aliases = ["cam1"]
bands = [
  { name = "one", wavelength_um = 0.705, common_name = "rededge071", aliases = ["C1"] },
  { name = "heat", wavelength_um = 9.5, index = 20, mean = 0.3, std = 0.1 },
]
groups = { vis = ["one"] }
[sensors.mycam.products.raw]
scale = 0.001
unit = "dn"
[presets]
cam = "mycam:vis"
"""


def indices(*args: object, **kwargs: object) -> list[float]:
    return [band.index for band in resolve_bands(*args, **kwargs)]  # type: ignore[arg-type]


@pytest.mark.usefixtures('fresh_catalogue')
def test_load_sensors(tmp_path: Path) -> None:
    path = tmp_path / 'mine.toml'
    path.write_text(MINE)
    assert load_sensors(path) == ('mycam',)
    assert load_sensors(str(path)) == ('mycam',)  # twice is fine
    assert indices('mycam') == [4.0, 20.0] and indices('cam') == [4.0]
    assert resolve_bands('C1', sensor='cam1')[0].label == 'mycam:one'
    assert get_product('mycam:raw').scale == 0.001
    assert 'mycam:vis' in list_presets() and 'cam' in list_presets()
    path.write_text(MINE.replace('0.705', '0.740'))
    with pytest.raises(BandError, match='already defined in'):
        load_sensors(path)
    assert indices('mycam') == [4.0, 20.0]


@pytest.mark.usefixtures('fresh_catalogue')
def test_sensors_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'mine.toml'
    path.write_text(MINE)
    monkeypatch.setenv('TORCHGEO_AOM_SENSORS', str(path))
    assert 'mycam' in list_sensors()


@pytest.mark.usefixtures('fresh_catalogue')
@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        (MINE, 'not = [toml', 'not a valid TOML'),
        (MINE, '', 'defines nothing'),
        ('title =', 'titel =', "sensors.mycam.titel: unknown key; did you mean 'title'"),
        ('[sensors.mycam]', '[sensors."My Cam"]', 'a-z, 0-9 and _'),
        ('sensors.mycam', 'sensors.landsat8', 'already defined'),
        ('aliases = ["cam1"]', 'aliases = ["s2"]', "already means 'sentinel2'"),
        ('wavelength_um = 0.705', 'wavelength_nm = 705', 'wavelength_nm'),
        ('wavelength_um = 0.705', 'wavelength_um = 705', 'bands[0]'),
        ('wavelength_um = 9.5, index = 20', 'wavelength_um = 9.5', 'bands[1]'),
        ('name = "heat"', 'name = "c1"', "'C1'"),
        ('["one"]', '["two"]', "groups.vis: no band 'two'"),
        ('["one"]', '["one", "one"]', 'only once'),
        ('vis =', 'one =', 'also a band name'),
        ('unit = "dn"', 'unit = "percent"', 'products.raw.unit'),
        ('scale = 0.001', 'scale = "1"', 'products.raw.scale'),
        ('scale = 0.001', 'quantity = "boa"', 'products.raw.quantity: must be one of toa'),
        ('scale = 0.001', 'nodata = "0"', 'products.raw.nodata'),
        ('scale = 0.001', 'nodata_in = "some"', 'products.raw.nodata_in'),
        ('scale = 0.001', 'scale = -1', 'positive'),
        ('"mycam:vis"', '"mycam:all2"', "there is no 'mycam:all2'"),
        ('cam = "mycam:vis"', 'eurosat = "mycam:vis"', 'already defined'),
    ],
)
def test_bad_sensor_file(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / 'mine.toml'
    text = MINE.replace(old, new)
    assert text != MINE
    path.write_text(text)
    before = list_sensors()
    with pytest.raises(BandError) as info:
        load_sensors(path)
    assert 'mine.toml' in str(info.value) and words in str(info.value)
    assert list_sensors() == before


def test_missing_sensor_file(tmp_path: Path) -> None:
    with pytest.raises(BandError, match='cannot be read'):
        load_sensors(tmp_path / 'absent.toml')
