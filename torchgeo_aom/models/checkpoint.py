"""Weights files: read without running anything in them, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .. import __version__
from ..bands import Band, get_product, plain_band, preset_tags, resolve_bands
from ..errors import CheckpointError, ConfigError
from ..files import write_whole
from ..transforms import Normalize
from .archive import check_archive, file_error
from .loading import (
    LoadReport,
    adapt_kernel_bank,
    as_aom,
    kernel_bank_hook,
    load_into,
    shape_facts,
    strip_prefix,
)

__all__ = (
    'FORMAT_VERSION',
    'LoadReport',
    'adapt_kernel_bank',
    'band_specs',
    'export_checkpoint',
    'file_sha256',
    'kernel_bank_hook',
    'load_into',
    'read_metadata',
    'read_state_dict',
    'save_weights',
    'strip_prefix',
)

FORMAT_VERSION = 0
PICKLES = ('.pth', '.pt', '.ckpt', '.bin')
SHOWN = 60  # characters of what is unreadable
# Where training scripts keep the parameters inside a checkpoint.
NESTED = ('state_dict', 'model', 'model_state_dict', 'state_dict_ema')


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits.

    .. versionadded:: 0.1
    """
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _tensors_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values; safetensors itself has no checksum."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        value = state_dict[name]
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            metadata: dict[str, Any] = dict(file.metadata() or {})
            state_dict = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:
        raise file_error(
            path, f'not a whole safetensors file ({error}). Copy or download it again.'
        ) from error
    version = str(metadata.get('format_version', FORMAT_VERSION))
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise file_error(
            path,
            f'format version {version!r}, this release of torchgeo_aom reads up to '
            f'{FORMAT_VERSION}. Install a newer release.',
        )
    digest = metadata.get('tensors_sha256')
    if digest is not None and digest != _tensors_sha256(state_dict):
        raise file_error(
            path, 'the values differ from what was saved: damaged. Copy or download it again.'
        )
    return state_dict, metadata


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    check_archive(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception as error:
        names = sorted(set(re.findall(r'GLOBAL ([\w.]+)', str(error))))
        what = f'asks for {", ".join(names)}' if names else f'cannot be read ({error})'
        raise file_error(
            path,
            f'{what}. Only tensors and plain values are read, nothing is executed, and there is no '
            'fallback to pickle. Use a .safetensors file, or save a checkpoint with the plain '
            'state_dict of the model.',
        ) from error
    if not isinstance(content, Mapping):
        raise file_error(path, f'holds a {type(content).__name__}, not parameters by name.')
    metadata: dict[str, Any] = {}
    parameters: Mapping[Any, Any] = content
    if not any(isinstance(value, Tensor) for value in content.values()):
        nested = next((k for k in NESTED if isinstance(content.get(k), Mapping)), None)
        if nested is None:
            raise file_error(
                path,
                f'holds no parameters: its entries are {list(content)[:8]}, expected one of '
                f'{NESTED} or a plain state_dict.',
            )
        parameters = content[nested]
        hparams = content.get('hyper_parameters')
        if isinstance(hparams, Mapping):
            metadata = {str(key): value for key, value in hparams.items()}
    # Metrics may keep state that is no tensor; parameters never do.
    state_dict = {
        key: value for key, value in parameters.items() if not str(key).endswith('_extra_state')
    }
    for key, value in state_dict.items():
        _check_tensor(path, key, value)
    return state_dict, metadata


def _check_tensor(path: Path, key: Any, value: Any) -> None:
    """Refuse what is no plain tensor, or declares more values than it has bytes for."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        raise file_error(path, f'{key!r} is a {type(value).__name__}, not a tensor by name.')
    if value.layout != torch.strided or value.device.type != 'cpu' or value.is_quantized:
        raise file_error(
            path, f'{key!r} is not a plain dense tensor ({value.layout}, {value.device}).'
        )
    declared, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if declared > held:
        raise file_error(
            path,
            f'{key!r} declares shape {tuple(value.shape)}, {declared:,} bytes, but holds {held:,}. '
            'Refused: reading it would exhaust memory.',
        )


def read_state_dict(
    path: str | os.PathLike[str], *, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read parameters from a file without executing anything in it.

    Values are mapped from the file where possible, not copied; no value is converted, so absurd
    shapes cost nothing.

    Args:
        path: a ``.safetensors`` file, or a ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file of
            ``torch.save`` or Lightning.
        sha256: the SHA-256 that the file must have; recomputed at every call.

    Returns:
        Parameters by name, and what the file says of them: safetensors' metadata, or Lightning's
        hyperparameters.

    Raises:
        CheckpointError: if the file is missing, damaged, tampered with, unsafe, or no weights file.

    .. versionadded:: 0.1
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = 'is a folder' if path.is_dir() else 'does not exist'
        raise CheckpointError(f'{path} {kind}; give the path of a weights file.')
    if path.suffix not in ('.safetensors', *PICKLES):
        raise file_error(
            path, f'unknown format {path.suffix!r}, expected .safetensors, {", ".join(PICKLES)}.'
        )
    if path.stat().st_size == 0:
        raise file_error(path, 'the file is empty. Copy or download it again.')
    if sha256 is not None and (actual := file_sha256(path)) != sha256.lower():
        raise file_error(
            path,
            f'SHA-256 is {actual}, expected {sha256}: damaged or tampered with. Nothing was '
            'loaded; delete it and get it again from its source.',
        )
    reader = _read_safetensors if path.suffix == '.safetensors' else _read_pickle
    state_dict, metadata = reader(path)
    if not state_dict:
        raise file_error(path, 'holds no parameters.')
    return state_dict, metadata


def read_metadata(key: str, text: str) -> Any:
    """Read a list in the metadata of a file.

    Args:
        key: what it is.
        text: JSON.

    Returns:
        The value.

    Raises:
        CheckpointError: if it is no JSON, or lists in lists without end.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        shown = text if len(text) <= SHOWN else f'{text[:SHOWN]}...'
        raise CheckpointError(f'The {key} in the metadata are unreadable: {shown!r}.') from error


def band_specs(bands: Iterable[Band] | None) -> list[str | dict[str, Any]] | None:
    """Bands as plain values that :func:`~torchgeo_aom.bands.resolve_bands` reads back."""
    return None if bands is None else [plain_band(band) for band in bands]


def _write(
    path: str | os.PathLike[str], state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> str:
    """Write a safetensors file atomically: the old file stays until the new one is on the disk."""
    path = Path(path).expanduser()
    if path.suffix != '.safetensors':
        raise ConfigError(f'Weights are saved as .safetensors, got {path.name!r}.')
    if not path.parent.is_dir():
        raise CheckpointError(f'The folder {path.parent} does not exist; make it first.')
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, parameter in state_dict.items():
        value = parameter.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory
        tensors[key] = value = value.clone() if place in places else value
        places.add(place)
        if not bool(value.isfinite().all()):
            raise CheckpointError(
                f'{key} holds NaN or infinite values, so {path.name} was not written: the training '
                'run has diverged. Use an earlier checkpoint.'
            )
    facts = {
        'format_version': str(FORMAT_VERSION),
        'torchgeo_aom_version': __version__,
        'tensors_sha256': _tensors_sha256(tensors),
    }
    content = save(tensors, {**metadata, **facts})
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(f'{path} could not be written: {error}.') from error
    return hashlib.sha256(content).hexdigest()


def _text_facts(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Size of a backbone as metadata; safetensors takes strings only."""
    from .aom import SIZES

    facts = shape_facts(state_dict)
    size = (facts['embed_dim'], facts['depth'])
    names = [k for k, v in SIZES.items() if (v['embed_dim'], v['depth']) == size]
    return {key: json.dumps(value) for key, value in facts.items()} | {
        'arch': (*names, 'custom')[0]
    }


def _normalize_facts(normalize: Normalize, bands: tuple[Band, ...] | None) -> dict[str, str]:
    """Unit and statistics of a normalization as metadata, for transforms to build it again."""
    if bands is None or band_specs(normalize.bands) != band_specs(bands):
        raise ConfigError(
            f'normalize= is for the bands {band_specs(normalize.bands)}, the model has '
            f"{band_specs(bands) or 'none'}. Give the Normalize of the model's own bands."
        )
    product = normalize.product
    sensors = {band.sensor for band in bands if band.sensor}
    names = [product.name, *(f'{sensor}:{product.name}' for sensor in sorted(sensors))]
    for name in names:
        try:
            known = get_product(name)
        except ConfigError:
            continue
        if (known.scale, known.offset) == (product.scale, product.offset):
            break
    else:
        raise ConfigError(
            f'normalize= has the product {product.name!r}, which is not in the catalogue, so a '
            'file cannot name it. Describe it in a sensor file and load it with load_sensors.'
        )
    # A constant band is centered and not divided: the same as a deviation of 1.
    numbers = {'mean': list(normalize.mean), 'std': [value or 1.0 for value in normalize.std]}
    return {'unit': name, **{key: json.dumps(value) for key, value in numbers.items()}}


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    normalize: Normalize | None = None,
) -> str:
    """Save an AOM as safetensors, with what is needed to build it again.

    The file appears whole or not at all; an older file of that name stays
    until the new one is on the disk.

    Args:
        model: the AOM itself.
        path: file to write, ``.safetensors``.
        metadata: further facts, e.g. dataset and licence; strings.
        normalize: what the images of the run were normalized with; unit and statistics are stored,
            and come back as ``transforms`` of registered weights.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: if the file cannot be written.
        ConfigError: if *model* is not an AOM, the name has another ending, or the metadata is not
            made of strings or claims what the model itself says, or *normalize* is for other
            bands than the model's or for a product that is not in the catalogue.

    .. versionadded:: 0.1
    """
    model = as_aom(model)
    facts = {
        **_text_facts(model.state_dict()),
        'num_heads': str(model.blocks[0].attn.num_heads),  # type: ignore[index, union-attr]
        'bands': json.dumps(band_specs(model.bands)),  # type: ignore[arg-type]
        'channel_encoding': model.patch_embed.channel_encoding,  # type: ignore[union-attr]
        'channel_pool': model.channel_pool.kind,  # type: ignore[union-attr]
    }
    if normalize is not None:
        facts |= _normalize_facts(normalize, model.bands)  # type: ignore[arg-type]
    extra = dict(metadata or {})
    for key, value in extra.items():
        if not isinstance(value, str) or key in facts:
            raise ConfigError(
                f'metadata[{key!r}] = {value!r}: values must be strings, and {", ".join(facts)} '
                'come from the model and from normalize=.'
            )
    return _write(path, model.state_dict(), {**extra, **facts})  # type: ignore[dict-item]


def export_checkpoint(ckpt_path: str | os.PathLike[str], out_path: str | os.PathLike[str]) -> str:
    """Write the encoder of a Lightning checkpoint (TorchGeo's tasks or ours) as safetensors.

    Args:
        ckpt_path: checkpoint of a task, or any weights file that holds an AOM.
        out_path: file to write, ``.safetensors``.

    Returns:
        SHA-256 of the file written.

    Raises:
        CheckpointError: if the checkpoint cannot be read or holds no AOM.

    .. versionadded:: 0.1
    """
    state_dict, hparams = read_state_dict(ckpt_path)
    own = strip_prefix(state_dict)
    from .aom import SIZES

    facts = _text_facts(own or state_dict)
    # A task says which model it has by name; a file of ours says it in full.
    names = [str(hparams.get(key)).partition('.') for key in ('model', 'backbone')]
    named = next((name for name in names if name[0] in SIZES), ('', '', ''))
    if named[0]:
        facts['num_heads'] = str(SIZES[named[0]]['num_heads'])
    options = ('num_heads', 'channel_encoding', 'channel_pool')
    for key in (*options, 'unit', 'mean', 'std', 'patch_sizes'):
        value = hparams.get(key)
        if isinstance(value, int | str):
            facts[key] = str(value)
        elif isinstance(value, list | tuple):
            facts[key] = json.dumps(value)
    bands = hparams.get('bands')
    if bands is None:
        bands = preset_tags().get(named[2])
    if isinstance(bands, str) and bands.startswith(('[', 'null')):
        bands = read_metadata('bands', bands)  # of a file of ours
    if bands is not None:
        facts['bands'] = json.dumps(band_specs(resolve_bands(bands)))
    return _write(out_path, own, facts)
