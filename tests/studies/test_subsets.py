"""Sets of bands: known ones, every one, balanced samples."""

from collections import Counter
from math import comb

import pytest

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.studies.subsets import (
    named_subsets,
    one_out,
    presets,
    sample_subsets,
    study_subsets,
)

EUROSAT = resolve_bands('sentinel2:eurosat')


class TestPresets:
    def test_sentinel2(self) -> None:
        found = {s.name: {EUROSAT[k].name for k in s.columns} for s in presets(EUROSAT)}
        assert found['RGB'] == {'B02', 'B03', 'B04'}
        assert found['10 m'] == {'B02', 'B03', 'B04', 'B08'}
        assert found['Landsat-like'] == {'B01', 'B02', 'B03', 'B04', 'B8A', 'B11', 'B12'}
        assert not found['no atmospheric'] & {'B01', 'B09', 'B10'}
        assert len(found['no atmospheric']) == 10

    def test_what_a_sensor_lacks(self) -> None:
        """HLS has no band of index 7, and its common bands are Landsat's."""
        names = [s.name for s in presets(resolve_bands('hls:common7'))]
        assert names == ['RGB', 'no atmospheric']
        assert presets(resolve_bands('rgb')) == []

    def test_named(self) -> None:
        (found,) = named_subsets(EUROSAT, {'vegetation': ['B8A', 'red']})
        assert [EUROSAT[k].name for k in found.columns] == ['B04', 'B8A']
        with pytest.raises(ConfigError, match='B99'):
            named_subsets(EUROSAT, {'mine': ['B99']})


class TestSamples:
    @pytest.mark.parametrize('size', range(1, 7))
    def test_every_set_where_there_are_few(self, size: int) -> None:
        assert len(sample_subsets(7, size, 100)) == comb(7, size)

    @pytest.mark.parametrize('size', [2, 5, 8, 12])
    def test_balanced(self, size: int) -> None:
        found = sample_subsets(13, size, 10)
        assert len(set(found)) == 10
        assert all(len(set(columns)) == size for columns in found)
        often = Counter(k for columns in found for k in columns)
        assert max(often.values()) - min(often.get(k, 0) for k in range(13)) <= 3

    def test_seeds(self) -> None:
        assert sample_subsets(13, 5, 4, seed=0) == sample_subsets(13, 5, 4, seed=0)
        assert sample_subsets(13, 5, 4, seed=0) != sample_subsets(13, 5, 4, seed=1)

    def test_study(self) -> None:
        found = study_subsets(EUROSAT, 2)
        assert found[0].columns == tuple(range(13))
        assert sum(s.kind == 'one out' for s in found) == 13 == len(one_out(EUROSAT))
        assert {len(s.columns) for s in found if s.kind == 'random'} == set(range(1, 13))
        with pytest.raises(ConfigError, match='at least 2 bands'):
            study_subsets(EUROSAT[:1], 2)
