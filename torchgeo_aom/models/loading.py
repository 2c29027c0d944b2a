"""Puts parameters into a model, all or nothing: other prefixes, other kernel banks, other heads."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BandWarning, CheckpointError, CheckpointWarning, ConfigError, warn
from ..layers.pi_resize import nearest_kernel, pi_resize
from .shapes import BANK, KERNEL, MAX_KERNEL_SIZE, shape_facts

__all__ = (
    'LoadReport',
    'adapt_kernel_bank',
    'as_aom',
    'check_facts',
    'check_size',
    'kernel_bank_hook',
    'load_into',
    'shape_facts',
    'strip_prefix',
    'warn_positional',
)

# What a checkpoint of a whole model holds besides the backbone.
OTHERS = ('decoder.', 'segmentation_head.', 'classification_head.', 'criterion.')
# Parts of names that mark the slow copy of a backbone (MoCo, BYOL, self-distillation).
COPIES = {'ema', 'momentum', 'target', 'teacher'}
# Parameters that start harmlessly where a checkpoint lacks them: the head is trained anew, the
# query of attention pooling starts as the mean.
OPTIONAL = ('head.', 'channel_pool.')
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FACTS = '_aom_facts'

_positional_warned = False


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_into` did.

    Attributes:
        loaded: names of the parameters that came from the checkpoint.
        kept: names of the parameters that the checkpoint lacks and the model kept (head).
        dropped: names in the checkpoint that the model has no place for (heads, decoders).
        resized: size of each kernel that was made by PI-resize -> size of the one it was made from.
        prefix: what preceded the backbone's own names in the checkpoint.

    .. versionadded:: 0.1
    """

    loaded: tuple[str, ...]
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    resized: dict[int, int] = field(default_factory=dict)
    prefix: str = ''


def find_prefix(state_dict: Iterable[str]) -> str:
    """What precedes the backbone's own names, e.g. ``'model.encoder.'``; empty if nothing does.

    Raises:
        CheckpointError: if there are several backbones and none is the main one.
    """
    found = {
        key[: key.index(BANK)]
        for key in state_dict
        if BANK in key and (key.startswith(BANK) or f'.{BANK}' in key)
    }
    main = {p for p in found if not COPIES & set(re.split(r'[._]', p))} or found
    if len(main) > 1:
        raise CheckpointError(
            f'The checkpoint holds {len(main)} AOM backbones, under {sorted(main)}; pass only the '
            'parameters of the one wanted.'
        )
    return main.pop() if main else ''


def strip_prefix(state_dict: Mapping[str, Tensor], head: bool = False) -> dict[str, Tensor]:
    """Backbone part of a checkpoint of a larger model (timm, SMP, TorchGeo's tasks, ours).

    The prefix is taken from the patch kernels' names and removed from the start of names only:
    inner names that contain ``model.`` survive.

    Args:
        state_dict: parameters by name.
        head: whether to keep the backbone's own classification head.

    Returns:
        Parameters of the backbone by the backbone's own names, without decoders.

    Raises:
        CheckpointError: if there are several backbones and none is the main one.
    """
    prefix = find_prefix(state_dict)
    others = OTHERS if head else ('head.', *OTHERS)
    own = OrderedDict(
        (key[len(prefix) :], value) for key, value in state_dict.items() if key.startswith(prefix)
    )
    own = OrderedDict((key, value) for key, value in own.items() if not key.startswith(others))
    facts = getattr(state_dict, '_metadata', {}).get(prefix[:-1], {})
    own._metadata = {'': facts}  # type: ignore[attr-defined]
    return own


def as_aom(model: nn.Module) -> nn.Module:
    """The AOM itself, out of what ``torch.compile`` returns.

    Args:
        model: an AOM, compiled or not.

    Raises:
        ConfigError: if it is something else.
    """
    model = getattr(model, '_orig_mod', model)
    if not hasattr(getattr(model, 'patch_embed', None), 'kernel_sizes'):
        raise ConfigError(
            f'{type(model).__name__} is not an AOM; give the AOM itself, e.g. task.model or '
            'task.model.encoder.'
        )
    return model


def adapt_kernel_bank(
    state_dict: MutableMapping[str, Tensor], prefix: str, model: nn.Module
) -> dict[int, int]:
    """Give a checkpoint the kernel sizes of a model, in place.

    A kernel that the checkpoint lacks is PI-resized from its nearest one; kernels that the model
    does not have are taken out. Where a kernel has an unexpected shape, all are left as they are,
    for the caller to refuse.

    Args:
        state_dict: parameters by name; the mapping is changed, its tensors are not.
        prefix: what precedes the backbone's own names.
        model: the AOM that the parameters are for.

    Returns:
        Size of each kernel made -> size of the one it was made from; empty where banks agree.
    """
    wanted: tuple[int, ...] = model.patch_embed.kernel_sizes  # type: ignore[union-attr, assignment]
    bank = f'{prefix}{BANK}'
    have: dict[int, Tensor] = {}
    for key, value in state_dict.items():
        match = KERNEL.fullmatch(key[len(prefix) :]) if key.startswith(bank) else None
        if match:
            size = int(match[1])
            shape = (model.embed_dim, 1, size, size)
            if size > MAX_KERNEL_SIZE or value.shape != shape or value.dtype not in FLOATS:
                return {}
            have[size] = value
    if not have or set(have) == set(wanted):
        return {}
    resized = {size: nearest_kernel(have, size) for size in wanted if size not in have}
    for size, source in resized.items():
        state_dict[f'{bank}{size}.weight'] = pi_resize(have[source], (size, size))
        if f'{bank}{source}.bias' in state_dict:
            state_dict[f'{bank}{size}.bias'] = state_dict[f'{bank}{source}.bias']
    unused = sorted(set(have) - set(wanted))
    for size in unused:
        for name in ('weight', 'bias'):
            state_dict.pop(f'{bank}{size}.{name}', None)
    made = ', '.join(f'{size} from {source}' for size, source in resized.items()) or 'none'
    warn(
        f'The checkpoint has kernels of {sorted(have)} px, the model of {sorted(wanted)} px. '
        f'PI-resized: {made}; left out: {", ".join(map(str, unused)) or "none"}.',
        CheckpointWarning,
    )
    return resized


def check_size(model: Any, own: Mapping[str, Tensor]) -> None:
    """Refuse parameters (by the backbone's own names) of another width or depth than the model."""
    from .aom import SIZES

    facts = shape_facts(own)
    theirs = (facts['embed_dim'], facts['depth'])
    # features_only takes blocks away, but not what is known of them
    ours = (model.embed_dim, max(len(model.blocks), len(model.feature_info)))
    if theirs != ours:
        names = {(size['embed_dim'], size['depth']): name for name, size in SIZES.items()}
        raise CheckpointError(
            f'These are {names.get(theirs, "AOM")} weights ({theirs[0]} wide, {theirs[1]} deep), '
            f'the model is {names.get(ours, "an AOM")} ({ours[0]} wide, {ours[1]} deep). Build the '
            'model with the embed_dim and depth of the weights, or take weights of its size.'
        )


def check_facts(model: nn.Module, facts: Mapping[str, Any]) -> None:
    """Compare what shapes do not show: a model with other heads would run and be wrong.

    Args:
        model: the AOM that the parameters are for.
        facts: what the weights file says of its model.

    Raises:
        CheckpointError: if the model was built otherwise.
    """
    built = {
        'num_heads': str(model.blocks[0].attn.num_heads),  # type: ignore[index, union-attr]
        'channel_encoding': str(model.patch_embed.channel_encoding),  # type: ignore[union-attr]
        'channel_pool': str(model.channel_pool.kind),  # type: ignore[union-attr]
    }
    if built['channel_pool'] == 'attn' and facts.get('channel_pool') == 'mean':
        del built['channel_pool']  # attention pooling starts as the mean
    for key, value in built.items():
        if key in facts and str(facts[key]) != value:
            raise CheckpointError(
                f'The weights were trained with {key}={facts[key]}, the model has {key}={value}; '
                f'build the model with {key}={facts[key]}.'
            )


def warn_positional(model: nn.Module) -> None:
    """Warn once a process that pretrained weights meet channels that nobody has named."""
    global _positional_warned
    if model.bands is not None or _positional_warned:
        return
    _positional_warned = True
    warn(
        'Pretrained weights are loaded into a model without bands: channels are taken as positions '
        '0..C-1, that is as the first bands of Sentinel-2 (B01, B02, ...), which is wrong for RGB '
        "and for most files: give bands=, e.g. bands='sentinel2:rgb' or a tag, "
        "'aom_vitb.sentinel2_rgb'.",
        BandWarning,
    )


def kernel_bank_hook(
    module: nn.Module,
    state_dict: MutableMapping[str, Tensor],
    prefix: str,
    local_metadata: Mapping[str, Any],
    *_: Any,
) -> None:
    """Hook of ``register_load_state_dict_pre_hook``: makes every way of loading bank-agnostic.

    Args:
        module: the AOM.
        state_dict: parameters by name, changed in place.
        prefix: what precedes the backbone's own names.
        local_metadata: carries the facts of pretrained weights.
        *_: PyTorch's lists of missing and unexpected names and errors.
    """
    facts = local_metadata.get(FACTS)
    if facts is not None:
        own = {key[len(prefix) :]: v for key, v in state_dict.items() if key.startswith(prefix)}
        check_size(module, own)
        check_facts(module, facts)
        warn_positional(module)
    elif not prefix and 'version' not in local_metadata:
        # From a file, through a framework: a module's own state_dict() carries versions, and in a
        # larger model that is restored there is a prefix.
        warn_positional(module)
    adapt_kernel_bank(state_dict, prefix, module)


def _pruned(model: nn.Module, own: Iterable[str]) -> list[str]:
    """Parameters that the model was built with, but that ``features_only`` has taken away."""
    gone: set[str] = set()
    if isinstance(model.norm, nn.Identity):
        gone.add('norm')
    blocks: nn.ModuleList = model.blocks  # type: ignore[assignment]
    info: list[dict[str, Any]] = model.feature_info  # type: ignore[assignment]
    gone |= {f'blocks.{i}' for i in range(len(blocks), len(info))}
    return [key for key in own if key.split('.')[0] in gone or '.'.join(key.split('.')[:2]) in gone]


def load_into(
    model: nn.Module, state_dict: Mapping[str, Tensor], *, head: str = 'keep'
) -> LoadReport:
    """Load parameters into an AOM, all or nothing.

    Names and shapes are compared before any value is read or copied, so a file that declares
    absurd shapes costs nothing, and after an error the model is as it was.

    Args:
        model: the AOM itself (of a task: ``task.model`` or ``task.model.encoder``).
        state_dict: parameters by name, of an AOM or of a larger model around it; left untouched.
        head: ``'keep'`` to load the classification head where it fits, ``'drop'`` to leave it out.

    Returns:
        What was loaded, kept, dropped and resized.

    Raises:
        CheckpointError: if a parameter is missing, unexpected, of another shape or not finite.
        ConfigError: if *model* is not an AOM, or *head* is unknown.

    Warns:
        CheckpointWarning: if a head or a kernel is left out.

    .. versionadded:: 0.1
    """
    if head not in ('keep', 'drop'):
        raise ConfigError(f"head must be 'keep' or 'drop', got {head!r}.")
    model = as_aom(model)
    own = strip_prefix(state_dict, head=True)
    check_size(model, own or state_dict)
    target = model.state_dict()
    heads = [key for key in own if key.startswith('head.')]
    fits = all(key in target and own[key].shape == target[key].shape for key in heads)
    if heads and (head == 'drop' or not fits):
        if head == 'keep':
            warn(
                f'The head of the checkpoint ({own[heads[0]].shape[0]} classes) is left out: the '
                f'model has {getattr(model, "num_classes", 0)} classes.',
                CheckpointWarning,
            )
        for key in heads:
            del own[key]

    for key in _pruned(model, own):
        del own[key]
    resized = adapt_kernel_bank(own, '', model)
    wrong = [key for key in own if key in target and own[key].shape != target[key].shape]
    if wrong:
        lines = [
            f'{key}: checkpoint {tuple(own[key].shape)}, model {tuple(target[key].shape)}'
            for key in wrong[:5]
        ]
        raise CheckpointError(
            f'{len(wrong)} parameters have another shape, the first: {"; ".join(lines)}. Build the '
            'model with the options of the checkpoint.'
        )
    kept = tuple(key for key in target if key not in own and key.startswith(OPTIONAL))
    missing = [key for key in target if key not in own and key not in kept]
    unexpected = [key for key in own if key not in target]
    if missing or unexpected:
        raise CheckpointError(
            f'The checkpoint does not fit the model. Missing: {missing[:10] or "none"}'
            f'{f" and {len(missing) - 10} more" if len(missing) > 10 else ""}. Unexpected: '
            f'{unexpected[:10] or "none"}'
            f'{f" and {len(unexpected) - 10} more" if len(unexpected) > 10 else ""}. '
            'Build the model with the depth and options of the checkpoint.'
        )
    for key, value in own.items():
        if value.dtype not in FLOATS:
            raise CheckpointError(
                f'{key} has dtype {value.dtype}; weights must be one of {FLOATS}. The file is not '
                'what this package writes; get it again from its source.'
            )
        if not bool(value.isfinite().all()):
            raise CheckpointError(
                f'{key} holds NaN or infinite values: the training run had diverged or the file is '
                'damaged. Use an earlier checkpoint.'
            )
    whole = OrderedDict({**{key: target[key] for key in kept}, **own})
    whole._metadata = target._metadata  # type: ignore[attr-defined]
    model.load_state_dict(whole, strict=True)
    prefix = find_prefix(state_dict)
    dropped = tuple(
        key for key in state_dict if not key.startswith(prefix) or key[len(prefix) :] not in own
    )
    return LoadReport(tuple(own), kept, dropped, resized, prefix)
