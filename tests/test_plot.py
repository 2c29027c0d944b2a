"""Figures: what is drawn, with titles and units, without a window."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from torchgeo_aom.errors import InputError
from torchgeo_aom.plot import IGNORED, PALETTE, plot_demo, plot_maps, plot_scores

SCORES: dict[str, Any] = {
    'groups': ['13 bands', 'RGB'],
    'series': {'baseline': [(0.7, 0.1), (0.5, 0.05)], 'model': [(0.8, 0.0), (0.6, 0.0)]},
    'title': 'Scene classes',
    'ylabel': 'accuracy, %',
}
MAPS: dict[str, Any] = {
    'rows': ['here', 'there'],
    'columns': {
        'image': [np.random.default_rng(0).random((6, 4, 3))] * 2,
        'label': [np.array([[0, 1], [2, 255]]), np.array([[0, 0], [0, -1]])],
    },
    'classes': ['water', 'trees', 'crops', 'never'],
    'colors': ['#0000FF', '#00FF00', '#FFFF00', '#FF0000'],
    'title': 'Land cover',
}


def test_scores() -> None:
    figure = plot_scores(**SCORES, levels={'chance': 0.1}, note='bars: folds')
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert axes.get_ylabel() == 'accuracy, %'
    assert axes.get_title(loc='left') == 'Scene classes'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['13 bands', 'RGB']
    assert axes.get_ylim() == (0, 100)
    assert [text.get_text() for text in axes.texts] == ['70', '50', '80', '60']
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {'baseline', 'model', 'chance'}
    assert legend.get_title().get_text() == 'bars: folds'
    assert len(set(PALETTE)) == len(PALETTE)


def test_scores_refused() -> None:
    with pytest.raises(InputError, match="'model' has 1 scores for 2"):
        plot_scores(**SCORES | {'series': {'model': [(0.8, 0.0)]}})


def test_maps() -> None:
    figure = plot_maps(**MAPS)
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes] == ['image', 'label', '', '']
    assert [axes.get_ylabel() for axes in figure.axes] == ['here', '', 'there', '']
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ['water', 'trees', 'crops', 'no label']  # only what is shown
    image = figure.axes[1].images[0]
    shown = image.to_rgba(image.get_array())
    assert np.allclose(shown[0, 1, :3], (0, 1, 0))
    assert np.allclose(shown[1, 1, :3], int(IGNORED[1:3], 16) / 255)


def test_maps_refused() -> None:
    columns = {'image': MAPS['columns']['image'][:1]}
    with pytest.raises(InputError, match="'image' has 1 arrays for 2 places"):
        plot_maps(**MAPS | {'columns': columns})


def test_demo() -> None:
    figure = plot_demo(SCORES, SCORES, MAPS, 'title')
    assert len(figure.axes) == 6
    figure.canvas.draw()
