"""Checks of a backbone as a torch module: gradients, state, data types, devices, layouts."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from common import RGB, Builder, close, codes, default_dtype, differ, image, math_attention, perturb
from torch import nn


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
