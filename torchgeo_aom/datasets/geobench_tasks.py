"""Facts about the tasks of GEO-Bench v1: which band each stored name is, its unit, its classes.

The converters of GEO-Bench (github.com/ServiceNow/geo-bench, `make_benchmark/dataset_converters`)
say under which names bands were stored. Two tasks have wrong band names, one has wrong class names;
what is right, and how it is known, stands beside each. What is not known for sure stands in
`Task.doubt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from ..bands import Band, Product, resolve_bands
from ..data.samples import EuroSAT200
from ..errors import ConfigError, suggest
from ..models.patch_rule import choose_patch_size
from .base import Target

__all__ = ('TASKS', 'Task', 'find_task')

# Names of the benchmark. Right for m-bigearthnet, m-so2sat, m-cashew-plant and m-SA-crop-type.
SENTINEL2 = {
    'B01': '01 - Coastal aerosol',
    'B02': '02 - Blue',
    'B03': '03 - Green',
    'B04': '04 - Red',
    'B05': '05 - Vegetation Red Edge',
    'B06': '06 - Vegetation Red Edge',
    'B07': '07 - Vegetation Red Edge',
    'B08': '08 - NIR',
    'B8A': '08A - Vegetation Red Edge',
    'B09': '09 - Water vapour',
    'B10': '10 - SWIR - Cirrus',
    'B11': '11 - SWIR',
    'B12': '12 - SWIR',
}
L2A = {name: stored for name, stored in SENTINEL2.items() if name != 'B10'}

# Wrong: EuroSAT's files end B08, B09, B10, B11, B12, B8A (phelber/EuroSAT#7, torchgeo#2480), the
# converter took them for B08, B8A, B09, B10, B11, B12 (geo-bench#28). What is stored as '09 - Water
# vapour' has a mean of 12 of 10000, as B10 of EuroSAT has and no water vapor band can have.
EUROSAT = {
    **SENTINEL2,
    'B09': '08A - Vegetation Red Edge',
    'B10': '09 - Water vapour',
    'B11': '10 - SWIR - Cirrus',
    'B12': '11 - SWIR',
    'B8A': '12 - SWIR',
}
# Wrong: the exported bands were B1, B2, B3, B4, B5, B7, B8A, B8, B11, B12, TCI_R, TCI_G, TCI_B
# (geo-bench#29, mliu356/kiln-scaling notebooks/get_images.ipynb); the last three are a picture, no
# measured values: at most 255, and not read here.
BRICK_KILN = {
    **{name: SENTINEL2[name] for name in ('B01', 'B02', 'B03', 'B04', 'B05')},
    'B07': '06 - Vegetation Red Edge',
    'B08': '08 - NIR',
    'B8A': '07 - Vegetation Red Edge',
    'B11': '08A - Vegetation Red Edge',
    'B12': '09 - Water vapour',
}
# Ten bands of Sentinel-2, and eight of Sentinel-1 whose names begin alike ('02 - VH.Imaginary'):
# names are compared whole, never by their number.
SO2SAT = {name: stored for name, stored in L2A.items() if name not in ('B01', 'B09')}
# Landsat-8 (torchgeo-bench#256), where 05 is near infrared and not red edge.
LANDSAT8 = {
    'B2': '02 - Blue',
    'B3': '03 - Green',
    'B4': '04 - Red',
    'B5': '05 - NIR',
    'B6': '06 - SWIR1',
    'B7': '07 - SWIR2',
}
RGB = {'red': 'Red', 'green': 'Green', 'blue': 'Blue'}
RGBN = {'R': 'Red', 'G': 'Green', 'B': 'Blue', 'NIR': 'NearInfrared'}

# The values of So2Sat and Chesapeake were divided before they were stored: nothing is left to do.
TOA = Product('toa', 1.0, 0.0, 'reflectance', 'top-of-atmosphere reflectance', quantity='toa')
DISPLAY = Product(
    'display', 1.0, 0.0, 'reflectance', '8-bit display values, divided by 255', quantity='display'
)

KILN = ('not brick kiln', 'brick kiln')
SOLAR = ('no solar pv', 'solar pv')
CASHEW = (
    'no data',
    'well-managed plantation',
    'poorly-managed plantation',
    'non-plantation',
    'residential',
    'background',
    'uncertain',
)
CROPS = (
    'no data',
    'lucerne/medics',
    'planted pastures (perennial)',
    'fallow',
    'wine grapes',
    'weeds',
    'small grain grazing',
    'wheat',
    'canola',
    'rooibos',
)
# Wrong: the converter names value 0 water and 6 no data. In the files 1 is water (near infrared of
# 0), 2 are trees (highest NDVI), 4 is beach and 6 are roads, as in the maps of the Chesapeake
# Conservancy, where classes begin with 1; 0 does not occur in the genuine samples.
CHESAPEAKE = (
    'no data',
    'water',
    'tree canopy, forest',
    'low vegetation, field',
    'barren land',
    'impervious, other',
    'impervious, roads',
)
FORESTNET = (
    'oil palm plantation',
    'timber plantation',
    'other large-scale plantations',
    'grassland shrubland',
    'small-scale agriculture',
    'small-scale mixed plantation',
    'small-scale oil palm plantation',
    'mining',
    'fish pond',
    'logging',
    'secondary forest',
    'other',
)
# Local climate zones 1 to 10 and A to G, as So2Sat orders them.
ZONES = (
    'compact high rise',
    'compact mid rise',
    'compact low rise',
    'open high rise',
    'open mid rise',
    'open low rise',
    'lightweight low rise',
    'large low rise',
    'sparsely built',
    'heavy industry',
    'dense trees',
    'scattered trees',
    'bush, scrub',
    'low plants',
    'bare rock or paved',
    'bare soil or sand',
    'water',
)
# The 43 classes of BigEarthNet: CORINE Land Cover, level 3, in the order of its numbers.
CORINE = tuple(
    """
    Continuous urban fabric; Discontinuous urban fabric; Industrial or commercial units; Road and
    rail networks and associated land; Port areas; Airports; Mineral extraction sites; Dump sites;
    Construction sites; Green urban areas; Sport and leisure facilities; Non-irrigated arable land;
    Permanently irrigated land; Rice fields; Vineyards; Fruit trees and berry plantations; Olive
    groves; Pastures; Annual crops associated with permanent crops; Complex cultivation patterns;
    Land principally occupied by agriculture, with significant areas of natural vegetation;
    Agro-forestry areas; Broad-leaved forest; Coniferous forest; Mixed forest; Natural grassland;
    Moors and heathland; Sclerophyllous vegetation; Transitional woodland/shrub; Beaches, dunes,
    sands; Bare rock; Sparsely vegetated areas; Burnt areas; Inland marshes; Peatbogs; Salt marshes;
    Salines; Intertidal flats; Water courses; Water bodies; Coastal lagoons; Estuaries; Sea and
    ocean
    """.split(';')
)
CORINE = tuple(' '.join(name.split()) for name in CORINE)


@dataclass(frozen=True)
class Task:
    """What is known of a task.

    Attributes:
        name: its name in release 1.0.
        target: what images are labelled with.
        sensor: what band names belong to.
        stored: name of each band in the files, by our name, in our order.
        product: how values are stored.
        classes: names of the classes, in the order of their numbers.
        size: height and width of the images in px.
        gsd_m: ground sampling distance in meters.
        no_data: class that stands for pixels nobody labelled, if there is one.
        aliases: other names of its folder.
        left_out: stored names that are never read, and what they are.
        doubt: what is not known for sure.
    """

    name: str
    target: Target
    sensor: str
    stored: dict[str, str]
    product: str | Product
    classes: tuple[str, ...]
    size: int
    gsd_m: float
    no_data: int | None = None
    aliases: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    doubt: str = ''

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands, in our order."""
        return resolve_bands(list(self.stored), self.sensor)

    @property
    def patch_size(self) -> int:
        """Patch size in px by the rule of ``'auto'``."""
        return choose_patch_size(self.size)

    @property
    def collection(self) -> str:
        """Folder that the task belongs into, without the release."""
        return 'segmentation' if self.target == 'mask' else 'classification'


_CLOUDS = ('Cloud Probability',)
_ALL = (
    Task(
        # L1C, reflectance x 10000: means are those that TorchGeo publishes for EuroSAT.
        'm-eurosat', 'class', 'sentinel2', EUROSAT, 'sentinel2:eurosat', EuroSAT200.classes,
        size=64, gsd_m=10,
    ),
    Task(
        # BigEarthNet 1.0 is L2A: no B10, and means as its authors publish them.
        'm-bigearthnet', 'classes', 'sentinel2', L2A, 'sentinel2:l2a', CORINE,
        size=120, gsd_m=10,
    ),
    Task(
        # Values of 0.0001 to 2.8, mean of blue 0.13: L1C, divided by 10000.
        'm-so2sat', 'class', 'sentinel2', SO2SAT, TOA, ZONES, size=32, gsd_m=10,
        left_out=(
            '01 - VH.Real', '02 - VH.Imaginary', '03 - VV.Real', '04 - VV.Imaginary',
            '05 - VH.LEE Filtered', '06 - VV.LEE Filtered', '07 - VH.LEE Filtered.Real',
            '08 - VV.LEE Filtered.Imaginary',
        ),
    ),
    Task(
        # The picture bands TCI exist in L2A only, and coastal aerosol has a mean of 0.06.
        'm-brick-kiln', 'class', 'sentinel2', BRICK_KILN, 'sentinel2:l2a', KILN,
        size=64, gsd_m=10, aliases=('brick_kiln_v1.0',),
        left_out=('10 - SWIR - Cirrus', '11 - SWIR', '12 - SWIR'),
    ),
    Task(
        'm-forestnet', 'class', 'landsat8', LANDSAT8, 'uint8', FORESTNET,
        size=332, gsd_m=15, aliases=('forestnet_v1.0',),
        doubt='how its 8-bit values were made from reflectance is not stated',
    ),
    Task(
        'm-pv4ger', 'class', 'rgb', RGB, 'uint8', SOLAR,
        size=320, gsd_m=0.1, aliases=('pv4ger_classification',),
    ),
    Task(
        'm-pv4ger-seg', 'mask', 'rgb', RGB, 'uint8', SOLAR,
        size=320, gsd_m=0.1, aliases=('pv4ger_segmentation',),
    ),
    Task(
        # Names of bands and label carry the year: 'Red_2014-01-01', 'label_2014-01-01'.
        'm-nz-cattle', 'mask', 'rgb', RGB, 'uint8', ('no cattle', 'cattle'),
        size=500, gsd_m=0.1, aliases=('nz_cattle_segmentation',),
    ),
    Task(
        # Trees are ellipses in boxes. Canopy height and 369 bands have 40 x 40 px: not read.
        'm-NeonTree', 'mask', 'rgb', RGB, 'uint8', ('no tree', 'tree'),
        size=400, gsd_m=0.1, aliases=('m-neontree', 'NeonTree_segmentation'),
        left_out=('Canopy Height Model', 'Neon'),
    ),
    Task(
        # Names of bands carry the day. Images are of Sentinel-2, L2A without B10.
        'm-cashew-plant', 'mask', 'sentinel2', L2A, 'sentinel2:l2a', CASHEW,
        size=256, gsd_m=10, no_data=0, left_out=_CLOUDS,
        aliases=('m-cashew-plantation', 'smallholder_cashew'),
        doubt='reflectance x 10000 follows from its source, no file was at hand to confirm it; its '
        'files say 0.5 m, but 120 square kilometers on 1186 x 1122 pixels are 10 m',
    ),
    Task(
        'm-SA-crop-type', 'mask', 'sentinel2', L2A, 'uint8', CROPS,
        size=256, gsd_m=10, no_data=0, left_out=_CLOUDS,
        aliases=('m-sa-crop-type', 'southAfricaCropType'),
        doubt='values are 8-bit (means of 12 to 83); how they were made from reflectance is not '
        'stated',
    ),
    Task(
        # Order of the files: Red, Green, Blue, NearInfrared. 0 to 1, in steps of 1/255.
        'm-chesapeake', 'mask', 'naip', RGBN, DISPLAY, CHESAPEAKE,
        size=256, gsd_m=1, no_data=0,
        aliases=('m-chesapeake-landcover', 'm-chesapeake-lancover', 'cvpr_chesapeake_landcover'),
    ),
)  # fmt: skip
#: Tasks by name.
TASKS = MappingProxyType({task.name: task for task in _ALL})


def find_task(name: str) -> Task:
    """Find a task.

    Args:
        name: its name, or another name of its folder.

    Returns:
        The task.

    Raises:
        ConfigError: if there is none.
    """
    for task in TASKS.values():
        if name in (task.name, *task.aliases):
            return task
    raise ConfigError(
        f'GEO-Bench v1 has no task {name!r}{suggest(str(name), TASKS)}. It has {", ".join(TASKS)}'
    )
