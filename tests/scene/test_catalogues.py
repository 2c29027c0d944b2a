"""Items as public catalogues serve them: the right scale without options, or an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_tools import pixels, write

from torchgeo_aom.errors import ConfigError, UnitError
from torchgeo_aom.scene import open_scene
from torchgeo_aom.scene.catalogue_rules import RULES, sentinel2_product
from torchgeo_aom.scene.reader import SceneReader

S2 = {'blue': 'B02', 'green': 'B03', 'red': 'B04', 'nir': 'B08'}
STATED = [{'scale': 1e-4, 'offset': -0.1, 'nodata': 0}]


def item(
    folder: Path, assets: dict[str, dict[str, Any]], collection: str | None, **properties: Any
) -> Path:
    """An item with a small file for each relative address."""
    for k, asset in enumerate(assets.values()):
        href = asset['href']
        count = len(asset.get('eo:bands') or asset.get('bands') or [0])
        if '://' not in href and not asset.pop('gone', False):
            write(folder / href, pixels(count, 40, 40, k + 1), None)
    whole: dict[str, Any] = {
        'type': 'Feature', 'stac_version': '1.0.0', 'id': 'x', 'properties': properties,
        'geometry': None, 'assets': assets, 'links': [],
    }  # fmt: skip
    if collection:
        whole['collection'] = collection
    path = folder / 'item.json'
    path.write_text(json.dumps(whole))
    return path


def bands(names: dict[str, str], **more: Any) -> dict[str, dict[str, Any]]:
    """One asset a band, named as Earth Search or Planetary Computer do."""
    return {
        key: {'href': f'./{name}.tif', 'eo:bands': [{'name': name}], **more}
        for key, name in names.items()
    }


def check(path: Path, scale: float, offset: float, product: str, quantity: str) -> list[str]:
    """Reflectance of the first band and statistics; returns the notes."""
    scene = open_scene(path)
    assert scene.product.quantity == quantity, scene.product
    layer = scene.layers[0]
    assert (layer.scale, layer.offset) == pytest.approx((scale, offset))
    assert scene.product.name.rpartition(':')[2] == product
    scene.normalize()  # statistics without a question
    return list(scene.notes)


class TestEarthSearch:
    def test_offset_that_was_taken_out(self, tmp_path: Path) -> None:
        path = item(
            tmp_path, bands(S2, **{'raster:bands': STATED}), 'sentinel-2-l2a',
            platform='sentinel-2b', **{'s2:processing_baseline': '05.09',
                                       'earthsearch:boa_offset_applied': True},
        )  # fmt: skip
        check(path, 1e-4, 0, 'l2a', 'surface')
        with pytest.raises(UnitError, match='l2a_2022'):
            open_scene(path, product='l2a_2022')
        assert open_scene(path, product='l2a').product.offset == 0

    def test_twin_at_an_address(self, tmp_path: Path) -> None:
        assets = bands(S2, **{'raster:bands': STATED})
        for key in list(assets):
            assets[f'{key}-jp2'] = {**assets[key], 'href': f's3://bucket/{S2[key]}.jp2'}
        path = item(
            tmp_path, assets, 'sentinel-2-l2a', platform='sentinel-2b',
            **{'earthsearch:boa_offset_applied': True},
        )  # fmt: skip
        notes = check(path, 1e-4, 0, 'l2a', 'surface')
        assert any("asset 'blue', not its twin blue-jp2" in note for note in notes)

    def test_offset_that_is_still_there(self, tmp_path: Path) -> None:
        path = item(
            tmp_path, bands(S2, **{'raster:bands': STATED}), 'sentinel-2-c1-l2a',
            platform='sentinel-2a', **{'s2:processing_baseline': '05.00',
                                       'earthsearch:boa_offset_applied': False},
        )  # fmt: skip
        check(path, 1e-4, -0.1, 'l2a_2022', 'surface')

    def test_v0(self, tmp_path: Path) -> None:
        path = item(
            tmp_path, bands(S2), 'sentinel-s2-l2a-cogs', platform='sentinel-2a',
            **{'sentinel:boa_offset_applied': True, 'sentinel:processing_baseline': '04.00'},
        )  # fmt: skip
        check(path, 1e-4, 0, 'l2a', 'surface')

    def test_l1c(self, tmp_path: Path) -> None:
        path = item(
            tmp_path, bands(S2), 'sentinel-2-l1c', platform='sentinel-2a',
            **{'s2:processing_baseline': '02.09'},
        )  # fmt: skip
        check(path, 1e-4, 0, 'l1c', 'toa')


class TestPlanetaryComputer:
    @pytest.mark.parametrize(
        ('baseline', 'offset', 'product'),
        [('05.09', -0.1, 'l2a_2022'), ('04.00', -0.1, 'l2a_2022'), ('03.01', 0.0, 'l2a')],
    )
    def test_baseline_decides(
        self, tmp_path: Path, baseline: str, offset: float, product: str
    ) -> None:
        assets = bands({name: name for name in S2.values()})
        properties = {'s2:processing_baseline': baseline}
        path = item(tmp_path, assets, 'sentinel-2-l2a', platform='Sentinel-2B', **properties)
        check(path, 1e-4, offset, product, 'surface')

    def test_landsat_without_its_other_files(self, tmp_path: Path) -> None:
        stated = [{'scale': 2.75e-5, 'offset': -0.2, 'nodata': 0}]
        assets = bands({'blue': 'OLI_B2', 'red': 'OLI_B4'}, **{'raster:bands': stated})
        for key, asset in assets.items():
            asset['eo:bands'][0]['common_name'] = key
        assets['lwir11'] = {
            'href': 'lwir11.tif', 'eo:bands': [{'name': 'TIRS_B10', 'common_name': 'lwir11'}],
            'raster:bands': [{'scale': 0.00341802, 'offset': 149.0}], 'gone': True,
        }  # fmt: skip
        assets['swir16'] = {
            'href': 'swir16.tif', 'eo:bands': [{'name': 'OLI_B6', 'common_name': 'swir16'}],
            'raster:bands': stated, 'gone': True,
        }  # fmt: skip
        path = item(tmp_path, assets, None, platform='landsat-9')
        notes = check(path, 2.75e-5, -0.2, 'c2l2', 'surface')
        assert any('B6' in note and 'left out' in note for note in notes)
        with pytest.raises(ConfigError, match='download it beside the item'):
            open_scene(path, ['B2', 'B6'])

    def test_hls(self, tmp_path: Path) -> None:
        assets = bands({name: name for name in ('B02', 'B04', 'B8A')})
        path = item(tmp_path, assets, 'hls2-s30', platform='sentinel-2a')
        check(path, 1e-4, 0, 'v2', 'surface')
        assert open_scene(path).bands[0].sensor == 'hls_s30'

    def test_naip(self, tmp_path: Path) -> None:
        names = ('Red', 'Green', 'Blue', 'NIR')
        facts = [{'name': n, 'common_name': n.lower()} for n in names]
        path = item(tmp_path, {'image': {'href': 'naip.tif', 'eo:bands': facts}}, 'naip')
        scene = open_scene(path)
        assert [band.sensor for band in scene.bands] == ['naip'] * 4
        assert scene.layers[0].scale == pytest.approx(1 / 255)


class TestCopernicus:
    def test_finest_of_several_resolutions(self, tmp_path: Path) -> None:
        assets = {
            f'B02_{gsd}m': {'href': f'B02_{gsd}m.tif', 'bands': [{'name': 'B02'}], 'gsd': gsd,
                            'raster:scale': 1e-4, 'raster:offset': -0.1}
            for gsd in (60, 10, 20)
        }  # fmt: skip
        path = item(
            tmp_path, assets, 'sentinel-2-l2a', platform='sentinel-2a',
            **{'processing:version': '05.11'},
        )  # fmt: skip
        check(path, 1e-4, -0.1, 'l2a_2022', 'surface')
        assert open_scene(path).layers[0].path.endswith('B02_10m.tif')


class TestContradictions:
    def test_baseline_against_assets(self, tmp_path: Path) -> None:
        path = item(
            tmp_path, bands(S2, **{'raster:bands': [{'scale': 1e-4, 'offset': 0}]}),
            'sentinel-2-l2a', platform='sentinel-2b', **{'s2:processing_baseline': '05.09'},
        )  # fmt: skip
        with pytest.raises(UnitError, match='baseline 05.09 means an offset of -0.1, its assets'):
            open_scene(path)
        assert open_scene(path, product='l2a').layers[0].offset == 0

    def test_rule_against_assets(self, tmp_path: Path) -> None:
        assets = bands({'blue': 'B02'}, **{'raster:bands': [{'scale': 1e-3, 'offset': 0}]})
        path = item(tmp_path, assets, 'hls2-s30', platform='sentinel-2a')
        with pytest.raises(UnitError, match=r'0\.001 .* but Planetary Computer'):
            open_scene(path)

    def test_nothing_said(self, tmp_path: Path) -> None:
        path = item(tmp_path, bands(S2), 'sentinel-2-l2a', platform='sentinel-2b')
        with pytest.raises(ConfigError, match='neither its processing baseline nor an offset'):
            open_scene(path)


@settings(max_examples=200, deadline=None)
@given(
    baseline=st.none() | st.sampled_from(['02.05', '03.01', '04.00', '05.09', '05.11']),
    applied=st.none() | st.booleans(),
    stated=st.none() | st.sampled_from([0.0, -0.1]),
    level=st.sampled_from(['l1c', 'l2a']),
)
def test_a_wrong_offset_is_impossible(
    baseline: str | None, applied: bool | None, stated: float | None, level: str
) -> None:
    """Whatever an item says: the true offset, or an error."""
    properties: dict[str, Any] = {}
    if baseline is not None:
        properties['s2:processing_baseline'] = baseline
    if applied is not None:
        properties['earthsearch:boa_offset_applied'] = applied
    facts = {'collection': f'sentinel-2-{level}', 'properties': properties}
    try:
        product = sentinel2_product(facts, set() if stated is None else {stated}, 'x')
    except (ConfigError, UnitError):
        assert not applied
        return
    assert product is not None
    assert product.startswith(level)
    has_offset = product.endswith('_2022')
    if applied:
        assert not has_offset
    else:
        for said in (
            None if baseline is None else float(baseline) >= 4,
            None if stated is None else stated == -0.1,
        ):
            assert said is None or said == has_offset


def test_every_rule_names_its_source_and_a_known_product() -> None:
    from torchgeo_aom.catalogue import find_sensor, get_product

    for rule in RULES.values():
        assert rule.source
        assert rule.sensor is None or find_sensor(rule.sensor) is not None
        name = rule.product if rule.sensor is None else f'{rule.sensor}:{rule.product}'
        assert get_product('uint8' if rule.product == 'uint8' else
                           name if ':' in name else f'landsat8:{name}')  # fmt: skip


def test_numbers_are_those_of_the_stored_pixels(tmp_path: Path) -> None:
    path = item(
        tmp_path, bands(S2, **{'raster:bands': STATED}), 'sentinel-2-l2a', platform='sentinel-2b',
        **{'earthsearch:boa_offset_applied': True},
    )  # fmt: skip
    scene = open_scene(path)
    values = SceneReader(scene).read((0, 0, scene.grid.height, scene.grid.width))
    expected = pixels(1, 40, 40, 1)[0] * 1e-4
    np.testing.assert_allclose(values[0], expected, atol=1e-6)
