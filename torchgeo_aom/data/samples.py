"""Real images that ship with the package: chips of EuroSAT; places as L1C, L2A and land cover."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio.errors import RasterioError
from torch import Tensor
from torchgeo.datasets import NonGeoDataset

from torchgeo_aom.bands import Band, BandSpec, get_product, resolve_bands
from torchgeo_aom.errors import BandError, ConfigError, DataError, InputError, suggest

__all__ = ('SAMPLES', 'EuroSAT200', 'SentinelPairs', 'composite')

SAMPLES = Path(__file__).parent / 'samples'
CELL_M = 100_000
FOLDS = 5

Transform = Callable[[dict[str, Any]], dict[str, Any]]


def _select(spec: BandSpec | None, stored: str) -> tuple[Band, ...]:
    """Bands asked for, all of them in file order where none are named."""
    available = resolve_bands(stored)
    if spec is None:
        return available
    names = [band.name for band in available]
    bands = resolve_bands(spec, 'sentinel2')
    for band in bands:
        if band.sensor != 'sentinel2' or band.name not in names:
            raise BandError(
                f'band {band.label!r} is not in these files{suggest(band.name, names)}. '
                f'They hold Sentinel-2 {", ".join(names)}'
            )
    return bands


def _open(path: Path) -> rasterio.DatasetReader:
    if not path.is_file():
        raise DataError(f'{path} is missing; reinstall torchgeo_aom, or correct root=')
    try:
        return rasterio.open(path)
    except RasterioError as error:
        raise DataError(f'{path} cannot be opened, it is damaged or no GeoTIFF: {error}') from error


def _read(path: Path, names: Sequence[str] | None, size: int) -> np.ndarray[Any, Any]:
    """Read bands by their names (C, H, W), or the only band (1, H, W)."""
    with _open(path) as file:
        missing = [name for name in names or () if name not in file.descriptions]
        if missing or file.shape != (size, size):
            raise DataError(
                f'{path} is not the file it should be: {size} x {size} px with the bands '
                f'{names or "of one mask"} were expected, it has {file.width} x {file.height} px '
                f'and the bands {file.descriptions}'
            )
        channels = [file.descriptions.index(name) + 1 for name in names] if names else [1]
        try:
            values: np.ndarray[Any, Any] = file.read(channels)
        except RasterioError as error:
            raise DataError(f'{path} is damaged: {error}') from error
    return values


def composite(image: Tensor, bands: BandSpec) -> np.ndarray[Any, Any]:
    """Make a picture of an image: true color, or the first bands where one of those is missing.

    Args:
        image: image of shape (C, H, W).
        bands: what its channels are: a preset such as ``'landsat8'``, or a list in their order.

    Returns:
        Picture of shape (H, W, 3), 0 to 1, stretched from the 2nd to the 98th percentile.

    Raises:
        BandError: if the bands are unknown, or not as many as the channels.
        InputError: if there is not one image.

    .. versionadded:: 0.1
    """
    if image.ndim != 3:
        shape = tuple(image.shape)
        raise InputError(f'a picture is made of one image (C, H, W), got shape {shape}: images[0]?')
    names = [band.common_name for band in resolve_bands(bands, channels=len(image))]
    channels = [names.index(name) if name in names else -1 for name in ('red', 'green', 'blue')]
    if -1 in channels:
        channels = ([0, 1, 2] if len(names) > 2 else [0])[:3]
    picture = image[channels].float().expand(3, -1, -1).permute(1, 2, 0).numpy()
    low, high = np.percentile(picture, (2, 98), axis=(0, 1))
    return np.asarray(np.clip((picture - low) / np.maximum(high - low, 1e-9), 0, 1))


def _panels(count: int, suptitle: str | None) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4 * count, 4.6), layout='constrained')
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    figure.suptitle(suptitle or '')
    return figure, panels


class _Samples(NonGeoDataset):
    """What both data sets share: bands by name, transforms, a picture."""

    def __init__(self, bands: tuple[Band, ...], transforms: Transform | None, root: Path) -> None:
        self.root = root
        self.transforms = transforms
        self._bands = bands
        #: bands of the channels, each with its sensor
        self.bands: tuple[str, ...] = tuple(band.label for band in bands)
        self._names = [band.name for band in bands]

    def _transformed(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample if self.transforms is None else self.transforms(sample)

    def _checked(self, index: int) -> int:
        """The index as a position, so that iteration over the data set ends."""
        if not -len(self) <= index < len(self):
            raise IndexError(f'index {index} is out of range: there are {len(self)} samples')
        return index % len(self)


class EuroSAT200(_Samples):
    """200 labelled 13-band chips of EuroSAT: 20 of each class, from 113 cells of 100 km.

    Values are digital numbers of Sentinel-2 L1C, reflectance x 10000. Chips of one cell are always
    in the same fold: neighbors look alike, and a random split would reward that.

    See ``samples/ATTRIBUTION.md`` for source and license. If you use it, please cite:

    * https://doi.org/10.1109/JSTARS.2019.2918242

    .. versionadded:: 0.1
    """

    product = 'sentinel2:l1c'
    classes = (
        'AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway', 'Industrial',
        'Pasture', 'PermanentCrop', 'Residential', 'River', 'SeaLake',
    )  # fmt: skip
    size = 64

    def __init__(
        self,
        bands: BandSpec | None = None,
        split: str = 'all',
        fold: int = 0,
        transforms: Transform | None = None,
        root: str | Path = SAMPLES,
    ) -> None:
        """Initialize the data set.

        Args:
            bands: Sentinel-2 bands in the order wanted, by name; all 13 in file order (B8A last)
                where not given.
            split: ``'all'``, or ``'train'`` or ``'test'`` of the fold.
            fold: which of the 5 folds is the test split, 0 to 4.
            transforms: takes and returns a sample.
            root: folder that holds ``eurosat200``.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if split or fold are unknown.
            DataError: if a file is missing or damaged.
        """
        super().__init__(_select(bands, 'sentinel2:eurosat'), transforms, Path(root) / 'eurosat200')
        if split not in ('all', 'train', 'test'):
            raise ConfigError(f"split must be 'all', 'train' or 'test', got {split!r}")
        if fold not in range(FOLDS):
            raise ConfigError(f'fold must be 0 to {FOLDS - 1}, got {fold!r}')
        self.class_to_idx = {name: k for k, name in enumerate(self.classes)}
        files = [self.root / c / f'{c}_{n}.tif' for c in self.classes for n in range(1, 21)]
        cells = [_cell(path) for path in files]
        labels = np.repeat(np.arange(len(self.classes)), 20)
        folds = _assign_folds(cells, labels)
        chosen = {'all': folds >= 0, 'test': folds == fold, 'train': folds != fold}[split]
        keep = np.flatnonzero(chosen)
        self.files = tuple(files[k] for k in keep)
        #: cell of 100 km of each chip, as UTM zone, easting and northing in units of 100 km
        self.cells = tuple(cells[k] for k in keep)
        self.labels = labels[keep]
        self.folds = folds[keep]

    def assign_folds(self, seed: int) -> np.ndarray[Any, Any]:
        """Fold of each chip, 0 to 4, by another assignment of cells; seed 0 gives :attr:`folds`."""
        return _assign_folds(self.cells, self.labels, seed)

    def __len__(self) -> int:
        """Number of chips."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a chip.

        Args:
            index: which one.

        Returns:
            ``image``, float32 of shape (C, 64, 64), and ``label``.

        Raises:
            DataError: if the file is missing or damaged.
            IndexError: if there is no such chip.
        """
        index = self._checked(index)
        image = _read(self.files[index], self._names, self.size).astype(np.float32)
        label = torch.tensor(int(self.labels[index]))
        return self._transformed({'image': torch.from_numpy(image), 'label': label})

    def plot(
        self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a chip in true color, or in its first bands where red, green or blue are missing.

        Args:
            sample: what :meth:`__getitem__` returned, perhaps with a ``prediction``.
            show_titles: whether to name the class.
            suptitle: title of the figure.

        Returns:
            The figure.
        """
        title = f'label: {self.classes[int(sample["label"])]}'
        if 'prediction' in sample:
            title += f'\nprediction: {self.classes[int(sample["prediction"])]}'
        figure, (axes,) = _panels(1, suptitle)
        axes.imshow(composite(sample['image'], self._bands))
        axes.set_title(title if show_titles else '')
        return figure


def _cell(path: Path) -> str:
    """Cell of 100 km that the center of a file is in, from its georeference."""
    with _open(path) as file:
        zone = file.crs.to_epsg() if file.crs else None
        if zone is None or not 32601 <= zone <= 32760:
            raise DataError(f'{path} has no UTM georeference (CRS {file.crs}), so it has no place')
        west, south, east, north = file.bounds
    hemisphere = 'N' if zone < 32700 else 'S'
    x, y = (west + east) / 2 // CELL_M, (south + north) / 2 // CELL_M
    return f'{zone % 100:02d}{hemisphere}_{x:.0f}_{y:.0f}'


def _assign_folds(
    cells: Sequence[str], labels: np.ndarray[Any, Any], seed: int = 0
) -> np.ndarray[Any, Any]:
    """Fold of each chip: whole cells, largest first, to where their classes are fewest."""
    names, member = np.unique(cells, return_inverse=True)
    content = np.zeros((len(names), labels.max() + 1), dtype=int)
    np.add.at(content, (member, labels), 1)
    filled = np.zeros((FOLDS, content.shape[1]), dtype=int)
    fold_of = np.zeros(len(names), dtype=int)
    order = np.random.default_rng(seed).permutation(len(names))
    for cell in order[np.argsort(-content.sum(1)[order], kind='stable')]:
        # First the classes of this cell, then the size of the fold.
        load = (filled * content[cell]).sum(1) + filled.sum(1) / filled.size
        fold_of[cell] = int(load.argmin())
        filled[fold_of[cell]] += content[cell]
    return fold_of[member]


class SentinelPairs(_Samples):
    """Five places as Sentinel-2 L1C and L2A with land cover, 224 x 224 px of 10 m each.

    Values are reflectance: scenes with and without the 2022 offset are mixed, so each file is
    converted by the product that ``places.csv`` declares for it. One place is all snow: split
    within places (west and east), not by place.

    See ``samples/ATTRIBUTION.md`` for source and license.

    .. versionadded:: 0.1
    """

    product = 'reflectance'
    classes = (
        'water', 'trees', 'flooded vegetation', 'crops',
        'built area', 'bare ground', 'snow or ice', 'rangeland',
    )  # fmt: skip
    #: Okabe and Ito's colors, which color-blind readers can tell apart, and white for snow.
    colors = (
        '#0072B2', '#009E73', '#56B4E9', '#F0E442',
        '#D55E00', '#E69F00', '#FFFFFF', '#CC79A7',
    )  # fmt: skip
    ignore_index = 255
    ignore_color = '#7F7F7F'
    size = 224
    _codes = (1, 2, 3, 4, 5, 6, 7, 9)  # 8 is clouds, 0 is absent: ignored

    def __init__(
        self,
        product: str = 'l2a',
        bands: BandSpec | None = None,
        half: str | None = None,
        transforms: Transform | None = None,
        root: str | Path = SAMPLES,
    ) -> None:
        """Initialize the data set.

        Args:
            product: ``'l1c'`` (top of atmosphere, 13 bands) or ``'l2a'`` (surface, without B10).
            bands: Sentinel-2 bands in the order wanted, by name; all where not given.
            half: ``'west'`` or ``'east'`` half of each place, which do not overlap; None for all.
            transforms: takes and returns a sample.
            root: folder that holds ``sentinel2_pairs``.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if product or half are unknown.
            DataError: if the list of places is missing or damaged.
        """
        if product not in ('l1c', 'l2a'):
            raise ConfigError(f"product must be 'l1c' or 'l2a', got {product!r}")
        if half not in (None, 'west', 'east'):
            raise ConfigError(f"half must be 'west', 'east' or None, got {half!r}")
        super().__init__(
            _select(bands, f'sentinel2:{product}'), transforms, Path(root) / 'sentinel2_pairs'
        )
        self.level = product
        self.half = half
        self.places = _places(self.root / 'places.csv')

    def __len__(self) -> int:
        """Number of places."""
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a place, or the half of it.

        Args:
            index: which one.

        Returns:
            ``image``, float32 of shape (C, 224, 224 or 112), and ``mask`` with classes 0 to 7, and
            255 where there is none.

        Raises:
            DataError: if a file is missing or damaged.
            IndexError: if there is no such place.
        """
        place = self.places[self._checked(index)]
        name = f'{place["place"]}.tif'
        product = get_product(place[self.level], 'sentinel2')
        values = _read(self.root / self.level / name, self._names, self.size)
        image = values.astype(np.float64) * product.scale + product.offset
        table = np.full(256, self.ignore_index, dtype=np.int64)
        table[list(self._codes)] = np.arange(len(self.classes))
        mask = table[_read(self.root / 'lulc' / name, None, self.size)[0]]
        middle = self.size // 2
        columns = {'west': slice(middle), 'east': slice(middle, None), None: slice(None)}[self.half]
        pixels = torch.from_numpy(image[:, :, columns].astype(np.float32))
        return self._transformed(
            {'image': pixels, 'mask': torch.from_numpy(mask[:, columns].copy())}
        )

    def plot(
        self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a place and its land cover; arguments as of :meth:`EuroSAT200.plot`."""
        maps = {key: sample[key] for key in ('mask', 'prediction') if key in sample}
        figure, panels = _panels(1 + len(maps), suptitle)
        panels[0].imshow(composite(sample['image'], self._bands))
        most = len(self.classes) - 1
        colors = ListedColormap(self.colors).with_extremes(over=self.ignore_color)
        for axes, values in zip(panels[1:], maps.values(), strict=True):
            axes.imshow(np.asarray(values), cmap=colors, vmin=0, vmax=most, interpolation='none')
        for axes, title in zip(panels, ('image', *maps), strict=True):
            axes.set_title(title if show_titles else '')
        seen = sorted({int(k) for values in maps.values() for k in np.unique(values)})
        names = {**dict(enumerate(self.classes)), self.ignore_index: 'no label'}
        shades = {**dict(enumerate(self.colors)), self.ignore_index: self.ignore_color}
        handles = [Patch(facecolor=shades[k], edgecolor='black', label=names[k]) for k in seen]
        figure.legend(handles=handles, loc='outside lower center', ncols=4)
        return figure


def _places(path: Path) -> tuple[dict[str, str], ...]:
    """Read which product each file of each place is."""
    if not path.is_file():
        raise DataError(f'{path} is missing; reinstall torchgeo_aom, or correct root=')
    with path.open(encoding='utf-8', newline='') as file:
        rows = tuple(csv.DictReader(file))
    for row in rows:
        for level in ('l1c', 'l2a'):
            if row.get(level) not in (level, f'{level}_2022'):
                raise DataError(
                    f'{path}: {row.get("place")!r} declares no known product for {level}: '
                    f'{row.get(level)!r}; allowed are {level!r} and {level + "_2022"!r}'
                )
    return rows
