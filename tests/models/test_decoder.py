"""Decoders, projection heads, and the encoder over visible tokens only."""

import pytest
import torch

from torchgeo_aom.errors import ConfigError
from torchgeo_aom.layers.masking import keep_ids
from torchgeo_aom.losses import patchify
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.decoder import (
    Decoder,
    ProjectionHead,
    decoder_size,
    masked_ids,
    unpatchify,
)


@pytest.fixture(scope='module')
def encoder() -> AOM:
    torch.manual_seed(0)
    return AOM(embed_dim=32, depth=2, num_heads=2, in_chans=3, kernel_sizes=(8,)).eval()


def test_visible_tokens_alone_equal_all_tokens(encoder: AOM) -> None:
    x = torch.randn(2, 3, 20, 24)
    places = 3 * 3
    ids = torch.arange(3 * places).expand(2, -1)
    tokens = encoder.forward_visible(x, ids, patch_size=8)
    image_feature = encoder.norm(tokens.mean(1))
    torch.testing.assert_close(image_feature, encoder.forward_features(x, patch_size=8)[:, 0])
    # Bands left out altogether: the same as the image without them.
    subset = encoder.forward_visible(x, ids[:, places:], patch_size=8)
    alone = encoder.forward_features(x[:, 1:], bands=torch.tensor([1.0, 2.0]), patch_size=8)
    torch.testing.assert_close(encoder.norm(subset.mean(1)), alone[:, 0], atol=1e-5, rtol=1e-4)


def test_masked_tokens_are_not_seen(encoder: AOM) -> None:
    x = torch.randn(1, 3, 16, 16)
    ids = torch.tensor([[0, 5, 11]])
    before = encoder.forward_visible(x, ids, patch_size=8)
    patches = patchify(x, (8, 8))
    hidden = masked_ids(ids, 12)
    patches[0, hidden[0]] = 1e3
    after = encoder.forward_visible(unpatchify(patches, (2, 2), 8), ids, patch_size=8)
    assert torch.equal(before, after)


def test_masked_ids_are_the_others() -> None:
    ids = keep_ids(4, 9, 0.75, [1, 2, 3], seed=0, step=0)
    hidden = masked_ids(ids, 36)
    assert hidden.shape == (3, 27)
    assert (hidden.diff(dim=1) > 0).all()
    for kept, masked in zip(ids, hidden, strict=True):
        assert sorted(kept.tolist() + masked.tolist()) == list(range(36))


def test_unpatchify_inverts_patchify() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(x, (4, 4)), (2, 3), 4), x)


@pytest.mark.parametrize(
    ('embed_dim', 'size'), [(192, (128, 4)), (384, (256, 8)), (768, (512, 16)), (1024, (704, 22))]
)
def test_size_follows_the_encoder(embed_dim: int, size: tuple[int, int]) -> None:
    assert decoder_size(embed_dim) == size


def test_impossible_size_is_refused() -> None:
    with pytest.raises(ConfigError, match='decoder_width'):
        decoder_size(768, 100, 16)
    with pytest.raises(ConfigError, match='projector_norm'):
        ProjectionHead(8, norm='group')


def test_decoder_predicts_masked_tokens_only() -> None:
    decoder = Decoder(4, embed_dim=16, width=32, depth=1, num_heads=2).eval()
    codes = torch.tensor([1.0, 3.0, 8.0])
    ids = keep_ids(3, 6, 0.75, [1, 2], seed=0, step=0)
    tokens = torch.randn(2, ids.shape[1], 16)
    pixels, hidden = decoder(tokens, ids, codes, (2, 3))
    assert pixels.shape == (2, 18 - ids.shape[1], 16)
    assert torch.equal(hidden, masked_ids(ids, 18))
    # It knows the band and the place of a token: no two predictions are alike.
    assert torch.cdist(pixels[0], pixels[0]).fill_diagonal_(1).min() > 1e-4
    # The order of the visible tokens does not matter, as long as the indices tell their places.
    flipped, _ = decoder(tokens.flip(1), ids.flip(1), codes, (2, 3))
    torch.testing.assert_close(flipped, pixels)
    # Another band has another code.
    other, _ = decoder(tokens, ids, torch.tensor([1.0, 4.0, 8.0]), (2, 3))
    assert not torch.allclose(other, pixels)


def test_checkpointing_changes_nothing() -> None:
    decoder = Decoder(4, embed_dim=16, width=16, depth=2, num_heads=2)
    ids = keep_ids(2, 4, 0.5, [1], seed=0, step=0)
    tokens = torch.randn(1, ids.shape[1], 16)
    gradients = []
    for on in (False, True):
        decoder.grad_checkpointing = on
        decoder.zero_grad()
        pixels, _ = decoder(tokens, ids, torch.tensor([0.0, 1.0]), (2, 2))
        pixels.square().sum().backward()
        gradients.append([p.grad.clone() for p in decoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(decoder.parameters()))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_projection_norms() -> None:
    x = torch.randn(6, 16)
    for norm in ('batch', 'layer', 'none'):
        assert ProjectionHead(16, dim=8, norm=norm)(x).shape == (6, 8)
    assert ProjectionHead(16, norm='layer')(x[:1]).shape == (1, 256)
    assert ProjectionHead(16)[0].bias is None
