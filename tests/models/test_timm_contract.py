"""timm's own tests of all models (its tests/test_models.py), over ours, by timm's names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from common import close, differ, image, perturb
from timm.layers import get_channel_dim, get_spatial_dim
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import nn
from torchvision.models.feature_extraction import (
    NodePathTracer,
    create_feature_extractor,
    get_graph_node_names,
)

import torchgeo_aom
from torchgeo_aom import AOM

NAMES = ('aom_vitt', 'aom_vits')
TAGS = ('aom_vitt.sentinel2_10m', 'aom_vitt.landsat8_rgb', 'aom_vitt.sentinel2')

every_name = pytest.mark.parametrize('name', NAMES)


def create(name: str, **kwargs: Any) -> Any:
    """A model of timm's registry in evaluation mode, no parameter at its start."""
    model = timm.create_model(name, **kwargs)
    perturb(model, 0.02)
    return model.eval()


def sized(model: Any, target: int, batch: int = 1) -> torch.Tensor:
    """An image of the size that the model's configuration names, but no larger than the target."""
    channels, *size = model.default_cfg['input_size']
    return image(channels, min(size[0], target), min(size[1], target), batch)


def test_known_to_timm() -> None:
    assert set(timm.list_models('aom_*')) == {'aom_vitt', 'aom_vits', 'aom_vitb', 'aom_vitl'}
    # Names that timm's tests take: the plain name is the default configuration.
    listed = timm.list_models('aom_vit*', name_matches_cfg=True)
    assert 'aom_vitt' in listed
    tagged = timm.list_models('aom_vitt*', include_tags=True)
    assert 'aom_vitt.sentinel2_rgb' in tagged and len(tagged) > 50


@every_name
def test_model_forward(name: str) -> None:
    model = create(name)
    inputs = sized(model, 384)
    outputs = model(inputs)
    assert outputs.shape == (1, model.num_features)
    assert not torch.isnan(outputs).any()
    model.set_grad_checkpointing()
    assert torch.allclose(outputs, model(inputs), rtol=1e-4, atol=1e-5)


@every_name
def test_model_backward(name: str) -> None:
    model = create(name, num_classes=42).train()
    outputs = model(sized(model, 128, batch=2))
    outputs.mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, f'No gradient for {parameter_name}'
    total = sum(p.numel() for p in model.parameters())
    assert total == sum(p.grad.numel() for p in model.parameters())
    assert outputs.shape == (2, 42)
    assert not torch.isnan(outputs).any()


@pytest.mark.parametrize('name', [*NAMES, *TAGS])
def test_model_default_cfgs_non_std(name: str) -> None:
    """The form that timm has for transformers, whose features are sequences."""
    model = create(name, num_classes=7)
    assert model.num_classes >= 0
    assert model.num_features > 0
    assert model.head_hidden_size > 0
    cfg, names = model.default_cfg, model.state_dict().keys()
    inputs = sized(model, 112)

    outputs = model.forward_features(inputs)
    pre_logits = model.forward_head(outputs, pre_logits=True)
    assert outputs.shape[-1] == model.num_features
    assert pre_logits.shape[1] == model.head_hidden_size

    assert f'{cfg["classifier"]}.weight' in names
    model.reset_classifier(0)
    assert model.num_classes == 0
    outputs = model(inputs)
    assert outputs.shape == pre_logits.shape == (1, model.head_hidden_size)
    model.reset_classifier(0, '')
    assert model(inputs).shape == (1, 50, model.num_features)

    model = create(name, num_classes=0, global_pool='')
    assert model(inputs).shape == (1, 50, model.num_features)
    first_conv = cfg['first_conv']
    assert isinstance(first_conv, tuple)
    assert all(f'{conv}.weight' in names for conv in first_conv)


def check_maps(model: Any, inputs: torch.Tensor, outputs: list[torch.Tensor], info: Any) -> None:
    """Maps as the feature information announces them."""
    output_fmt = getattr(model, 'output_fmt', 'NCHW')
    feature, space = get_channel_dim(output_fmt), get_spatial_dim(output_fmt)
    assert len(info.channels()) == len(outputs)
    for channels, reduction, output in zip(info.channels(), info.reduction(), outputs, strict=True):
        assert output.shape[feature] == channels
        for axis, side in zip(space, inputs.shape[-2:], strict=True):
            assert output.shape[axis] == math.ceil(side / reduction)
        assert output.shape[0] == inputs.shape[0]
        assert not torch.isnan(output).any()


@every_name
@pytest.mark.parametrize('options', [{}, {'feature_cls': 'getter'}])
def test_model_forward_features(name: str, options: dict[str, Any]) -> None:
    """``features_only=True``: four blocks by default."""
    model = create(name, features_only=True, **options)
    assert len(model.feature_info.channels()) == 4
    assert model.feature_info.module_name() == [f'blocks.{i}' for i in (2, 5, 8, 11)]
    inputs = sized(model.model, 96)
    check_maps(model, inputs, model(inputs), model.feature_info)


@every_name
def test_model_forward_intermediates(name: str) -> None:
    model = create(name)
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    assert len(info.channels()) == 12
    inputs = sized(model, 96)
    output, intermediates = model.forward_intermediates(inputs, output_fmt='NCHW')
    check_maps(model, inputs, intermediates, info)
    assert torch.allclose(output, model.forward_features(inputs))
    model.set_grad_checkpointing()
    again, _ = model.forward_intermediates(inputs, output_fmt='NCHW')
    assert torch.allclose(output, again, rtol=1e-4, atol=1e-5)


def test_features_only_equals_intermediates() -> None:
    model = create('aom_vitt', bands='sentinel2:10m', patch_size=8)
    features = create(
        'aom_vitt', bands='sentinel2:10m', patch_size=8, features_only=True, out_indices=[1, -1]
    )
    # timm drops the final norm, which unnormed features do not need.
    report = features.model.load_state_dict(model.state_dict(), strict=False)
    assert report.missing_keys == [] and report.unexpected_keys == ['norm.weight', 'norm.bias']
    assert features.feature_info.reduction() == [8, 8]
    x = image(4, 30, 44)
    for one, other in zip(
        features(x),
        model.forward_intermediates(x, [1, 11], intermediates_only=True),
        strict=True,
    ):
        assert one.shape == (2, 192, 4, 6)
        close(one, other, 0)


def fx_model(model: Any, train: bool = False) -> nn.Module:
    """The traced model as timm's tests trace it."""
    options = {
        'leaf_modules': get_notrace_modules(),
        'autowrap_functions': get_notrace_functions(),
        'param_shapes_constant': True,
    }
    train_nodes, eval_nodes = get_graph_node_names(model, tracer_kwargs=options)
    train_return = [train_nodes[-1]]
    if train:
        graph = list(reversed(NodePathTracer(**options).trace(model).nodes))
        names = [node.name for node in graph]
        inputs = [node.name for node in graph[0]._input_nodes]
        train_return = [train_nodes[-names.index(node)] for node in inputs]
    return create_feature_extractor(
        model,
        train_return_nodes=train_return,
        eval_return_nodes=[eval_nodes[-1]],
        tracer_kwargs=options,
    )


def test_model_forward_fx() -> None:
    model = create('aom_vitt')
    inputs = sized(model, 128)
    with torch.inference_mode():
        outputs = model(inputs)
        traced = fx_model(model).eval()
        close(torch.cat(tuple(traced(inputs).values())), outputs)
        other = image(3, 77, 90)  # the graph is not tied to the size
        close(torch.cat(tuple(traced(other).values())), model(other))


def test_model_backward_fx() -> None:
    model = fx_model(create('aom_vitt', num_classes=42).train(), train=True).train()
    outputs = torch.cat(tuple(model(image(3, 64, 64)).values()))
    outputs.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert outputs.shape == (2, 42)


class TestOptimizers:
    """What timm's optimizers ask of a model."""

    def test_no_weight_decay(self) -> None:
        model = create('aom_vitt', num_classes=3, channel_pool='attn')
        names = dict(model.named_parameters()).keys()
        kernels = {f'patch_embed.kernels.{size}.weight' for size in (16, 32, 64)}
        assert model.no_weight_decay() == {*kernels, 'channel_pool.query'}
        assert model.no_weight_decay() <= names
        optimizer = create_optimizer_v2(model, opt='adamw', lr=1e-3, weight_decay=0.5)
        by_tensor = {
            id(p): group['weight_decay']
            for group in optimizer.param_groups
            for p in group['params']
        }
        assert len(by_tensor) == len(names)
        for name, parameter in model.named_parameters():
            decays = parameter.ndim > 1 and name not in model.no_weight_decay()
            assert by_tensor[id(parameter)] == (0.5 if decays else 0), name

    def test_a_step_leaves_unused_kernels_alone(self) -> None:
        model = create('aom_vitt', num_classes=3).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = create_optimizer_v2(model, opt='adamw', lr=1e-2, weight_decay=0.5)
        model(image(3, 32, 32)).square().sum().backward()
        optimizer.step()
        for name, value in model.state_dict().items():
            unused = 'kernels.32' in name or 'kernels.64' in name
            assert torch.equal(value, before[name]) == unused, name

    def test_layer_decay(self) -> None:
        model = create('aom_vitt', num_classes=3)
        groups = param_groups_layer_decay(model, layer_decay=0.5)
        scale = {
            name: group['lr_scale'] for group in groups for name in group['param_names']
        } if 'param_names' in groups[0] else {
            name: group['lr_scale']
            for group in groups
            for tensor in group['params']
            for name, parameter in model.named_parameters()
            if parameter is tensor
        }  # fmt: skip
        assert scale.keys() == dict(model.named_parameters()).keys()
        assert scale['head.weight'] == 1
        assert scale['patch_embed.kernels.16.weight'] == min(scale.values())
        for i in range(11):
            below, above = (scale[f'blocks.{k}.mlp.fc1.weight'] for k in (i, i + 1))
            assert below == pytest.approx(0.5 * above)
        assert scale['norm.weight'] > scale['blocks.10.norm1.weight']


class TestPrune:
    def test_keeps_what_the_features_need(self) -> None:
        model = create('aom_vitt', num_classes=3)
        x = image(3, 40, 40)
        expected = model.forward_intermediates(x, [1, 3], intermediates_only=True)
        assert model.prune_intermediate_layers([1, 3], prune_norm=True) == [1, 3]
        assert len(model.blocks) == 4
        assert isinstance(model.norm, nn.Identity) and isinstance(model.head, nn.Identity)
        for one, other in zip(
            model.forward_intermediates(x, [1, 3], intermediates_only=True), expected, strict=True
        ):
            close(one, other, 0)

    def test_last_n(self) -> None:
        model = create('aom_vitt', num_classes=3)
        assert model.prune_intermediate_layers(2, prune_head=False) == [10, 11]
        assert len(model.blocks) == 12 and isinstance(model.head, nn.Linear)


class TestHub:
    """Models on disk in the form of a hub repository."""

    def test_round_trip_with_bands(self, tmp_path: Path) -> None:
        from timm.models import save_for_hf

        bands = ['sentinel2:B8A', 'landsat8:B5', 1.61]
        arguments = {'bands': bands, 'patch_size': 8, 'num_classes': 4}
        model = create('aom_vitt', **arguments)
        save_for_hf(
            model, tmp_path, model_config={'architecture': 'aom_vitt', 'model_args': arguments}
        )
        config = json.loads((tmp_path / 'config.json').read_text())
        assert config['model_args']['bands'] == bands
        restored = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
        assert isinstance(restored, AOM)
        assert restored.bands == model.bands
        assert restored.patch_embed.patch_size == (8, 8)
        x = image(3, 30, 30)
        close(restored(x), model(x), 0)
        differ(restored(x), model(x, bands=[1, 2, 3]))

    def test_other_head(self, tmp_path: Path) -> None:
        from timm.models import save_for_hf

        model = create('aom_vitt', bands='rgb', num_classes=4)
        save_for_hf(
            model,
            tmp_path,
            model_config={
                'architecture': 'aom_vitt',
                'num_classes': 4,
                'model_args': {'bands': 'rgb'},
            },
        )
        restored = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, num_classes=9)
        x = image(3, 30, 30)
        close(restored.eval().forward_features(x), model.forward_features(x), 0)
        assert restored(x).shape == (2, 9)

    def test_checkpoint_path(self, tmp_path: Path) -> None:
        model = create('aom_vitt', num_classes=4)
        torch.save(model.state_dict(), tmp_path / 'model.pth')
        restored = timm.create_model(
            'aom_vitt', num_classes=4, in_chans=7, checkpoint_path=str(tmp_path / 'model.pth')
        )
        x = image(7, 30, 30)
        close(restored.eval()(x), model(x, bands=torch.arange(7.0)))


@pytest.mark.parametrize('num_classes', [5, 0])
def test_model_load_pretrained(num_classes: int) -> None:
    """The weights that ship serve any number of channels and any head."""
    model = timm.create_model('aom_vitt', pretrained=True, bands=['nir'], num_classes=num_classes)
    weights = torchgeo_aom.AOMTiny_Weights.DEFAULT.get_state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in weights.items())
    assert model.eval()(image(1, 32, 32)).shape == (2, num_classes or 192)


def test_model_features_pretrained() -> None:
    features = timm.create_model('aom_vitt', pretrained=True, features_only=True).eval()
    model = timm.create_model('aom_vitt', pretrained=True).eval()
    assert features.model.bands == model.bands and len(model.bands) == 12
    x = image(12, 32, 48, 1)
    with torch.inference_mode():
        expected = model.forward_intermediates(x, [2, 5, 8, 11], intermediates_only=True)
        for one, other in zip(features(x), expected, strict=True):
            close(one, other, 0)


def test_pretrained_without_weights_says_so() -> None:
    with pytest.raises(torchgeo_aom.AOMError, match='aom_vits'):
        timm.create_model('aom_vits', pretrained=True)


def test_arguments_of_other_callers() -> None:
    """ChangeViT and others ask for sizes in timm's words."""
    model = timm.create_model(
        'aom_vitt', num_classes=0, img_size=256, dynamic_img_size=True, in_chans=6
    )
    assert model.patch_embed.grid_size == (16, 16)
    assert model(image(6, 40, 40)).shape == (2, 192)
    with pytest.raises(TypeError, match='nonsense'):
        timm.create_model('aom_vitt', nonsense=1)
