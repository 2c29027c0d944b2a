"""Weights as plain text: which there are, and all that is known of some."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..text import aligned
from .names import SIZES

__all__ = ('facts_text', 'known_weights', 'weights_text')

WIDTH = 100  # characters of a line, where its values can be parted


def known_weights() -> list[dict[str, Any]]:
    """What is known of all weights of this process, also of those that a user registered.

    Returns:
        Records with ``model``, ``full_name``, ``default`` and ``meta``.
    """
    from .weights_enum import ENUMS, members  # needs torch, the table does not

    found = []
    for model, enum in ENUMS.items():
        known = members(enum)
        default = known.pop('DEFAULT', None)
        found += [
            {'model': model, 'full_name': str(m), 'default': m is default, 'meta': m.meta}
            for m in known.values()
        ]
    return found


def weights_text(known: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Weights, a line each; a model without any has a line that says so.

    Args:
        known: records as of :func:`known_weights`, which makes them where not given.

    Returns:
        A table with model, name, bands, patch sizes and data.
    """
    records = known_weights() if known is None else known
    rows: list[tuple[str, ...]] = []
    for model in SIZES:
        own = [_line(record) for record in records if record['model'] == model]
        rows += own or [(model, 'no trained weights yet')]
    return '\n'.join(aligned(rows))


def _line(record: Mapping[str, Any]) -> tuple[str, ...]:
    meta = record['meta']
    sizes = meta['patch_sizes']
    return (
        record['model'],
        f'{record["full_name"]} (default)' if record.get('default') else record['full_name'],
        f'{len(meta["bands"])} bands',
        f'patches of {", ".join(map(str, sizes))} px' if sizes else 'patch sizes not stated',
        str(meta['dataset']),
    )


def facts_text(facts: Mapping[str, Any]) -> str:
    """Lay facts out for reading: one a line, long ones over several, records as tables.

    Args:
        facts: values by name: texts, numbers, lists of these, or lists of records with the same
            keys.

    Returns:
        The text. What is the same in all records of a table stands once above it.
    """
    plain = {key: value for key, value in facts.items() if not _is_records(value)}
    width = max(map(len, plain), default=0) + 2
    lines = [
        line
        for key, value in plain.items()
        for line in textwrap.wrap(
            _text(value),
            WIDTH,
            initial_indent=f'{key:<{width}}',
            subsequent_indent=' ' * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [key]
    ]
    for key, value in facts.items():
        if _is_records(value):
            lines += ['', *_records(key, value)]
    return '\n'.join(lines)


def _is_records(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(record, Mapping) for record in value)
    )


def _text(value: Any) -> str:
    if value is None:
        return 'not stated'
    if isinstance(value, float):
        return f'{value:.7g}'
    if isinstance(value, list | tuple):
        return ', '.join(map(_text, value)) or 'none'
    return ' '.join(str(value).split())


def _records(name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table under its name."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    columns = {key: [_text(record.get(key, '')) for record in records] for key in keys}
    shared = {
        key: texts[0] for key, texts in columns.items() if len(texts) > 1 and len(set(texts)) == 1
    }
    shown = [key for key in keys if key not in shared]
    rows = [tuple(shown), *zip(*(columns[key] for key in shown), strict=True)]
    above = [f'  {key}: {text}' for key, text in shared.items()]
    return [f'{name} ({len(records)})', *above, *(f'  {line}' for line in aligned(rows))]
