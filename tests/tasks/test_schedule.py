"""Learning rate, scales and weight decay of pretraining."""

import pytest
from pretrain_tools import tiny

from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.schedule import decay_groups, scales_of_step, warmup_cosine


class TestSchedule:
    def test_warm_up_then_cosine(self) -> None:
        factor = warmup_cosine(20, 220)
        values = [factor(step) for step in range(220)]
        assert values[0] == pytest.approx(1 / 20)
        assert max(values) == values[19] == values[20] == 1
        assert values[120] == pytest.approx(0.5)
        assert 0 < values[-1] < 1e-3
        assert warmup_cosine(0, 10)(0) == 1

    def test_scales_take_turns(self) -> None:
        sizes = (16, 24, 32, 48, 64)
        assert scales_of_step(7, sizes, None, 0) == sizes
        pairs = [scales_of_step(step, sizes, 2, 0) for step in range(20)]
        assert len(set(pairs[:10])) == len(set(pairs[10:])) == 10  # each pair once in ten steps
        assert pairs[:10] != pairs[10:]
        assert pairs != [scales_of_step(step, sizes, 2, 1) for step in range(20)]

    def test_what_is_not_decayed(self) -> None:
        task = tiny()
        names = {id(p): k for k, p in task.named_parameters()}
        decayed, others = decay_groups(task, 0.05)
        assert decayed['weight_decay'] == 0.05
        assert others['weight_decay'] == 0
        kept = {names[id(p)] for p in others['params']}
        assert 'encoder.patch_embed.kernels.8.weight' in kept
        assert 'decoders.8.mask_token' in kept
        assert 'encoder.norm.weight' in kept
        assert all(k.endswith('.weight') for k in (names[id(p)] for p in decayed['params']))
        assert len(decayed['params']) + len(others['params']) == len(names)

    def test_muon_takes_the_matrices_of_blocks(self) -> None:
        task = PretrainTask(
            model='aom_vitt', depth=1, decoder_depth=1, patch_sizes=(16, 32), optimizer='muon'
        )
        groups = task.configure_optimizers().param_groups
        muon = {id(p) for g in groups if not g['use_fallback'] for p in g['params']}
        names = {k for k, p in task.named_parameters() if id(p) in muon}
        assert 'encoder.blocks.0.attn.qkv.weight' in names
        assert all('blocks' in name and name.endswith('weight') for name in names)
        assert sum(len(g['params']) for g in groups) == len(list(task.parameters()))
