"""Speed modes of the encoder: what merging may change, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from common import close, differ, image, math_attention, tiny
from timm.models._features_fx import create_feature_extractor
from torch import Tensor
from torch.export import Dim, export

from torchgeo_aom import AOM
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.layers.spectral_groups import group_slots, spectral_position
from torchgeo_aom.models.smp_encoder import AOMEncoder
from torchgeo_aom.models.speed import (
    SPEEDS,
    merge_schedule,
    read_speed,
    slots_per_block,
    speed_text,
)

NAN = float('nan')
TWICE = ((1, 4), (2, 2))
INDEX = torch.tensor([[3.0, 2.0, 1.0, 8.0, 11.0, 12.0], [1.0, NAN, 8.5, NAN, 0.0, 7.0]])


def model(**kwargs: Any) -> AOM:
    """Four blocks, so that schedules of two entries fit."""
    return tiny(**{'depth': 4, 'in_chans': 6, **kwargs})


def slow(aom: AOM, x: Tensor, codes: list[float], merge: tuple[tuple[int, int], ...]) -> Tensor:
    """Image feature and map of one image by attention over every band, group members repeated.

    Proportional attention to one key of a group of m is attention to m equal keys, so a merged
    model is the exact model whose tokens are overwritten by the mean of their group.
    """
    tokens, _ = aom.patch_embed(x, torch.tensor(codes))
    channels, places = tokens.shape[1], tokens.shape[2] * tokens.shape[3]
    t = tokens.flatten(2, 3)
    position = spectral_position(torch.tensor(codes), 'index')
    for i, block in enumerate(aom.blocks):
        for k, g in merge:
            if k == i and g < channels:
                # Means of groups at their mean place: as good as all their bands at that place.
                ids = group_slots(position, None, g)[0]
                t, position = t.clone(), position.clone()
                for group in ids.unique():
                    t[:, ids == group] = t[:, ids == group].mean(1, keepdim=True)
                    position[ids == group] = position[ids == group].mean()
        t = block(t.flatten(1, 2)).unflatten(1, (channels, places))
    pooled = t.mean(1)
    return aom.norm(torch.cat((pooled.mean(1, keepdim=True), pooled), dim=1))


@pytest.mark.parametrize('merge', [((1, 2),), ((0, 3),), TWICE, ((1, 1),), ((2, 6),)])
@torch.no_grad()
def test_reference(merge: Any) -> None:
    """Merged tokens are as many equal tokens: proportional attention and weighted means."""
    aom, x = model(), image(6, batch=1)
    codes = [3.0, 12.0, 1.0, 8.0, 11.0, 2.0]
    actual = aom.forward_features(x, bands=torch.tensor(codes), speed=merge)
    close(actual, slow(aom, x, codes, merge), 1e-4)


@torch.no_grad()
def test_one_band_a_group_is_exact() -> None:
    aom, x = model(), image(6)
    assert torch.equal(aom.forward_features(x, speed=((1, 6),)), aom.forward_features(x))
    differ(aom.forward_features(x, speed=((1, 5),)), aom.forward_features(x))


@torch.no_grad()
@pytest.mark.parametrize('speed', ['balanced', 'fast', TWICE])
def test_order_of_bands(speed: Any) -> None:
    aom, x = model(), image(6)
    swap = torch.tensor([4, 2, 0, 5, 1, 3])
    expected = aom.forward_features(x, bands=INDEX, speed=speed)
    close(aom.forward_features(x[:, swap], bands=INDEX[:, swap], speed=speed), expected)


@torch.no_grad()
@pytest.mark.parametrize('pool', ['mean', 'max', 'attn'])
@pytest.mark.parametrize('speed', ['balanced', 'fast', TWICE, ((1, 3),)])
def test_bands_per_sample(speed: Any, pool: str) -> None:
    """A batch of samples with different bands gives what each sample gives alone."""
    aom, x = model(channel_pool=pool), image(6)
    mixed = aom.forward_features(x, bands=INDEX, speed=speed)
    for b in range(2):
        have = ~INDEX[b].isnan()
        alone = aom.forward_features(x[b : b + 1, have], bands=INDEX[b][have], speed=speed)
        close(mixed[b : b + 1], alone)


@torch.no_grad()
@pytest.mark.parametrize('bands', [None, INDEX])
@pytest.mark.parametrize('speed', ['exact', ((1, 1),), TWICE])
def test_visible(speed: Any, bands: Tensor | None) -> None:
    """All tokens visible, in any order, is the whole image; hidden ones do not count."""
    aom, x = model(), image(6, 32, 32)
    ids = torch.stack([torch.randperm(24) for _ in range(2)])
    tokens = aom.forward_visible(x, ids, bands, speed=speed)
    whole = torch.empty_like(tokens).scatter(1, ids[:, :, None].expand_as(tokens), tokens)
    keep = torch.ones(2, 6) if bands is None else (~bands.isnan()).float()
    grid = whole.unflatten(1, (6, 4)) * keep[:, :, None, None]
    pooled = grid.sum(1) / keep.sum(1)[:, None, None]
    close(aom.norm(pooled), aom.forward_features(x, bands, speed=speed)[:, 1:])
    some = aom.forward_visible(x, ids[:, :7], bands, speed=speed)
    assert some.shape == (2, 7, 24)
    differ(some, tokens[:, :7])


@torch.no_grad()
def test_some_places() -> None:
    """Visible places of all bands: run_blocks and forward_visible are the same."""
    aom, x = model(), image(6, 32, 32)
    tokens, valid, position = aom.patch_embed(x, position=True)
    some = tokens.flatten(2, 3)[:, :, [0, 3]]
    merged, weight, _ = aom.run_blocks(some, valid, position, aom.schedule(TWICE))
    assert merged.shape == (2, 2, 2, 24) and weight.tolist() == [[3.0, 3.0]]
    ids = torch.tensor([[c * 4 + n for c in range(6) for n in (0, 3)]] * 2)
    close(
        aom.forward_visible(x, ids, speed=TWICE).unflatten(1, (6, 2)),
        merged[:, [0, 0, 0, 1, 1, 1]],
    )


def test_gradients() -> None:
    before = torch.zeros(())
    for checkpointing in (False, True):
        torch.manual_seed(0)
        aom = AOM(embed_dim=24, depth=4, num_heads=3, in_chans=6, speed=TWICE, num_classes=2)
        aom.train().set_grad_checkpointing(checkpointing)
        x = torch.ones(2, 6, 32, 32).cumsum(1).requires_grad_()
        aom(x, bands=INDEX).square().sum().backward()
        assert x.grad is not None
        gradient = x.grad.abs().amax((2, 3))
        assert ((gradient > 0) == ~INDEX.isnan()).all() and x.grad.isfinite().all()
        norms = torch.stack([p.grad.norm() for p in aom.parameters() if p.grad is not None])
        assert norms.isfinite().all()
        if checkpointing:
            close(norms, before)
        before = norms


@torch.no_grad()
def test_attention_written_out() -> None:
    aom, x = model(), image(6)
    for bands in (None, INDEX):
        expected = aom.forward_features(x, bands, speed=TWICE)
        with math_attention(aom):
            close(aom.forward_features(x, bands, speed=TWICE), expected)


@torch.no_grad()
def test_autocast_and_half() -> None:
    aom, x = model(), image(6)
    expected = aom.forward_features(x, speed=TWICE)
    with torch.autocast('cpu', torch.bfloat16):
        close(aom.forward_features(x, speed=TWICE).float(), expected, 5e-2)
    half = aom.bfloat16().forward_features(x.bfloat16(), speed=TWICE)
    assert half.dtype == torch.bfloat16
    close(half.float(), expected, 1e-1)


@torch.no_grad()
def test_intermediates() -> None:
    aom, x = model(), image(6)
    features, maps = aom.forward_intermediates(x, norm=True, output_fmt='NLC', speed=TWICE)
    close(features, aom.forward_features(x, speed=TWICE))
    close(maps[-1], features[:, 1:])
    exact = aom.forward_intermediates(x, norm=True, output_fmt='NLC', intermediates_only=True)
    close(maps[0], exact[0])
    differ(maps[1], exact[1])


@torch.no_grad()
def test_pyramid() -> None:
    torch.manual_seed(1)
    fast = AOMEncoder(
        blocks=4, embed_dim=24, num_heads=3, bands='sentinel2', speed=((1, 1),)
    ).eval()
    x = image(13)
    maps = fast(x)
    fast.speed = 'exact'
    exact = fast(x)
    close(maps[2], exact[2])
    differ(maps[4], exact[4])


@torch.no_grad()
def test_constructor_and_call() -> None:
    aom, x = model(speed='fast'), image(6)
    fast = aom(x)
    close(aom(x, speed=((0, 4), (1, 1))), fast)
    differ(aom(x, speed='exact'), fast)


@torch.no_grad()
@pytest.mark.parametrize('speed', ['exact', 'fast', TWICE])
def test_fx(speed: Any) -> None:
    """A graph of torch.fx has the mode of the constructor."""
    aom, x = model(speed=speed), image(6)
    graph = create_feature_extractor(aom, ['norm'])
    close(graph(x)['norm'], aom.forward_features(x))


@torch.no_grad()
@pytest.mark.parametrize('speed', ['fast', TWICE])
def test_compile_and_export(speed: Any) -> None:
    """One graph for every size, with bands of the model and bands a sample."""
    torch.compiler.reset()
    aom = model(speed=speed)
    graph = torch.compile(aom, fullgraph=True, dynamic=True, backend='eager')
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(aom, (image(6),), dynamic_shapes={'x': sizes}).module()
    dynamic = {'x': {0: Dim.AUTO, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, 'bands': {0: Dim.AUTO}}
    each = export(aom, (image(6), INDEX), dynamic_shapes=dynamic).module()
    for height, width in ((40, 33), (50, 71)):
        x = image(6, height, width)
        close(graph(x), aom(x))
        close(graph(x, bands=INDEX), aom(x, bands=INDEX))
        close(program(x), aom(x))
        close(each(x, INDEX.flip(1)), aom(x, bands=INDEX.flip(1)))
    torch.compiler.reset()


@pytest.mark.parametrize('method', ['forward_band_tokens', 'forward_band_maps'])
def test_bands_by_themselves(method: str) -> None:
    aom, x = model(speed='balanced'), image(6)
    with pytest.raises(ConfigError, match="balanced.*speed='exact'"):
        getattr(aom, method)(x)
    assert getattr(aom, method)(x, speed='exact').shape[1] == 6


class TestSchedule:
    def test_presets(self) -> None:
        assert merge_schedule(None, 12) == merge_schedule('exact', 12) == ()
        for depth in (2, 3, 4, 12, 24):
            for speed in SPEEDS:
                schedule = merge_schedule(speed, depth)
                assert merge_schedule(schedule, depth) == schedule
        assert merge_schedule('fast', 24) == ((0, 4), (8, 1))
        assert merge_schedule('fast', 2) == ((0, 4), (1, 1))
        assert speed_text(merge_schedule('balanced', 12)) == '0:4'

    @pytest.mark.parametrize(
        ('speed', 'match'),
        [
            ('quick', 'exact'),
            ('balanecd', 'balanced'),
            (3, 'pairs'),
            (((1, 2, 3),), 'pairs'),
            (((1.5, 2),), 'pairs'),
            ((1, 4), 'pairs'),
            (((1, 0),), 'at least 1 group'),
            (((12, 1),), '0 to 11'),
            (((-1, 1),), '0 to 11'),
            (((4, 1), (1, 4)), 'later blocks'),
            (((1, 4), (4, 4)), 'fewer groups'),
        ],
    )
    def test_refused(self, speed: Any, match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            merge_schedule(speed, 12)
        with pytest.raises(ConfigError, match=match):
            AOM(embed_dim=24, num_heads=3, speed=speed)

    def test_text(self) -> None:
        for speed in (*SPEEDS, ((1, 4), (4, 1))):
            assert read_speed(speed_text(speed)) == speed
        assert speed_text(()) == speed_text(None) == 'exact'
        for text in ('quick', '1:', '1:a', '1:2:3', '1:4,4'):
            with pytest.raises(ConfigError):
                read_speed(text)

    def test_slots(self) -> None:
        assert slots_per_block(13, ((1, 4), (4, 1)), 12) == [13, 4, 4, 4] + [1] * 8
        assert slots_per_block(3, ((1, 4), (4, 1)), 6) == [3, 3, 3, 3, 1, 1]
