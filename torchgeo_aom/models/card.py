"""Model cards: what a run left on record about exported weights, as Markdown to be completed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..bands import resolve_bands
from ..errors import BandError, CheckpointError
from ..files import write_whole
from .aom import SIZES
from .checkpoint import PICKLES, read_state_dict
from .weights_meta import facts_of

__all__ = ('card_facts', 'model_card', 'write_card')

PACKAGES = ('torchgeo-aom', 'torch', 'torchgeo', 'timm', 'lightning', 'safetensors')
# What shapes the weights, of the options of a pretraining task; in this order.
OPTIONS = (
    'mask_ratio', 'mask_kind', 'scales_per_step', 'recon_weight', 'align_weight', 'temperature',
    'negatives', 'norm_pix_loss', 'view_size', 'view_scale', 'base_lr', 'lr_scaling', 'batch_size',
    'weight_decay', 'betas', 'warmup_epochs', 'epochs', 'decoder_width', 'decoder_depth',
    'projector_dim', 'projector_norm', 'max_tokens', 'seed',
)  # fmt: skip
UNKNOWN = 'not recorded'
UNMEASURED = 'not measured'


def _versions() -> dict[str, str]:
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if 'torchgeo-aom' not in found:  # run from its source folder
        from .. import __version__

        found['torchgeo-aom'] = __version__
    return found


def _declared(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Product and choice of statistics of each source, as its block says."""
    found = {}
    module = content.get('datamodule_hyper_parameters')
    for block in module.get('sources') or [] if isinstance(module, Mapping) else []:
        path = block.get('path')
        first = path[0] if isinstance(path, list | tuple) and path else path
        name = block.get('name') or (Path(str(first)).name if first else block.get('dataset'))
        product = block.get('product') or block.get('unit')
        found[str(name)] = {'product': product, 'statistics': block.get('statistics')}
    return found


def card_facts(
    checkpoint: str | os.PathLike[str], exported: str | os.PathLike[str], sha256: str
) -> dict[str, Any]:
    """Collect what is on record about exported weights.

    Args:
        checkpoint: what was exported, read without executing anything in it.
        exported: the ``.safetensors`` file.
        sha256: SHA-256 of that file.

    Returns:
        The facts that :func:`model_card` writes down, as plain values.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    _, options = read_state_dict(checkpoint)
    state_dict, metadata = read_state_dict(exported)
    content: Mapping[str, Any] = {}
    if Path(checkpoint).suffix in PICKLES:  # checked by read_state_dict
        content = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)
    run = content.get('pretraining')
    run = run if isinstance(run, Mapping) else {}
    declared = _declared(content)
    seen = run.get('sources', {})
    facts = {
        **facts_of(metadata, state_dict),
        'file': Path(exported).name,
        'sha256': sha256,
        'arch': metadata.get('arch', 'custom'),
        'num_params': sum(value.numel() for value in state_dict.values()),
        'sources': {
            name: {**declared.get(name, {}), 'seen': entry.get('images'), 'bands': entry['bands']}
            for name, entry in seen.items()
        },
        'options': {key: options[key] for key in OPTIONS if run and key in options},
        'steps': content.get('global_step'),
        'epoch': content.get('epoch'),
        'trained_with': content.get('pytorch-lightning_version'),
        'versions': _versions(),
    }
    if 'patch_sizes' in run:
        facts['patch_sizes'] = list(run['patch_sizes'])
    return facts


def _text(value: Any) -> str:
    """One value as text that breaks neither a table nor a paragraph."""
    if value is None:
        return UNKNOWN
    if isinstance(value, list | tuple):
        return ', '.join(map(_text, value)) or 'none'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'{value:,}'
    return ' '.join(str(value).split()).replace('|', r'\|').replace('`', "'").replace('<', '&lt;')


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ['---'] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _band_rows(facts: Mapping[str, Any]) -> list[list[Any]]:
    """Channel, band, channel index, mean and std of each channel."""
    specs = facts.get('bands') or []
    try:
        named = [(b.label, f'{b.index:g}') for b in resolve_bands(specs)]
    except BandError:  # a sensor that is described elsewhere
        named = [(_text(spec), UNKNOWN) for spec in specs]
    columns: list[list[Any]] = []
    for key in ('mean', 'std'):
        values = facts.get(key)
        if isinstance(values, list | tuple) and len(values) == len(named):
            columns.append([f'{value:.5g}' for value in values])
        else:
            columns.append([None] * len(named))
    return [[k, *pair, *more] for k, (pair, *more) in enumerate(zip(named, *columns, strict=True))]


BAND_HEAD = ('Channel', 'Band', 'Channel index', 'Mean', 'Std')


def _sources(facts: Mapping[str, Any]) -> list[str]:
    sources: Mapping[str, Mapping[str, Any]] = facts.get('sources') or {}
    if not sources:
        return ['Data sources: not recorded. Name them, with numbers of images and licences.']
    rows = [
        [name, *map(entry.get, ('seen', 'product', 'statistics'))]
        for name, entry in sources.items()
    ]
    head = ('Source', 'Images seen, with repetition', 'Product', 'Statistics')
    parts = [
        _table(head, rows),
        'TODO: what each source is, its number of images, its licence; mean and std in reflectance '
        'where they are not recorded.',
    ]
    for name, entry in sources.items():
        parts += [f'### Source {_text(name)}', _table(BAND_HEAD, _band_rows(entry))]
    return parts


def _loading(facts: Mapping[str, Any]) -> list[str]:
    file, bands = repr(facts['file']), facts.get('bands')
    first = next((s['bands'] for s in facts.get('sources', {}).values() if s.get('bands')), None)
    more = '' if bands else f', bands={first or "rgb"!r}'
    more += '' if 'num_heads' in facts else ', num_heads=...'
    parts = [f'```python\nmodel = torchgeo_aom.load_backbone({file}{more})\n```']
    arch = facts.get('arch')
    if arch not in SIZES:
        return [*parts, 'The size is none of those that tasks build by name: `load_backbone` only.']
    spec = bands or first or 'rgb'
    line = f'ClassificationTask(model={arch!r}, weights={file}, bands={spec!r}, num_classes=10)'
    return [*parts, f'```python\ntask = torchgeo_aom.tasks.{line}\n```']


def model_card(facts: Mapping[str, Any]) -> str:
    """Draft the model card of exported weights.

    Args:
        facts: see :func:`card_facts`; only ``file`` and ``sha256`` are required.

    Returns:
        Markdown. What the author has to fill in says ``TODO``, and what nobody measured says so.

    .. versionadded:: 0.1
    """
    facts_rows = [
        ('File', facts['file']),
        ('SHA-256', facts['sha256']),
        ('Model', facts.get('arch')),
        ('Parameters in the file', facts.get('num_params')),
        ('Width', facts.get('embed_dim')),
        ('Blocks', facts.get('depth')),
        ('Attention heads', facts.get('num_heads')),
        ('Kernel bank in px', facts.get('kernel_sizes')),
        ('Patch sizes trained, in px', facts.get('patch_sizes')),
        ('Channel encoding', facts.get('channel_encoding')),
    ]
    run_rows = [
        ('Optimizer steps', facts.get('steps')),
        ('Epoch counter', facts.get('epoch')),
        ('Weights at the start', None),
        *((key, 'none' if v is None else v) for key, v in (facts.get('options') or {}).items()),
    ]
    own = [_table(BAND_HEAD, _band_rows(facts))] if facts.get('bands') else []
    versions = [(f'{name}, at export', v) for name, v in (facts.get('versions') or {}).items()]
    parts = [
        f'# {_text(facts["file"])}',
        'Draft written by `torchgeo-aom weights export` from what the checkpoint records. Complete '
        'every TODO before you publish the weights.',
        '## What the weights are',
        'Encoder of an Any-Optical-Model (https://arxiv.org/abs/2512.17224).',
        _table(('Fact', 'Value'), facts_rows),
        '## How to load them',
        *_loading(facts),
        '## Bands',
        *(own or ['The file names no bands of its own: say `bands=`; see the sources.']),
        f'Unit of the stored values: {_text(facts.get("unit"))}.',
        '## Data',
        *_sources(facts),
        '## Training',
        _table(('Option', 'Value'), run_rows),
        '## Versions',
        _table(
            ('Package', 'Version'),
            [('lightning, of the run', facts.get('trained_with')), *versions],
        ),
        '## Measured metrics',
        _table(('Metric', 'Value', 'Command'), [(UNMEASURED,) * 3]),
        'TODO: each value with the command that measured it, or leave "not measured".',
        '## Licence',
        'TODO: licence of the weights; not stated.',
        '## Intended use',
        'TODO: what the weights are for, and what they are not for; not stated.',
    ]
    return '\n\n'.join(parts) + '\n'


def write_card(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Write a model card.

    Args:
        path: the Markdown file.
        facts: see :func:`model_card`.

    Raises:
        CheckpointError: if it cannot be written.

    .. versionadded:: 0.1
    """
    try:
        write_whole(Path(path), model_card(facts).encode())
    except OSError as error:
        raise CheckpointError(f'The model card {path} could not be written: {error}.') from error
