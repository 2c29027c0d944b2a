"""A corpus in one file: chips of every source as memory-mapped arrays, read without decoding."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..bands import Band, resolve_bands
from ..data.loader import PretrainDataModule
from ..data.source import BadSampleError, Pixels
from ..errors import ConfigError, DataError
from ..transforms import Normalize

__all__ = ('EMPTY', 'PackedCorpus', 'PackedSource', 'pack', 'tiles')

#: stored value of pixels without data in int16 chips; 8-bit chips have none
EMPTY = -32768
VERSION = 1
CLIP = 8.0  # normalized values beyond are cloud tops and glint; they would rule a squared error


@dataclass(frozen=True)
class PackedSource:
    """What the chips of one source are.

    Attributes:
        name: name of the source.
        bands: plain specs of its channels, see `torchgeo_aom.bands.resolve_bands`.
        gain: normalized value = stored value * gain + bias, for each band.
        bias: see *gain*.
        scale: reflectance = stored value * scale + offset.
        offset: see *scale*.
        weight: how often a chip is drawn, relative to those of other sources.
        count: number of chips.
        size: height and width of a chip in px.
    """

    name: str
    bands: list[Any]
    gain: list[float]
    bias: list[float]
    scale: float
    offset: float
    weight: float
    count: int
    size: int

    def reflectance(self, image: Tensor) -> Tensor:
        """Reflectance of normalized chips (B, C, S, S)."""
        gain, bias = (torch.tensor(x)[:, None, None] for x in (self.gain, self.bias))
        return (image - bias) / gain * self.scale + self.offset

    @property
    def resolved(self) -> tuple[Band, ...]:
        """The bands."""
        return resolve_bands(self.bands)


def tiles(height: int, width: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of the chips that an image is cut into; the last ones end at its edge.

    Args:
        height: rows of the image.
        width: its columns.
        size: side of a chip in px.
        stride: distance of two chips in px.

    Yields:
        Row and column. None where the image is smaller than a chip.
    """
    if height < size or width < size:
        return
    for row in sorted({*range(0, height - size + 1, stride), height - size}):
        for column in sorted({*range(0, width - size + 1, stride), width - size}):
            yield row, column


def stored_as(pixels: Pixels) -> NDArray[Any]:
    """Stored values as uint8, or as int16 with `EMPTY` where there is no data."""
    values, valid = pixels
    if values.dtype == np.uint8 and valid is None:
        return values
    clipped = np.clip(np.nan_to_num(values), EMPTY + 1, -EMPTY - 1).astype(np.int16)
    return clipped if valid is None else np.where(valid, clipped, np.int16(EMPTY))


def affine(normalize: Normalize) -> tuple[list[float], list[float]]:
    """Gain and bias of each band, from stored to normalized values."""
    mean, std = np.array(normalize.mean), np.array(normalize.std)
    product = normalize.product
    return (product.scale / std).tolist(), ((product.offset - mean) / std).tolist()


def pack(
    sources: Sequence[dict[str, Any]],
    path: str | os.PathLike[str],
    sides: Sequence[int] = (256, 64),
    fine: float = 5.0,
    max_empty: float = 0.3,
    statistics_dir: str | None = None,
) -> list[PackedSource]:
    """Cut the images of all sources into chips and write them into one file.

    Args:
        sources: blocks as `PretrainDataModule` takes them.
        path: file to write, whole or not at all.
        sides: sides of chips in px, of images finer and coarser than *fine*.
        fine: bands of at most so many meters, or of no known ground sampling distance, are those
            of fine images where values have 8 bits.
        max_empty: chips with a larger share of pixels without data are left out.
        statistics_dir: where measured statistics are kept.

    Returns:
        What was written.

    Raises:
        ConfigError: if a source is declared twice.
        DataError: if a source gives no chip.
    """
    module = PretrainDataModule([dict(one) for one in sources], 1, statistics_dir=statistics_dir)
    module.setup('fit')
    packed: list[PackedSource] = []
    arrays: dict[str, Tensor] = {}
    for source, reader, normalize in zip(
        module.sources, module.readers, module.normalizers, strict=True
    ):
        if source.name in arrays:
            raise ConfigError(f'source {source.name!r} is declared twice.')
        chips = []
        sharp = all((band.gsd_m or 0) <= fine for band in source.bands)
        for k in range(len(reader)):
            try:
                values = stored_as(reader.read(k))
            except BadSampleError:
                continue
            height, width = values.shape[1:]
            large = values.dtype == np.uint8 and min(height, width) >= max(sides) and sharp
            side = max(sides) if large else min(sides)
            # Few large scenes give overlapping chips, so that borders lie elsewhere, too.
            stride = side if len(reader) > 100 or large else side // 2
            for row, column in tiles(height, width, side, stride):
                chip = values[:, row : row + side, column : column + side]
                if chip.dtype == np.uint8 or (chip == EMPTY).any(0).mean() <= max_empty:
                    chips.append(np.ascontiguousarray(chip))
        sizes = {chip.shape[1:] for chip in chips}
        if not chips:
            raise DataError(f'source {source.name!r} gives no chip of {min(sides)} px.')
        side = max(size[0] for size in sizes)
        chips = [chip for chip in chips if chip.shape[1] == side]
        kinds = {chip.dtype for chip in chips}
        array = np.stack([c.astype(np.int16) for c in chips] if len(kinds) > 1 else chips)
        gain, bias = affine(normalize)
        product = normalize.product
        arrays[source.name] = torch.from_numpy(array)
        packed.append(
            PackedSource(
                source.name,
                source.specs,
                gain,
                bias,
                product.scale,
                product.offset,
                source.weight,
                len(array),
                side,
            )
        )
    meta = {'version': str(VERSION), 'sources': json.dumps([asdict(one) for one in packed])}
    part = Path(path).with_name(f'.{Path(path).name}.part')
    save_file(arrays, part, metadata=meta)
    os.replace(part, path)
    return packed


class PackedCorpus:
    """The chips of a packed file, memory-mapped.

    Args:
        path: file that `pack` wrote.

    Raises:
        DataError: if it cannot be read or is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file; no chip is read."""
        try:
            file = safe_open(path, framework='pt')
            meta = file.metadata() or {}
            if meta.get('version') != str(VERSION):
                raise DataError(
                    f'{path} is no packed corpus of version {VERSION}: its metadata say '
                    f'{meta.get("version")!r}. Write it again with pack().'
                )
            self.sources = [PackedSource(**block) for block in json.loads(meta['sources'])]
            self.chips = {one.name: file.get_tensor(one.name) for one in self.sources}
        except (OSError, SafetensorError) as error:
            raise DataError(f'{path} cannot be read: {error}') from error

    def source(self, name: str) -> PackedSource:
        """What the chips of a source are."""
        return next(one for one in self.sources if one.name == name)

    def read(self, name: str, ids: Sequence[int] | Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalized chips.

        Args:
            name: name of the source.
            ids: numbers of the chips.

        Returns:
            Chips of shape (B, C, S, S), and where they hold data, or None where all do.
        """
        source = self.source(name)
        stored = self.chips[name][torch.as_tensor(ids)]
        gain, bias = (torch.tensor(x)[:, None, None] for x in (source.gain, source.bias))
        image = (stored.float() * gain + bias).clamp(-CLIP, CLIP)
        if stored.dtype == torch.uint8:
            return image, None
        valid = stored != EMPTY
        return (image, None) if valid.all() else (image.masked_fill(~valid, 0), valid)
