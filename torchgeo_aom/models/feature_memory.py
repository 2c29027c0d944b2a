"""Maps of a frozen encoder, kept by the content of their images, for later epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ('FeatureMemory',)

LIMIT = 2 << 30


class FeatureMemory:
    """Keeps maps in memory, up to a limit.

    The key is the content of an image, so a flipped one has a key of its own and gets exactly its
    own maps. Where images never come again, as with random crops, nothing is gained: after
    *patience* images without a single repetition, nothing is kept any more.

    Attributes:
        hits: images whose maps were there.
        misses: images whose maps were computed.
        active: whether it still keeps anything.

    .. versionadded:: 0.2
    """

    def __init__(self, limit: int = LIMIT, patience: int | None = None) -> None:
        """Start empty.

        Args:
            limit: bytes of maps to keep; images beyond it are computed every time.
            patience: images without a repetition after which to give up; None for never.
        """
        self.limit, self.patience = limit, patience
        self.hits = self.misses = self.size = 0
        self.active = True
        self._kept: dict[bytes, list[Tensor]] = {}

    def __len__(self) -> int:
        """Number of images whose maps are kept."""
        return len(self._kept)

    def maps(self, compute: Callable[[Tensor], list[Tensor]], x: Tensor, key: str) -> list[Tensor]:
        """Maps of a batch: those known, and the others computed together.

        Args:
            compute: images (B, C, H, W) to maps (B, D, Nh, Nw).
            x: images (B, C, H, W).
            key: what the maps depend on besides the image.

        Returns:
            The maps.
        """
        if not self.active:
            return compute(x)
        names = [_name(image, key) for image in x]
        missing = [k for k, name in enumerate(names) if name not in self._kept]
        self.hits += len(names) - len(missing)
        self.misses += len(missing)
        found = [self._kept.get(name) for name in names]
        if missing:
            made = compute(x[missing])
            for row, k in enumerate(missing):
                found[k] = own = [level[row].detach().clone() for level in made]
                self._keep(names[k], own)
        if self.patience is not None and not self.hits and self.misses >= self.patience:
            self.active = False
            self._kept.clear()
        return [torch.stack([one[k] for one in found if one is not None])
                for k in range(len(found[0] or ()))]  # fmt: skip

    def _keep(self, name: bytes, maps: list[Tensor]) -> None:
        size = sum(level.numel() * level.element_size() for level in maps)
        if self.size + size <= self.limit:
            self._kept[name] = maps
            self.size += size


def _name(image: Tensor, key: str) -> bytes:
    values = image.detach().cpu().contiguous()
    facts = f'{key} {values.dtype} {tuple(values.shape)}'.encode()
    return hashlib.sha256(facts + values.view(torch.uint8).numpy().tobytes()).digest()
