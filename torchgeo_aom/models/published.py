"""The weights that ship with the package, as members of their enums."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

__all__ = ('add_published', 'published_facts')

PACKAGE = 'torchgeo_aom'
FOLDER = 'published'


def published_facts() -> list[dict[str, Any]]:
    """What is known of each weights file in the package: name, model, file, meta and more."""
    folder = resources.files(PACKAGE).joinpath(FOLDER)
    records = sorted(path.name for path in folder.iterdir() if path.name.endswith('.json'))
    return [json.loads(folder.joinpath(name).read_text(encoding='utf-8')) for name in records]


def add_published() -> None:
    """Make the weights in the package known; nothing is read but what describes them."""
    from .weights_enum import ENUMS, add_member, set_default  # needs torch, the facts do not

    for facts in published_facts():
        cls = ENUMS[facts['model']]
        url = f'package://{PACKAGE}/{FOLDER}/{facts["file"]}'
        member = add_member(cls, facts['name'], url, facts['meta'])
        if facts.get('default'):
            set_default(cls, member)
