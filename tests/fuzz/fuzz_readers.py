"""Small valid files of every kind that the package reads, and what reads them."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from fuzz_mutate import mutate, mutate_inside
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from torchgeo_aom.catalogue import _read
from torchgeo_aom.data.folder import FolderDataset
from torchgeo_aom.data.source import Source, read_sources
from torchgeo_aom.datasets.rasters import cell, descriptions, read_mask
from torchgeo_aom.errors import AOMError
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.checkpoint import export_checkpoint, save_weights
from torchgeo_aom.models.weights import load_backbone, load_state
from torchgeo_aom.scene.open import open_scene
from torchgeo_aom.scene.reader import SceneReader
from torchgeo_aom.sensor_file import parse_document

BANDS = ('B04', 'B03', 'B02', 'B08')


class Defect(Exception):
    """A promise that was broken without an error."""


class Files:
    """Valid files of one kind; each index is one damaged file, always the same.

    Args:
        folder: where valid files are made, and damaged ones written.
        seed: of all damage.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.valid: dict[str, bytes] = {}
        self.make()

    def make(self) -> None:
        """Fill `valid`: content by file name."""
        raise NotImplementedError

    def read(self, path: Path) -> None:
        """Read a file in every way that users have, see `attempt`."""
        raise NotImplementedError

    def damaged(self, index: int) -> tuple[str, bytes]:
        """Name and content of a damaged file; those with a negative index are whole."""
        names = sorted(self.valid)
        name = names[index % len(names)]
        if index < 0:
            return name, self.valid[name]
        rng = random.Random(f'{type(self).__name__} {self.seed} {index}')
        return name, self.damage(name, rng)

    def damage(self, name: str, rng: random.Random) -> bytes:
        return mutate(self.valid[name], rng, list(self.valid.values()))

    def path(self, name: str, index: int) -> Path:
        """Where a damaged file is written; no two have the same name, as GDAL remembers files."""
        return self.folder / f'{index}_{name}'


def attempt(*ways: Callable[[], Any]) -> None:
    """Read in several ways: one succeeds, or the first of our errors is raised."""
    refused: list[AOMError] = []
    for way in ways:
        try:
            way()
        except AOMError as error:
            refused.append(error)
    if len(refused) == len(ways):
        raise refused[0]


def tiny() -> AOM:
    torch.manual_seed(0)
    return AOM(
        bands='sentinel2:rgb', patch_size=4, embed_dim=8, depth=1, num_heads=2, kernel_sizes=(2, 4)
    )


def sorted_header(data: bytes) -> bytes:
    """The same safetensors file with a header in an order that is the same in every process."""
    (size,) = struct.unpack('<Q', data[:8])
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True).encode()
    return struct.pack('<Q', len(header)) + header + data[8 + size :]


class Checkpoints(Files):
    def make(self) -> None:
        self.model = tiny().requires_grad_(False)
        self.first = {key: value.clone() for key, value in self.model.state_dict().items()}
        path = self.folder / 'made.safetensors'
        save_weights(self.model, path, {'dataset': 'none'})
        whole = sorted_header(path.read_bytes())
        self.valid['whole.safetensors'] = whole
        (size,) = struct.unpack('<Q', whole[:8])
        facts = json.loads(whole[8 : 8 + size])
        del facts['__metadata__']['tensors_sha256']  # so that damage goes on to the reader
        header = json.dumps(facts, sort_keys=True).encode()
        self.valid['unsigned.safetensors'] = (
            struct.pack('<Q', len(header)) + header + whole[8 + size :]
        )
        task = {f'model.{key}': value for key, value in self.first.items()}
        hparams = {'model': 'aom_vitt', 'bands': ['sentinel2:B04'], 'lr': 1e-3, 'num_heads': 2}
        for name, content in {
            'plain.pth': dict(self.first),
            'nested.pt': {'model': dict(self.first), 'epoch': 3},
            'task.ckpt': {'state_dict': task, 'hyper_parameters': hparams, 'global_step': 5},
        }.items():
            file = io.BytesIO()
            torch.save(content, file)
            self.valid[name] = file.getvalue()

    def damage(self, name: str, rng: random.Random) -> bytes:
        if rng.random() < 0.6:
            return mutate_inside(self.valid[name], rng, ())
        return mutate(self.valid[name], rng, list(self.valid.values()))

    def read(self, path: Path) -> None:
        heads = {} if path.suffix == '.safetensors' else {'num_heads': 2}
        ways: list[Callable[[], Any]] = [
            lambda: self._load(path),
            lambda: load_backbone(path, **heads),
        ]
        out = self.folder / 'out.safetensors'
        if path.suffix == '.ckpt':
            ways.append(lambda: export_checkpoint(path, out))
        try:
            attempt(*ways)
        finally:
            out.unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        try:
            load_state(self.model, path)
            if not all(bool(value.isfinite().all()) for value in self.model.state_dict().values()):
                raise Defect('loaded values that are not finite')
        except AOMError:
            now = self.model.state_dict()
            if not all(torch.equal(now[key], value) for key, value in self.first.items()):
                raise Defect('the model was changed although the file was refused') from None
            raise
        finally:
            self.model.load_state_dict(self.first)


@contextmanager
def quiet() -> Iterator[None]:
    """Without GDAL's own lines on stderr."""
    with rasterio.Env(CPL_DEBUG=False, CPL_LOG='/dev/null'):
        yield


class Rasters(Files):
    def make(self) -> None:
        rng = np.random.default_rng(0)
        smooth = np.add.outer(np.arange(33), np.arange(31)) * 20
        values = (smooth + rng.integers(0, 9, (4, 33, 31)) + 500).astype('uint16')
        layouts: dict[str, dict[str, Any]] = {
            'strips': {},
            'tiles': {'tiled': True, 'blockxsize': 16, 'blockysize': 16, 'compress': 'deflate'},
            'planes': {'interleave': 'band', 'compress': 'lzw', 'predictor': 2},
            'big': {'bigtiff': 'YES', 'nodata': 0, 'compress': 'packbits'},
            'float': {'dtype': 'float32', 'compress': 'deflate', 'predictor': 3, 'nodata': np.nan},
            'bigendian': {'endianness': 'BIG', 'dtype': 'int16'},
            'jpeg': {'compress': 'jpeg', 'dtype': 'uint8', 'count': 3, 'photometric': 'ycbcr'},
            'zstd': {'compress': 'zstd', 'tiled': True, 'blockxsize': 16, 'blockysize': 16},
            'lerc': {'compress': 'lerc', 'dtype': 'float32'},
        }
        for name, layout in layouts.items():
            self._write(f'{name}.tif', values, **layout)
        self._write('masked.tif', values, mask=True, compress='deflate')
        self._write('overviews.tif', values, overviews=True)
        self._write('scaled.tif', values, scale=True)
        self._write('points.tif', values, points=True)
        self._write('image.png', values, driver='PNG', dtype='uint8')
        self._write('image.jpg', values, driver='JPEG', dtype='uint8', count=3)

    def _write(
        self,
        name: str,
        values: Any,
        mask: bool = False,
        overviews: bool = False,
        scale: bool = False,
        points: bool = False,
        **layout: Any,
    ) -> None:
        path = self.folder / name
        facts = {'driver': 'GTiff', 'dtype': 'uint16', 'count': 4, **layout}
        values = (values // 8 if facts['dtype'] == 'uint8' else values).astype(facts['dtype'])
        values = values[: facts['count']]
        if facts['driver'] == 'GTiff' and not points:
            facts |= {'crs': 'EPSG:32631', 'transform': from_origin(5e5, 4.65e6, 10, 10)}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED='NO'),
            rasterio.open(path, 'w', height=33, width=31, **facts) as file,
        ):
            file.write(values)
            if facts['driver'] == 'GTiff':
                file.descriptions = BANDS[: facts['count']]
            if mask:
                file.write_mask(np.arange(33 * 31).reshape(33, 31) % 7 > 0)
            if scale:
                file.scales, file.offsets = [1e-4] * 4, [-0.1] * 4
            if points:
                corners = [(0, 0), (0, 31), (33, 0), (33, 31)]
                gcps = [GroundControlPoint(r, c, 5e5 + 10 * c, 4e6 - 10 * r) for r, c in corners]
                file.gcps = gcps, rasterio.CRS.from_epsg(32631)
            if overviews:
                file.build_overviews([2, 4], Resampling.average)
        self.valid[name] = path.read_bytes()
        path.unlink()

    def read(self, path: Path) -> None:
        ways: list[Callable[[], Any]] = [
            lambda count=count: self._sample(path, BANDS[:count])  # type: ignore[misc]
            for count in (3, 4)
        ]
        ways += [lambda: descriptions(path), lambda: cell(path, 1000.0), lambda: read_mask(path)]
        if path.suffix == '.tif':
            ways += [lambda: read_scene(path, product='l2a', gsd_m=20), lambda: read_scene(path)]
        with quiet():
            attempt(*ways)

    @staticmethod
    def _sample(path: Path, bands: tuple[str, ...]) -> None:
        block = {'path': str(path), 'sensor': 'sentinel2', 'bands': list(bands), 'product': 'file'}
        dataset = FolderDataset(Source.parse(block))
        pixels = dataset.read(0)
        dataset.read(0, lambda height, width: (height // 2, width // 2, 4, 4))
        if len(pixels.values) != len(bands):
            raise Defect(f'{len(pixels.values)} channels instead of {len(bands)}')


def read_scene(path: Path, sensor: str | None = 'sentinel2', **options: Any) -> None:
    """Open a scene, and read its two ends and an overview."""
    scene = open_scene(path, sensor=sensor, **options)
    reader = SceneReader(scene)
    try:
        grid = scene.grid
        for row, column in ((0, 0), (max(0, grid.height - 16), max(0, grid.width - 16))):
            values = reader.read((row, column, 16, 16))
            if values.shape != (len(scene.layers), 16, 16):
                raise Defect(f'a window of shape {values.shape}')
        reader.overview(32)
    finally:
        reader.close()


MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    SPACECRAFT_ID = "LANDSAT_8"
    SUN_ELEVATION = 30.0
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0E-05
    REFLECTANCE_ADD_BAND_4 = -0.1
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
"""
XML = (
    '<n1:L xmlns:n1="https://x/x"><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>'
    '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
    '<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET></n1:L>'
)
VRT = (
    '<VRTDataset rasterXSize="12" rasterYSize="12"><VRTRasterBand dataType="UInt16" band="1">'
    '<Description>B04</Description><SimpleSource><SourceFilename relativeToVRT="1">red.tif'
    '</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
)
YAML = """sources:
  - {name: a, path: ., sensor: sentinel2, product: l2a, pattern: '*.tif', size: [8, 8]}
  - {name: b, path: [., .], bands: [sentinel2:B04, 0.49], product: {scale: 1.0e-4, offset: -0.1}}
  - {dataset: EuroSAT200, bands: [sentinel2:B04], product: l2a, max_nodata: 0.1, args: {}}
"""
TOML = """[sensors.toy]
title = "Toy"
aliases = ["toy 1"]
default_group = "rgb"
bands = [
  {name = "R", wavelength_um = 0.66, bandwidth_um = 0.03, gsd_m = 3, common_name = "red"},
  {name = "N", wavelength_um = 0.86, gsd_m = 3},
]
[sensors.toy.groups]
rgb = ["R", "N"]
[sensors.toy.products]
sr = {scale = 1e-4, offset = 0, unit = "dn", quantity = "surface", nodata = 0, nodata_in = "each"}
"""


class Texts(Files):
    """Metadata and configurations, each beside the good images that it speaks of."""

    def make(self) -> None:
        raster = [{'scale': 1e-4, 'offset': -0.1, 'nodata': 0}]
        item = {
            'type': 'Feature', 'id': 'x', 'properties': {'platform': 'sentinel-2b'},
            'assets': {
                'red': {'href': './red.tif', 'eo:bands': [{'name': 'B04'}], 'raster:bands': raster},
                'nir': {'href': 'red.tif', 'bands': [{'center_wavelength': 0.84, **raster[0]}]},
                'visual': {'href': 'https://x/y.tif', 'roles': ['visual']},
            },
        }  # fmt: skip
        texts = {
            'item.json': json.dumps(item), 'LC08_MTL.txt': MTL, 'MTD_MSIL2A.xml': XML,
            'red.vrt': VRT, 'sources.yaml': YAML, 'sensors.toml': TOML,
        }  # fmt: skip
        self.valid = {name: text.encode() for name, text in texts.items()}
        for place in ('red.tif', 'L/LC08_B4.TIF', 'S/GRANULE/A/IMG_DATA/R10m/T_X_B04_10m.tif'):
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                path, 'w', driver='GTiff', dtype='uint16', count=1, height=12, width=12,
                crs='EPSG:32631', transform=from_origin(5e5, 4.65e6, 10, 10),
            ) as file:  # fmt: skip
                file.write(np.arange(144, dtype='uint16').reshape(1, 12, 12) + 900)

    def damage(self, name: str, rng: random.Random) -> bytes:
        return mutate(self.valid[name], rng, list(self.valid.values()), text=True)

    def path(self, name: str, index: int) -> Path:
        place = {'LC08_MTL.txt': 'L/LC08_MTL.txt', 'MTD_MSIL2A.xml': 'S/MTD_MSIL2A.xml'}
        return self.folder / place.get(name, f'{index}_{name}')

    def read(self, path: Path) -> None:
        with quiet():
            match path.suffix:
                case '.json':
                    attempt(lambda: read_scene(path), lambda: read_scene(path, None))
                case '.txt':
                    attempt(lambda: read_scene(path.parent, None, bands='landsat8:B4'))
                case '.xml':
                    attempt(lambda: read_scene(path.parent, None))
                case '.vrt':
                    options = {'product': 'l2a', 'drivers': ('GTiff', 'VRT')}
                    attempt(lambda: read_scene(path, **options))
                case '.yaml':
                    attempt(lambda: [Source.parse(block) for block in read_sources(path)])
                case _:
                    attempt(lambda: parse_document(_read(path), str(path)))


KINDS: dict[str, type[Files]] = {'checkpoints': Checkpoints, 'rasters': Rasters, 'texts': Texts}
