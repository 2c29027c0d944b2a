"""The tokenizer against a slow, literal reading of the paper; its budget, its bands, its sizes."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import BandError, InputError, SizeError, UnitWarning
from torchgeo_aom.layers.encodings import grid_encoding
from torchgeo_aom.layers.tokenizer import (
    POSITION_GRID,
    Tokenizer,
    as_pair,
    band_codes,
    checked_patch_size,
)

_seed = itertools.count(1)


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(next(_seed)))


def tokenizer(**kwargs: object) -> Tokenizer:
    built = Tokenizer(**{'embed_dim': 24, **kwargs})  # type: ignore[arg-type]
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.1)
    return built.eval()


def literal(
    model: Tokenizer, x: Tensor, index: list[float], patch: tuple[int, int], kernel_size: int
) -> Tensor:
    """Sections SiTok and MAPE, one band and one token at a time, by other means than the code."""
    conv = model.kernels[str(kernel_size)]
    basis = torch.eye(kernel_size**2, dtype=torch.float64)
    basis = basis.view(-1, 1, kernel_size, kernel_size)
    resize = F.interpolate(basis, size=patch, mode='bilinear').flatten(1).T  # B
    kernel = torch.linalg.pinv(resize.T) @ conv.weight.flatten(1).T.double()  # (pixels, D)
    rows, cols = math.ceil(x.shape[2] / patch[0]), math.ceil(x.shape[3] / patch[1])
    position = F.interpolate(grid_encoding((14, 14), 24), size=(rows, cols), mode='bilinear')
    tokens = torch.empty(x.shape[0], x.shape[1], rows, cols, 24, dtype=torch.float64)
    for b, c, r, q in np.ndindex(tokens.shape[:4]):
        pixels = torch.zeros(patch, dtype=torch.float64)
        for i, j in np.ndindex(*patch):
            if r * patch[0] + i < x.shape[2] and q * patch[1] + j < x.shape[3]:
                pixels[i, j] = x[b, c, r * patch[0] + i, q * patch[1] + j]
        angles = [index[c] / 10000 ** (k / 12) for k in range(12)]
        code = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        token = pixels.flatten() @ kernel + conv.bias
        tokens[b, c, r, q] = token + code + position[0, :, r, q]
    return tokens


@pytest.mark.parametrize(
    ('patch', 'kernel_size'),
    [((16, 16), 16), ((8, 8), 16), ((24, 24), 16), ((12, 30), 16), ((25, 25), 32), ((9, 70), 32)],
)
@torch.no_grad()
def test_literal_reading_of_the_paper(patch: tuple[int, int], kernel_size: int) -> None:
    model = tokenizer(kernel_sizes=(16, 32), bands=['sentinel2:B8A', 'sentinel2:B02'])
    x = image(2, 2, 29, 40)
    tokens, valid = model(x, patch_size=patch)
    assert valid is None
    expected = literal(model, x, [8.0, 1.0], patch, kernel_size)
    torch.testing.assert_close(tokens.double(), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_equals_a_strided_convolution() -> None:
    """Without resizing and without encodings, the tokens are a plain patch convolution."""
    model = tokenizer(in_chans=5)
    x = image(2, 5, 64, 48)
    conv = model.kernels['16'](x.flatten(0, 1)[:, None]).unflatten(0, (2, 5))
    tokens, _ = model(x)
    blank, _ = model(torch.full_like(x, 0.0))
    blank = blank - model.kernels['16'].bias  # the encodings alone
    torch.testing.assert_close(tokens - blank, conv.permute(0, 1, 3, 4, 2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('patch', range(1, 129))
def test_every_patch_size(patch: int) -> None:
    model = tokenizer(in_chans=1)
    tokens, _ = model(image(1, 1, 19, 130), patch_size=patch)
    assert tokens.shape == (1, 1, -(-19 // patch), -(-130 // patch), 24)
    assert torch.isfinite(tokens).all()
    assert tokens.abs().max() > 0.1


class TestPosition:
    @torch.no_grad()
    @pytest.mark.parametrize('channels', [1, 2, 4, 13])
    @pytest.mark.parametrize('grid', [(14, 14), (7, 7), (28, 28), (7, 14), (1, 14), (3, 5)])
    def test_all_bands_have_the_same_code(self, channels: int, grid: tuple[int, int]) -> None:
        """Only the grid decides: four bands at half the size have as many tokens as one band."""
        model = tokenizer(in_chans=channels)
        x = image(1, channels, 16 * grid[0], 16 * grid[1])
        tokens, _ = model(x)
        values = model.kernels['16'](x.flatten(0, 1)[:, None]).permute(0, 2, 3, 1)
        position = tokens[0] - values - model.channel[0, :, None, None]
        expected = F.interpolate(model.position, size=grid, mode='bilinear')[0].permute(1, 2, 0)
        torch.testing.assert_close(position, expected.expand_as(position), rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_grids_of_equal_token_count_differ(self) -> None:
        one, four = tokenizer(in_chans=1), tokenizer(in_chans=4)
        four.load_state_dict(one.state_dict())
        x = image(1, 1, 112, 112)
        half, _ = four(x.expand(-1, 4, -1, -1))
        full, _ = one(F.pad(x, (0, 112, 0, 112)))
        assert half[0].numel() == full[0].numel()
        # The same pixels at the last place of the small grid and in the middle of the large one.
        assert (half[0, 0, 6, 6] - full[0, 0, 6, 6]).abs().max() > 0.1

    @torch.no_grad()
    def test_native_grid_is_the_table(self) -> None:
        """At 224 px and patch 16 not one bit of the table changes."""
        assert POSITION_GRID == (14, 14)
        model = tokenizer(in_chans=3)
        for conv in model.kernels.values():
            conv.weight.fill_(0)
            conv.bias.fill_(0)
        model.channel.fill_(0)
        tokens, _ = model(image(1, 3, 224, 224))
        for band in tokens[0]:
            assert torch.equal(band.permute(2, 0, 1), grid_encoding((14, 14), 24)[0])

    def test_constructor_size_does_not_matter(self) -> None:
        """One checkpoint gives one answer, whatever ``img_size`` the model was built with."""
        x = image(1, 3, 50, 40)
        model = tokenizer()
        other = tokenizer(img_size=(512, 64))
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x)[0], model(x)[0])


class TestKernel:
    @pytest.mark.parametrize(
        ('patch', 'size'), [((8, 8), 16), ((24, 24), 16), ((25, 25), 32), ((48, 48), 32),
                            ((100, 100), 64), ((16, 64), 32), ((64, 1), 16), ((20, 30), 16)],
    )  # fmt: skip
    def test_choice(self, patch: tuple[int, int], size: int) -> None:
        assert tokenizer().nearest_kernel(patch) == size

    def test_size_that_fits_is_the_bank_itself(self) -> None:
        model = tokenizer()
        for size in (16, 32, 64):
            weight, bias = model.kernel((size, size))
            assert weight is model.kernels[str(size)].weight
            assert bias is model.kernels[str(size)].bias

    def test_unused_kernels_get_zeros(self) -> None:
        model = tokenizer().train()
        model(image(1, 3, 30, 30), patch_size=30)[0].square().sum().backward()
        for size, conv in model.kernels.items():
            for parameter in (conv.weight, conv.bias):
                assert parameter.grad is not None
                assert bool((parameter.grad != 0).any()) == (size == '32')

    def test_frozen_bank(self) -> None:
        model = tokenizer().train().requires_grad_(False)
        assert not model(image(1, 3, 30, 30))[0].requires_grad

    @pytest.mark.parametrize('sizes', [(16,), (8, 20), (64, 16, 32, 16), (7, 128)])
    def test_other_banks(self, sizes: tuple[int, ...]) -> None:
        model = tokenizer(kernel_sizes=sizes)
        assert model.kernel_sizes == tuple(sorted(set(sizes)))
        for patch in (1, 16, 99):
            assert torch.isfinite(model(image(1, 3, 30, 30), patch_size=patch)[0]).all()

    def test_half_precision_model_resizes_in_single(self) -> None:
        """In bfloat16 the pseudo-inverse would be off by 2 %; the kernel is rounded once only."""
        model = tokenizer(patch_size=24)
        half = tokenizer(patch_size=24)
        half.load_state_dict(model.state_dict())
        half.bfloat16()
        weight, _ = half.kernel((24, 24))
        reference = tokenizer(patch_size=24)
        reference.load_state_dict({k: v.float() for k, v in half.state_dict().items()})
        assert torch.equal(weight, reference.kernel((24, 24))[0].bfloat16())


class TestBands:
    def test_validity(self) -> None:
        model = tokenizer()
        index = torch.tensor([[1.0, 2.0, 3.0], [4.0, float('nan'), 5.0]])
        tokens, valid = model(image(2, 3, 20, 20), bands=index)
        assert valid is not None
        assert valid.tolist() == [[True, True, True], [True, False, True]]
        assert torch.isfinite(tokens).all()
        assert model(image(2, 3, 20, 20), bands=index.nan_to_num(6.0))[1] is None

    def test_index_of_call_is_that_of_constructor(self) -> None:
        model = tokenizer(bands='sentinel2')
        x = image(2, 13, 20, 20)
        index = torch.tensor([band.index for band in model.bands])
        torch.testing.assert_close(model(x, bands=index)[0], model(x)[0], rtol=1e-5, atol=1e-5)

    def test_codes(self) -> None:
        bands = resolve_bands(['sentinel2:B02', 1.61, 3])
        assert band_codes(bands, 'index') == [band.index for band in bands]
        nm = band_codes(bands, 'wavelength')
        assert nm[0] == pytest.approx(492, abs=6) and nm[1] == pytest.approx(1610)
        assert nm[2] == pytest.approx(665, abs=2)
        with pytest.raises(BandError, match='wavelength'):
            band_codes(resolve_bands([40]), 'wavelength')

    @pytest.mark.parametrize(
        'bands', [torch.ones(2), torch.ones(3, 3), torch.ones(2, 4), torch.tensor(1.0)]
    )
    def test_wrong_shape(self, bands: Tensor) -> None:
        with pytest.raises(BandError, match=r'\(3,\) or \(2, 3\)'):
            tokenizer()(image(2, 3, 20, 20), bands=bands)

    def test_wrong_number(self) -> None:
        with pytest.raises(BandError, match='5 channels.*13 bands'):
            tokenizer(bands='sentinel2')(image(1, 5, 20, 20))
        with pytest.raises(BandError, match='5 channels.*3 positional'):
            tokenizer()(image(1, 5, 20, 20))

    def test_encodings_come_back_with_the_parameters(self) -> None:
        """They are not saved: a model from the meta device makes them when it is loaded."""
        model = tokenizer(bands='sentinel2:rgb')
        with torch.device('meta'):
            empty = Tokenizer(embed_dim=24, bands='sentinel2:rgb')
        empty.to_empty(device='cpu')
        empty.position.fill_(float('nan'))
        empty.load_state_dict(model.state_dict())
        x = image(1, 3, 20, 20)
        assert torch.equal(empty(x)[0], model(x)[0])
        half = tokenizer(bands='sentinel2:rgb').half()
        half.load_state_dict(model.state_dict())
        assert half.position.dtype == half.channel.dtype == torch.float16

    def test_description(self) -> None:
        assert 'sentinel2:B04' in repr(tokenizer(bands='sentinel2:rgb'))
        assert 'positional' in repr(tokenizer())


class TestSizes:
    @pytest.mark.parametrize('wrong', [0, -1, 1.5, '16', None, True, (), (1,), (1, 2, 3), (8, 0)])
    def test_as_pair_refuses(self, wrong: object) -> None:
        with pytest.raises(SizeError, match='what must be'):
            as_pair(wrong, 'what')  # type: ignore[arg-type]

    def test_as_pair(self) -> None:
        assert as_pair(5, 'x') == as_pair([5, 5], 'x') == as_pair(np.int64(5), 'x') == (5, 5)
        assert as_pair(torch.Size((3, 4)), 'x') == (3, 4)

    def test_patch_size(self) -> None:
        assert checked_patch_size(128) == (128, 128)
        for wrong in (129, (1, 129), 10**9):
            with pytest.raises(SizeError, match='1 to 128'):
                checked_patch_size(wrong)

    def test_token_grid(self) -> None:
        assert Tokenizer.token_grid((224, 225), (16, 16)) == (14, 15)
        assert Tokenizer.token_grid((1, 1), (16, 16)) == (1, 1)

    def test_nominal_size(self) -> None:
        model = tokenizer(img_size=(100, 64), patch_size=(8, 16))
        assert model.grid_size == (13, 4) and model.num_patches == 52
        model.set_input_size(patch_size=32)
        assert model.grid_size == (4, 2) and model.patch_size == (32, 32)
        model.set_input_size(img_size=64)
        assert model.grid_size == (2, 2)

    def test_budget_is_checked_before_anything(self) -> None:
        model = tokenizer(bands='sentinel2', max_tokens=100)
        huge = torch.ones(()).expand(1, 13, 2**20, 2**20)
        with pytest.raises(SizeError, match='max_tokens=100'):
            model(huge)
        model.max_tokens = 13
        assert model(image(1, 13, 16, 16))[0].shape == (1, 13, 1, 1, 24)

    def test_image(self) -> None:
        with pytest.raises(InputError, match=r'\(3, 20, 20\)'):
            tokenizer()(image(3, 20, 20))
        with pytest.raises(InputError, match='int64'):
            tokenizer()(torch.ones(1, 3, 20, 20, dtype=torch.int64))
        with pytest.raises(InputError, match='complex'):
            tokenizer()(image(1, 3, 20, 20).to(torch.complex64))


class TestStoredNumbers:
    """A model without a task says, too, that nobody can have normalized such values."""

    @pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
    def test_warns_at_the_line_of_the_user(self, dtype: torch.dtype) -> None:
        stored = torch.full((1, 3, 32, 32), 1500.0, dtype=dtype)
        with pytest.warns(UnitWarning, match='look like stored numbers') as caught:
            tokenizer()(stored)
        assert [warning.filename for warning in caught] == [__file__]

    def test_not_for_normalized_values(self) -> None:
        x = image(1, 3, 32, 32)
        x[0, 0, 0] = 300  # a row of glint; the mean size is below 20
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            tokenizer()(x)

    def test_stored_infinity_is_an_error(self) -> None:
        x = torch.full((1, 3, 32, 32), 1500.0)
        x[0, 2, 5, 5] = torch.inf
        with pytest.raises(InputError, match='NaN or infinite'):
            tokenizer()(x)
