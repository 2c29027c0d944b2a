"""Checks that every AOM backbone passes, in the manner of scikit-learn's ``check_estimator``.

A builder is a function that takes the arguments of ``AOM`` and returns a backbone of any kind.
Every check builds its own models and makes its own images: random, never zeros, no two alike.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchgeo_aom import AOM
from torchgeo_aom.errors import BandError, InputError, SizeError

TINY = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
RGB = ('sentinel2:B04', 'sentinel2:B03', 'sentinel2:B02')

Builder = Callable[..., Any]

_seeds = count(1)


def image(channels: int = 3, height: int = 40, width: int = 33, batch: int = 2) -> Tensor:
    """A fresh normalised image batch; no two calls give the same."""
    generator = torch.Generator().manual_seed(next(_seeds))
    return torch.randn(batch, channels, height, width, generator=generator)


def perturb(model: nn.Module, scale: float = 0.05) -> nn.Module:
    """Move every parameter off its start: zero biases and unit norms hide mistakes."""
    generator = torch.Generator().manual_seed(next(_seeds))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_meta:
                continue
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def tiny(**kwargs: Any) -> AOM:
    """A small AOM in evaluation mode with no parameter at its start."""
    model = AOM(**{**TINY, **kwargs})
    perturb(model)
    return model.eval()


def is_wavelength(model: Any) -> bool:
    """Whether channel codes are wavelengths."""
    return model.patch_embed.channel_encoding == 'wavelength'


def codes(model: Any, index: list[Any]) -> Tensor:
    """Channel indices as what a tensor of bands holds for this model."""
    return 450 + 100 * torch.tensor(index) if is_wavelength(model) else torch.tensor(index)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal within a tolerance, absolute and relative, and finite."""
    assert torch.isfinite(actual).all()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def differ(actual: Tensor, expected: Tensor, least: float = 1e-3) -> None:
    """Not equal: somewhere at least this far apart."""
    assert (actual - expected).abs().max() > least


@contextmanager
def math_attention(model: nn.Module) -> Iterator[None]:
    """Attention of timm's blocks written out, without the fused kernel."""
    fused = [module for module in model.modules() if getattr(module, 'fused_attn', False)]
    assert fused
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Another default floating-point type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_contract(builder: Builder) -> None:
    """The attributes and shapes that timm's, TorchGeo's and SMP's callers read."""
    model = builder(bands=RGB, num_classes=5)
    x = image(3, 40, 33)
    features = model.forward_features(x)
    assert features.shape == (2, 1 + 3 * 3, model.embed_dim)
    assert model.num_features == model.head_hidden_size == model.embed_dim
    assert model.num_prefix_tokens == 1
    assert model.patch_embed.patch_size == (16, 16)
    assert model(x).shape == (2, 5)
    close(model(x), model.forward_head(features), 0)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.embed_dim)
    # The order of the children, which TorchGeo's trainers rely on.
    first, leaf = next(iter(model.named_children()))
    while len(list(leaf.children())):
        leaf = next(iter(leaf.children()))
    assert first == 'patch_embed'
    assert isinstance(leaf, nn.Conv2d) and leaf.in_channels == 1
    names = [name for name, _ in model.named_children()]
    assert names[-2:] == ['head_drop', 'head']
    assert isinstance(model.head, nn.Linear) and model.get_classifier() is model.head


def check_any_channels(builder: Builder) -> None:
    """1 to 20 channels, from the constructor and from the call, with the same parameters."""
    model = builder()
    for channels in (*range(1, 21),):
        x = image(channels, 32, 32, batch=1)
        features = model.forward_features(x, bands=codes(model, list(range(channels))))
        assert features.shape == (1, 5, model.embed_dim)
        assert torch.isfinite(features).all()
        if not is_wavelength(model):  # positions beyond Sentinel-2 have no wavelength
            built = builder(in_chans=channels)
            built.load_state_dict(model.state_dict())
            close(built.forward_features(x), features)


def check_any_size(builder: Builder) -> None:
    """Sizes that are no multiple of the patch, not square, smaller than a patch, one pixel."""
    model = builder()
    for height, width in ((32, 32), (40, 33), (7, 90), (5, 3), (1, 1), (16, 17)):
        features = model.forward_features(image(3, height, width))
        assert features.shape == (2, 1 + -(-height // 16) * -(-width // 16), model.embed_dim)
        assert torch.isfinite(features).all()


def check_any_patch_size(builder: Builder) -> None:
    """Patch sizes of the call, also not square, give the grid that they should."""
    model = builder()
    for patch in (1, 4, 5, 8, 14, 16, 24, 32, 37, 48, 64, 100, 128, (8, 24), (128, 1)):
        rows, cols = patch if isinstance(patch, tuple) else (patch, patch)
        x = image(2, 20, 13)
        features = model.forward_features(x, bands=codes(model, [0.0, 1.0]), patch_size=patch)
        assert features.shape == (2, 1 + -(-20 // rows) * -(-13 // cols), model.embed_dim)
        assert torch.isfinite(features).all()


def check_patch_size_of_constructor(builder: Builder) -> None:
    """A patch size means the same in the constructor, in the call and in ``set_input_size``."""
    x = image()
    called = builder()
    built = builder(patch_size=10)
    built.load_state_dict(called.state_dict())
    close(built.forward_features(x), called.forward_features(x, patch_size=10), 1e-6)
    close(built.forward_features(x, patch_size=16), called.forward_features(x), 1e-6)
    expected = built.forward_features(x)
    called.set_input_size(img_size=(40, 33), patch_size=10)
    close(called.forward_features(x), expected, 1e-6)
    assert called.patch_embed.grid_size == (4, 4)
    assert called.feature_info[0]['reduction'] == 10


def check_deterministic(builder: Builder) -> None:
    """The same seed gives the same model, the same image the same output, and nothing is kept."""
    torch.manual_seed(7)
    model = AOM(**TINY)
    torch.manual_seed(7)
    again = AOM(**TINY)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    model = builder()
    x = image()
    expected = model(x)
    model(image(3, 64, 50), patch_size=8)
    model(image(1), bands=codes(model, [3.0]))
    assert torch.equal(model(x), expected)


def check_batch(builder: Builder) -> None:
    """A sample alone equals itself in a batch; batches of 0 and 1; order of samples."""
    model = builder(num_classes=3)
    x = image(batch=4)
    expected = model(x)
    for i in range(4):
        close(model(x[i : i + 1]), expected[i : i + 1])
    order = torch.tensor([2, 0, 3, 1])
    close(model(x[order]), expected[order])
    assert model(x[:0]).shape == (0, 3)
    assert model.forward_features(x[:0]).shape == (0, 10, model.embed_dim)


def check_band_order(builder: Builder) -> None:
    """Channels permuted with their bands change nothing; permuted without, they do."""
    bands = ('sentinel2:B02', 'sentinel2:B08', 'sentinel2:B11', 'sentinel2:B8A')
    model = builder(bands=bands)
    x = image(4)
    expected = model.forward_features(x)
    order = [2, 0, 3, 1]
    permuted = [bands[i] for i in order]
    close(model.forward_features(x[:, order], bands=permuted), expected)
    built = builder(bands=permuted)
    built.load_state_dict(model.state_dict())
    close(built.forward_features(x[:, order]), expected)
    differ(model.forward_features(x[:, order]), expected)


def check_missing_band(builder: Builder) -> None:
    """A band that is missing is a subset of bands, in both call styles, and not a zero image."""
    model = builder(bands=RGB)
    x = image(3)
    expected = model.forward_features(x[:, [0, 2]], bands=[RGB[0], RGB[2]])
    built = builder(bands=[RGB[0], RGB[2]])
    built.load_state_dict(model.state_dict())
    close(built.forward_features(x[:, [0, 2]]), expected)
    if not is_wavelength(model):
        index = torch.tensor([[3.0, float('nan'), 1.0]]).expand(2, -1)
        close(model.forward_features(x, bands=index), expected)
    zeroed = x.clone()
    zeroed[:, 1] = 0
    differ(model.forward_features(zeroed), expected)


def check_bands_per_sample(builder: Builder) -> None:
    """Samples of different bands in one batch equal each sample alone, whatever the padding is."""
    model = builder(num_classes=3)
    nan = float('nan')
    rows = ([0.0, 1.0, 2.0, 3.0], [8.5, nan, nan, nan], [nan, 7.0, nan, 2.0], [nan, nan, 3.0, nan])
    index = codes(model, rows)
    x = image(4, 21, 40, batch=4)
    mixed = model.forward_features(x, bands=index)
    tokens = model.forward_band_tokens(x, bands=index)
    logits = model(x, bands=index)
    for i in range(4):
        keep = ~index[i].isnan()
        alone, own = x[i : i + 1, keep], index[i, keep]
        close(mixed[i : i + 1], model.forward_features(alone, bands=own))
        close(logits[i : i + 1], model(alone, bands=own))
        close(tokens[i : i + 1, keep], model.forward_band_tokens(alone, bands=own))
        assert tokens[i, ~keep].isnan().all()
    for garbage in (1e20, nan, float('inf')):
        filled = x.masked_fill(index.isnan()[:, :, None, None], garbage)
        close(model.forward_features(filled, bands=index), mixed)


def check_band_tokens(builder: Builder) -> None:
    """Tokens and maps of single bands have the shapes of the paper and are those of the mean."""
    model = builder(bands=RGB)
    x = image(3, 40, 33)
    tokens = model.forward_band_tokens(x)
    assert tokens.shape == (2, 3, 3, 3, model.embed_dim)
    maps = model.forward_band_maps(x)
    assert maps.shape == (2, 3, model.embed_dim, 3, 3)
    assert torch.equal(maps.permute(0, 1, 3, 4, 2), tokens)
    differ(tokens[:, 0], tokens[:, 1])


def check_gradients(builder: Builder) -> None:
    """Every parameter learns; kernels that the patch size leaves out get zeros, not nothing."""
    for patch, used in ((16, 16), (8, 16), (24, 16), (25, 32), (48, 32), (49, 64), (128, 64)):
        model = builder(num_classes=3).train()
        model(image(3, 40, 40), patch_size=patch).square().sum().backward()
        unused = {
            f'patch_embed.kernels.{size}.{kind}'
            for size in (16, 32, 64)
            if size != used
            for kind in ('weight', 'bias')
        }
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert bool(parameter.grad.abs().max() == 0) == (name in unused), name


def check_gradient_of_padding(builder: Builder) -> None:
    """Absent channels leave no NaN in the gradients."""
    model = builder().train()
    index = codes(model, [[0.0, 1.0, 2.0], [1.0, float('nan'), float('nan')]])
    x = image().requires_grad_()
    model.forward_features(x, bands=index).square().sum().backward()
    for name, parameter in model.named_parameters():
        if not name.startswith('head'):
            assert torch.isfinite(parameter.grad).all(), name
    assert x.grad[1, 1:].abs().max() == 0
    assert x.grad[1, 0].abs().max() > 0


def check_checkpointing(builder: Builder) -> None:
    """Recomputing activations changes neither the output nor the gradients."""
    model = builder(num_classes=3).train()
    x = image()
    model(x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    output = model(x)
    model.zero_grad()
    model.set_grad_checkpointing()
    assert model.grad_checkpointing
    again = model(x)
    close(again, output, 1e-6)
    again.square().sum().backward()
    for name, parameter in model.named_parameters():
        close(parameter.grad, expected[name])
    model.set_grad_checkpointing(False)
    assert not model.grad_checkpointing


def check_attention(builder: Builder) -> None:
    """Fused attention equals attention written out, with and without absent bands."""
    model = builder()
    x = image(3)
    index = codes(model, [[0.0, 1.0, 2.0], [1.0, float('nan'), float('nan')]])
    expected, mixed = model.forward_features(x), model.forward_features(x, bands=index)
    with math_attention(model):
        close(model.forward_features(x), expected)
        close(model.forward_features(x, bands=index), mixed)


def check_intermediates(builder: Builder) -> None:
    """``forward_intermediates`` in all of timm's forms."""
    model = builder(num_classes=3)
    depth = len(model.blocks)
    x = image(3, 40, 33)
    features = model.forward_features(x)
    final, maps = model.forward_intermediates(x)
    close(final, features, 0)
    assert [tuple(grid.shape) for grid in maps] == [(2, model.embed_dim, 3, 3)] * depth
    lists = model.forward_intermediates(x, output_fmt='NLC', intermediates_only=True)
    assert [tuple(grid.shape) for grid in lists] == [(2, 9, model.embed_dim)] * depth
    for grid, sequence in zip(maps, lists, strict=True):
        close(grid.flatten(2).transpose(1, 2), sequence, 0)
    normed = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
    close(normed[0].flatten(2).transpose(1, 2), features[:, 1:], 1e-6)
    pairs = model.forward_intermediates(
        x, indices=[depth - 1], norm=True, return_prefix_tokens=True, intermediates_only=True
    )
    grid, prefix = pairs[0]
    close(prefix, features[:, :1], 1e-6)
    close(grid, normed[0], 0)
    early = model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)
    close(early[0], maps[0], 0)
    eight = model.forward_intermediates(
        x[:, :1], bands=codes(model, [1.0]), patch_size=8, intermediates_only=True
    )
    assert eight[0].shape == (2, model.embed_dim, 5, 5)
    with pytest.raises(ValueError, match='NHWC'):
        model.forward_intermediates(x, output_fmt='NHWC')


def check_head(builder: Builder) -> None:
    """The head can be replaced, removed, and left without pooling."""
    model = builder(num_classes=3)
    x = image()
    features = model.forward_features(x)
    model.reset_classifier(7)
    assert model.num_classes == 7 and model(x).shape == (2, 7)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    close(model(x), features[:, 0], 0)
    model.reset_classifier(0, '')
    close(model(x), features, 0)
    model.reset_classifier(4, 'avg')
    assert model(x).shape == (2, 4)
    with pytest.raises(ValueError, match='token'):
        model.reset_classifier(4, 'token')
    half = builder(num_classes=3).to(torch.float64)
    half.reset_classifier(2)
    assert half(image().double()).dtype == torch.float64


def check_state(builder: Builder) -> None:
    """Parameters do not depend on the sensor; pickle and deepcopy keep the output."""
    model = builder(bands=RGB, num_classes=3)
    keys = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for other in (
        builder(num_classes=3),
        builder(bands='sentinel2', num_classes=3),
        builder(in_chans=12, num_classes=3),
        builder(patch_size=8, img_size=(64, 512), num_classes=3),
    ):
        assert {key: tuple(value.shape) for key, value in other.state_dict().items()} == keys
        other.load_state_dict(model.state_dict())
    x = image()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert torch.equal(twin(x, patch_size=9), model(x, patch_size=9))
        assert twin.bands == model.bands
        perturb(twin)
        differ(twin(x), model(x))


def check_dtypes(builder: Builder) -> None:
    """Half, bfloat16 and double precision, whole and by autocast."""
    model = builder(bands=RGB, num_classes=3)
    x = image()
    for patch in (16, 24, 11):
        expected = model(x, patch_size=patch)
        for dtype, tolerance in (
            (torch.bfloat16, 5e-2),
            (torch.float16, 1e-2),
            (torch.float64, 1e-5),
        ):
            whole = copy.deepcopy(model).to(dtype)
            assert whole(x.to(dtype), patch_size=patch).dtype == dtype
            close(whole(x.to(dtype), patch_size=patch).float(), expected, tolerance)
            # The image takes the precision of the model, as everywhere in the frameworks.
            assert whole(x, patch_size=patch).dtype == dtype
            assert model(x.to(dtype), patch_size=patch).dtype == torch.float32
            if dtype != torch.float64:
                with torch.autocast('cpu', dtype):
                    output = model(x, patch_size=patch)
                close(output.float(), expected, tolerance)


def check_default_dtype(builder: Builder) -> None:
    """A model built under another default type works in that type."""
    x = image()
    model = builder(bands=RGB)
    with default_dtype(torch.float64):
        double = builder(bands=RGB)
        double.load_state_dict(model.state_dict())
        output = double(x.double(), patch_size=24)
        assert output.dtype == torch.float64
        model(x)  # a float32 model still works
    close(output.float(), model(x, patch_size=24))


def check_meta(builder: Builder) -> None:
    """Built on the meta device: shapes without memory, and real weights afterwards."""
    model = builder(bands=RGB, num_classes=3)
    with torch.device('meta'):
        empty = builder(bands=RGB, num_classes=3)
    assert all(parameter.is_meta for parameter in empty.parameters())
    x = image()
    assert empty(x.to('meta')).shape == (2, 3)
    assert empty(x.to('meta'), patch_size=5).shape == (2, 3)
    assert empty(x[:, :2].to('meta'), bands=RGB[:2]).shape == (2, 3)
    moved = copy.deepcopy(model).to('meta')
    assert moved(x.to('meta')).shape == (2, 3)


def check_meta_materialized(builder: Builder) -> None:
    """Both ways to fill a model that was built on the meta device give the model saved."""
    model = builder(bands=RGB, num_classes=3)
    x = image()
    with torch.device('meta'):
        assigned = builder(bands=RGB, num_classes=3)
    emptied = copy.deepcopy(assigned).to_empty(device='cpu')
    for buffer in emptied.buffers():
        buffer.fill_(float('nan'))
    emptied.load_state_dict(model.state_dict())
    assigned.load_state_dict(model.state_dict(), assign=True)
    for filled in (assigned, emptied):
        close(filled(x), model(x), 0)
        close(filled(x, patch_size=24), model(x, patch_size=24), 0)


def check_memory_layout(builder: Builder) -> None:
    """Views, channels-last and read-only images give the same, and nobody's image is changed."""
    model = builder(bands=RGB)
    x = image(3, 40, 36)
    expected = model(x)
    for other in (
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat((x, x), 1)[:, 3:],
        x.repeat(1, 1, 2, 2)[:, :, 40:, 36:],
    ):
        close(model(other), expected, 1e-6)
    array = x.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # PyTorch's, once a process
        frozen = torch.from_numpy(array)
    close(model(frozen), expected, 1e-6)
    assert np.array_equal(array, x.numpy())
    # One value for all pixels: no memory of its own, so writing to it would show.
    flat = torch.full((1, 1, 1, 1), 0.7).expand(2, 3, 40, 36)
    assert torch.isfinite(model(flat)).all()
    index = codes(model, [[3.0, float('nan'), 1.0], [3.0, 2.0, 1.0]])
    before = x.clone(), index.clone()
    model(x, bands=index)
    assert torch.equal(x, before[0])
    assert torch.equal(index.nan_to_num(-1), before[1].nan_to_num(-1))


def check_modes(builder: Builder) -> None:
    """Inference mode first and training afterwards: no inference tensor is left behind."""
    model = builder(num_classes=3)
    x = image()
    with torch.inference_mode():
        expected = model(x, patch_size=24).clone()
    model.train()
    output = model(x, patch_size=24)
    close(output, expected.clone())
    output.sum().backward()
    model.requires_grad_(False)
    assert not model(x).requires_grad


def check_bad_input(builder: Builder) -> None:
    """Bad input is refused with our errors and the numbers."""
    model = builder(bands=RGB)
    for dtype in (torch.uint8, torch.int16, torch.int64, torch.bool):
        with pytest.raises(InputError, match='Normalize'):
            model((image() * 100).to(dtype))
    with pytest.raises(InputError, match=r'\(3, 40, 33\)'):
        model(image()[0])
    with pytest.raises(InputError, match=r'\(2, 3, 0, 33\)'):
        model(image()[:, :, :0])
    with pytest.raises(InputError, match=r'\(2, 0, 40, 33\)'):
        model(image()[:, :0])
    with pytest.raises(BandError, match='4 channels.*3 bands'):
        model(image(4))
    with pytest.raises(BandError, match='4'):
        model(image(4), bands=RGB)
    for shape in ((4,), (3, 3), (2, 4), (1, 2, 3), ()):
        with pytest.raises(BandError, match='shape'):
            model(image(), bands=torch.ones(shape))
    with pytest.raises(BandError, match='at least one band'):
        model(image(), bands=codes(model, [[1.0, 2, 3], [float('nan')] * 3]))
    with pytest.raises(BandError, match='NaN'):
        model(image(), bands=codes(model, [1.0, 2.0, float('nan')]))
    for wrong in (float('inf'), -9.0, 1e6):
        with pytest.raises(BandError, match='index|wavelength'):
            model(image(), bands=codes(model, [1.0, 2.0, wrong]))
    for patch in (0, -8, 129, 8.0, '16', True, (8,), (8, 0), (8, 8, 8), 1000):
        with pytest.raises(SizeError, match='patch_size'):
            model(image(), patch_size=patch)


def check_token_budget(builder: Builder) -> None:
    """Absurd requests are refused before anything is allocated, with the numbers."""
    model = builder(bands='sentinel2')
    x = torch.ones(1, 1, 1, 1).expand(1, 13, 1024, 1024)
    with pytest.raises(SizeError, match='851,968.*65,536') as refused:
        model(x, patch_size=4)
    for number in ('13 bands', '1024 x 1024', '4 x 4', 'max_tokens'):
        assert number in str(refused.value)
    # 4 TiB of pixels that do not exist: an allocation would fail or be noticed.
    huge = torch.ones(1, 1, 1, 1).expand(1, 13, 2**18, 2**18)
    with pytest.raises(SizeError, match='3,489,660,928'):
        model(huge)
    small = builder(bands=RGB, max_tokens=27)
    assert small(image(3, 48, 48)).shape[0] == 2
    with pytest.raises(SizeError, match='36 tokens.*27'):
        small(image(3, 48, 49))


CHECKS = (
    check_contract,
    check_any_channels,
    check_any_size,
    check_any_patch_size,
    check_patch_size_of_constructor,
    check_deterministic,
    check_batch,
    check_band_order,
    check_missing_band,
    check_bands_per_sample,
    check_band_tokens,
    check_gradients,
    check_gradient_of_padding,
    check_checkpointing,
    check_attention,
    check_intermediates,
    check_head,
    check_state,
    check_dtypes,
    check_default_dtype,
    check_meta,
    check_meta_materialized,
    check_memory_layout,
    check_modes,
    check_bad_input,
    check_token_budget,
)


def check_backbone(builder: Builder) -> None:
    """Run every check over the models that a builder makes."""
    for check in CHECKS:
        check(builder)
