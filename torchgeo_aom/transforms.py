"""Turns stored pixel values into what the encoder expects: declared unit, statistics per band."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchgeo_aom.bands import (
    Band,
    BandSpec,
    Product,
    Sensor,
    band_statistics,
    get_product,
    get_sensor,
    product_statistics,
    resolve_bands,
)
from torchgeo_aom.catalogue import find_sensor
from torchgeo_aom.errors import BandError, ConfigError, InputError, UnitError, UnitWarning, warn
from torchgeo_aom.layers.checks import mean_size, warn_stored

__all__ = ('Normalize', 'NormalizeSample', 'check_image')

# Reflectance outside this range is not physical: clouds, snow and glint stay below 2, sensors
# saturate below 7, and atmospheric correction leaves a little below 0; a fill of -9999 is outside.
_PLAUSIBLE = (-0.5, 10.0)
_DTYPES = (
    torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip


class Normalize(nn.Module):
    """Stored values -> float32 with mean 0 and standard deviation 1 per band.

    The value is cast to float32 (exact for 8- and 16-bit integers and float16), turned into
    reflectance by the product's scale and offset, and standardized: all of it once. The caller's
    tensor is never changed. Statistics follow the bands, so any subset works.

    Args:
        bands: what the channels are, see `torchgeo_aom.bands.resolve_bands`.
        product: how values are stored: a product of the bands' sensor (``'l2a'``), of any sensor
            (``'sentinel2:l2a'``), a general one (``'reflectance'``, ``'uint8'``), or a `Product`.
        unit: instead of *product*, ``'reflectance'`` or ``'uint8'``.
        sensor: the sensor that band names without one belong to.
        mean: mean per band in reflectance, instead of the catalogue's.
        std: standard deviation per band in reflectance, together with *mean*.
        statistics: catalogue statistics to use, see `band_statistics`; by default those that fit
            the product, see `product_statistics`.
        nodata: stored value that means "no data". ``'product'`` is the product's own: 0 in all
            bands of a Sentinel-2 pixel (one band may measure 0), 0 in any band of Landsat, -9999 of
            HLS. A number counts in each band by itself; None says that every value is data.
        nodata_fill: fill NaN, infinite and *nodata* pixels with the band's mean (0 afterwards)
            instead of raising.
        strict: raise `UnitError` instead of warning where values contradict the declared unit.

    Raises:
        ConfigError: if product, unit or statistics are missing, unknown or contradictory.

    .. versionadded:: 0.1
    """

    shift: Tensor
    gain: Tensor

    def __init__(
        self,
        bands: BandSpec,
        product: str | Product | None = None,
        *,
        unit: str | None = None,
        sensor: str | None = None,
        mean: float | Iterable[float] | Tensor | None = None,
        std: float | Iterable[float] | Tensor | None = None,
        statistics: str | None = None,
        nodata: float | str | None = 'product',
        nodata_fill: bool = False,
        strict: bool = False,
    ) -> None:
        """Look everything up once."""
        super().__init__()
        self.bands = resolve_bands(bands, sensor)
        chosen = _choose_product(self.bands, product, unit)
        # Which value is no data may be said otherwise, so it is kept apart from the conversion.
        self.product = replace(chosen, nodata=None)
        if (mean is None) != (std is None):
            raise ConfigError('mean and std belong together: give both or neither')
        if mean is not None and statistics is not None:
            raise ConfigError('give either mean and std or statistics, not both')
        if mean is not None and std is not None:
            self.mean = _column(mean, 'mean', self.bands)
            self.std = _column(std, 'std', self.bands)
        elif statistics is not None:
            self.mean, self.std = band_statistics(self.bands, statistics)
        else:
            self.mean, self.std, doubt = product_statistics(self.bands, self.product)
            if doubt and strict:
                raise UnitError(doubt)
            if doubt:
                warn(doubt, UnitWarning)
        if min(self.std) < 0:
            raise ConfigError(f'std must not be negative: {self.std}')
        self.nodata, self.nodata_in = _choose_nodata(nodata, chosen)
        self.nodata_fill = nodata_fill
        self.strict = strict
        self._warned = False
        # One subtraction and one product, from constants worked out in float64:
        # (value * scale + offset - mean) / std == (value - shift) * gain
        scale, offset = self.product.scale, self.product.offset
        shift = [(m - offset) / scale for m in self.mean]
        gain = [scale / (s or 1.0) for s in self.std]  # a constant band: centered, not divided
        for key, column in (('shift', shift), ('gain', gain)):
            self.register_buffer(
                key, torch.tensor(column, dtype=torch.float32)[:, None, None], False
            )

    def forward(
        self,
        x: Tensor | np.ndarray[Any, Any] | Mapping[str, Any],
        keys: str | Sequence[str] = ('image',),
    ) -> Any:
        """Normalize an image, a batch, or the images of a TorchGeo sample.

        Args:
            x: stored values (C, H, W), (B, C, H, W) or (B, T, C, H, W), or a sample or batch
                that holds such; it stays as it is.
            keys: entries of a sample that are images.

        Returns:
            A new float32 tensor of the same shape; for a sample a new dict with normalized images
            and everything else untouched.

        Raises:
            BandError: if the channels are not as many as the bands.
            InputError: if shape, type or values cannot be used, or a sample lacks a key.
            UnitError: if *strict* and the values contradict the declared unit.
        """
        if not isinstance(x, Mapping):
            return self._image(x)
        keys = (keys,) if isinstance(keys, str) else keys
        for key in keys:
            if key not in x:
                raise InputError(f'the sample has no {key!r}; it has {", ".join(map(str, x))}')
        return {**x, **{key: self._image(x[key]) for key in keys}}

    def _image(self, x: object) -> Tensor:
        stored = self._as_tensor(x)
        value = stored.to(torch.float32)
        valid = self._valid(value)
        all_valid = bool(valid.all())
        if not (all_valid or self.nodata_fill):
            raise InputError(self._nodata_message(valid))
        self._check_unit(value if all_valid else value[valid], stored.dtype)
        out = (value - self.shift.to(value.device)) * self.gain.to(value.device)
        return out if all_valid else torch.where(valid, out, 0.0)

    def channel_index(self, x: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Say which bands of an image are really there.

        Args:
            x: stored values (C, H, W) or (B, C, H, W).

        Returns:
            Channel indices (C,) or (B, C) for *bands* of an encoder with
            ``channel_encoding='index'`` (one with ``'wavelength'`` reads other numbers), NaN where
            a band has no valid pixel, so that the encoder leaves it out.
        """
        valid = self._valid(self._as_tensor(x).to(torch.float32))
        index = torch.tensor([band.index for band in self.bands], device=valid.device)
        return torch.where(valid.flatten(-2).any(-1), index, math.nan)

    def extra_repr(self) -> str:
        """Name the bands and the product."""
        return f'bands=({", ".join(b.label for b in self.bands)}), product={self.product.name!r}'

    def _as_tensor(self, x: object) -> Tensor:
        if isinstance(x, np.ndarray) and x.dtype.kind in 'uif':
            # A copy: torch knows no read-only arrays, negative strides or foreign byte orders.
            x = torch.from_numpy(x.astype(x.dtype.newbyteorder('='), order='C'))
        if not isinstance(x, Tensor):
            raise InputError(
                f'an image must be a tensor of numbers or a sample that holds one, '
                f'got {type(x).__name__}'
            )
        if x.ndim not in (3, 4, 5) or x.numel() == 0:
            raise InputError(
                f'an image must be (C, H, W), (B, C, H, W) or (B, T, C, H, W) and not empty, '
                f'got shape {tuple(x.shape)}'
            )
        if x.dtype not in _DTYPES:
            raise InputError(f'an image cannot be of type {x.dtype}')
        _check_channels(x.shape[-3], len(self.bands), [b.label for b in self.bands])
        return x

    def _valid(self, value: Tensor) -> Tensor:
        valid = torch.isfinite(value)
        if self.nodata is not None:
            filled = value == self.nodata
            valid &= ~(filled.all(-3, keepdim=True) if self.nodata_in == 'all' else filled)
        return valid

    def _nodata_message(self, valid: Tensor) -> str:
        share = 1 - valid.movedim(-3, 0).flatten(1).float().mean(1)
        worst = int(share.argmax())
        what, other = 'NaN or infinite', ''
        if self.nodata is not None:
            where = ' in all bands' if self.nodata_in == 'all' else ''
            what = f'NaN, infinite or nodata={self.nodata:g}{where}'
            other = f'; if {self.nodata:g} is a measured value, pass nodata=None'
        return (
            f'{int((~valid).sum())} of {valid.numel()} values are {what}, most in band '
            f'{self.bands[worst].label!r} ({float(share[worst]):.1%}). Mask them beforehand or '
            f'pass nodata_fill=True to fill them with the mean of the band{other}'
        )

    def _check_unit(self, value: Tensor, dtype: torch.dtype) -> None:
        """Compare the values' range with what the product can hold."""
        if value.numel() == 0:
            return
        (low, high), product = (float(v) for v in torch.aminmax(value)), self.product
        if product.unit == 'uint8':
            least, most = 0.0, 255.0
        else:
            # Sorted: a scale may be negative.
            least, most = sorted((p - product.offset) / product.scale for p in _PLAUSIBLE)
            if product.dtype is not None and product.dtype.startswith('uint'):
                least = 0.0
        slack = 0.5 if product.unit == 'uint8' else 0.0  # resized images go a little beyond
        wrong = low < least - slack or high > most + slack
        # Reflectance where integers are stored: floats that stay at 0 to 2 (8-bit: 0 to 1).
        top = 1.0 if product.unit == 'uint8' else 2.0
        wrong |= product.unit != 'reflectance' and dtype.is_floating_point and 0 < high <= top
        # 8-bit display values where a wider product was declared.
        wrong |= 'uint8' not in (product.unit, product.dtype) and dtype == torch.uint8
        if not wrong:
            return
        message = (
            f'the values do not look like product {product.name!r} (unit {product.unit}): it holds '
            f'about {least:g} to {most:g}, the image holds {low:g} to {high:g} ({dtype}). '
            f'Check product= or unit=, and that the image is normalized only once'
        )
        if self.strict:
            raise UnitError(message)
        if not self._warned:  # the ranges differ from image to image: warn once, not 10,000 times
            self._warned = True
            warnings.warn(message, UnitWarning, stacklevel=3)


class NormalizeSample(nn.Module):
    """`Normalize` for samples whose images have other keys than ``'image'``.

    Args:
        normalize: the transform of the image.
        keys: entries of the sample that are images.

    .. versionadded:: 0.1
    """

    def __init__(self, normalize: Normalize, keys: str | Sequence[str] = ('image',)) -> None:
        """Keep the transform."""
        super().__init__()
        self.normalize, self.keys = normalize, keys

    def forward(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Normalize the images of a sample, see `Normalize.forward`.

        Args:
            sample: a sample or a batch; it stays as it is.

        Returns:
            A new dict with normalized images and everything else untouched.

        Raises:
            InputError: if this is not a sample, or a key is missing.
        """
        if not isinstance(sample, Mapping):
            raise InputError(f'a sample must be a dict, got {type(sample).__name__}')
        return dict(self.normalize(sample, self.keys))


def check_image(x: object, channels: int | None = None) -> None:
    """Check an image at the border of the encoder.

    Args:
        x: normalized images (B, C, H, W).
        channels: the number of channels there should be.

    Raises:
        BandError: if the number of channels differs.
        InputError: if shape, type or values cannot be used.

    Warns:
        UnitWarning: if the values are so large that nobody can have normalized them.
    """
    if not isinstance(x, Tensor):
        raise InputError(f'AOM expects a tensor (B, C, H, W), got {type(x).__name__}')
    if x.ndim != 4 or x.numel() == 0:
        raise InputError(
            f'AOM expects images (B, C, H, W), none of them 0, got shape {tuple(x.shape)}'
        )
    if not x.dtype.is_floating_point:
        raise InputError(
            f'AOM expects normalized floats, got {x.dtype}: apply '
            f'torchgeo_aom.transforms.Normalize(bands, product=...) first'
        )
    if channels is not None:
        _check_channels(x.shape[1], channels)
    # One pass over the image for both questions: sizes of finite values have a finite mean.
    size = mean_size(x)
    if not math.isfinite(size) and (count := int((~torch.isfinite(x)).sum())):
        raise InputError(
            f'{count} of {x.numel()} values of the image are NaN or infinite: fill them first, '
            f'for example with torchgeo_aom.transforms.Normalize(..., nodata_fill=True)'
        )
    warn_stored(size)


def _check_channels(got: int, expected: int, labels: Sequence[str] = ()) -> None:
    if got != expected:
        names = f' ({", ".join(labels[:20])})' if labels else ''
        raise BandError(
            f'the image has {got} channels but {expected} bands are named{names}. '
            f'Name exactly one band for each channel, in their order'
        )


def _choose_product(
    bands: Sequence[Band], product: str | Product | None, unit: str | None
) -> Product:
    if (product is None) == (unit is None):
        raise ConfigError(
            "say how the values are stored: either product= (for example 'l2a' or "
            "'sentinel2:l2a') or unit= ('reflectance' or 'uint8')"
        )
    if isinstance(product, Product):
        return product
    own = _sensor_of(bands)
    if unit is not None and unit not in ('reflectance', 'uint8'):
        names = ', '.join(own.products) if own else "for example 'sentinel2:l2a'"
        raise ConfigError(
            f'unit={unit!r} does not say how values become reflectance: allowed are reflectance '
            f'and uint8; for digital numbers give product= ({names})'
        )
    prefix, colon, _ = str(product).partition(':')
    if colon:
        sensor = get_sensor(prefix).name
        for band in bands:
            if band.sensor not in (None, sensor):
                raise ConfigError(
                    f'product {product!r} is one of {sensor!r}, but band {band.label!r} is not: '
                    f'give a general product, or a Product with its scale and offset'
                )
    return get_product(str(product or unit), own.name if own else None)


def _sensor_of(bands: Sequence[Band]) -> Sensor | None:
    """The catalogue sensor that all bands belong to, if there is one."""
    names = {band.sensor for band in bands}
    name = names.pop()
    found = find_sensor(name) if name and not names else None
    return found[0] if found else None


def _choose_nodata(nodata: float | str | None, product: Product) -> tuple[float | None, str]:
    """The value that means "no data", and whether it counts in 'each' band or only in 'all'."""
    if isinstance(nodata, str):
        if nodata != 'product':
            raise ConfigError(f"nodata must be a number, None or 'product', got {nodata!r}")
        return product.nodata, product.nodata_in
    return None if nodata is None or math.isnan(nodata) else nodata, 'each'


def _column(
    values: float | Iterable[float] | Tensor, key: str, bands: Sequence[Band]
) -> tuple[float, ...]:
    if isinstance(values, Tensor):
        values = values.tolist()
    if isinstance(values, int | float):
        values = [values] * len(bands)
    column = tuple(float(v) for v in values)
    if len(column) != len(bands) or not all(map(math.isfinite, column)):
        raise ConfigError(
            f'{key} must hold one finite number for each of the {len(bands)} bands '
            f'({", ".join(b.label for b in bands[:20])}), got {len(column)}: {column[:20]}'
        )
    return column
