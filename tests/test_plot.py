"""Figures: what is drawn, with titles and units, without a window."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

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
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('set of bands', 'accuracy, %')
    assert axes.get_title(loc='left') == 'Scene classes'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['13 bands', 'RGB']
    assert axes.get_yticks()[[0, -1]].tolist() == [0, 100]
    assert [text.get_text() for text in axes.texts] == ['70', '50', '80', '60']
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {'baseline', 'model', 'chance'}
    assert legend.get_title().get_text() == 'bars: folds'
    assert len(set(PALETTE)) == len(PALETTE)


def test_values_stand_beside_no_other_marker() -> None:
    """Equal scores of many methods, at the top of the axis too: each label can be read."""
    groups = ['all', 'no atmospheric', 'Landsat-like', '10 m', 'RGB']
    names = ['statistics', 'rcf', 'a', 'b (random)', 'c (random)']
    series = {name: [(1.0, 0.0), *[(0.7, 0.03)] * 3, (float('nan'), 0.0)] for name in names}
    figure = plot_scores(groups, series, title='Bands', ylabel='accuracy, %')
    figure.canvas.draw()
    (axes,) = figure.axes
    texts = [text.get_window_extent() for text in axes.texts]
    assert len(texts) == 5 * 4  # none for what was not measured
    points = np.concatenate([line[0].get_xydata() for line in axes.containers])
    points = points[np.isfinite(points).all(1)]
    radius = 4.0 * figure.dpi / 72
    for x, y in axes.transData.transform(points):
        marker = Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
        assert not any(text.overlaps(marker) for text in texts)
    for k, text in enumerate(texts):
        assert not any(text.overlaps(other) for other in texts[:k])
        assert text.y1 < axes.get_window_extent().y1 + 1
    hollow = [line[0].get_markerfacecolor() == 'white' for line in axes.containers]
    assert hollow == [False, False, False, True, True]


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
