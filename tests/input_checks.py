"""Checks of a backbone: any bands, sizes and batches, and what is refused."""

from __future__ import annotations

import pytest
import torch
from common import RGB, TINY, Builder, close, codes, differ, image, is_wavelength
from torch import nn

from torchgeo_aom import AOM
from torchgeo_aom.errors import BandError, InputError, SizeError


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
