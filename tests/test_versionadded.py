"""Every public name says since when it is there.

Public is what a package hands on, and what README and guides import or name by its path.
"""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import torchgeo_aom

ROOT = Path(__file__).resolve().parents[1]


def packages() -> list[str]:
    found = pkgutil.walk_packages(torchgeo_aom.__path__, 'torchgeo_aom.')
    return ['torchgeo_aom', *(module.name for module in found if module.ispkg)]


def guides() -> str:
    """All code and text that users copy from."""
    texts = [path.read_text('utf-8') for path in (ROOT / 'README.md', *ROOT.glob('docs/*.md'))]
    for path in ROOT.glob('docs/notebooks/*.ipynb'):
        cells = json.loads(path.read_text('utf-8'))['cells']
        texts += [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    return '\n'.join(texts)


def public() -> dict[str, object]:
    """Value of each public name by where it is defined."""
    named = {
        (package, name)
        for package in packages()
        for name in getattr(importlib.import_module(package), '__all__', ())
    }
    imports = r'^\s*from (torchgeo_aom[\w.]*) import (\([^)]*\)|[^\n#(]+)'
    for module, names in re.findall(imports, guides(), re.MULTILINE):
        named |= {(module, name) for name in re.findall(r'\w+', re.sub('#.*', '', names))}
    # In sentences the whole path is written: `torchgeo_aom.models.warm_start`.
    named |= set(re.findall(r'`(torchgeo_aom(?:\.\w+)*)\.(\w+)[`(]', guides()))
    values = {}
    for module, name in named:
        value = pkgutil.resolve_name(f'{module}.{name}')
        if inspect.isclass(value) or inspect.isfunction(value):
            values[f'{value.__module__}.{value.__qualname__}'] = value
    return values


def test_every_public_name_says_since_when() -> None:
    values = {home: value for home, value in public().items() if home.startswith('torchgeo_aom.')}
    assert len(values) > 60
    without = [
        home for home, value in values.items() if 'versionadded::' not in (value.__doc__ or '')
    ]
    assert sorted(without) == []


def test_no_note_is_from_the_future() -> None:
    released = tuple(map(int, torchgeo_aom.__version__.split('.')[:2]))
    for path in (ROOT / 'torchgeo_aom').rglob('*.py'):
        for note in re.findall(r'versionadded:: (\S+)', path.read_text('utf-8')):
            assert tuple(map(int, note.split('.'))) <= released, f'{path}: {note}'
