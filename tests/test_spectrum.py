"""Wavelength to channel index and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgeo_aom.bands import index_to_wavelength, wavelength_to_index
from torchgeo_aom.errors import BandError
from torchgeo_aom.spectrum import SENTINEL2_CENTRES_UM


@settings(deadline=None)
@given(st.floats(0.40, 2.50))
def test_wavelength_map_is_invertible(um: float) -> None:
    back = index_to_wavelength(wavelength_to_index(um))
    assert back == pytest.approx(um, abs=1e-8)


@settings(deadline=None)
@given(st.floats(0.40, 2.50), st.floats(0.40, 2.50))
def test_wavelength_map_is_monotone(a: float, b: float) -> None:
    if a < b:
        assert wavelength_to_index(a) < wavelength_to_index(b)


def test_wavelength_map_at_sentinel2_and_ends() -> None:
    assert [wavelength_to_index(um) for um in SENTINEL2_CENTRES_UM] == list(range(13))
    assert [index_to_wavelength(i) for i in range(13)] == list(SENTINEL2_CENTRES_UM)
    assert wavelength_to_index(0.40) == pytest.approx(-0.043 / 0.047)
    assert wavelength_to_index(2.50) == pytest.approx(12 + 0.31 / 0.58)
    assert index_to_wavelength(13) is None and index_to_wavelength(-1) is None
    for um in (0.39, 2.6, math.nan, -1.0, 865.0):
        with pytest.raises(BandError, match='um'):
            wavelength_to_index(um)
