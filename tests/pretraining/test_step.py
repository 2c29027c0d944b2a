"""What a step looks at, what it is asked for, and that a run goes on bit by bit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from torchgeo_aom.bands import Band, resolve_bands
from torchgeo_aom.errors import ConfigError
from torchgeo_aom.pretraining.engine import Engine, Run, source_shares
from torchgeo_aom.pretraining.heads import Heads, contrast, index_weights
from torchgeo_aom.pretraining.packed import PackedCorpus
from torchgeo_aom.pretraining.step import Weights, prepare, visible_tokens
from torchgeo_aom.pretraining.targets import CELLS, TargetMaps
from torchgeo_aom.pretraining.views import SHAPES, View, cut, cut_map, draw, jitter, turned

SIZES = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'decoder_depth': 1, 'decoder_width': 32}
RUN = Run(
    steps=40, tokens=256, warmup=2, paper_every=4, paper_images=4, patch_sizes=(8, 16),
    sizes=SIZES, weights=Weights(place={'means': 1.0}, image={'means': 1.0}),
)  # fmt: skip


def views(corpus: PackedCorpus, count: int = 60) -> list[View]:
    shares = source_shares(corpus)
    return [draw(corpus, shares, step, 0, 512) for step in range(count)]


@pytest.mark.parametrize('side', SHAPES)
def test_every_shape_is_a_whole_number_of_even_patches(side: int) -> None:
    for shape in SHAPES[side]:
        view = side / CELLS * shape.cells * shape.zoom
        assert view == int(view)
        assert view % shape.patch == 0
        before = shape.patch / shape.zoom  # what spectra are measured at
        assert before == int(before)
        assert before % 2 == 0


def test_a_step_depends_on_its_number_alone(corpus: PackedCorpus) -> None:
    shares = source_shares(corpus)
    one, two, other = (draw(corpus, shares, k, 0, 512) for k in (7, 7, 8))
    assert (one.source, one.chips, one.channels, one.seed) == (
        two.source, two.chips, two.channels, two.seed,
    )  # fmt: skip
    assert torch.equal(one.keep, two.keep)
    assert one.seed != other.seed


def test_steps_see_all_kinds(corpus: PackedCorpus) -> None:
    seen = views(corpus, 300)
    assert {view.source for view in seen} == {'coarse', 'fine'}
    assert {view.shape.patch for view in seen} >= {4, 8, 16, 24, 32, 48, 64}
    assert {len(view.channels) for view in seen} == {1, 2, 3, 4, 5}
    merged = sum(bool(view.merge) for view in seen) / len(seen)
    assert 0.25 < merged < 0.6
    for view in seen:
        assert view.keep.shape[0] == len(view.chips)
        assert all(groups < len(view.channels) for _, groups in view.merge)
        assert len(set(view.keep[0].tolist())) == view.keep.shape[1]


def test_shares_sum_to_one_and_keep_fine_images_apart(corpus: PackedCorpus) -> None:
    shares = source_shares(corpus)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares['fine'] == pytest.approx(0.4)


def test_targets_follow_crop_and_turn(corpus: PackedCorpus) -> None:
    """A map that is the image itself gives what the view shows."""
    for view in views(corpus):
        chips, _ = corpus.read(view.source, view.chips)
        maps = F.adaptive_avg_pool2d(chips, CELLS)
        part = cut(chips, view)
        grid = view.shape.places(corpus.source(view.source).size)
        if grid > view.shape.cells or view.shape.cells % grid:
            continue  # finer than the map, or cells are split
        rows, whole = cut_map(maps, view, grid)
        places = F.adaptive_avg_pool2d(part, grid).flatten(2).transpose(1, 2)
        wanted = places.gather(1, view.keep[:, :, None].expand(-1, -1, places.shape[2]))
        torch.testing.assert_close(rows, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole, part.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_turns_are_the_symmetries_of_a_square() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = {tuple(turned(image, k).flatten().tolist()) for k in range(8)}
    assert len(seen) == 8


def test_jitter_changes_a_share_of_the_images_alike_in_all_bands() -> None:
    image = torch.randn(200, 4, 2, 2)
    changed = jitter(image, 3)
    same = (changed == image).flatten(1).all(1)
    assert 0.3 < same.float().mean() < 0.7
    assert torch.equal(changed, jitter(image, 3))
    shift = jitter(torch.zeros(400, 4, 1, 1), 3, share=1.0)[:, :, 0, 0]
    assert torch.corrcoef(shift.T)[0, 1] > 0.6


def test_index_weights_are_linear_between_whole_indices() -> None:
    half = Band(name='x', index=7.5)
    weights = index_weights((*resolve_bands(['sentinel2:B02', 'sentinel2:B8A']), half))
    assert weights.sum(1).tolist() == pytest.approx([1, 1, 1])
    assert weights[0, 1] == weights[1, 8] == 1
    assert weights[2, 7] == weights[2, 8] == 0.5
    assert index_weights(resolve_bands([14])).sum() == 0


def test_spectra_of_a_band_do_not_depend_on_the_others() -> None:
    heads = Heads(24, {})
    tokens = torch.randn(2, 3, 24)
    bands = resolve_bands('sentinel2:l2a')
    every = heads.spectra(tokens, index_weights(bands))
    some = heads.spectra(tokens, index_weights([bands[4], bands[1]]))
    torch.testing.assert_close(every[:, :, [4, 1]], some)


def test_contrast_is_smallest_where_each_finds_its_own() -> None:
    wanted = torch.randn(6, 8)
    assert contrast(wanted, wanted) < contrast(wanted.roll(1, 0), wanted)
    assert contrast(wanted, wanted) < contrast(torch.ones_like(wanted), wanted)


def test_visible_tokens_are_those_of_the_whole_image(
    corpus: PackedCorpus, maps: TargetMaps
) -> None:
    engine = Engine(RUN, corpus, {'means': maps})
    batch = prepare(corpus, {'means': maps}, views(corpus)[3])
    tokens = visible_tokens(engine.task.encoder, batch)
    grid, _ = engine.task.encoder.patch_embed(batch.image, batch.codes, batch.view.shape.patch)
    for k in range(len(tokens)):
        whole = grid[k].flatten(1, 2)[:, batch.view.keep[k]]
        torch.testing.assert_close(tokens[k], whole)
    assert batch.spectrum.shape == (
        *batch.view.keep.shape, len(corpus.source(batch.view.source).bands), 5,
    )  # fmt: skip


def test_a_run_learns_and_goes_on_bit_by_bit(
    corpus: PackedCorpus, maps: TargetMaps, tmp_path: Path
) -> None:
    straight = Engine(RUN, corpus, {'means': maps})
    before = copy.deepcopy(straight.trained.state_dict())
    losses = [straight.one() for _ in range(12)]
    assert all(torch.isfinite(torch.tensor(list(one.values()))).all() for one in losses)
    assert [k for k, one in enumerate(losses) if 'paper' in one] == [3, 7, 11]
    changed = [k for k, v in straight.trained.state_dict().items() if not torch.equal(v, before[k])]
    for part in ('patch_embed', 'blocks', 'norm', 'decoders', 'projectors', 'heads'):
        assert any(part in key for key in changed), part

    broken = Engine(RUN, corpus, {'means': maps})
    for _ in range(5):
        broken.one()
    broken.save(tmp_path / 'state.pt')
    again = Engine(RUN, corpus, {'means': maps})
    again.load(tmp_path / 'state.pt')
    assert (again.step, again.views_seen) == (5, broken.views_seen)
    for _ in range(7):
        again.one()
    for key, value in straight.trained.state_dict().items():
        assert torch.equal(value, again.trained.state_dict()[key]), key


def test_other_settings_do_not_go_on(
    corpus: PackedCorpus, maps: TargetMaps, tmp_path: Path
) -> None:
    Engine(RUN, corpus, {'means': maps}).save(tmp_path / 'state.pt')
    other = Engine(dataclasses.replace(RUN, lr=1.0), corpus, {'means': maps})
    with pytest.raises(ConfigError, match='other settings: lr'):
        other.load(tmp_path / 'state.pt')


def test_fit_stops_in_time_and_goes_on(
    corpus: PackedCorpus, maps: TargetMaps, tmp_path: Path
) -> None:
    run = dataclasses.replace(RUN, steps=3)
    Engine(run, corpus, {'means': maps}).fit(tmp_path, minutes=0)
    assert (tmp_path / 'state.pt').exists()
    engine = Engine(run, corpus, {'means': maps})
    engine.fit(tmp_path)
    assert engine.step == 3
    assert list(tmp_path.glob('.*part')) == []


def test_rates_rise_stay_and_fall() -> None:
    run = Run(steps=100, warmup=10, decay=0.5, lr=1.0)
    rates = [run.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[10:50]) == {1.0}
    assert rates[75] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.05
