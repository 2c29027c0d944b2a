"""Registration with timm, SMP and TorchGeo; nothing else touches their tables.

timm's registry is the source of truth. A preset of bands is a tag, ``aom_vitb.sentinel2_rgb``, so
that frameworks which pass only a name and a number of channels still name their bands. One
checkpoint serves every tag. Registering twice changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn
from torchvision.models import WeightsEnum

from ..bands import Band, BandSpec, preset_tags, resolve_bands
from ..errors import ConfigError
from .aom import AOM, pyramid_blocks
from .names import SIZES, check_name
from .weights import (
    AOMBase_Weights,
    AOMLarge_Weights,
    AOMSmall_Weights,
    AOMTiny_Weights,
    AOMWeights,
    as_source,
    load_state,
    read_source,
)

# A list: timm appends to it.
__all__ = [
    'aom_vitb', 'aom_vitl', 'aom_vits', 'aom_vitt', 'check_name', 'list_trained', 'preset_tags',
    'random_backbone', 'register',
]  # fmt: skip


BuilderWeights: TypeAlias = AOMWeights | str | os.PathLike[str] | bool


def _pretrained_cfg(preset: str | None = None) -> dict[str, Any]:
    """Description of a model for timm; weights are loaded by us, so it names none."""
    channels = len(resolve_bands(preset)) if preset else 3
    return {
        'input_size': (channels, 224, 224),
        'num_classes': 0,
        'pool_size': None,
        'mean': (0.0,) * channels,
        'std': (1.0,) * channels,
        # No convolution to adapt to in_chans: the kernels have one channel whatever the sensor.
        'first_conv': (),
        'classifier': 'head',
        'license': 'mit',
        'paper_ids': 'arXiv:2512.17224',
        'paper_name': 'Any-Optical-Model: A Universal Foundation Model for Optical Remote Sensing',
        'origin_url': None,
    }


def _all_cfgs() -> Any:
    """Descriptions of all names that there are now; ``load_sensors`` adds presets."""
    return generate_default_cfgs(
        {
            f'{name}.{tag}' if tag else name: _pretrained_cfg(preset)
            for name in SIZES
            for tag, preset in {'': None, **preset_tags()}.items()
        }
    )


default_cfgs = _all_cfgs()


def _create(
    variant: str,
    weights: BuilderWeights | None,
    pretrained: bool,
    bands: BandSpec | None = None,
    in_chans: int | None = None,
    pretrained_cfg: str | dict[str, Any] | None = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a model; what is not named here goes on to timm's builder and to :class:`AOM`."""
    tag = pretrained_cfg if isinstance(pretrained_cfg, str) else ''
    if tag:
        check_name(f'{variant}.{tag}')
        preset = preset_tags()[tag]
        if bands is not None and resolve_bands(bands) != resolve_bands(preset):
            raise ConfigError(
                f'{variant}.{tag} names bands already, and bands={bands!r} are others; take '
                f'{variant!r} with bands=, or leave bands= out.'
            )
        bands = preset
    # Files and hubs named by the caller are timm's to load, our own weights are ours.
    by_timm = isinstance(pretrained_cfg, dict) or bool(pretrained_cfg_overlay)
    if weights is None or weights is False:
        weights = pretrained and not by_timm
    source = as_source(weights, variant)
    state_dict = None
    if source is not None:
        state_dict, facts = read_source(source)
        if bands is None and in_chans is None:
            bands = facts.get('bands')
    if bands is not None:
        in_chans = len(resolve_bands(bands, channels=in_chans))

    depth = kwargs.get('depth', SIZES[variant]['depth'])
    options: dict[str, Any] = {**SIZES[variant], **kwargs}
    if in_chans is not None:
        options['in_chans'] = in_chans
    build: Any = build_model_with_cfg
    model: nn.Module = build(
        AOM,
        variant,
        pretrained and by_timm,
        pretrained_cfg=pretrained_cfg,
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        feature_cfg={'feature_cls': 'getter', 'out_indices': pyramid_blocks(depth)},
        bands=bands,
        **options,
    )
    if state_dict is not None:
        load_state(getattr(model, 'model', model), state_dict)
    return model


def aom_vitt(
    weights: BuilderWeights | None = None, pretrained: bool = False, **kwargs: Any
) -> nn.Module:
    """AOM with a ViT-Ti encoder (192 wide, 12 deep, 3 heads).

    .. versionadded:: 0.1

    Args:
        weights: pretrained weights: a member of :class:`AOMTiny_Weights`, its full name, the path
            of a weights file or checkpoint, or True for the default ones. The model gets their
            bands where neither *bands* nor *in_chans* is given.
        pretrained: load the default weights of this size, if there are any.
        **kwargs: arguments of :class:`~torchgeo_aom.models.aom.AOM` such as ``bands``,
            ``patch_size`` and ``num_classes``, and of timm's builder such as ``features_only``.

    Returns:
        The model.

    Raises:
        CheckpointError: if there are no such weights, or they do not fit.
        ConfigError: if *weights* is something else or an option is unknown.
    """
    return _create('aom_vitt', weights, pretrained, **kwargs)


def aom_vits(
    weights: BuilderWeights | None = None, pretrained: bool = False, **kwargs: Any
) -> nn.Module:
    """AOM with a ViT-S encoder (384 wide, 12 deep, 6 heads); see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _create('aom_vits', weights, pretrained, **kwargs)


def aom_vitb(
    weights: BuilderWeights | None = None, pretrained: bool = False, **kwargs: Any
) -> nn.Module:
    """AOM with a ViT-B encoder (768 wide, 12 deep, 12 heads), the paper's; see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _create('aom_vitb', weights, pretrained, **kwargs)


def aom_vitl(
    weights: BuilderWeights | None = None, pretrained: bool = False, **kwargs: Any
) -> nn.Module:
    """AOM with a ViT-L encoder (1024 wide, 24 deep, 16 heads); see :func:`aom_vitt`.

    .. versionadded:: 0.1
    """
    return _create('aom_vitl', weights, pretrained, **kwargs)


def random_backbone(name: str, bands: Sequence[Band], seed: int = 0) -> AOM:
    """An AOM that nobody has trained, the same for a seed; the global generator stays as it is.

    Args:
        name: name of the model.
        bands: bands of the channels.
        seed: what its weights follow from.

    Returns:
        The model, in evaluation mode.

    Raises:
        ConfigError: if there is no such model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = timm.create_model(check_name(name), bands=list(bands))
    return model.eval()


BUILDERS: dict[str, tuple[Callable[..., nn.Module], type[WeightsEnum]]] = {
    'aom_vitt': (aom_vitt, AOMTiny_Weights),
    'aom_vits': (aom_vits, AOMSmall_Weights),
    'aom_vitb': (aom_vitb, AOMBase_Weights),
    'aom_vitl': (aom_vitl, AOMLarge_Weights),
}


def _register_timm() -> None:
    # register_model takes the tags of a model from this module's default_cfgs.
    current = _all_cfgs()
    for name, (builder, _) in BUILDERS.items():
        if timm.is_model(name):
            if timm.model_entrypoint(name) is not builder:
                raise ConfigError(
                    f'timm already knows another model named {name!r} (from '
                    f'{timm.model_entrypoint(name).__module__}); import only one of the two.'
                )
            new = [tag for tag in current[name].tags if tag not in default_cfgs[name].cfgs]
            for tag in new:
                _add_timm_tag(name, tag, current[name].cfgs[tag])
            continue
        default_cfgs[name] = current[name]
        register_model(builder)
    list_trained()


def list_trained() -> None:
    """Let ``timm.list_models(pretrained=True)`` name models whose size has default weights.

    timm lists what it can load itself and has no public way to add what a builder loads. One file
    serves every tag.
    """
    from timm.models import _registry

    for name, (_, weights) in BUILDERS.items():
        if 'DEFAULT' in weights.__members__:
            _registry._model_has_pretrained.update(_registry._model_with_tags[name])


def _add_timm_tag(name: str, tag: str, cfg: Any) -> None:
    # timm has no public way to add a tag to a model that it knows; its look-ups read these tables.
    from timm.models import _registry

    default_cfgs[name].tags.append(tag)
    default_cfgs[name].cfgs[tag] = cfg
    full = f'{name}.{tag}'
    _registry._model_pretrained_cfgs[full] = replace(cfg, architecture=name, tag=tag)
    _registry._model_with_tags[name].append(full)


def _register_smp() -> None:
    from segmentation_models_pytorch.encoders import encoders

    from .smp_encoder import AOMEncoder, NoHubWeights

    for name, size in SIZES.items():
        # SMP overwrites 'depth' with the number of its own levels.
        params = {key if key != 'depth' else 'blocks': value for key, value in size.items()}
        for tag, preset in {'': None, **preset_tags()}.items():
            encoders[f'{name}.{tag}' if tag else name] = {
                'encoder': AOMEncoder,
                'params': {**params, 'bands': preset},
                'pretrained_settings': NoHubWeights(name),
            }


def _register_torchgeo() -> None:
    # TorchGeo has no public registration; its look-ups read these two tables.
    from torchgeo.models import api

    for name, (builder, weights) in BUILDERS.items():
        api._model[name] = builder
        api._model_weights[name] = weights
        api._model_weights[builder] = weights


def register() -> None:
    """Make all AOM models known to timm, SMP and TorchGeo, whichever are installed.

    .. versionadded:: 0.1
    """
    _register_timm()
    for register_with in (_register_smp, _register_torchgeo):
        try:
            register_with()
        except ModuleNotFoundError as error:
            if (error.name or '').split('.')[0] not in ('segmentation_models_pytorch', 'torchgeo'):
                raise
