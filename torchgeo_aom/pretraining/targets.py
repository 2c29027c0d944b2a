"""What frozen teachers see in the chips of a packed corpus: computed once, kept on disk.

A teacher's maps are brought to `CELLS` x `CELLS` cells a chip, standardized, and projected on their
leading principal components. A view of a chip that is cut along cells, mirrored or turned takes its
target from the map of the whole chip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import CheckpointError, DataError
from ..models.teacher import CONTRAST, GRAY, rgb_channels
from .packed import PackedCorpus, PackedSource

__all__ = ('CELLS', 'RGBTeacher', 'TargetMaps', 'store_maps')

CELLS = 16  # a side; 4 px of a chip of 64 px, 16 px of one of 256 px
FIT = 24576  # cells that the principal components are found from
BATCH = 16

#: normalized chips and their source -> maps (B, D, CELLS, CELLS), None where bands are missing
Look = Callable[[Tensor, PackedSource], Tensor | None]


class RGBTeacher(nn.Module):
    """Maps of a frozen convolutional network of timm that sees red, green and blue.

    Args:
        name: name in timm.
        file: its weights as timm names them.
        size: height and width in px at which it sees a chip.
        strides: indices of the feature maps wanted, as timm's ``out_indices``.

    Raises:
        CheckpointError: if the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        file: str | os.PathLike[str] | None = None,
        size: int = 256,
        strides: Sequence[int] = (2, 3, 4),
    ) -> None:
        """Build the network and load its weights."""
        super().__init__()
        overlay = None if file is None else {'file': os.fspath(file)}
        try:
            net: Any = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True,
                out_indices=tuple(strides),
            )  # fmt: skip
        except Exception as error:
            raise CheckpointError(
                f'The weights of {name} could not be loaded ({error}). Without a connection give '
                'their file.'
            ) from error
        # Half precision is 2 to 5 times faster; maps agree with float32's to a cosine of 0.997.
        self.net = net.bfloat16().to(memory_format=torch.channels_last)
        self.size = size
        cfg: Any = timm.get_pretrained_cfg(name)
        self.register_buffer('mean', torch.tensor(cfg.mean)[:, None, None])
        self.register_buffer('std', torch.tensor(cfg.std)[:, None, None])
        self.mean: Tensor
        self.std: Tensor
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor, source: PackedSource) -> Tensor | None:
        """Maps of normalized chips.

        Args:
            image: chips of shape (B, C, S, S).
            source: what they are.

        Returns:
            Maps of shape (B, D, CELLS, CELLS), or None where red, green or blue is missing.
        """
        channels = rgb_channels(source.resolved)
        if channels is None:
            return None
        picture = (image[:, channels] * CONTRAST + GRAY).clamp(0, 1)
        if picture.shape[-1] != self.size:
            side = (self.size, self.size)
            picture = F.interpolate(picture, side, mode='bicubic', antialias=True).clamp(0, 1)
        x = ((picture - self.mean) / self.std).bfloat16()
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.cat([cells(one.float()) for one in self.net(x)], dim=1)


def cells(maps: Tensor) -> Tensor:
    """Maps (B, D, N, N) at `CELLS` x `CELLS`: means where they are finer, else bilinear."""
    if maps.shape[-1] >= CELLS:
        return F.adaptive_avg_pool2d(maps, CELLS)
    return F.interpolate(maps, (CELLS, CELLS), mode='bilinear', align_corners=False)


@dataclass
class Projection:
    """Standardization and principal components of a teacher's maps.

    Attributes:
        mean: of each dimension, (D,).
        axes: (D, d): standardized dimensions to components.
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, rows: Tensor, dim: int) -> Projection:
        """Find the leading components of standardized rows (N, D)."""
        mean, std = rows.mean(0), rows.std(0).clamp(min=1e-6)
        z = ((rows - mean) / std).clamp(-8, 8)
        _, vectors = torch.linalg.eigh(z.T @ z / len(z))
        return cls(mean, vectors.flip(1)[:, :dim] / std[:, None])

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps (B, D, N, N) to (B, d, N, N)."""
        return torch.einsum('bdhw,dk->bkhw', maps - self.mean[:, None, None], self.axes)


def store_maps(
    corpus: PackedCorpus, look: Look, folder: str | os.PathLike[str], dim: int
) -> list[str]:
    """Compute the maps of all chips that a teacher can see; what is there is kept.

    Args:
        corpus: the chips.
        look: the teacher.
        folder: where the maps go, a file a source.
        dim: number of components kept.

    Returns:
        Names of the sources that have maps.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    record = out / 'projection.safetensors'
    if record.exists():
        projection = Projection(**load_file(record))
    else:
        projection = Projection.fit(_sample(corpus, look), dim)
        part = out / '.projection.part'
        save_file({'mean': projection.mean, 'axes': projection.axes.contiguous()}, part)
        os.replace(part, record)
    done = []
    for source in corpus.sources:
        path = out / f'{source.name}.npy'
        if path.exists() or _store(corpus, source, look, projection, path):
            done.append(source.name)
    return done


def _sample(corpus: PackedCorpus, look: Look) -> Tensor:
    """Cells of a few chips of every source, as many of each."""
    rows = []
    for source in corpus.sources:
        ids = torch.linspace(0, source.count - 1, min(source.count, 48)).round().long().unique()
        for part in ids.split(BATCH):
            maps = look(corpus.read(source.name, part)[0], source)
            if maps is None:
                break
            rows.append(maps.permute(0, 2, 3, 1).flatten(0, 2))
    if not rows:
        raise DataError('No source has the bands that this teacher sees.')
    cells_ = torch.cat(rows)
    order = torch.randperm(len(cells_), generator=torch.Generator().manual_seed(0))
    return cells_[order[:FIT]]


def _store(
    corpus: PackedCorpus, source: PackedSource, look: Look, projection: Projection, path: Path
) -> bool:
    """Write the maps of a source, whole or not at all; False where the teacher cannot see it."""
    if look(corpus.read(source.name, [0])[0], source) is None:
        return False
    part = path.with_suffix('.part')
    shape = (source.count, projection.axes.shape[1], CELLS, CELLS)
    maps = open_memmap(part, mode='w+', dtype=np.float16, shape=shape)
    for start in tqdm(range(0, source.count, BATCH), desc=source.name, leave=False):
        ids = range(start, min(start + BATCH, source.count))
        seen = look(corpus.read(source.name, list(ids))[0], source)
        if seen is None:
            raise DataError(f'{source.name}: a teacher saw some chips and not others.')
        maps[ids.start : ids.stop] = projection(seen).half().numpy()
    maps.flush()
    del maps
    os.replace(part, path)
    return True


class TargetMaps:
    """Stored maps of one teacher.

    Args:
        folder: what `store_maps` wrote.

    Raises:
        DataError: if there are none.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Map the files into memory."""
        self.maps = {
            path.stem: np.load(path, mmap_mode='r') for path in sorted(Path(folder).glob('*.npy'))
        }
        if not self.maps:
            raise DataError(f'{folder} holds no maps: write them with store_maps().')
        self.dim = next(iter(self.maps.values())).shape[1]
        units = Path(folder) / 'units.json'
        if not units.exists():
            part = units.with_suffix('.part')
            part.write_text(json.dumps(self._units()))
            os.replace(part, units)
        found = json.loads(units.read_text())
        #: what maps and means of maps are divided by, so that their mean square is 1; the root of
        #: each component's deviation, which lets the smaller ones count and noise not rule
        self.place_unit = torch.tensor(found['place'])
        self.image_unit = torch.tensor(found['image'])

    def _units(self) -> dict[str, list[float]]:
        some = [
            np.asarray(maps[:: max(1, len(maps) // 256)], np.float32) for maps in self.maps.values()
        ]
        places = np.concatenate([one.transpose(0, 2, 3, 1).reshape(-1, self.dim) for one in some])
        images = np.concatenate([one.mean((2, 3)) for one in some])
        found = {}
        for name, rows in (('place', places), ('image', images)):
            root = (rows.std(0) + 1e-3) ** 0.5
            found[name] = (root * np.sqrt(((rows / root) ** 2).mean())).tolist()
        return found

    def read(self, name: str, ids: Sequence[int]) -> Tensor | None:
        """Maps of some chips, (B, d, CELLS, CELLS); None where the teacher cannot see them."""
        if name not in self.maps:
            return None
        return torch.from_numpy(np.asarray(self.maps[name][list(ids)], np.float32))
