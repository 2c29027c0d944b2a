"""SiTok with MAPE: any bands, any image size and any patch size become one token sequence.

Every band goes through the same single-channel kernel (section 'SiTok'), chosen from a bank and
resized to the patch size wanted (section 'MAPE', Eq. 1-3). A token then gets the code of *which
band* it is and of *where* it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.nn import functional as F

from ..bands import Band, BandSpec, index_to_wavelength, resolve_bands
from ..errors import BandError, ConfigError
from .checks import (
    as_pair,
    check_codes,
    check_tokens,
    check_type,
    check_values,
    checked_patch_size,
)
from .encodings import grid_encoding, interpolate_grid, sinusoid
from .pi_resize import nearest_kernel, pi_matrices, pi_resize
from .sizes import KERNEL_SIZES, MAX_TOKENS, token_grid
from .spectral_groups import spectral_position

__all__ = (
    'KERNEL_SIZES',
    'MAX_TOKENS',
    'POSITION_GRID',
    'Tokenizer',
    'as_pair',
    'band_codes',
    'checked_patch_size',
)

# The position table has the grid of the usual ViT input (224 px, patch 16), whatever the image
# size: one checkpoint must give one answer, not one for each ``img_size`` of a constructor.
POSITION_GRID = (14, 14)
MAX_POSITIONS = 100


def band_codes(bands: Sequence[Band], encoding: str) -> list[float]:
    """The number that the channel encoding of each band is the sinusoid of.

    Args:
        bands: resolved bands.
        encoding: ``'index'`` (the paper) or ``'wavelength'`` (Table 5 of the paper).

    Returns:
        Channel indices, or center wavelengths in nm.

    Raises:
        BandError: if a wavelength is needed and a band has none.
    """
    if encoding == 'index':
        return [band.index for band in bands]
    codes = []
    for band in bands:
        wavelength_um = band.wavelength_um or index_to_wavelength(band.index)
        if wavelength_um is None:
            raise BandError(
                f'Band {band.label!r} has no center wavelength, which '
                "channel_encoding='wavelength' needs; name the band by its wavelength or use "
                "channel_encoding='index'."
            )
        codes.append(1000.0 * wavelength_um)
    return codes


def _restore_encodings(tokenizer: nn.Module, keys: object) -> None:
    cast('Tokenizer', tokenizer).reset_parameters()


# A leaf for torch.fx: its checks look at real shapes and values.
@register_notrace_module
class Tokenizer(nn.Module):
    """Spectrum-independent tokenizer with multi-scale adaptive patch embedding (SiTok + MAPE).

    The parameters know nothing of the sensor: a bank of kernels, each from one channel to D.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        kernel_sizes: Sequence[int] = KERNEL_SIZES,
        in_chans: int | None = None,
        bands: BandSpec | None = None,
        embed_dim: int = 768,
        channel_encoding: str = 'index',
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        """Initialize the tokenizer.

        Args:
            img_size: nominal image size in px; any other size works too.
            patch_size: patch size in px where a call names none.
            kernel_sizes: sizes of the kernel bank in px.
            in_chans: number of channels C; the number of bands, or 3, where not given.
            bands: bands of the channels in file order, where a call names none; without them the
                channel index is the channel's position 0..C-1.
            embed_dim: embedding dimension D.
            channel_encoding: ``'index'`` or ``'wavelength'``.
            max_tokens: largest number of tokens C * Nh * Nw of one image.

        Raises:
            BandError: if the bands are unknown, or their number is not ``in_chans``.
            ConfigError: if an option has an unknown value.
            SizeError: if a size is impossible.
        """
        super().__init__()
        if channel_encoding not in ('index', 'wavelength'):
            raise ConfigError(
                f"channel_encoding must be 'index' or 'wavelength', got {channel_encoding!r}."
            )
        if embed_dim % 4:
            raise ConfigError(f'embed_dim must be a multiple of 4, got {embed_dim}.')
        sizes = sorted({as_pair(size, 'kernel_sizes')[0] for size in kernel_sizes})
        self.kernels = nn.ModuleDict(
            {str(size): nn.Conv2d(1, embed_dim, size, stride=size) for size in sizes}
        )
        self.kernel_sizes = tuple(sizes)
        self.embed_dim = embed_dim
        self.channel_encoding = channel_encoding
        self.max_tokens = max_tokens
        self.set_input_size(img_size, patch_size)
        self._set_bands(bands, in_chans)
        self.register_load_state_dict_post_hook(_restore_encodings)

    def reset_parameters(self) -> None:
        """Rebuild the encodings.

        They are not saved, so a model that was built on the meta device gets them here: whenever
        parameters are loaded, and from frameworks that call this method by its usual name.
        """
        like = next(self.kernels.parameters())
        codes = torch.tensor(self._default_codes, dtype=torch.float64)
        channel = sinusoid(codes, self.embed_dim)[None].float().to(like)  # (1, C, D)
        position = grid_encoding(POSITION_GRID, self.embed_dim).to(like)  # (1, D, rows, columns)
        self.register_buffer('channel', channel, persistent=False)
        self.register_buffer('position', position, persistent=False)
        self.channel: Tensor
        self.position: Tensor

    def _set_bands(self, bands: BandSpec | None, in_chans: int | None, dates: bool = False) -> None:
        """Build the channel codes; for constructors, since a changed model is not saved as such.

        Args:
            bands: bands of the channels, or None for positions.
            in_chans: number of channels, or None for the number of bands (3 without bands).
            dates: also accept several dates of the same bands, stacked as channels.
        """
        if in_chans is not None and not 1 <= in_chans <= (MAX_POSITIONS if bands is None else 1e9):
            raise BandError(
                f'in_chans must be 1 to {MAX_POSITIONS} where no bands are named, got {in_chans}; '
                'name the bands, e.g. by their wavelengths: bands=[0.41, 0.42, ...].'
            )
        self.bands: tuple[Band, ...] | None = None
        if bands is not None:
            self.bands = resolve_bands(bands)
            count = len(self.bands)
            in_chans = in_chans or count
            if in_chans % count or (in_chans != count and not dates):
                resolve_bands(bands, channels=in_chans)
            resolved = self.bands * (in_chans // count)
        else:
            resolved = tuple(Band(name=str(k), index=float(k)) for k in range(in_chans or 3))
        self.in_chans = len(resolved)
        self._default_codes = band_codes(resolved, self.channel_encoding)
        self.reset_parameters()

    def set_input_size(
        self,
        img_size: int | Sequence[int] | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> None:
        """Change the nominal image size and the default patch size; the parameters stay.

        Args:
            img_size: nominal image size in px.
            patch_size: patch size in px where a call names none.
        """
        if img_size is not None:
            self.img_size = as_pair(img_size, 'img_size')
        if patch_size is not None:
            self.patch_size = checked_patch_size(patch_size)
            kernel_size = self.nearest_kernel(self.patch_size)
            # Plain tensors: buffers would follow the model to half precision, which PI-resize
            # does not survive. They also keep the pseudo-inverse out of exported graphs.
            self.resize = pi_matrices((kernel_size, kernel_size), self.patch_size)
        self.grid_size = self.token_grid(self.img_size, self.patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def checked_patch_size(self, patch_size: int | Sequence[int] | None) -> tuple[int, int]:
        """Patch size as (height, width), the default where None; SizeError if it is impossible."""
        return self.patch_size if patch_size is None else checked_patch_size(patch_size)

    @staticmethod
    def token_grid(img_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tokens (Nh, Nw): every pixel is in one patch."""
        return token_grid(img_size, patch_size)

    def nearest_kernel(self, patch_size: tuple[int, int]) -> int:
        """Size of the kernel for a patch size (Eq. 1), of a non-square one by geometric mean."""
        return nearest_kernel(self.kernel_sizes, round((patch_size[0] * patch_size[1]) ** 0.5))

    def kernel(self, patch_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Kernel K* for a patch size (Eq. 1 and 2).

        Args:
            patch_size: (height, width) in px.

        Returns:
            Weight of shape (D, 1, height, width) and bias of shape (D,).
        """
        bank = cast('dict[str, nn.Conv2d]', self.kernels)
        conv = bank[str(self.nearest_kernel(patch_size))]
        bias = cast('Tensor', conv.bias)
        if self.training and torch.is_grad_enabled():
            # Kernels that this patch size leaves out get a gradient of zero instead of none:
            # DistributedDataParallel would wait for them for ever.
            for other in bank.values():
                bias = bias + 0 * (other.weight.flatten()[0] + cast('Tensor', other.bias)[0])
        matrices = self.resize if patch_size == self.patch_size else None
        return pi_resize(conv.weight, patch_size, matrices), bias

    def _codes(
        self, bands: BandSpec | Tensor | None, x: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Channel encoding (1 or B, C, D), channels that exist (B, C), None for all, and codes."""
        channels = x.shape[1]
        if bands is None:
            if channels != self.in_chans:
                kind = 'bands' if self.bands else 'positional channels'
                raise BandError(
                    f'The image has {channels} channels, but the model was built for '
                    f'{self.in_chans} {kind}; give bands= to this call, or build the model with '
                    'the bands of the image.'
                )
            return self.channel, None, None
        given = isinstance(bands, Tensor)
        if not isinstance(bands, Tensor):
            named = band_codes(resolve_bands(bands, channels=channels), self.channel_encoding)
            bands = torch.tensor(named, dtype=torch.float64, device=x.device)
        if bands.shape not in ((channels,), (x.shape[0], channels)):
            raise BandError(
                f'Channel indices must have shape ({channels},) or ({x.shape[0]}, {channels}) for '
                f'an image batch of shape {tuple(x.shape)}, got {tuple(bands.shape)}.'
            )
        codes = bands.to(x.device, torch.float64 if bands.dtype == torch.float64 else torch.float32)
        present = ~codes.isnan()
        valid: Tensor | None = present if bands.ndim == 2 else None
        if given and not (codes.is_meta or torch.compiler.is_compiling()):
            check_codes(codes, present, self.channel_encoding)
            if valid is not None and valid.all():
                valid = None  # keeps attention on its fastest, unmasked path
        encoding = sinusoid(codes.nan_to_num(0.0), self.embed_dim)
        return encoding.reshape(-1, channels, self.embed_dim), valid, codes

    def forward(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        position: bool = False,
    ) -> tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor]:
        """Turn images into tokens.

        Images whose size is not a multiple of the patch size are padded with zeros (the mean of a
        normalized band) at the right and the bottom by less than one patch, so every token holds
        real pixels.

        Args:
            x: normalized images of shape (B, C, H, W), floating point.
            bands: bands of the channels: names, wavelengths or indices (see
                :func:`torchgeo_aom.bands.resolve_bands`), or a float tensor of channel indices of
                shape (C,) or, where samples have different bands, (B, C) with NaN for channels that
                a sample does not have. None takes those of the constructor.
            patch_size: patch size in px, 1 to 128. None takes that of the constructor.
            position: also return where in the spectrum the channels lie, for merging.

        Returns:
            Tokens of shape (B, C, Nh, Nw, D); which channels exist as a bool tensor of shape
            (B, C), or None where all do; and, with *position*, what
            :func:`~torchgeo_aom.layers.spectral_groups.spectral_position` says of the channels,
            of shape (C,) or (B, C), NaN where there is none.

        Raises:
            BandError: if the bands do not fit the image.
            InputError: if the image is not a floating-point tensor of four dimensions.
            SizeError: if the patch size is impossible or the token budget is exceeded.

        Warns:
            UnitWarning: if the values of the image look like stored numbers.
        """
        check_type(x)
        size = self.checked_patch_size(patch_size)
        grid = self.token_grid((x.shape[2], x.shape[3]), size)
        check_tokens(x, grid, size, self.max_tokens)
        channel, valid, codes = self._codes(bands, x)
        if valid is not None:
            # A channel that does not exist may hold anything, and NaN would get past attention.
            x = x.masked_fill(~valid[:, :, None, None], 0)
        check_values(x)
        weight, bias = self.kernel(size)
        # One matrix product over patches: several times faster than a one-channel convolution.
        x = F.pad(x.to(weight.dtype), (0, -x.shape[3] % size[1], 0, -x.shape[2] % size[0]))
        patches = x.unflatten(3, (grid[1], size[1])).unflatten(2, (grid[0], size[0]))
        patches = patches.transpose(3, 4).flatten(4)  # (B, C, Nh, Nw, P*P')
        tokens = F.linear(patches, weight.flatten(1), bias)  # (B, C, Nh, Nw, D)
        places = interpolate_grid(self.position, grid)[0].permute(1, 2, 0)  # (Nh, Nw, D)
        tokens = tokens + places.to(tokens.dtype)
        tokens = tokens + channel[:, :, None, None].to(tokens.dtype)
        if not position:
            return tokens, valid
        if codes is None:
            codes = torch.tensor(self._default_codes, device=x.device)
        return tokens, valid, spectral_position(codes, self.channel_encoding)

    def extra_repr(self) -> str:
        """Short description for ``repr``."""
        bands = ', '.join(band.label for band in self.bands) if self.bands else 'positional'
        return f'any bands (default: {bands}), any size, patch_size={self.patch_size}'
