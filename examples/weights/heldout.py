"""HLS data at the places that weights were not trained on, see ``rules.py``."""

from __future__ import annotations

import sys
from pathlib import Path

from torchgeo_aom.datasets.hls_water import HLSWater, WorldCoverPatches

sys.path.insert(0, str(Path(__file__).parent))
from rules import hls_split

__all__ = ('HeldOutPatches', 'HeldOutWater')


def held_out(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of the places that were kept for evaluation."""
    parts = hls_split([row['site_group'] for row in rows])
    return [row for row, part in zip(rows, parts, strict=True) if part == 'test']


class HeldOutPatches(WorldCoverPatches):
    """Patches with a class of WorldCover."""

    def _wanted(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return super()._wanted(held_out(rows))


class HeldOutWater(HLSWater):
    """Chips with a water mask."""

    def _wanted(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return super()._wanted(held_out(rows))
