"""Data sets of TorchGeo as sources of pretraining."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_tools import RGB

from torchgeo_aom.data.adapter import DatasetReader, open_reader
from torchgeo_aom.data.source import BadSampleError, Source
from torchgeo_aom.errors import BandError, ConfigError

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


class Toy(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """What any TorchGeo data set looks like."""

    bands = ('B02', 'B03', 'B04', 'B08')

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == 4:
            raise FileNotFoundError('chip 4')
        image = torch.arange(4.0 * self.times)[:, None, None].expand(-1, 6, 6).clone()
        image[:, 0, 0] = torch.nan
        return {'image': image + 100 * index + 1000 * random.randrange(1000)}


class TestDatasets:
    def declared(self, **facts: Any) -> Source:
        return Source.parse(
            {'dataset': 'Toy', 'sensor': 'sentinel2', 'bands': RGB, 'product': 'l2a', **facts}
        )

    def test_bands_by_name(self) -> None:
        pixels = DatasetReader(self.declared(), Toy()).read(1)
        assert (pixels.values[:, 1, 1] % 100).tolist() == [2, 1, 0]
        assert pixels.valid is not None
        assert np.argwhere(~pixels.valid[0]).tolist() == [[0, 0]]

    def test_dates_are_drawn_by_the_seed(self) -> None:
        reader = DatasetReader(self.declared(), Toy(times=3))
        state = random.getstate()
        first = [int(reader.read(0, seed=k).values[0, 1, 1]) for k in range(20)]
        random.seed(8)
        assert [int(reader.read(0, seed=k).values[0, 1, 1]) for k in range(20)] == first
        assert {value % 100 for value in first} == {2, 6, 10}
        random.setstate(state)
        reader.read(0, seed=3)
        assert random.getstate() == state

    def test_damaged_sample(self) -> None:
        reader = DatasetReader(self.declared(), Toy())
        with pytest.raises(BadSampleError, match=r'Toy\[4\].*chip 4'):
            reader.read(4)
        assert len(reader.fingerprint()) == 64

    def test_contradiction(self) -> None:
        with pytest.raises(BandError, match='B11'):
            DatasetReader(self.declared(bands=['B11']), Toy())

    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'EuroSAT200'"):
            open_reader(self.declared(dataset='EuroSAT20'))
        with pytest.raises(ConfigError, match='nonsense'):
            open_reader(self.declared(dataset='EuroSAT200', args={'nonsense': 1}))

    def test_samples_of_the_package(self) -> None:
        reader = open_reader(self.declared(dataset='EuroSAT200', product='l1c'))
        assert (len(reader), reader.size) == (200, (64, 64))
        assert reader.read(0).values.shape == (3, 64, 64)
        assert reader.name(7) == 'EuroSAT200[7]'

    def test_ssl4eo(self, tmp_path: Path, write: Any) -> None:
        """TorchGeo's SSL4EOS12 draws its season from the global generator; here from the seed."""
        names = [f'B{k}' for k in (1, 2, 3, 4, 5, 6, 7, 8)] + ['B8A', 'B9', 'B10', 'B11', 'B12']
        for season in range(4):
            folder = tmp_path / 's2c' / '0000000' / f'2020010{season + 1}T101010_x_T32TQM'
            for k, name in enumerate(names):
                values = np.full((1, 6, 6), 100 * season + k, np.uint16)
                write(folder / f'{name}.tif', values)
        declared = Source.parse(
            {
                'dataset': 'SSL4EOS12',
                'args': {'root': str(tmp_path), 'split': 's2c'},
                'bands': 'sentinel2:rgb',
                'product': 'l1c',
            }
        )
        reader = open_reader(declared)
        seasons = {}
        for seed in range(12):
            values = reader.read(0, seed=seed).values
            assert values.shape == (3, 264, 264)
            assert (values[:, 0, 0] % 100).tolist() == [3, 2, 1]
            seasons[seed] = int(values[0, 0, 0]) // 100
        assert len(set(seasons.values())) > 1
        assert int(reader.read(0, seed=5).values[0, 0, 0]) // 100 == seasons[5]
        with pytest.raises(BadSampleError, match=r'SSL4EOS12\[1\]'):
            reader.read(1)
