"""Weights as plain text: which there are, and all that is known of some."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .weights_enum import ENUMS, AOMWeights, members

__all__ = ('facts_text', 'weights_text')

WIDTH = 100  # characters of a line, where its values can be parted


def weights_text() -> str:
    """All known weights, a line each; a model without any has a line that says so.

    Returns:
        A table with model, name, bands, patch sizes and data.
    """
    rows: list[tuple[str, ...]] = []
    for model, enum in ENUMS.items():
        known = members(enum)
        default = known.pop('DEFAULT', None)
        rows += [(model, *_line(member, member is default)) for member in known.values()]
        if not known:
            rows.append((model, 'no trained weights yet'))
    return '\n'.join(_aligned(rows))


def _line(member: AOMWeights, default: bool) -> tuple[str, ...]:
    meta = member.meta
    sizes = meta['patch_sizes']
    return (
        f'{member} (default)' if default else str(member),
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
    return [f'{name} ({len(records)})', *above, *(f'  {line}' for line in _aligned(rows))]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells below each other; a row may have fewer cells than others."""
    count = max(map(len, rows))
    full = [(*row, *[''] * (count - len(row))) for row in rows]
    # What says that a model has no weights runs over the columns that it leaves empty.
    widths = [
        max((len(row[k]) for row in rows if k < len(row) - 1), default=0) for k in range(count)
    ]
    return [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in full
    ]
