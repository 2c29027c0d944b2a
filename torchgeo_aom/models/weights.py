"""Pretrained weights: a user's own runs beside published ones, loaded all or nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, cast

from torch import Tensor, nn

from ..bands import BandSpec
from ..errors import CheckpointError, ConfigError, suggest
from .aom import AOM, SIZES
from .checkpoint import (
    PICKLES,
    export_checkpoint,
    file_sha256,
    load_into,
    read_state_dict,
    save_weights,
)
from .loading import (
    FACTS,
    LoadReport,
    as_aom,
    check_facts,
    check_size,
    strip_prefix,
    warn_positional,
)
from .published import add_published
from .weights_enum import (
    ENUMS,
    AOMBase_Weights,
    AOMLarge_Weights,
    AOMSmall_Weights,
    AOMTiny_Weights,
    AOMWeights,
    add_member,
    enum_of,
    local_path,
    members,
    set_default,
)
from .weights_meta import complete_meta, facts_of, validate_meta

__all__ = (
    'AOMBase_Weights',
    'AOMLarge_Weights',
    'AOMSmall_Weights',
    'AOMTiny_Weights',
    'AOMWeights',
    'as_source',
    'default_weights',
    'export_checkpoint',
    'find_weights',
    'load_backbone',
    'load_state',
    'read_source',
    'register_weights',
    'save_weights',
    'validate_meta',
)


def register_weights(
    name: str,
    path_or_url: str | os.PathLike[str],
    model: str = 'aom_vitt',
    meta: Mapping[str, Any] | None = None,
    default: bool = False,
) -> AOMWeights:
    """Make a weights file known under a name, as if it were published with the package.

    The member is found by ``torchgeo.models.get_weight('AOMTiny_Weights.NAME')``, and works
    wherever TorchGeo takes weights. Registering the same again changes nothing.

    Args:
        name: name of the member: upper-case letters, digits and underscores.
        path_or_url: a weights file (see :func:`~torchgeo_aom.models.checkpoint.save_weights` and
            ``export_checkpoint``), or an ``https://`` URL.
        model: name of the model that the file is for.
        meta: facts that the file does not tell itself, see :func:`validate_meta`. For a URL all
            are needed, since nothing is downloaded here.
        default: whether ``pretrained=True`` means these weights, also as ``DEFAULT``.

    Returns:
        The member.

    Raises:
        CheckpointError: if the file cannot be read or is of another size than the model.
        ConfigError: if the name is taken, or the meta is incomplete or wrong.

    .. versionadded:: 0.1
    """
    cls = enum_of(model)
    if not re.fullmatch('[A-Z][A-Z0-9_]*', name) or name == 'DEFAULT':
        raise ConfigError(
            f'{name!r} cannot name weights: take upper-case letters, digits and underscores, e.g. '
            f"'SENTINEL2_MY_RUN'; DEFAULT is set by default=True."
        )
    text = os.fspath(path_or_url)
    url = text if re.match(r'\w\w+://', text) else Path(text).expanduser().resolve().as_uri()
    path = local_path(url)
    given = dict(meta or {})
    facts = sha256 = params = None
    if path is not None:
        state_dict, metadata = read_state_dict(path, sha256=given.get('sha256'))
        own = strip_prefix(state_dict)
        facts = facts_of(metadata, own)
        size = SIZES[model.partition('.')[0]]
        if any(facts.get(key, value) != value for key, value in size.items()):
            raise CheckpointError(
                f'{path} has embed_dim {facts["embed_dim"]} and {facts["depth"]} blocks of '
                f'{facts.get("num_heads", "?")} heads, {model} has {size["embed_dim"]} and '
                f'{size["depth"]} of {size["num_heads"]}; give model= of the right size.'
            )
        facts['num_heads'] = size['num_heads']
        sha256 = file_sha256(path)
        params = sum(value.numel() for value in own.values())
    full = complete_meta(given, facts, sha256, params)
    validate_meta(full, model.partition('.')[0])
    member = add_member(cls, name, url, full)
    if default:
        from .registry import list_trained  # which imports this module

        set_default(cls, member)
        list_trained()
    return member


def find_weights(name: str) -> AOMWeights:
    """Member of a full name.

    Args:
        name: such as ``'AOMTiny_Weights.NAME'``.

    Raises:
        ConfigError: if there is none, with the closest one.

    .. versionadded:: 0.1
    """
    known = {
        f'{cls.__name__}.{key}': member
        for cls in ENUMS.values()
        for key, member in members(cls).items()
    }
    if name not in known:
        short = {key.partition('.')[2]: key for key in known}  # 'OPTICAL' alone
        raise ConfigError(
            f'{name!r} is neither a file nor known weights{suggest(short.get(name, name), known)}. '
            f'Known: {", ".join(known) or "none yet; see register_weights"}.'
        )
    return known[name]


def default_weights(model: str) -> AOMWeights:
    """Weights that ``pretrained=True`` means.

    Args:
        model: name of a model, with or without a tag.

    Raises:
        CheckpointError: if there are none.

    .. versionadded:: 0.1
    """
    known = members(enum_of(model))
    if 'DEFAULT' not in known:
        raise CheckpointError(
            f'There are no published weights for {model}. Leave out pretrained=True or '
            'weights=True for random weights, register a run of your own with '
            'register_weights(..., default=True), or start from a ViT with warm_start.'
        )
    return known['DEFAULT']


add_published()

Source: TypeAlias = str | os.PathLike[str] | AOMWeights | Mapping[str, Tensor]


def read_source(source: Source) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Parameters of a backbone with its own names, and what is known of its model.

    Args:
        source: see :func:`load_state`.

    Returns:
        The parameters, which :func:`load_state` takes without reading the file again, and facts
        such as ``bands``, ``num_heads`` and ``channel_encoding`` where they are known.

    Raises:
        CheckpointError: if the file cannot be read.
        ConfigError: if a name is unknown.
    """
    if isinstance(source, str) and re.match(r'\w+_Weights\.', source):
        source = find_weights(source)
    if isinstance(source, AOMWeights):
        return source.get_state_dict(), dict(source.meta)
    if isinstance(source, Enum):
        raise ConfigError(f'{source!r} are weights of another model; give AOM weights.')
    if isinstance(source, Mapping):
        own = strip_prefix(source, head=True)
        return own, dict(own._metadata[''].get(FACTS, {}))  # type: ignore[attr-defined]
    state_dict, metadata = read_state_dict(source)
    own = strip_prefix(state_dict, head=True)
    facts = facts_of(metadata, own)
    own._metadata[''][FACTS] = facts  # type: ignore[attr-defined]
    return own, facts


def as_source(weights: object, model: str) -> AOMWeights | Path | None:
    """What a user gives as ``weights=``: a member, its name, True for the default, or a path.

    Args:
        weights: the value given.
        model: name of the model.

    Returns:
        The member or the path of a file; None where no weights are wanted.

    Raises:
        CheckpointError: if there are no default weights.
        ConfigError: if it is something else, or an unknown name.
    """
    if weights is None or weights is False:
        return None
    if weights is True:
        return default_weights(model)
    if isinstance(weights, AOMWeights):
        return weights
    if isinstance(weights, str | os.PathLike):
        path = Path(weights).expanduser()
        # What looks like a file is one, also if it is not there: reading it says so.
        if path.is_file() or path.suffix in ('.safetensors', *PICKLES):
            return path
        return find_weights(os.fspath(weights))
    cls = enum_of(model).__name__
    if isinstance(weights, Enum):
        raise ConfigError(f'{weights!r} are weights of another model; give a member of {cls}.')
    raise ConfigError(
        f'weights={weights!r} ({type(weights).__name__}) are no weights of an AOM: give a member '
        f"of {cls}, its full name such as '{cls}.NAME', True for the default ones, or the path of "
        'a .safetensors file or checkpoint.'
    )


def load_state(model: nn.Module, source: Source, *, head: str = 'keep') -> LoadReport:
    """Load weights into an AOM, all or nothing.

    Args:
        model: the AOM itself.
        source: enum member, its full name, path of a weights file or checkpoint, or parameters by
            name.
        head: ``'keep'`` to load the classification head where it fits, ``'drop'`` to leave it out.

    Returns:
        What was loaded, kept, dropped and resized.

    Raises:
        CheckpointError: if the file cannot be read or does not fit; the model is then unchanged.
        ConfigError: if a name is unknown.

    Warns:
        BandWarning: once a process, if the model has no bands.
        CheckpointWarning: if a head or a kernel is left out.

    .. versionadded:: 0.1
    """
    state_dict, facts = read_source(source)
    model = as_aom(model)
    check_size(model, state_dict)
    check_facts(model, facts)
    report = load_into(model, state_dict, head=head)
    own = cast('AOM', model)
    own.speed_loss = dict(facts.get('speed_loss') or {})
    own.warn_speed()
    warn_positional(model)
    return report


def load_backbone(
    source: Source,
    model: str | None = None,
    bands: BandSpec | None = None,
    **kwargs: Any,
) -> AOM:
    """Build an AOM from a weights file or enum member and load it.

    Size, kernel bank and channel encoding come from the weights.

    Args:
        source: see :func:`load_state`.
        model: name of the model; that of the weights where None.
        bands: bands of the channels; those of the weights where None.
        **kwargs: further arguments of :class:`~torchgeo_aom.models.aom.AOM`, e.g. ``patch_size``,
            ``num_classes``; those that the weights depend on must agree with them.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: if the file cannot be read or does not fit.
        ConfigError: if the size of the model is not known.

    .. versionadded:: 0.1
    """
    state_dict, known = read_source(source)
    facts = {**facts_of({}, state_dict), **known}
    own = (facts['embed_dim'], facts['depth'])
    size = next((s for s in SIZES.values() if (s['embed_dim'], s['depth']) == own), {})
    named: Mapping[str, int] = {}
    if model:
        enum_of(model)
        named = SIZES[model.partition('.')[0]]
    keys = ('embed_dim', 'depth', 'num_heads', 'kernel_sizes', 'channel_encoding', 'channel_pool')
    options = {**size, **{key: facts[key] for key in keys if key in facts}, **named, **kwargs}
    if 'num_heads' not in options:
        raise ConfigError(
            f'The weights (embed_dim {facts["embed_dim"]}, {facts["depth"]} blocks) do not say '
            'how many attention heads they have; give num_heads=.'
        )
    if bands is None and kwargs.get('in_chans') is None:
        bands = facts.get('bands')
    backbone = AOM(bands=bands, **options)
    load_state(backbone, state_dict)
    return backbone.eval()
