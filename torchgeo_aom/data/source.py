"""A source of images for pretraining: what one YAML block declares, and how samples are read."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray

from torchgeo_aom.bands import Band, Product, get_product, plain_band, resolve_bands
from torchgeo_aom.catalogue import find_sensor
from torchgeo_aom.errors import BandError, ConfigError, DataError, suggest
from torchgeo_aom.transforms import Normalize

__all__ = (
    'BadFiles',
    'BadSampleError',
    'Pixels',
    'Reader',
    'Source',
    'WindowOf',
    'match_bands',
    'read_sources',
)

logger = logging.getLogger(__name__)

# Attributes of a source that are no keys of a block: they follow from others.
_FOLLOWS = ('file_scale', 'ignore_file_scale', 'nodata_in')

#: Height and width of an image -> first row, first column, height and width of the part to read.
WindowOf = Callable[[int, int], tuple[int, int, int, int]]


class Pixels(NamedTuple):
    """Stored values (C, H, W) and where they are valid (C, H, W), None for everywhere."""

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None


class Reader(Protocol):
    """Where samples come from: a folder today, a shard file tomorrow.

    A reader holds no open file, so that worker processes can share it.
    """

    #: height and width of the chips that this source gives
    size: tuple[int, int]

    def __len__(self) -> int:
        """Number of samples."""

    def read(self, index: int, window: WindowOf | None = None, seed: int = 0) -> Pixels:
        """Read a sample, or the part of it that *window* chooses.

        Args:
            index: which one.
            window: chooses the part to read, once height and width are known.
            seed: decides whatever else the reader has to choose, such as a season.

        Raises:
            BadSampleError: if this sample is damaged or gone; the run goes on without it.
            BandError: if its bands contradict the declared ones; the run stops.
        """

    def name(self, index: int) -> str:
        """What messages call a sample, such as its path."""

    def fingerprint(self) -> str:
        """Hash that changes whenever the content does."""


class BadSampleError(DataError):
    """One sample is damaged or gone."""

    def __init__(self, name: str, reason: object = '') -> None:
        """Keep both parts.

        Args:
            name: the sample, such as its path.
            reason: what is wrong with it.
        """
        super().__init__(f'{name}: {reason}')
        self.name = name
        self.reason = str(reason)


@dataclass(frozen=True)
class Source:
    """Images of one kind: same bands, same unit.

    Attributes:
        name: how logs and batches call it.
        bands: what the channels are.
        product: how values are stored.
        path: folders or files; relative ones start where the program was started.
        pattern: which files of a folder, matched against the path inside it.
        dataset: instead of *path*, a class of ``torchgeo.datasets`` or `torchgeo_aom.data.samples`.
        args: arguments of that class.
        size: height and width of the chips cut from each image; those of the images if None.
        weight: how often an epoch takes each image: 1 is once, 0.5 a random half of them.
        nodata: stored value that means "no data", besides what the files say themselves. By default
            that of the product: 0 in all bands of a Sentinel-2 pixel, 0 in any band of Landsat,
            -9999 of HLS. A number counts in each band; ``'none'``: every value is data.
        nodata_in: whether it counts in ``'each'`` band or only in ``'all'``; follows from *nodata*.
        max_nodata: chips with a larger share of pixels without data are replaced by others.
        statistics: what to normalize by: ``'measured'``, or statistics of the catalogue such as
            ``'sentinel2:l2a'``. None takes the catalogue's where it has them, else measures.
        file_scale: whether scales and offsets of the files themselves apply (``product: file``).
        ignore_file_scale: whether those are known to be wrong (``product: {scale:, offset:}``).

    .. versionadded:: 0.1
    """

    name: str
    bands: tuple[Band, ...]
    product: Product
    path: tuple[str, ...] = ()
    pattern: str = '*'
    dataset: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    weight: float = 1.0
    nodata: float | str | None = None
    nodata_in: str = 'each'
    max_nodata: float = 0.5
    statistics: str | None = None
    file_scale: bool = False
    ignore_file_scale: bool = False

    @classmethod
    def parse(cls, block: Mapping[str, Any]) -> Source:
        """Read one block of YAML.

        Args:
            block: the attributes, with ``bands`` and ``sensor`` as of
                `torchgeo_aom.bands.resolve_bands`, ``product`` or ``unit`` as of `Normalize`.

        Returns:
            The source.

        Raises:
            BandError: if bands are unknown.
            ConfigError: if anything else is missing, unknown or impossible.
        """
        if not isinstance(block, Mapping):
            raise ConfigError(f'a source is a block of "key: value", got {block!r}')
        own = [f.name for f in fields(cls) if f.name not in _FOLLOWS]
        allowed = [*own, 'sensor', 'unit']
        for key in block:
            if key not in allowed:
                raise ConfigError(
                    f'unknown key {key!r} of a source{suggest(key, allowed)}. '
                    f'Allowed are {", ".join(allowed)}'
                )
        given = {key: value for key, value in block.items() if value is not None}
        place = [given[key] for key in ('path', 'dataset') if key in given]
        if len(place) != 1:
            raise ConfigError(f'a source has either path= or dataset=, got {dict(block)!r}')
        paths = tuple(_paths(given.pop('path', [])))
        given.setdefault('name', Path(paths[0]).absolute().name if paths else given['dataset'])
        sensor = given.pop('sensor', None)
        spec = given.pop('bands', sensor)
        if spec is None:
            raise ConfigError(
                f'source {given["name"]!r} does not say what its channels are: give sensor=, or '
                f'bands= in file order. They are never guessed'
            )
        bands = resolve_bands(spec, sensor)
        facts = _product(bands, given.pop('product', None), given.pop('unit', None))
        if 'nodata' in given:  # goes before what the product says
            facts |= {'nodata': given['nodata'], 'nodata_in': 'each'}
        return _checked(cls(**{**given, 'path': paths, 'bands': bands, **facts}))

    def filled(self, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where stored values (C, H, W) are the fill value; None if there is no such value."""
        if self.nodata is None:
            return None
        equal: NDArray[np.bool_] = values == self.nodata
        if self.nodata_in == 'all':
            equal = np.broadcast_to(equal.all(0, keepdims=True), equal.shape)
        return equal

    @property
    def specs(self) -> list[Any]:
        """The bands as plain data that `resolve_bands` understands."""
        return [plain_band(band) for band in self.bands]


def _paths(value: Any) -> list[str]:
    items = [value] if isinstance(value, str | Path) else value
    if not isinstance(items, Sequence) or not all(isinstance(p, str | Path) for p in items):
        raise ConfigError(f'path must be a folder or a list of folders, got {value!r}')
    return [str(Path(item).expanduser()) for item in items]


def _product(bands: tuple[Band, ...], product: Any, unit: Any) -> dict[str, Any]:
    if product == 'file' and unit is None:
        return {'product': get_product('reflectance'), 'file_scale': True}  # files say their fill
    explicit = isinstance(product, Mapping)
    if isinstance(product, Mapping):
        try:
            numbers = {key: float(product[key]) for key in ('scale', 'offset')}
        except (KeyError, TypeError, ValueError):
            numbers = {}
        finite = all(map(math.isfinite, numbers.values()))
        if len(product) != 2 or not numbers.get('scale') or not finite:
            raise ConfigError(
                f'a product of its own is {{scale: ..., offset: ...}} with reflectance = value * '
                f'scale + offset, got {dict(product)!r}'
            )
        product = Product('declared', numbers['scale'], numbers['offset'], 'dn')
    # Normalize knows all the ways to name a product.
    chosen = Normalize(bands, product, unit=unit, mean=0.0, std=1.0)
    return {
        'product': chosen.product,
        'ignore_file_scale': explicit,
        'nodata': chosen.nodata,
        'nodata_in': chosen.nodata_in,
    }


def _checked(source: Source) -> Source:
    """Check the plain values, and bring size into one form."""
    who = f'source {source.name!r}'
    if not isinstance(source.name, str) or not source.name:
        raise ConfigError(f'name must be a text, got {source.name!r}')
    size = source.size
    if isinstance(size, int) and not isinstance(size, bool):
        size = (size, size)
    if size is not None:
        sides = tuple(size) if isinstance(size, Sequence) else ()
        if len(sides) != 2 or not all(type(n) is int and n > 0 for n in sides):
            raise ConfigError(f'{who}: size is one or two positive integers, got {size!r}')
        object.__setattr__(source, 'size', sides)
    for key, low, high in (('weight', 1e-6, 1e6), ('max_nodata', 0.0, 1.0)):
        value = getattr(source, key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ConfigError(
                f'{who}: {key} must be a number from {low:g} to {high:g}, got {value!r}'
            )
    if source.nodata == 'none':
        object.__setattr__(source, 'nodata', None)
    elif source.nodata is not None and not isinstance(source.nodata, int | float):
        raise ConfigError(f"{who}: nodata must be a number or 'none', got {source.nodata!r}")
    if not isinstance(source.args, dict) or (source.args and source.dataset is None):
        raise ConfigError(f'{who}: args is a block of arguments of dataset=, got {source.args!r}')
    return source


def read_sources(sources: Sequence[Mapping[str, Any]] | str | Path) -> list[dict[str, Any]]:
    """Read the blocks of all sources.

    Args:
        sources: the blocks, or a YAML file with a list of them (alone or under ``sources:``).

    Returns:
        The blocks as plain data, not yet parsed.

    Raises:
        ConfigError: if the file cannot be read or holds no list.

    .. versionadded:: 0.1
    """
    blocks: Any = sources
    if isinstance(sources, str | Path):
        try:
            blocks = yaml.safe_load(Path(sources).expanduser().read_text(encoding='utf-8'))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f'sources file {str(sources)!r} cannot be read: {error}') from error
        if isinstance(blocks, Mapping):
            blocks = blocks.get('sources')
    if not isinstance(blocks, Sequence) or isinstance(blocks, str) or not blocks:
        raise ConfigError(f'sources must be a list with at least one block, got {blocks!r}')
    if not all(isinstance(block, Mapping) for block in blocks):
        raise ConfigError(f'every source must be a block of "key: value", got {list(blocks)!r}')
    return [dict(block) for block in blocks]


class BadFiles:
    """The samples of a source that could not be read, each once.

    Args:
        source: name of the source.
        total: number of its samples.
        limit: share of them that may be bad.
        quiet: whether to leave the listing to somebody else.
    """

    def __init__(self, source: str, total: int, limit: float, quiet: bool = False) -> None:
        """Start with none."""
        self.source = source
        self.total = total
        self.limit = limit
        self.quiet = quiet
        self.reasons: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """Count one, and list it if it is new.

        Args:
            name: the sample.
            reason: what is wrong with it.

        Raises:
            DataError: if there are now more than allowed.
        """
        if name in self.reasons:
            return
        self.reasons[name] = reason
        if not self.quiet:
            logger.warning('source %r: skipped %s: %s', self.source, name, reason)
        if len(self.reasons) > self.limit * self.total:
            listed = '\n'.join(f'  {k}: {v}' for k, v in list(self.reasons.items())[:20])
            raise DataError(
                f'source {self.source!r}: {len(self.reasons)} of {self.total} samples cannot be '
                f'read, more than the {self.limit:.2%} allowed by bad_limit:\n{listed}\n'
                f'Repair or remove them, or raise bad_limit'
            )


def match_bands(source: Source, stored: Sequence[str | None], where: str) -> list[int] | None:
    """Find the declared bands among those that a file names.

    Args:
        source: declares the bands.
        stored: what the file calls its channels; None or anything else that names no band of the
            declared sensors says nothing.
        where: the file, for the message.

    Returns:
        The channel of each declared band, None where the file names no bands at all.

    Raises:
        BandError: if the file names bands, and a declared one is not among them.
    """
    found: dict[tuple[str | None, str], int] = {}
    for channel, text in enumerate(stored):
        for key in _identities(text or '', source.bands):
            if key in found:
                raise BandError(f'{where} names band {text!r} twice: {list(stored)}')
            found[key] = channel
    if not found:
        return None
    missing = [band.label for band in source.bands if (band.sensor, band.name) not in found]
    if missing:
        raise BandError(
            f'{where} contradicts source {source.name!r}: {", ".join(missing)} declared, but the '
            f'file names its channels {list(stored)}. Correct sensor= or bands=, or the '
            f'descriptions in the file'
        )
    return [found[band.sensor, band.name] for band in source.bands]


def _identities(text: str, bands: Sequence[Band]) -> set[tuple[str | None, str]]:
    """Which bands of the declared sensors a description means."""
    prefix, _, rest = text.strip().rpartition(':')
    keys = set()
    for name in {band.sensor for band in bands}:
        owner = find_sensor(name) if name else None
        if owner is None:
            own = (b for b in bands if b.sensor == name)
            keys |= {
                (name, b.name) for b in own if text.lower() in (b.name.lower(), b.label.lower())
            }
            continue
        if prefix and find_sensor(prefix) != find_sensor(owner[0].name):
            continue
        try:
            band = owner[0].find(rest)
        except BandError:  # ambiguous: says nothing
            continue
        if band is not None:
            keys.add((owner[0].name, band.name))
    return keys
