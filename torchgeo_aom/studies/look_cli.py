"""The command ``torchgeo-aom study figures``: Figures 4 and 6, attention, and band tokens."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import Tensor

from ..bands import resolve_bands
from ..command import output_folder, say
from ..commands.study import figures_parser
from ..data.samples import EuroSAT200, SentinelPairs, composite
from ..errors import ConfigError
from ..models.registry import register
from ..transforms import Normalize
from .cli import finish, said
from .encoder import load_aom
from .look import attention, band_maps, likeness, region_maps, token_components
from .look_plots import plot_attention, plot_band_maps, plot_components, plot_regions
from .report import Report

__all__ = ('look', 'main')


def look(
    name: str, weights: str | None, place: int, patch_size: int, scales: tuple[int, ...], chips: int
) -> Report:
    """Draw all figures of one model.

    Args:
        name: name of the model.
        weights: a file, a registered name, ``'default'``, or None for random ones.
        place: which of the sample places is shown.
        patch_size: of token maps and attention, in px.
        scales: patch sizes of key regions, in px.
        chips: chips of EuroSAT for band tokens.

    Returns:
        The report.

    Raises:
        ConfigError: if there is no such place.
    """
    register()
    places = SentinelPairs('l2a')
    if not 0 <= place < len(places):
        raise ConfigError(f'--place must be 0 to {len(places) - 1}, got {place}')
    bands = resolve_bands('sentinel2:l2a')
    names = [band.name for band in bands]
    stored: Tensor = places[place]['image']
    image = Normalize(bands, 'reflectance', statistics='sentinel2:l2a')(stored)
    picture = composite(stored, bands)
    model, title, _ = load_aom(name, weights, bands)
    label = f'{name} ({title})'
    report = Report(f'What {label} sees')
    report.text(
        f'Sentinel-2 L2A, 12 bands, {places.size} x {places.size} px at 10 m: place {place} of '
        'those that ship with the package. A model that says "random" is not trained: its maps '
        'show what the architecture does by itself.'
    )
    say(f'{label}: token maps of bands')
    maps = band_maps(model, image, patch_size)
    report.heading('Bands as they leave SiTok (Figure 4)')
    report.figure(
        'figure4', plot_band_maps(
            stored.numpy(), maps, names, title=f'{label}: each band and its token map',
            patch_size=patch_size,
        ), 'Bands and their token maps.',
    )  # fmt: skip
    alike = likeness(maps)
    off = alike[~np.eye(len(alike), dtype=bool)]
    report.text(
        f'Correlation over places between the maps of two bands: {off.mean():.2f} on average, from '
        f'{off.min():.2f} to {off.max():.2f}.'
    )
    say('key regions at several patch sizes')
    regions, cosine = region_maps(model, image, scales)
    report.heading('Key regions at several patch sizes (Figure 6)')
    report.figure(
        'figure6', plot_regions(picture, {label: regions}, title='Key regions of the final map'),
        'Key regions of the final map at several patch sizes.',
    )  # fmt: skip
    report.text('Cosine between the features of the whole image at two patch sizes:')
    report.table(
        ('Patch, px', *map(str, scales)),
        [(size, *(f'{v:.3f}' for v in row)) for size, row in zip(scales, cosine, strict=True)],
    )
    say('attention')
    weights_of = attention(model, image, scales[-1])
    side = -(-places.size // scales[-1])
    report.heading('Attention of the last block')
    report.figure(
        'attention', plot_attention(
            weights_of, (side, side), picture, names,
            title=f'{label}: attention of the last block, patches of {scales[-1]} px',
            patch_size=scales[-1],
        ), 'Attention between bands (left) and to places (right), mean over heads.',
    )  # fmt: skip
    say(f'band tokens of {chips} chips')
    data = EuroSAT200()
    normalize = Normalize(data.bands, data.product)
    every = max(len(data) // chips, 1)
    images = torch.stack([normalize(data[k]['image']) for k in range(0, len(data), every)][:chips])
    described = resolve_bands(list(data.bands))
    own, _, _ = load_aom(name, weights, described)
    components, share = token_components(own, images, 16)
    waves = [1000 * (band.wavelength_um or 0) for band in described]
    report.heading('Band tokens')
    report.figure(
        'tokens', plot_components(
            components, share, [band.name for band in described], waves,
            title=f'{label}: final tokens of each band, {len(images)} chips of EuroSAT',
        ), 'Final tokens of each band, averaged over places; one point a chip and band.',
    )  # fmt: skip
    return report


def main(argv: list[str] | None = None) -> int:
    """Draw the figures.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = figures_parser().parse_args(arguments)
    folder = output_folder(options.output)
    start = time.monotonic()
    scales = tuple(options.scales)
    report = look(
        options.model, options.weights, options.place, options.patch_size, scales, options.chips
    )
    report.text(f'Made by: {said(arguments, "figures")}')
    return finish(report, folder, start, 0)
