"""Pictures of labelled samples: the image in true color, its mask and its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..bands import Band
from ..data.samples import composite
from ..plot import IGNORED, PALETTE

__all__ = ('class_colors', 'sample_figure')


def class_colors(count: int, given: Sequence[str] = ()) -> list[str]:
    """Colors of classes.

    Args:
        count: number of classes.
        given: colors that are settled; others follow from a palette.

    Returns:
        One color for each class, all different up to 28 classes.
    """
    more = [to_hex(color) for color in colormaps['tab20'].colors]  # type: ignore[attr-defined]
    palette = [*PALETTE, *more]
    return [*given, *(palette[k % len(palette)] for k in range(len(given), count))][:count]


def sample_figure(
    sample: Mapping[str, Any],
    bands: Sequence[Band],
    classes: Sequence[str],
    target: str,
    ignore_index: int | None = None,
    colors: Sequence[str] = (),
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Plot a sample.

    Args:
        sample: holds ``image`` (C, H, W), and what is known of ``label`` or ``mask`` and
            ``prediction``.
        bands: bands of the image.
        classes: names of the classes.
        target: ``'class'``, ``'classes'`` or ``'mask'``.
        ignore_index: value of a mask that has no class.
        colors: colors of the classes; a palette where there are none.
        show_titles: whether to name panels and classes.
        suptitle: title of the figure.

    Returns:
        The figure.
    """
    maps = {k: np.asarray(sample[k]) for k in ('mask', 'prediction') if k in sample}
    maps = maps if target == 'mask' else {}
    figure = Figure(figsize=(4 * (1 + len(maps)), 4.6), layout='constrained')
    panels = list(figure.subplots(1, 1 + len(maps), squeeze=False)[0])
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])
    panels[0].imshow(composite(sample['image'], bands))
    shades = class_colors(len(classes), colors)
    map_of = ListedColormap(shades).with_extremes(over=IGNORED, under=IGNORED)
    for axes, (name, values) in zip(panels[1:], maps.items(), strict=True):
        hidden = values.astype(np.int64)
        if ignore_index is not None:
            hidden = np.where(hidden == ignore_index, len(classes), hidden)
        axes.imshow(hidden, cmap=map_of, vmin=-0.5, vmax=len(classes) - 0.5, interpolation='none')
        axes.set_title(name if show_titles else '')
    if maps:
        seen = sorted({int(k) for values in maps.values() for k in np.unique(values)})
        handles = [_patch(k, classes, shades, ignore_index) for k in seen]
        figure.legend(handles=handles, loc='outside lower center', ncols=4)
    title = 'image'
    if target != 'mask':
        known = (k for k in ('label', 'prediction') if k in sample)
        title = '\n'.join(f'{k}: {_names(sample[k], classes)}' for k in known)
    panels[0].set_title(title if show_titles else '')
    figure.suptitle(suptitle or '')
    return figure


def _patch(
    value: int, classes: Sequence[str], shades: Sequence[str], ignore_index: int | None
) -> Patch:
    known = value != ignore_index and 0 <= value < len(classes)
    name = classes[value] if known else 'no label' if value == ignore_index else f'value {value}'
    return Patch(facecolor=shades[value] if known else IGNORED, edgecolor='black', label=name)


def _names(label: Any, classes: Sequence[str]) -> str:
    """A class, or all classes that are not zero."""
    values = np.asarray(label)
    if values.ndim == 0:
        return classes[int(values)]
    return ', '.join(name for name, flag in zip(classes, values > 0, strict=True) if flag) or 'none'
