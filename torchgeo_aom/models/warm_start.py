"""Starts an AOM from an RGB vision transformer of the same size, where no AOM weights exist yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import timm
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, suggest
from ..layers.pi_resize import pi_resize
from .checkpoint import PICKLES, read_state_dict
from .loading import LoadReport, as_aom, load_into

__all__ = ('warm_start',)

KERNEL = 'patch_embed.proj.weight'
SUFFIXES = ('.safetensors', *PICKLES)


def _timm_state(name: str) -> dict[str, Tensor]:
    """Parameters of a pretrained model of timm, from its cache or the network."""
    model = name.partition('.')[0]
    if not timm.is_model(model):
        known = timm.list_models('vit_*patch16_224')
        raise ConfigError(
            f'{name!r} is neither a file nor a model of timm{suggest(model, known)}. Give a path, '
            "a state_dict, or a name such as 'vit_base_patch16_224.mae'."
        )
    try:
        vit: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:
        raise CheckpointError(
            f'The weights of {name!r} could not be fetched ({error}). Without a connection, '
            'download the file elsewhere and give its path.'
        ) from error
    return vit.state_dict()


def _vit_state(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a ViT by timm's own names."""
    if isinstance(source, Mapping):
        state = dict(source)
    elif isinstance(source, str) and not source.endswith(SUFFIXES) and not Path(source).exists():
        state = _timm_state(source)
    else:
        state = read_state_dict(source)[0]
    keys = [key for key in state if key == KERNEL or key.endswith(f'.{KERNEL}')]
    if len(keys) != 1:
        raise CheckpointError(
            f'Not the parameters of one ViT: {len(keys)} names end in {KERNEL!r}, the first names '
            f'are {list(state)[:3]}. Weights of an AOM are loaded with load_state.'
        )
    prefix = keys[0].removesuffix(KERNEL)
    return {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}


def warm_start(
    model: nn.Module, source: str | os.PathLike[str] | Mapping[str, Tensor]
) -> LoadReport:
    """Copy the trunk of an RGB vision transformer into an AOM of the same size.

    Blocks and final norm are copied. The RGB kernel is averaged over its channels to the one
    kernel that all bands share, and PI-resized to every size of the bank. What an AOM does not
    have is left out: the class token, learned positions, heads, MAE's decoder.

    A ViT adds up the responses of its three channels, an AOM makes a token of each band. On a gray
    image a band token therefore holds a third of the ViT's response: with bias *b* and the ViT's
    token *t*, before positions, it is ``b + (t - b) / 3``.

    The result knows nothing of bands or patch sizes: it is a start for training, not a trained
    AOM.

    Args:
        model: the AOM, e.g. ``aom_vitb`` for ViT-B.
        source: path of a weights file of timm or MAE, a state_dict, or the name of a pretrained
            model of timm such as ``'vit_base_patch16_224.mae'`` (fetched over the network).

    Returns:
        What was loaded, kept, dropped and resized.

    Raises:
        CheckpointError: if the file cannot be read, or the ViT is of another size or kind; the
            model is then unchanged.
        ConfigError: if *model* is not an AOM, or timm does not know the name.

    .. versionadded:: 0.1
    """
    model = as_aom(model)
    vit = _vit_state(source)
    kernel = vit[KERNEL]
    target = model.state_dict()
    width = int(model.embed_dim)  # type: ignore[arg-type]
    shape = tuple(kernel.shape)
    if len(shape) != 4 or shape[0] != width or shape[2] != shape[3] or shape[2] > 128:
        raise CheckpointError(
            f'The patch kernel of the ViT has shape {shape}, this AOM needs ({width}, channels, P, '
            'P) with P up to 128; take the ViT of the same size (aom_vitt: vit_tiny, aom_vits: '
            'vit_small, aom_vitb: vit_base, aom_vitl: vit_large).'
        )
    # ViTs with average pooling call their only final norm fc_norm.
    norm = 'norm' if 'norm.weight' in vit else 'fc_norm'
    new = {key: value for key, value in vit.items() if key.startswith('blocks.')}
    new |= {f'norm.{k}': vit[f'{norm}.{k}'] for k in ('weight', 'bias') if f'{norm}.{k}' in vit}
    trunk = {key for key in target if key.startswith(('blocks.', 'norm.'))}
    differ = [
        f'{key}: ViT {tuple(new[key].shape) if key in new else "has none"}, '
        f'AOM {tuple(target[key].shape) if key in target else "has none"}'
        for key in sorted(trunk | set(new))
        if key not in new or key not in target or new[key].shape != target[key].shape
    ]
    if differ or 'patch_embed.proj.bias' not in vit:
        raise CheckpointError(
            f'The ViT is of another size or kind, {len(differ)} parameters differ: '
            f'{"; ".join(differ[:5]) or "patch_embed.proj.bias: ViT has none"}'
            f'{" ..." if len(differ) > 5 else ""}. Take a plain ViT of the same size, or build the '
            'AOM with its depth and options (init_values for layer scale).'
        )
    mean = kernel.float().mean(dim=1, keepdim=True)  # (D, 1, P, P)
    sizes: tuple[int, ...] = model.patch_embed.kernel_sizes  # type: ignore[union-attr, assignment]
    for size in sizes:
        new[f'patch_embed.kernels.{size}.weight'] = pi_resize(mean, (size, size))
        new[f'patch_embed.kernels.{size}.bias'] = vit['patch_embed.proj.bias']
    done = load_into(model, new)
    used = {*new, KERNEL, 'patch_embed.proj.bias', f'{norm}.weight', f'{norm}.bias'}
    return LoadReport(
        done.loaded,
        done.kept,
        tuple(key for key in vit if key not in used),
        {size: shape[2] for size in sizes if size != shape[2]},
    )
