"""What a scene is follows from its files and from what is said; contradictions are errors."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scene_tools import RGBN, UTM, pixels, scene_of, write

from torchgeo_aom.errors import BandError, ConfigError, DataError, UnitError
from torchgeo_aom.scene import Scene, open_scene
from torchgeo_aom.scene.reader import SceneReader


def reflectance(scene: Scene) -> np.ndarray[Any, Any]:
    return SceneReader(scene).read((0, 0, scene.grid.height, scene.grid.width))


def labels(scene: Scene) -> list[str]:
    return [band.name for band in scene.bands]


class TestOneFile:
    def test_descriptions_name_bands(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels())
        assert labels(scene_of(path)) == list(RGBN)
        np.testing.assert_allclose(reflectance(scene_of(path)), pixels() * 1e-4, rtol=1e-6)

    def test_order_is_by_name(self, tmp_path: Path) -> None:
        scene = scene_of(write(tmp_path / 'in.tif', pixels()), bands=['B08', 'B04'])
        assert labels(scene) == ['B08', 'B04']
        np.testing.assert_allclose(reflectance(scene), pixels()[[3, 0]] * 1e-4, rtol=1e-6)

    def test_names_that_are_missing_or_wrong(self, tmp_path: Path) -> None:
        bare = write(tmp_path / 'bare.tif', pixels(), None)
        with pytest.raises(BandError, match='--bands'):
            scene_of(bare)
        assert labels(scene_of(bare, bands='sentinel2:rgbn')) == list(RGBN)
        with pytest.raises(BandError, match='4 bands'):
            scene_of(bare, bands='sentinel2:rgb')
        named = write(tmp_path / 'named.tif', pixels())
        with pytest.raises(BandError, match='contradicts'):
            scene_of(named, bands=['B04', 'B03', 'B02', 'B11'])
        with pytest.raises(BandError, match='sensor='):
            open_scene(named, product='sentinel2:l2a')
        twice = write(tmp_path / 'twice.tif', pixels(), ('B04', 'B03', 'B02', 'B04'))
        with pytest.raises(BandError):
            scene_of(twice)
        with pytest.raises(BandError, match='names 2 of them'):
            scene_of(write(tmp_path / 'half.tif', pixels(), ('B04', 'B03')))

    def test_how_values_are_stored(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels())
        with pytest.raises(ConfigError, match='--product'):
            scene_of(path, product=None)
        with rasterio.open(path, 'r+') as file:
            file.scales, file.offsets = [1e-4] * 4, [-0.1] * 4
        scene = scene_of(path, product=None)
        np.testing.assert_allclose(reflectance(scene), pixels() * 1e-4 - 0.1, atol=1e-6)
        again = scene_of(path, product='l2a_2022')  # the same: applied once
        np.testing.assert_allclose(reflectance(again), reflectance(scene), atol=1e-6)
        with pytest.raises(UnitError, match=r'-0\.1.*l2a'):
            scene_of(path, product='l2a')

    def test_another_resolution(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'in.tif', pixels())
        scene = scene_of(path, gsd_m=20)
        assert (scene.grid.height, scene.grid.width) == (35, 45)
        assert scene.grid.bounds == scene_of(path).grid.bounds
        assert 'resampled to 20 m' in scene.notes[0]
        values = reflectance(scene)
        means = pixels().reshape(4, 35, 2, 45, 2).mean((2, 4)) * 1e-4
        assert np.abs(values - means)[:, 2:-2, 2:-2].max() < 0.01
        with pytest.raises(ConfigError, match='gsd_m'):
            scene_of(path, gsd_m=0)


class TestManyFiles:
    def files(self, folder: Path) -> list[Path]:
        fine, coarse = pixels(2, 80, 80), pixels(1, 40, 40, seed=3)
        coarse_grid = type(UTM)(20, 0, UTM.c, 0, -20, UTM.f)
        return [
            write(folder / 'T31_B04.tif', fine[:1], None),
            write(folder / 'T31_B08_10m.tif', fine[1:], None),
            write(folder / 'T31_B11_20m.tif', coarse, None, coarse_grid),
        ]

    def test_names_of_files(self, tmp_path: Path) -> None:
        scene = scene_of(self.files(tmp_path))
        assert labels(scene) == ['B04', 'B08', 'B11']
        assert scene.grid.height == 80
        assert scene.notes == ('B11: resampled to 10 m (bilinear)',)
        values = reflectance(scene)
        np.testing.assert_allclose(values[:2], pixels(2, 80, 80) * 1e-4, rtol=1e-6)
        coarse = pixels(1, 40, 40, seed=3)[0] * 1e-4
        means = values[2].reshape(40, 2, 40, 2).mean((1, 3))
        assert np.abs(means - coarse)[1:-1, 1:-1].max() < 0.01
        assert np.isfinite(values).all()

    def test_windows_of_resampled_bands_fit_together(self, tmp_path: Path) -> None:
        reader = SceneReader(scene_of(self.files(tmp_path)))
        whole = reader.read((0, 0, 80, 80))
        part = reader.read((30, 17, 20, 40))
        np.testing.assert_allclose(part, whole[:, 30:50, 17:57], atol=2e-4)

    def test_contradictions(self, tmp_path: Path) -> None:
        files = self.files(tmp_path)
        with pytest.raises(
            BandError, match=r'its name says sentinel2:B04.*named says sentinel2:B0'
        ):
            scene_of(files, bands=['B03', 'B08', 'B11'])
        with pytest.raises(BandError, match='3 files, but 2'):
            scene_of(files, bands=['B04', 'B08'])
        with pytest.raises(BandError, match='nothing says'):
            open_scene(files, product='sentinel2:l2a')
        with rasterio.open(files[0], 'r+') as file:
            file.set_band_description(1, 'B02')
        with pytest.raises(BandError, match='its description says'):
            scene_of(files)

    def test_a_name_of_several_bands_says_nothing(self, tmp_path: Path) -> None:
        """Sentinel-2 has three bands on the red edge; what is said decides."""
        files = [
            write(tmp_path / f'T31_{name}.tif', pixels(1, 40, 40), None)
            for name in ('red', 'rededge')
        ]
        assert labels(scene_of(files, bands=['B04', 'B06'])) == ['B04', 'B06']
        with pytest.raises(BandError, match='nothing says'):
            scene_of(files)

    def test_other_places_are_refused_with_both_grids(self, tmp_path: Path) -> None:
        files = self.files(tmp_path)
        away = write(tmp_path / 'T31_B03.tif', pixels(1, 80, 80), None, UTM.translation(100, 0))
        with pytest.raises(DataError, match=r'(?s)T31_B03.*bounds.*T31.*bounds|bounds.*bounds'):
            scene_of([*files, away])
        zone = write(tmp_path / 'T31_B02.tif', pixels(1, 80, 80), None, crs='EPSG:32632')
        with pytest.raises(DataError, match='same area'):
            scene_of([*files, zone])


def safe(folder: Path, level: str = '2A', offset: int | None = -1000) -> Path:
    """A Sentinel-2 product in small: the layout and metadata of ESA's, images as GeoTIFF."""
    root = folder / f'S2B_MSIL{level}_20230101.SAFE'
    images = root / 'GRANULE' / 'L2A_T31' / 'IMG_DATA'
    add, value = (
        ('BOA_ADD_OFFSET', 'BOA_QUANTIFICATION_VALUE')
        if level == '2A'
        else ('RADIO_ADD_OFFSET', 'QUANTIFICATION_VALUE')
    )
    offsets = (
        ''
        if offset is None
        else ''.join(f'<{add} band_id="{k}">{offset}</{add}>' for k in range(13))
    )
    sizes = {'B02': 10, 'B04': 10, 'B8A': 20, 'B11': 20, 'B01': 60}
    for seed, (band, step) in enumerate(sizes.items()):
        for own in (step, 60) if level == '2A' and step < 60 else (step,):
            sub = images / f'R{own}m' if level == '2A' else images
            sub.mkdir(parents=True, exist_ok=True)
            side = 240 // own
            ending = f'_{own}m' if level == '2A' else ''
            write(
                sub / f'T31_20230101_{band}{ending}.tif', pixels(1, side, side, seed), None,
                type(UTM)(own, 0, UTM.c, 0, -own, UTM.f),
            )  # fmt: skip
    (root / f'MTD_MSIL{level}.xml').write_text(
        f'<n1:Level xmlns:n1="https://psd-14.sentinel2.eo.esa.int/x"><PROCESSING_BASELINE>05.09'
        f'</PROCESSING_BASELINE><{value} unit="none">10000</{value}>{offsets}</n1:Level>'
    )
    return root


class TestSentinel2:
    @pytest.mark.parametrize(('level', 'name'), [('2A', 'l2a'), ('1C', 'l1c')])
    @pytest.mark.parametrize('offset', [-1000, None])
    def test_folder(self, tmp_path: Path, level: str, name: str, offset: int | None) -> None:
        scene = open_scene(safe(tmp_path, level, offset))
        assert labels(scene) == ['B01', 'B02', 'B04', 'B8A', 'B11']
        assert scene.product.name == (f'{name}_2022' if offset else name)
        assert scene.grid.gsd_m == 10
        stored = pixels(1, 24, 24, 0)[0] * 1e-4 + (offset or 0) / 1e4
        np.testing.assert_allclose(reflectance(scene)[1], stored, atol=1e-6)
        assert any('resampled to 10 m' in note for note in scene.notes)
        scene.normalize()

    def test_zip(self, tmp_path: Path) -> None:
        root = safe(tmp_path)
        path = tmp_path / 'product.zip'
        with zipfile.ZipFile(path, 'w') as archive:
            for file in root.rglob('*'):
                archive.write(file, file.relative_to(tmp_path))
        scene = open_scene(path, bands='sentinel2:B04')
        np.testing.assert_array_equal(
            reflectance(scene), reflectance(open_scene(root, bands=['B04']))
        )
        assert scene.identity()

    def test_the_edge_of_the_swath(self, tmp_path: Path) -> None:
        """Nothing lies beyond it, and what lies beyond goes into no pixel before it."""
        root = safe(tmp_path)
        before = reflectance(open_scene(root))
        for path in root.rglob('*.tif'):
            with rasterio.open(path, 'r+') as file:
                values = file.read()
                values[:, :, : file.width // 2] = 0
                file.write(values)
        scene = open_scene(root)
        values = reflectance(scene)
        assert np.isnan(values[:, :, :12]).all() and np.isfinite(values[:, :, 12:]).all()
        np.testing.assert_allclose(values[:, :, 15:], before[:, :, 15:], atol=1e-6)
        # Bands of 60 m change most: half of a pixel of theirs.
        assert np.abs(values - before)[:, :, 12:].max() < 0.05
        small = SceneReader(scene).overview(8)
        assert np.isnan(small[:, :, :4]).all() and np.isfinite(small[:, :, 4:]).all()

    def test_a_measured_zero_of_a_coarse_band(self, tmp_path: Path) -> None:
        root = safe(tmp_path)
        before = reflectance(open_scene(root))
        for path in root.rglob('*_B11_20m.tif'):
            with rasterio.open(path, 'r+') as file:
                values = file.read()
                values[:, 5, 5] = 0
                file.write(values)
        values = reflectance(open_scene(root))
        np.testing.assert_allclose(values[4, 10:12, 10:12], -0.1, atol=1e-6)
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values[:4], before[:4])

    def test_jpeg_2000(self, tmp_path: Path) -> None:
        """What ESA delivers, without loss."""
        root = safe(tmp_path)
        for file in root.rglob('*.tif'):
            with rasterio.open(file) as source:
                options = {'QUALITY': '100', 'REVERSIBLE': 'YES'}
                rasterio.shutil.copy(
                    source, file.with_suffix('.jp2'), driver='JP2OpenJPEG', **options
                )
            file.unlink()
        scene = open_scene(root)
        stored = pixels(1, 24, 24, 0)[0] * 1e-4 - 0.1
        np.testing.assert_allclose(reflectance(scene)[1], stored, atol=1e-6)

    def test_contradictions(self, tmp_path: Path) -> None:
        root = safe(tmp_path)
        assert labels(open_scene(root, product='l2a_2022'))
        with pytest.raises(UnitError, match=r'-0\.1'):
            open_scene(root, product='l2a')
        with pytest.raises(BandError, match='B12'):
            open_scene(root, bands=['B04', 'B12'])
        with pytest.raises(BandError, match='landsat8'):
            open_scene(root, sensor='landsat8')

    def test_damaged(self, tmp_path: Path) -> None:
        root = safe(tmp_path)
        metadata = root / 'MTD_MSIL2A.xml'
        good = metadata.read_text()
        for text, message in (
            (good[:60], 'damaged'),
            (good.replace('10000', 'x'), 'numbers'),
            ('<!DOCTYPE a [<!ENTITY b "c">]>' + good, 'entities'),
        ):
            metadata.write_text(text)
            with pytest.raises(DataError, match=message):
                open_scene(root)
        (tmp_path / 'bad.zip').write_bytes(b'PK no')
        with pytest.raises(DataError, match='zip'):
            open_scene(tmp_path / 'bad.zip')
        with pytest.raises(DataError, match='neither'):
            open_scene(tmp_path)


MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    SPACECRAFT_ID = "LANDSAT_8"
    SUN_ELEVATION = 30.0
  END_GROUP = IMAGE_ATTRIBUTES
  {surface}
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    {level1}
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def pairs(mult: float, add: float) -> str:
    return '\n'.join(
        f'REFLECTANCE_MULT_BAND_{k} = {mult}\nREFLECTANCE_ADD_BAND_{k} = {add}' for k in range(1, 8)
    )


def landsat(folder: Path, surface: bool) -> Path:
    root = folder / 'LC08'
    root.mkdir()
    group = 'LEVEL2_SURFACE_REFLECTANCE_PARAMETERS'
    own = f'GROUP = {group}\n{pairs(2.75e-5, -0.2)}\nEND_GROUP = {group}' if surface else ''
    (root / 'LC08_MTL.txt').write_text(MTL.format(surface=own, level1=pairs(2e-5, -0.1)))
    for k in range(1, 8):
        name = f'LC08_SR_B{k}.TIF' if surface else f'LC08_B{k}.TIF'
        write(root / name, pixels(1, 40, 40, k) + 9000, None)
    write(root / ('LC08_ST_B10.TIF' if surface else 'LC08_B10.TIF'), pixels(1, 40, 40), None)
    return root


class TestLandsat:
    @pytest.mark.parametrize('surface', [True, False])
    def test_coefficients_apply_once(self, tmp_path: Path, surface: bool) -> None:
        scene = open_scene(landsat(tmp_path, surface))
        assert labels(scene) == ['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7']
        stored = (pixels(1, 40, 40, 1) + 9000)[0].astype(float)
        expected = stored * 2.75e-5 - 0.2 if surface else (stored * 2e-5 - 0.1) / 0.5
        np.testing.assert_allclose(reflectance(scene)[0], expected, atol=1e-6)
        assert scene.normalize().std

    def test_contradictions(self, tmp_path: Path) -> None:
        root = landsat(tmp_path, True)
        assert open_scene(root, product='c2l2', bands='landsat8:rgb')
        with pytest.raises(UnitError, match='c2l1'):
            open_scene(root, product='c2l1')
        with pytest.raises(BandError, match='LANDSAT_8'):
            open_scene(root, sensor='landsat9')
        with pytest.raises(BandError, match='B9'):
            open_scene(root, bands=['B1', 'B9'])

    def test_metadata_apart(self, tmp_path: Path) -> None:
        root = landsat(tmp_path, False)
        names = ('B1', 'B2', 'B10')
        path = write(tmp_path / 'stack.tif', pixels(3) + 9000, names)
        scene = open_scene(path, mtl=root / 'LC08_MTL.txt')
        assert labels(scene) == ['B1', 'B2']
        expected = ((pixels(3) + 9000)[:2] * 2e-5 - 0.1) / 0.5
        np.testing.assert_allclose(reflectance(scene), expected, atol=1e-6)
        with pytest.raises(ConfigError, match='thermal'):
            open_scene(path, bands=list(names), mtl=root / 'LC08_MTL.txt')
        night = (root / 'LC08_MTL.txt').read_text().replace('= 30.0', '= -4')
        (tmp_path / 'night_MTL.txt').write_text(night)
        with pytest.raises(DataError, match='horizon'):
            open_scene(path, mtl=tmp_path / 'night_MTL.txt')


def test_nodata_is_a_number_or_that_of_the_product(tmp_path: Path) -> None:
    """Checked in one place, whatever the scene is."""
    (tmp_path / 'stac').mkdir()
    scenes = (safe(tmp_path), landsat(tmp_path, True), stac(tmp_path / 'stac'))
    for scene in (*scenes, write(tmp_path / 'in.tif', pixels())):
        with pytest.raises(ConfigError, match="nodata must be a number, None or 'product'"):
            open_scene(scene, nodata='none')


def stac(folder: Path, **changes: Any) -> Path:
    for name in ('red', 'nir'):
        write(folder / f'{name}.tif', pixels(1, 40, 40, len(name)), None)
    raster = [{'scale': 1e-4, 'offset': -0.1, 'nodata': 0}]
    item = {
        'type': 'Feature', 'id': 'x', 'properties': {'platform': 'sentinel-2b'},
        'assets': {
            'red': {'href': './red.tif', 'eo:bands': [{'name': 'B04'}], 'raster:bands': raster},
            'nir': {'href': 'nir.tif', 'bands': [{'name': 'B08'}], 'raster:bands': raster},
            'visual': {'href': 'https://x/y.tif', 'roles': ['visual'], 'bands': [{'name': 'B04'}]},
            'info': {'href': 'x.xml'},
        },
    }  # fmt: skip
    item['assets']['red'].update(changes)
    path = folder / 'item.json'
    path.write_text(json.dumps(item))
    return path


class TestStac:
    def test_item(self, tmp_path: Path) -> None:
        scene = open_scene(stac(tmp_path), ['B04', 'B08'])
        assert labels(scene) == ['B04', 'B08']
        expected = pixels(1, 40, 40, 3)[0] * 1e-4 - 0.1
        np.testing.assert_allclose(reflectance(scene)[0], expected, atol=1e-6)
        with pytest.raises(ConfigError, match='statistics'):
            scene.normalize()  # both levels of Sentinel-2 are stored like that
        scene.normalize('sentinel2:l2a')

    def test_item_and_user(self, tmp_path: Path) -> None:
        path = stac(tmp_path)
        assert open_scene(path, product='l2a_2022').product.quantity == 'surface'
        with pytest.raises(UnitError, match='l2a'):
            open_scene(path, product='l2a')

    @pytest.mark.parametrize(
        'href', ['https://example.com/a.tif', '/vsicurl/http://x/a.tif', '../a.tif', '/etc/passwd']
    )
    def test_places_elsewhere_are_refused(self, tmp_path: Path, href: str) -> None:
        with pytest.raises(ConfigError, match=r'address|outside'):
            open_scene(stac(tmp_path, href=href), ['B04'])

    def test_damaged(self, tmp_path: Path) -> None:
        for text, message in (('{', 'JSON'), ('{"type": "Catalog"}', 'STAC')):
            (tmp_path / 'item.json').write_text(text)
            with pytest.raises(DataError, match=message):
                open_scene(tmp_path / 'item.json')
