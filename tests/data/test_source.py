"""A source of pretraining is parsed and refused at the border."""

from pathlib import Path
from typing import Any

import pytest
from loader_tools import RGB, source

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.data.source import Source, read_sources
from torchgeo_aom.errors import BandError, ConfigError

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')


class TestSource:
    def test_is_parsed(self, tmp_path: Path) -> None:
        found = source(tmp_path, size=64, weight=2)
        assert found.name == tmp_path.name
        assert [b.label for b in found.bands] == [f'sentinel2:{name}' for name in RGB]
        assert (found.product.scale, found.size, found.weight) == (1e-4, (64, 64), 2)

    @pytest.mark.parametrize(
        ('facts', 'message'),
        [
            ({'wieght': 2}, "did you mean 'weight'"),
            ({'dataset': 'EuroSAT200'}, 'either path= or dataset='),
            ({'sensor': None, 'bands': None}, 'never guessed'),
            ({'product': None}, 'product='),
            ({'product': 'l2b'}, 'unknown product'),
            ({'product': {'scale': 2}}, 'scale: ..., offset: ...'),
            ({'product': {'scale': 0, 'offset': 0}}, 'scale: ..., offset: ...'),
            ({'size': 0}, 'size'),
            ({'size': [3, 4, 5]}, 'size'),
            ({'weight': 0}, 'weight'),
            ({'max_nodata': 1.5}, 'max_nodata'),
            ({'nodata': 'zero'}, 'nodata'),
            ({'args': {'root': 'x'}}, 'args'),
            ({'path': 3}, 'folder'),
            ({'name': ''}, 'name'),
        ],
    )
    def test_refuses(self, tmp_path: Path, facts: dict[str, Any], message: str) -> None:
        block = {'path': str(tmp_path), 'sensor': 'sentinel2', 'product': 'l2a', **facts}
        with pytest.raises(ConfigError, match=message):
            Source.parse(block)

    def test_unknown_band(self, tmp_path: Path) -> None:
        with pytest.raises(BandError, match='B8A'):
            source(tmp_path, bands=['B8B'])

    @pytest.mark.parametrize(
        'bands', ['sentinel2', ['nir08', 0.5, 7], [{'name': 'own', 'wavelength_um': 0.61}]]
    )
    def test_specs_mean_the_same_bands(self, tmp_path: Path, bands: Any) -> None:
        found = source(tmp_path, sensor=None, bands=bands, product={'scale': 1, 'offset': 0})
        again = resolve_bands(found.specs)
        assert [b.index for b in again] == [b.index for b in found.bands]
        assert [b.sensor for b in again] == [b.sensor for b in found.bands]

    def test_yaml(self, tmp_path: Path) -> None:
        file = tmp_path / 'sources.yaml'
        file.write_text('sources:\n  - {path: a, sensor: naip, unit: uint8}\n')
        assert read_sources(file) == [{'path': 'a', 'sensor': 'naip', 'unit': 'uint8'}]
        for text in ('sources: []', '- text', '- [', '3', '!!python/object:os.system {}'):
            file.write_text(text)
            with pytest.raises(ConfigError):
                read_sources(file)
        with pytest.raises(ConfigError, match=r'gone\.yaml'):
            read_sources(tmp_path / 'gone.yaml')
