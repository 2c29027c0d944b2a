"""Pages that are made from the code, and references into it: API, reproduction and model cards."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torchgeo_aom
from torchgeo_aom.cli import main as command
from torchgeo_aom.studies.cards import cards_report
from torchgeo_aom.studies.results import read_results

# Pages of the API in the order of the menu: title, and the modules by the start of their names.
# Modules that are nowhere here come last, on a page of their own.
PAGES = {
    'bands': ('Bands and units', ('bands', 'sensors', 'catalogue', 'spectrum', 'transforms')),
    'models': ('Models and weights', ('models',)),
    'layers': ('Layers and losses', ('layers', 'losses', 'rng')),
    'data': ('Data', ('data', 'datasets', 'datamodules')),
    'tasks': ('Tasks and probes', ('tasks',)),
    'scene': ('Scenes', ('scene',)),
    'studies': ('Studies and figures', ('studies', 'plot')),
    'clients': ('Other programs', ('clients',)),
    'errors': ('Errors and warnings', ('errors',)),
}
OTHERS = 'Everything else'
LONG = 400  # characters of a constant's value that a page still shows
# Programs that have environments of their own; what needs them is described in docs/frameworks.md.
PROGRAMS = ('terratorch', 'torchgeo_bench')
# Verbs in the order of the page; those of training are TorchGeo's.
COMMANDS = (
    *('', 'doctor', 'demo', 'bands', 'plan', 'plan --pretrain'),
    *('probe', 'probe --loading', 'segment'),
    *('study', 'study bands', 'study patches', 'study speed', 'study sensors', 'study objectives'),
    *('study figures', 'study cards'),
    *('scene', 'scene embed', 'scene predict', 'scene complete', 'scene similar'),
    *('weights', 'weights list', 'weights show', 'weights export'),
    *('stats', 'bench', 'bench --pretrain'),
)
#: what probe, segment and study left in their folders, for the reproduction cards
RESULTS = Path(__file__).parent / 'results'
PUBLISHED = Path(torchgeo_aom.__file__).parent / 'published'


def public_modules() -> Iterator[ModuleType]:
    """Modules that say what of them is public, packages before what they hold.

    Those of commands are left out: ``torchgeo-aom VERB --help`` is their page.
    """
    for found in pkgutil.walk_packages(torchgeo_aom.__path__, 'torchgeo_aom.'):
        if found.name.endswith('__main__') or found.name.startswith('torchgeo_aom.commands'):
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] in PROGRAMS:
                continue
            raise
        names = getattr(module, '__all__', ())
        if names and 'main' not in names:
            yield module


def handed_on(module: ModuleType) -> list[str]:
    """Public classes and functions of a module that another one defines."""
    values = {name: getattr(module, name) for name in module.__all__}
    return [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ != module.__name__
    ]


def exports(module: ModuleType) -> str:
    """Table of what a module hands on from others; nothing where it does not."""
    rows = []
    for name in handed_on(module):
        value = getattr(module, name)
        first = (inspect.getdoc(value) or '').partition('\n')[0].replace('``', '`')
        home = f'{value.__module__}.{value.__qualname__}'
        rows.append(f'| {{py:obj}}`{name} <{home}>` | {re.sub(":[a-z]+:`~?", "`", first)} |')
    return '\n'.join(('| Name | What it is |', '|---|---|', *rows, '')) if rows else ''


def section(module: ModuleType) -> str:
    """A module's part of a page: what it defines, and what it hands on from others."""
    if hasattr(module, '__path__'):
        return f'## {module.__name__}\n\n{inspect.getdoc(module)}\n\n{exports(module)}'
    other = handed_on(module)
    own = [name for name in module.__all__ if name not in other]
    # What prints as "<class ..." or as a page of text is said better by its comment.
    printed = {name: _printed(getattr(module, name)) for name in own}
    unreadable = [name for name, text in printed.items() if '<' in text or len(text) > LONG]
    listed = ', '.join(name for name in own if name not in unreadable)
    lines = [f'.. automodule:: {module.__name__}', '   :show-inheritance:']
    if listed:
        lines.append(f'   :members: {listed}')
    source = inspect.getsource(module)
    for name in (name for name in unreadable if re.search(rf'(?m)^#: .*\n{name}\b', source)):
        lines += ['', f'.. autodata:: {module.__name__}.{name}', '   :no-value:']
    rst = '\n'.join(('```{eval-rst}', *lines, '```'))
    return f'## {module.__name__}\n\n{rst}\n\n{exports(module)}'


def _printed(value: Any) -> str:
    """What would be printed as the value of a constant; nothing for others."""
    return '' if callable(value) or inspect.ismodule(value) else repr(value)


def show_signature(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Write a signature so that Sphinx can read it: otherwise it leaves the whole as it is.

    What it cannot read is the ``<factory>`` that Python prints for a field of a dataclass, and its
    own name for a type with a name of its own.

    Args:
        app: Sphinx.
        what: kind of the object, such as class.
        name: its full name.
        value: the object.
        options: those of the directive.
        signature: its arguments.
        returned: what it returns.

    Returns:
        Both, with what a factory makes, or ``...`` where that is long.
    """
    if not signature:
        return None
    shown = []
    for field in dataclasses.fields(value) if '<factory>' in signature else ():
        if field.init and field.default_factory is not dataclasses.MISSING:
            default = repr(field.default_factory())
            shown.append(default if default in ('{}', '[]', '()') else '...')
    text = re.sub('<factory>', lambda _: shown.pop(0), signature)
    text = re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r'\1', text)
    return re.sub(r"(?<![~.\w'])torchgeo_aom\.", '~torchgeo_aom.', text), returned


def commands() -> str:
    """What each verb says with ``--help``."""
    parts = ['# All options of the command line\n']
    for verb in COMMANDS:
        text = io.StringIO()
        with patch.dict(os.environ, {'COLUMNS': '100'}), contextlib.redirect_stdout(text):
            command([*verb.split(), '--help'])
        said = text.getvalue().strip()
        parts.append(f'## {f"torchgeo-aom {verb}".strip()}\n\n```text\n{said}\n```\n')
    return '\n'.join(parts)


def texts() -> dict[str, str]:
    """Name of each page, and its text."""
    measured = sorted({path.parent for path in RESULTS.glob('*/*.json*')})
    cards = cards_report(read_results(measured), 'make docs, from docs/results')
    made = {'cards': cards.markdown(), 'commands': commands()}
    left = list(public_modules())
    pages = {**PAGES, 'others': (OTHERS, tuple(m.__name__.split('.')[1] for m in left))}
    menu = []
    for name, (title, starts) in pages.items():
        own = [module for module in left if module.__name__.split('.')[1] in starts]
        left = [module for module in left if module not in own]
        if own:
            menu.append(f'api_{name}')
            made[menu[-1]] = '\n'.join((f'# {title}\n', *map(section, own)))
    toctree = '\n'.join(('```{toctree}', ':hidden:', '', *menu, '```', ''))
    head = f'# API\n\n{inspect.getdoc(torchgeo_aom)}\n'
    for path in PUBLISHED.glob('aom_*.md'):
        made[path.stem] = f'---\norphan: true\n---\n{path.read_text(encoding="utf-8")}'
    made['api'] = '\n'.join((head, exports(torchgeo_aom), toctree))
    return made


def write(folder: Path) -> None:
    """Write all pages made from the code.

    Args:
        folder: where to; what is there of them is replaced.
    """
    folder.mkdir(exist_ok=True)
    made = texts()
    for path in folder.glob('*.md'):
        if path.stem not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / f'{name}.md'
        # Sphinx reads again what is newer than its own pages, so what is the same stays.
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            path.write_text(text, encoding='utf-8')


def point_to_cards(app: Any, name: str, source: list[str]) -> None:
    """Let links to model cards in the package lead to their pages, and those to rows to tables."""
    text = source[0].replace('](../torchgeo_aom/published/', '](_generated/')
    # A site offers the table as a file, in which there are no lines to go to.
    source[0] = re.sub(r'(\]\(results/\w+\.csv)#L\d+\)', r'\1)', text)


def find(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve what is referred to by another name than that of the module which defines it.

    Args:
        app: Sphinx.
        env: its environment.
        node: the reference.
        content: its text.

    Returns:
        The reference; the text alone, where a name exists but is not public; None where there is no
        such name, which Sphinx then complains about.
    """
    target = node.get('reftarget', '')
    if node.get('refdomain') != 'py' or not target.startswith('torchgeo_aom.'):
        return None
    try:
        value = pkgutil.resolve_name(target)
    except (AttributeError, ImportError):
        return None
    home = f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", "")}'
    domain = env.domains.python_domain
    found = domain.resolve_xref(env, node['refdoc'], app.builder, 'obj', home, node, content)
    return found or content
