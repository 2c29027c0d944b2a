"""What public catalogues leave unsaid or say wrongly about how their items store values.

Each rule names its source. Where two statements of one item contradict each other and no rule says
which one is right, that is an error: a wrong offset is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchgeo_aom.errors import ConfigError, UnitError

__all__ = ('Rule', 'find_rule', 'sentinel2_product')

#: first baseline whose numbers carry +1000 (ESA, Sentinel-2 Products Specification, January 2022)
OFFSET_SINCE = 4.0
#: who says whether the offset was taken out: Earth Search v1 and v0. Where it was, ``raster:bands``
#: still names the offset, which must not be used twice (Element84/earth-search, issues 9 and 66).
APPLIED = ('earthsearch:boa_offset_applied', 'sentinel:boa_offset_applied')
#: processing baseline: Planetary Computer and Earth Search, CDSE, Earth Search v0
BASELINES = ('s2:processing_baseline', 'processing:version', 'sentinel:processing_baseline')


@dataclass(frozen=True)
class Rule:
    """What a collection holds.

    Attributes:
        sensor: sensor of the catalogue; None where the platform of the item decides.
        product: how values are stored; None where properties of the item decide.
        source: who says so.
    """

    sensor: str | None
    product: str | None
    source: str


#: by collection, in lower case
RULES: dict[str, Rule] = {
    'hls2-s30': Rule('hls_s30', 'v2', 'Planetary Computer, collection hls2-s30'),
    'hls2-l30': Rule('hls_l30', 'v2', 'Planetary Computer, collection hls2-l30'),
    'hlss30.v2.0': Rule('hls_s30', 'v2', 'LP DAAC, HLSS30 v2.0'),
    'hlsl30.v2.0': Rule('hls_l30', 'v2', 'LP DAAC, HLSL30 v2.0'),
    'hlss30_2.0': Rule('hls_s30', 'v2', 'LP DAAC, HLSS30 v2.0'),
    'hlsl30_2.0': Rule('hls_l30', 'v2', 'LP DAAC, HLSL30 v2.0'),
    'naip': Rule('naip', 'uint8', 'Planetary Computer and Earth Search, collection naip'),
    'landsat-c2-l2': Rule(None, 'c2l2', 'USGS, Landsat Collection 2 Level 2'),
    'landsat-c2l2-sr': Rule(None, 'c2l2', 'USGS, Landsat Collection 2 Level 2'),
}


def find_rule(item: Mapping[str, Any]) -> Rule | None:
    """The rule of an item's collection.

    Args:
        item: the item.

    Returns:
        The rule, None where no collection is named or it is not known.
    """
    return RULES.get(str(item.get('collection') or '').lower())


def _level(item: Mapping[str, Any]) -> str | None:
    """``'l1c'`` or ``'l2a'``, from the collection or the properties."""
    properties = item.get('properties') or {}
    for text in (
        item.get('collection'), properties.get('s2:product_type'),
        properties.get('product:type'), properties.get('processing:level'),
        properties.get('sentinel:product_id'), properties.get('s2:product_uri'), item.get('id'),
    ):  # fmt: skip
        plain = str(text or '').lower().replace('-', '').replace('_', '')
        for level, marks in (('l1c', ('l1c', 'msi1c')), ('l2a', ('l2a', 'msi2a'))):
            if any(mark in plain for mark in marks):
                return level
    return None


def _baseline(properties: Mapping[str, Any]) -> float | None:
    for key in BASELINES:
        try:
            return float(properties[key])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def sentinel2_product(item: Mapping[str, Any], offsets: set[float], name: str) -> str | None:
    """How the numbers of a Sentinel-2 item become reflectance.

    Args:
        item: the item.
        offsets: offsets that its assets state in reflectance; empty where they state none.
        name: the item, for messages.

    Returns:
        Name of the product, such as ``'l2a'`` or ``'l2a_2022'``; None where the item says neither
        its level nor anything else to go by.

    Raises:
        ConfigError: if nothing says whether there is an offset.
        UnitError: if processing baseline and assets contradict each other, and nothing says which
            one is right.
    """
    properties = item.get('properties') or {}
    level = _level(item)
    if level is None:
        return None
    applied = next((bool(properties[key]) for key in APPLIED if key in properties), None)
    baseline = _baseline(properties)
    if applied:
        return level
    by_baseline = None if baseline is None else baseline >= OFFSET_SINCE
    said = {round(offset, 6) for offset in offsets}
    if len(said) > 1:
        raise UnitError(
            f'{name} states several offsets, {sorted(said)}: name the bands that share one '
            '(--bands), or the product (--product)'
        )
    by_assets = None if not said else said == {-0.1}
    if by_baseline is None and by_assets is None:
        raise ConfigError(
            f'{name} says neither its processing baseline nor an offset: name the product '
            f"(--product), {level!r} without an offset or '{level}_2022' with one"
        )
    if None not in (by_baseline, by_assets) and by_baseline != by_assets:
        raise UnitError(
            f'{name} contradicts itself: processing baseline {baseline:05.2f} means '
            f'{"an" if by_baseline else "no"} offset of -0.1, its assets state an offset of '
            f'{next(iter(said)):g}. Name the product that is right (--product), {level!r} without '
            f"an offset or '{level}_2022' with one"
        )
    with_offset = by_baseline if by_assets is None else by_assets
    return f'{level}_2022' if with_offset else level
