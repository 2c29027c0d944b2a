"""Bands by name, splits and pictures of labelled data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.datasets.base import BandDataset, as_image, checked_split, select_bands
from torchgeo_aom.datasets.pictures import class_colors
from torchgeo_aom.errors import BandError, ConfigError, InputError

FILE = resolve_bands('sentinel2:eurosat')


class Toy(BandDataset):
    target = 'mask'
    classes = ('water', 'land')
    ignore_index = 255

    def __len__(self) -> int:
        return 2

    def load(self, index: int) -> dict[str, Any]:
        values = np.arange(len(FILE), dtype='>u2')[:, None, None] * np.ones((1, 8, 8), '>u2')
        mask = torch.tensor([0, 1, 255, 1]).repeat(16).reshape(8, 8)
        return {'image': as_image(values[self.channels]), 'mask': mask}


def test_bands_by_name_whatever_the_order_of_the_file() -> None:
    bands, channels = select_bands(['B8A', 'B12', 'B01'], FILE, 'sentinel2')
    assert [band.name for band in bands] == ['B8A', 'B12', 'B01']
    assert channels == [12, 11, 0]
    assert select_bands(None, FILE)[1] == list(range(13))
    assert select_bands(['red', 'green'], FILE, None)[1] == [3, 2]
    with pytest.raises(BandError, match=r'landsat8:B5.*not in these files.*They hold'):
        select_bands(['landsat8:B5'], FILE)
    with pytest.raises(BandError):
        select_bands(['thermal'], FILE)


def test_split_is_checked() -> None:
    assert checked_split('val', ('train', 'val')) == 'val'
    with pytest.raises(ConfigError, match=r"'train', 'val', got 'vall'; did you mean 'val'"):
        checked_split('vall', ('train', 'val'))


def test_samples_follow_the_bands() -> None:
    data = Toy(FILE, ['B8A', 'B02'], 'l1c', transforms=None)
    assert data.bands == ('sentinel2:B8A', 'sentinel2:B02')
    assert data.num_classes == 2
    assert data[-1]['image'][:, 0, 0].tolist() == [12.0, 1.0]
    with pytest.raises(IndexError, match='there are 2'):
        data[2]
    normalized = data.normalize()(data[0])['image']
    both = Toy(FILE, None, 'l1c')
    everything = both.normalize()(both[0])['image']
    torch.testing.assert_close(normalized, everything[[12, 1]])


def test_plot_shows_image_mask_and_prediction() -> None:
    data = Toy(FILE, None, 'l1c')
    sample = data[0] | {'prediction': torch.zeros(8, 8, dtype=torch.long)}
    figure = data.plot(sample, suptitle='toy')
    assert [axes.get_title() for axes in figure.axes] == ['image', 'mask', 'prediction']
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ['water', 'land', 'no label']
    with pytest.raises(InputError, match=r'\(13, H, W\), got \(3, 8, 8\)'):
        data.plot({'image': torch.zeros(3, 8, 8)})


def test_colors_differ() -> None:
    assert class_colors(3, ['red']) == ['red', *class_colors(3)[1:]]
    assert len({*class_colors(28)}) == 28
