"""Band names, numbers and files become channel indices, or a BandError that says what to do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgeo_aom.bands import (
    Band,
    band_rows,
    describe_bands,
    get_sensor,
    list_presets,
    list_sensors,
    plain_band,
    resolve_bands,
    wavelength_to_index,
)
from torchgeo_aom.errors import BandError
from torchgeo_aom.spectrum import COMMON_NAMES, SENTINEL2_BANDS

INDICES = {
    'sentinel2': list(range(13)),
    'sentinel2:l2a': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12],
    'sentinel2:10m': [1, 2, 3, 7],
    'sentinel2:rgb': [3, 2, 1],
    'sentinel2:rgbn': [3, 2, 1, 7],
    'sentinel2:eurosat': [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8],
    'eurosat': [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8],
    'landsat8': [0, 1, 2, 3, 8, 11, 12],
    'landsat9': [0, 1, 2, 3, 8, 11, 12],
    'landsat5': [1, 2, 3, 7, 11, 12],
    'landsat7': [1, 2, 3, 7, 11, 12],
    'landsat5:all': [1, 2, 3, 7, 11, 13, 12],
    'hls': [1, 2, 3, 8, 11, 12],
    'hls:common7': [0, 1, 2, 3, 8, 11, 12],
    'hls_s30': list(range(13)),
    'hls_s30:common6': [1, 2, 3, 8, 11, 12],
    'hls_l30': [0, 1, 2, 3, 8, 11, 12],
    'hls_l30:common6': [1, 2, 3, 8, 11, 12],
    'naip': [3, 2, 1, 7],
    'rgb': [3, 2, 1],
    'rgbn': [3, 2, 1, 7],
}


def indices(*args: object, **kwargs: object) -> list[float]:
    return [band.index for band in resolve_bands(*args, **kwargs)]  # type: ignore[arg-type]


@pytest.mark.parametrize('preset', INDICES)
def test_preset_indices(preset: str) -> None:
    assert indices(preset) == INDICES[preset]


def test_landsat8_all_bands() -> None:
    by_name = {b.name: b.index for b in resolve_bands('landsat8:all')}
    assert by_name['B9'] == 10 and by_name['B10'] == 13 and by_name['B11'] == 14
    assert 2 < by_name['B8'] < 3


@pytest.mark.parametrize('preset', list_presets())
def test_every_preset_round_trips(preset: str) -> None:
    bands = resolve_bands(preset)
    assert bands
    assert resolve_bands(bands) == bands
    assert resolve_bands([asdict(b) for b in bands]) == bands
    assert resolve_bands(json.loads(json.dumps([asdict(b) for b in bands]))) == bands
    assert resolve_bands([b.label for b in bands]) == bands
    assert resolve_bands([b.name for b in bands], sensor=bands[0].sensor) == bands


def test_preset_names_are_unique_as_tags() -> None:
    tags = [preset.replace(':', '_') for preset in list_presets()]
    assert len(set(tags)) == len(tags)
    assert all(tag.isidentifier() for tag in tags)


@pytest.mark.parametrize(
    ('sensor', 'spellings', 'label'),
    [
        ('sentinel2', ['B4', 'B04', 'b04', 'S2_B04', 'S2_B4', ' B04 ', 'red'], 'sentinel2:B04'),
        ('Sentinel-2', ['B8A', 'b8a', 'S2_B8A', 'nir08'], 'sentinel2:B8A'),
        ('landsat8', ['B5', 'B05', 'SR_B5', 'L8_B5', 'nir08', 'nir'], 'landsat8:B5'),
        ('landsat8', ['B10', 'ST_B10', 'lwir11'], 'landsat8:B10'),
        ('landsat7', ['B6', 'B6_VCID_1', 'ST_B6', 'lwir'], 'landsat7:B6'),
        ('naip', ['NIR', 'N', 'nir'], 'naip:NIR'),
        ('worldview3', ['swir2', 'S2'], 'worldview3:swir2'),
        ('modis', ['B2', 'sur_refl_b02', 'nir08'], 'modis:B2'),
        ('eurosat', ['B8A'], 'sentinel2:B8A'),
    ],
)
def test_spellings_of_one_band(sensor: str, spellings: list[str], label: str) -> None:
    for name in spellings:
        assert [b.label for b in resolve_bands(name, sensor=sensor)] == [label]
        assert [b.label for b in resolve_bands(f'{sensor}:{name}')] == [label]


@pytest.mark.parametrize(
    ('sensor', 'name'),
    [('landsat8', 'L7_B5'), ('landsat8', 'S2_B04'), ('sentinel2', 'SR_B4'), ('landsat5', 'B8A')],
)
def test_spellings_never_cross_sensors(sensor: str, name: str) -> None:
    with pytest.raises(BandError, match=f'for sensor {sensor!r}'):
        resolve_bands(name, sensor=sensor)


def test_same_name_other_sensor() -> None:
    landsat, sentinel = resolve_bands('B5', 'landsat8')[0], resolve_bands('B5', 'sentinel2')[0]
    assert (landsat.index, landsat.wavelength_um) == (8, 0.865)
    assert (sentinel.index, sentinel.wavelength_um) == (4, 0.705)


@pytest.mark.parametrize('name', ['B5', 'B05', 'B8A', 'B02', 'S2_B04', 'SR_B4', 'R', 'swir8'])
def test_bare_band_name_needs_its_sensor(name: str) -> None:
    with pytest.raises(BandError, match='belongs to a sensor and none was named') as info:
        resolve_bands(name)
    owners = [s for s in list_sensors() if get_sensor(s).find(name)]
    for owner in owners:
        assert f"'{owner}:" in str(info.value)


def test_unknown_band_lists_names_and_the_closest() -> None:
    with pytest.raises(BandError) as info:
        resolve_bands(['B02', 'B8B'], sensor='sentinel2')
    message = str(info.value)
    assert "did you mean 'B8A'" in message
    assert all(name in message for name in (*SENTINEL2_BANDS, 'l2a', "'B8B'", "'sentinel2'"))


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ('sentinal2', "did you mean 'sentinel2'"),
        ('sentinal2:B04', "unknown sensor 'sentinal2'; did you mean 'sentinel2'"),
        ('sentinel2:rgp', "did you mean 'rgb'"),
        ('landsat8:B8A', "Other sensors have one: 'sentinel2:B8A'"),
        ('B4,B3,B2', 'as a list'),
        ('bleu', "did you mean 'blue'"),
        ('rededge', "choose from 'rededge071'"),
        ('sentinel2:rededge', "choose from 'sentinel2:B05'"),
        ('landsat8:lwir', "choose from 'landsat8:B10'"),
        ('lwir', "'lwir11', 'lwir12'"),
        ('landsat8:rededge071', 'unknown band'),
        ('', 'empty string'),
        ('  ', 'empty string'),
        ([], 'no bands given'),
        ((), 'no bands given'),
        (None, 'NoneType'),
        ({'sentinel2:B02', 'sentinel2:B03'}, 'has no order'),
        (b'B02', 'bytes'),
        ([['B02']], 'cannot be a list'),
        ([None], 'cannot be a NoneType'),
        (True, 'bool'),
        ([False], 'bool'),
        (1 + 2j, 'complex'),
        (math.nan, 'finite positive'),
        (math.inf, 'finite positive'),
        (-1, 'finite positive'),
        (-0.5, 'finite positive'),
        ('nan', 'finite positive'),
        ('-3', 'finite positive'),
        (0.1, 'neither a wavelength'),
        (100, 'channel index'),
        (20.5, 'neither a wavelength'),
        (299, 'nanometers'),
        (15001, 'nanometers'),
        (0.39, '0.4 to 2.5 um'),
        (2.51, '0.4 to 2.5 um'),
        (3.0, 'read as a wavelength'),
        (10900, 'index of their own'),
        ({'name': 'x'}, 'says too little'),
        ({'name': 'x', 'wavelenth_um': 0.5}, "did you mean 'wavelength_um'"),
        ({'name': 'x', 'wavelength_um': 500}, '0.3 to 15'),
        ({'name': 'x', 'index': math.nan}, 'index must be a number'),
        ({'name': 'x', 'index': True}, 'index must be a number'),
        ({'name': 'x', 'index': 100}, 'index must be a number'),
        ({'name': '', 'index': 1}, "'name'"),
        ({'name': 'B04', 'sensor': 'sentinal2'}, "did you mean 'sentinel2'"),
        ({'name': 'B44', 'sensor': 'sentinel2', 'index': 3}, "unknown band 'B44'"),
        ({'name': 'rgb', 'sensor': 'sentinel2'}, "unknown band 'rgb'"),
    ],
)
def test_bad_spec(spec: object, words: str) -> None:
    with pytest.raises(BandError) as info:
        resolve_bands(spec)  # type: ignore[arg-type]
    assert words in str(info.value)


def test_unknown_sensor() -> None:
    with pytest.raises(BandError, match="did you mean 'landsat8'"):
        resolve_bands('B5', sensor='landsat-88')


def test_whole_string_is_one_band() -> None:
    assert len(resolve_bands('B02', sensor='sentinel2')) == 1
    assert len(resolve_bands('red')) == 1


def test_preset_expands_in_place() -> None:
    assert indices(['sentinel2:B8A', 'sentinel2:rgb', 'sentinel2:B11']) == [8, 3, 2, 1, 11]
    assert indices(['B8A', 'rgb'], sensor='sentinel2') == [8, 3, 2, 1]


def test_sensor_argument_is_only_a_default() -> None:
    bands = resolve_bands(['B4', 'landsat8:B5', 10], sensor='sentinel2')
    assert [b.label for b in bands] == ['sentinel2:B04', 'landsat8:B5', 'index 10']


@pytest.mark.parametrize(
    ('value', 'index'),
    [
        (0.865, 8),
        (865, 8),
        (865.0, 8),
        ('865', 8),
        ('0.865', 8),
        ('8', 8),
        (8, 8),
        (0, 0),
        (99, 99),
        (np.float32(0.865), 8),
        (np.int64(8), 8),
        (np.uint16(865), 8),
        (0.443, 0),
        (2190, 12),
    ],
)
def test_numbers(value: object, index: float) -> None:
    assert indices([value]) == [index]
    assert indices(value) == [index]


def test_labels() -> None:
    bands = resolve_bands(['sentinel2:B8A', 0.5, 7, 'swir16'])
    assert [b.label for b in bands] == ['sentinel2:B8A', '0.5um', 'index 7', 'swir16']


def test_common_names_without_sensor() -> None:
    for name, (index, um) in COMMON_NAMES.items():
        (band,) = resolve_bands(name)
        assert band.sensor is None and band.wavelength_um == um and band.mean is None
        assert band.index == (wavelength_to_index(um) if index is None else index)
    assert indices(['coastal', 'blue', 'green', 'red', 'nir', 'nir08', 'swir22']) == [
        *(0, 1, 2, 3),
        *(7, 8, 12),
    ]


def test_hyperspectral_cube() -> None:
    bands = resolve_bands(np.linspace(0.4, 2.5, 200))
    values = [b.index for b in bands]
    assert len(bands) == 200 and values == sorted(set(values))
    assert indices(list(range(400, 2501, 10))) == indices(
        [nm / 1000 for nm in range(400, 2501, 10)]
    )


def test_mapping_spec() -> None:
    thermal, red, pan, own = resolve_bands(
        [
            {'name': 'tir', 'wavelength_um': 10.9, 'index': 13},
            {'name': 'B4', 'sensor': 'landsat8'},
            {'name': 'B8', 'sensor': 'landsat8', 'index': 2.35},
            {'name': 'c1', 'sensor': 'mycam', 'wavelength_um': 0.705},
        ]
    )
    assert thermal == Band('tir', 13.0, wavelength_um=10.9)
    assert red == resolve_bands('landsat8:B4')[0]
    assert (pan.label, pan.index, pan.wavelength_um) == ('landsat8:B8', 2.35, 0.59)
    assert (own.label, own.index) == ('mycam:c1', 4.0)
    assert resolve_bands({'name': 'B4'}, sensor='landsat8') == (red,)


@pytest.mark.parametrize(
    ('spec', 'names'),
    [
        (['sentinel2:B04', 'sentinel2:B4'], ['sentinel2:B04']),
        (['sentinel2:rgb', 'sentinel2:B02'], ['sentinel2:B02', 'channel 3', 'channel 2']),
        (['sentinel2:B04', 'red'], ["'red'", 'sentinel2:B04']),
        (['sentinel2:B04', 3], ['index 3', 'sentinel2:B04']),
        ([0.665, 'landsat8:B4'], ['0.665um', 'landsat8:B4']),
        ([3, '3'], ['index 3']),
        ([665, 0.665], ['0.665um']),
    ],
)
def test_duplicates(spec: list[object], names: list[str]) -> None:
    with pytest.raises(BandError, match='allow_duplicates') as info:
        resolve_bands(spec)  # type: ignore[arg-type]
    assert all(name in str(info.value) for name in names)
    assert resolve_bands(spec, allow_duplicates=True)  # type: ignore[arg-type]


def test_same_index_on_two_sensors_is_no_duplicate() -> None:
    assert indices(['sentinel2:B04', 'landsat8:B4']) == [3, 3]
    assert indices(['landsat7:B6', 'landsat7:B6_VCID_2']) == [13, 13]


def test_channel_count() -> None:
    assert len(resolve_bands('sentinel2:rgb', channels=3)) == 3
    with pytest.raises(BandError, match='3 bands were named but the image has 13 channels') as info:
        resolve_bands('sentinel2:rgb', channels=13)
    assert 'sentinel2:B04, sentinel2:B03, sentinel2:B02' in str(info.value)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.binary(max_size=3)))
def test_anything_gives_bands_or_band_error(spec: object) -> None:
    try:
        bands = resolve_bands(spec)  # type: ignore[arg-type]
    except BandError as error:
        assert str(error)
    else:
        assert bands and all(-1 <= b.index <= 99 for b in bands)


@settings(deadline=None)
@given(st.permutations(SENTINEL2_BANDS), st.integers(1, 13))
def test_any_subset_in_any_order(names: list[str], count: int) -> None:
    bands = resolve_bands(names[:count], sensor='sentinel2')
    assert [b.name for b in bands] == names[:count]
    assert [b.index for b in bands] == [SENTINEL2_BANDS.index(n) for n in names[:count]]


def test_band_checks_its_fields() -> None:
    assert Band('x', 3).index == 3.0 and isinstance(Band('x', 3).index, float)
    for bad in ({'index': math.inf}, {'index': 1, 'wavelength_um': 865.0}, {'index': 1, 'std': -1}):
        with pytest.raises(BandError):
            Band('x', **bad)
    with pytest.raises(AttributeError):
        Band('x', 3).index = 4.0  # type: ignore[misc]


def test_describe_bands() -> None:
    bands = resolve_bands(['landsat8:B4', 'superdove:yellow', 'landsat8:B10', 9])
    lines = describe_bands(bands).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ['0', 'B4', 'landsat8', '0.655', '3', 'B04', '-10']
    assert lines[2].split() == ['1', 'yellow', 'superdove', '0.61', '2.476', 'B03', '+50']
    assert lines[3].split() == ['2', 'B10', 'landsat8', '10.895', '13', '-', '-']
    assert lines[4].split() == ['3', 'index', '9', '-', '-', '9', 'B09', '+0']


def test_band_rows_are_json() -> None:
    rows = band_rows(resolve_bands('landsat8:all'))
    assert json.loads(json.dumps(rows)) == rows
    assert [row['channel'] for row in rows] == list(range(11))
    assert rows[4]['nearest_sentinel2'] == 'B8A' and rows[9]['nearest_sentinel2'] is None


@pytest.mark.parametrize(
    ('spec', 'plain'),
    [
        ('landsat8:B5', 'landsat8:B5'),
        ('nir08', 'nir08'),
        (0.61, '0.61'),
        (7, '7'),
        ({'name': 'own', 'wavelength_um': 0.61}, None),
        # Its name leads to nothing, or to another index than the one that was given.
        ({'name': 'X1', 'sensor': 'mysat', 'wavelength_um': 0.5}, None),
        ({'name': 'B8A', 'sensor': 'sentinel2', 'index': 7.5}, None),
    ],
)
def test_plain_band_leads_back(spec: object, plain: str | None) -> None:
    (band,) = resolve_bands([spec])
    written = plain_band(band)
    assert isinstance(written, dict) if plain is None else written == plain
    (again,) = resolve_bands(json.loads(json.dumps([written])))
    keys = ('name', 'sensor', 'index', 'wavelength_um', 'bandwidth_um', 'gsd_m')
    assert [getattr(again, key) for key in keys] == [getattr(band, key) for key in keys]


def test_bands_start_without_torch() -> None:
    """The package registers its models when imported; the band modules themselves need nothing."""
    code = """
import importlib.util, sys
spec = importlib.util.find_spec('torchgeo_aom')
sys.modules['torchgeo_aom'] = importlib.util.module_from_spec(spec)  # not executed
from torchgeo_aom.bands import resolve_bands
resolve_bands('eurosat')
print([name for name in ('torch', 'numpy', 'torchgeo') if name in sys.modules])
"""
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'
