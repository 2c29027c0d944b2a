"""EuroSAT, UC Merced and BigEarthNet of TorchGeo, with the right bands, units and statistics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torchgeo.datasets as tg
from rasterio.errors import RasterioError
from torch.nn import functional as F

from ..bands import BandSpec, get_product, resolve_bands
from ..errors import ConfigError, DataError
from .base import BandDataset, Transform, checked_split
from .rasters import open_images, read_image, require
from .splits import hash_split

__all__ = ('BigEarthNet', 'EuroSAT', 'UCMerced')

T = TypeVar('T')
S2_L2A = resolve_bands('sentinel2:l2a')


def _opened(make: Callable[[], T], where: str) -> T:
    """Make a data set of TorchGeo, with our error where files are missing."""
    try:
        return make()
    except ImportError as error:
        raise DataError(
            f'its table needs one more package ({error}): pip install pyarrow'
        ) from error
    except (tg.DatasetNotFoundError, OSError, RuntimeError) as error:
        # Missing, or an archive that is damaged, or a folder without a single image.
        raise DataError(f'{str(error).rstrip(".")}. {where}') from error


def _complete(
    inner: Any, root: str | os.PathLike[str], split: str, where: str
) -> list[tuple[str, int]]:
    """Paths and labels of a split, all that its list names; TorchGeo leaves out what is missing."""
    path = Path(root) / inner.split_filenames[split]
    wanted = {Path(line).stem for line in path.read_text().split()}
    missing = sorted(wanted - {Path(file).stem for file, _ in inner.samples})
    if missing:
        listed = f'{", ".join(missing[:3])}{" ..." if len(missing) > 3 else ""}'
        raise DataError(
            f'{len(missing)} of the {len(wanted)} images that {path} lists are missing: {listed}. '
            f'Unpack the data again. {where}'
        )
    return list(inner.samples)


class EuroSAT(BandDataset):
    """EuroSAT, 27,000 chips of Sentinel-2 with 64 x 64 px and ten classes (Helber et al. 2019).

    The files hold level 1C with 13 bands, B8A last. Files, splits and download are TorchGeo's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        variant: Literal['standard', 'spatial', '100'] = 'standard',
        transforms: Transform | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """List the chips of a split.

        Args:
            root: folder of the data.
            split: ``'train'``, ``'val'`` or ``'test'``.
            bands: bands wanted, in their order; all 13 in file order where not given.
            variant: TorchGeo's splits: ``'standard'``, ``'spatial'`` (by longitude), or ``'100'``,
                a hundred chips for trying out.
            transforms: takes and returns a sample.
            download: get the data if they are not there.
            checksum: check the archive.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split or variant.
            DataError: if files are missing.
        """
        classes = {'standard': tg.EuroSAT, 'spatial': tg.EuroSATSpatial, '100': tg.EuroSAT100}
        if variant not in classes:
            raise ConfigError(f'variant must be one of {", ".join(classes)}, got {variant!r}')
        stored = resolve_bands('sentinel2:eurosat')
        super().__init__(stored, bands, get_product('sentinel2:l1c'), transforms)
        self.split = checked_split(split, self.splits)
        self.variant = variant
        where = (
            'It is EuroSATallBands.zip of the data set torchgeo/eurosat on the Hugging Face hub.'
        )
        chosen: Any = classes[variant]
        inner = _opened(lambda: chosen(root, split, download=download, checksum=checksum), where)
        self.classes = tuple(inner.classes)
        pairs = _complete(inner, root, split, where)
        self.files = [path for path, _ in pairs]
        self.labels = [label for _, label in pairs]
        self._reader = open_images('EuroSAT', self.files, stored, self.product)

    def __len__(self) -> int:
        """Number of chips."""
        return len(self.labels)

    def load(self, index: int) -> dict[str, Any]:
        """Read a chip.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 64, 64) and ``label``.

        Raises:
            DataError: if its file is missing or damaged.
        """
        image = read_image(self._reader, index, self.channels)
        return {'image': image, 'label': torch.tensor(self.labels[index])}


class UCMerced(BandDataset):
    """UC Merced, 2,100 aerial images with 256 x 256 px at 0.3 m and 21 classes (Yang, Newsam 2010).

    Images of another size are resized, as in TorchGeo.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        split_rule: Literal['torchgeo', 'hash'] = 'torchgeo',
        transforms: Transform | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """List the images of a split.

        Args:
            root: folder of the data, with ``UCMerced_LandUse/Images``.
            split: ``'train'``, ``'val'`` or ``'test'``.
            bands: bands wanted, in their order; red, green and blue where not given.
            split_rule: ``'torchgeo'``, by its lists ``uc_merced-train.txt`` ... in *root*; or
                ``'hash'``, 60, 20 and 20 % of each class by the hash of the names, which needs
                no lists.
            transforms: takes and returns a sample.
            download: get the data if they are not there.
            checksum: check the archive.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split or rule.
            DataError: if files are missing.
        """
        stored = resolve_bands('rgb')
        super().__init__(stored, bands, get_product('uint8'), transforms)
        self.split = checked_split(split, self.splits)
        self.split_rule = checked_rule(split_rule)
        where = (
            'It is UCMerced_LandUse.zip and the three lists uc_merced-*.txt of the data set '
            "torchgeo/ucmerced on the Hugging Face hub; without the lists give split_rule='hash'."
        )
        if split_rule == 'torchgeo':
            inner: Any = _opened(
                lambda: tg.UCMerced(root, split, download=download, checksum=checksum),  # type: ignore[arg-type, unused-ignore]
                where,
            )
            pairs = _complete(inner, root, split, where)
            self.classes = tuple(inner.classes)
        else:
            folder = require(Path(root) / 'UCMerced_LandUse' / 'Images', 'UC Merced', where)
            self.classes = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
            pairs = [
                (str(path), label)
                for label, name in enumerate(self.classes)
                for path in sorted((folder / name).glob('*.tif'))
            ]
            names = [Path(path).name for path, _ in pairs]
            parts = hash_split(names, [label for _, label in pairs])
            pairs = [pair for pair, part in zip(pairs, parts, strict=True) if part == split]
        self.files = [path for path, _ in pairs]
        self.labels = [label for _, label in pairs]
        self._reader = open_images('UCMerced', self.files, stored, self.product)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def load(self, index: int) -> dict[str, Any]:
        """Read an image.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 256, 256) and ``label``.

        Raises:
            DataError: if its file is missing or damaged.
        """
        image = read_image(self._reader, index, self.channels)
        if image.shape[1:] != (256, 256):
            image = F.interpolate(
                image[None], (256, 256), mode='bilinear', align_corners=False, antialias=True
            )[0].clamp(0, 255)  # rounding makes white a little whiter
        return {'image': image, 'label': torch.tensor(self.labels[index])}


def checked_rule(rule: str) -> str:
    """Check the name of a rule of splitting."""
    if rule not in ('torchgeo', 'hash'):
        raise ConfigError(f"split_rule must be 'torchgeo' or 'hash', got {rule!r}")
    return rule


class BigEarthNet(BandDataset):
    """BigEarthNet, patches of Sentinel-2 level 2A with 120 x 120 px and several classes each.

    Twelve bands, all resampled to 10 m; there is no B10. Version 1 has 590,326 patches with 19 or
    43 classes (Sumbul et al. 2019 and 2021), version 2 has 480,038 with 19, better labels and
    splits that keep neighbors together (Clasen et al. 2024). Files, splits and download are
    TorchGeo's, which for version 2 wants radar images and maps there, too.

    .. versionadded:: 0.1
    """

    target = 'classes'

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: BandSpec | None = None,
        version: Literal[1, 2] = 2,
        num_classes: Literal[19, 43] = 19,
        transforms: Transform | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """List the patches of a split.

        Args:
            root: folder of the data.
            split: ``'train'``, ``'val'`` or ``'test'``.
            bands: bands wanted, in their order; all twelve where not given.
            version: 1 or 2.
            num_classes: 19, or 43 with version 1.
            transforms: takes and returns a sample.
            download: get the data if they are not there (about 60 GB and more).
            checksum: check the archives.

        Raises:
            BandError: if a band is unknown or not stored.
            ConfigError: if there is no such split, version or number of classes.
            DataError: if files are missing.
        """
        super().__init__(S2_L2A, bands, get_product('sentinel2:l2a'), transforms)
        self.split = checked_split(split, self.splits)
        if (version, num_classes) not in ((1, 19), (1, 43), (2, 19)):
            raise ConfigError(
                f'version=1 has num_classes=19 or 43, version=2 has 19; got version={version}, '
                f'num_classes={num_classes}'
            )
        self.version = version
        where = 'The archives are listed on bigearth.net.'
        options: dict[str, Any] = {'bands': 's2', 'download': download, 'checksum': checksum}
        if version == 1:
            inner: Any = _opened(
                lambda: tg.BigEarthNet(root, split, num_classes=num_classes, **options),  # type: ignore[arg-type, unused-ignore]
                where,
            )
            self.classes = tuple(tg.BigEarthNet.class_sets[num_classes])
            names = [os.path.basename(folder['s2']) for folder in inner.folders]
        else:
            inner = _opened(
                lambda: tg.BigEarthNetV2(root, split, **options),  # type: ignore[arg-type, unused-ignore]
                where,
            )
            self.classes = tuple(inner.class_set)
            names = [str(name) for name in inner.metadata_df['patch_id']]
        self._inner = inner
        #: name of each patch
        self.names: Sequence[str] = names
        # Of one acquisition, and in version 2 of one tile of it: all but row and column.
        self.groups = [name.rsplit('_', 2)[0] for name in names]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.names)

    def fingerprint(self) -> str:
        """Hash of version, bands and names: half a million folders are not looked at.

        Returns:
            The hash.
        """
        facts = (self.version, self.bands, self.classes, self.product.name, list(self.names))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def load(self, index: int) -> dict[str, Any]:
        """Read a patch.

        Args:
            index: which one.

        Returns:
            ``image`` (C, 120, 120) and ``label``, zeros and ones for each class.

        Raises:
            DataError: if its files are missing or damaged.
        """
        try:
            sample = self._inner[index]
        except (RasterioError, OSError, ValueError, LookupError, RuntimeError) as error:
            raise DataError(
                f'patch {self.names[index]} is damaged or incomplete '
                f'({type(error).__name__}: {error}): unpack it again'
            ) from error
        image = sample['image']
        if len(image) != len(S2_L2A):
            raise DataError(
                f'patch {self.names[index]} has {len(image)} files of bands instead of '
                f'{len(S2_L2A)}: unpack it again'
            )
        return {'image': image[self.channels], 'label': sample['label']}
