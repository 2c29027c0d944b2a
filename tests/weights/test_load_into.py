"""Tensors of a file in a model: all or none, and kernels of another bank resized."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from weight_tools import nano, same, snapshot

from torchgeo_aom.errors import CheckpointError, CheckpointWarning, ConfigError
from torchgeo_aom.layers.pi_resize import pi_resize
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.checkpoint import adapt_kernel_bank, load_into


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(key)


def with_(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__setitem__(key, value)


class TestLoadInto:
    @pytest.mark.parametrize(
        ('change', 'match'),
        [
            (without('norm.bias'), r"Missing: \['norm.bias'\]"),
            (with_('blocks.2.norm1.weight', torch.ones(24)), 'Unexpected.*blocks.2.norm1'),
            (with_('norm.bias', torch.ones(25)), r'norm.bias: checkpoint \(25,\), model \(24,\)'),
            (with_('norm.bias', torch.zeros(1).expand(10**12)), r'checkpoint \(1000000000000,\)'),
            (with_('patch_embed.kernels.8.weight', torch.ones(24, 3, 8, 8)), r'\(24, 3, 8, 8\)'),
            (with_('norm.bias', torch.full((24,), float('nan'))), 'norm.bias holds NaN'),
            (with_('norm.bias', torch.full((24,), float('inf'))), 'norm.bias holds NaN or inf'),
            (with_('norm.bias', torch.ones(24, dtype=torch.int64)), 'dtype torch.int64'),
            (with_('norm.bias', torch.ones(24, dtype=torch.complex64)), 'dtype torch.complex64'),
            (with_('channel_pool.query', torch.ones(24)), 'Unexpected.*channel_pool'),
        ],
    )
    def test_all_or_nothing(
        self, model: AOM, change: Callable[[dict[str, Tensor]], None], match: str
    ) -> None:
        state = snapshot(nano())
        change(state)
        given, before = dict(state), snapshot(model)
        with pytest.raises(CheckpointError, match=match):
            load_into(model, state)
        assert same(snapshot(model), before)
        assert state == given or all(state[key] is given[key] for key in given)

    def test_other_size(self, model: AOM) -> None:
        before = snapshot(model)
        with pytest.raises(
            CheckpointError, match=r'AOM weights \(48 wide, 3 deep\), the model is an AOM \(24'
        ):
            load_into(model, nano(embed_dim=48, depth=3).state_dict())
        assert same(snapshot(model), before)

    def test_not_ours(self, model: AOM) -> None:
        with pytest.raises(CheckpointError, match=r"no AOM backbone.*'weight'"):
            load_into(model, nn.Linear(2, 2).state_dict())
        with pytest.raises(ConfigError, match='Linear is not an AOM'):
            load_into(nn.Linear(2, 2), model.state_dict())
        with pytest.raises(ConfigError, match="'keep' or 'drop'"):
            load_into(model, model.state_dict(), head='maybe')

    def test_head_fits(self) -> None:
        source, target = nano(num_classes=4), nano(num_classes=4)
        report = load_into(target, source.state_dict())
        assert same(snapshot(target), snapshot(source))
        assert 'head.weight' in report.loaded

    def test_head_dropped_on_request(self) -> None:
        source, target = nano(num_classes=4), nano(num_classes=4)
        head = target.head.weight.clone()
        report = load_into(target, source.state_dict(), head='drop')
        assert torch.equal(target.head.weight, head)
        assert torch.equal(target.norm.weight, source.norm.weight)
        assert report.kept == report.dropped == ('head.weight', 'head.bias')

    @pytest.mark.parametrize('classes', [0, 5])
    def test_other_number_of_classes(self, classes: int) -> None:
        source, target = nano(num_classes=4), nano(num_classes=classes)
        with pytest.warns(
            CheckpointWarning, match=rf'\(4 classes\) is left out.* {classes} classes'
        ):
            report = load_into(target, source.state_dict())
        assert report.dropped == ('head.weight', 'head.bias')
        assert torch.equal(target.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)

    def test_no_head_in_the_checkpoint(self, model: AOM) -> None:
        target = nano(num_classes=5, channel_pool='attn')
        report = load_into(target, model.state_dict())
        assert set(report.kept) == {'head.weight', 'head.bias', 'channel_pool.query'}


class TestKernelBank:
    def test_resized_from_the_nearest(self, model: AOM) -> None:
        target = nano(kernel_sizes=(6, 8, 40))
        with pytest.warns(CheckpointWarning, match='6 from 4, 40 from 16; left out: 4, 16'):
            report = load_into(target, model.state_dict())
        assert report.resized == {6: 4, 40: 16}
        bank, own = target.patch_embed.kernels, model.patch_embed.kernels
        assert torch.equal(bank['8'].weight, own['8'].weight)
        assert torch.equal(bank['40'].weight, pi_resize(own['16'].weight, (40, 40)))
        assert torch.equal(bank['40'].bias, own['16'].bias)

    def test_same_function_where_nothing_is_lost(self, model: AOM) -> None:
        """A bank grown by PI-resize answers as the small bank did at the sizes of the small one."""
        target = nano(kernel_sizes=(4, 8, 16, 32))
        with pytest.warns(CheckpointWarning):
            load_into(target, model.state_dict())
        x = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(target(x, patch_size=32), model(x, patch_size=32))

    @pytest.mark.parametrize('nested', [False, True])
    def test_every_way_of_loading(self, model: AOM, nested: bool) -> None:
        target = nano(kernel_sizes=(8, 16))
        state = {f'0.{k}' if nested else k: v for k, v in model.state_dict().items()}
        with pytest.warns(CheckpointWarning, match='left out: 4'):
            (nn.Sequential(target) if nested else target).load_state_dict(state)
        assert torch.equal(target.patch_embed.kernels['8'].weight,
                           model.patch_embed.kernels['8'].weight)  # fmt: skip
        assert len(state) == len(model.state_dict())

    def test_equal_banks_are_left_alone(self, model: AOM) -> None:
        state = model.state_dict()
        assert adapt_kernel_bank(state, '', nano()) == {}
        assert set(state) == set(model.state_dict())
