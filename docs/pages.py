"""Pages that are made from the code, and references into it: API, reproduction and model cards."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torchgeo_aom
from torchgeo_aom.studies.cards import cards_report

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
# Programs that have environments of their own; what needs them is described in docs/frameworks.md.
PROGRAMS = ('terratorch', 'torchgeo_bench')
PUBLISHED = Path(torchgeo_aom.__file__).parent / 'published'


def public_modules() -> Iterator[ModuleType]:
    """Modules that say what of them is public, packages before what they hold.

    Those of commands are left out: ``torchgeo-aom VERB --help`` is their page.
    """
    for found in pkgutil.walk_packages(torchgeo_aom.__path__, 'torchgeo_aom.'):
        if found.name.endswith('__main__'):
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


def exports(module: ModuleType) -> str:
    """Table of what a package hands on from its modules."""
    rows = ['| Name | What it is |', '|---|---|']
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            first = (inspect.getdoc(value) or '').partition('\n')[0].replace('``', '`')
            home = f'{value.__module__}.{value.__qualname__}'
            rows.append(f'| {{py:obj}}`{name} <{home}>` | {first} |')
    return '\n'.join((*rows, ''))


def section(module: ModuleType) -> str:
    """A module's part of a page: what it defines, or for a package what it hands on."""
    if hasattr(module, '__path__'):
        return f'## {module.__name__}\n\n{inspect.getdoc(module)}\n\n{exports(module)}'
    directive = f'.. automodule:: {module.__name__}\n   :members:\n   :show-inheritance:\n'
    return f'## {module.__name__}\n\n```{{eval-rst}}\n{directive}```\n'


def texts() -> dict[str, str]:
    """Name of each page, and its text."""
    made = {'cards': cards_report((), 'make docs').markdown()}
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
    """Let links to model cards in the package lead to their pages."""
    source[0] = source[0].replace('](../torchgeo_aom/published/', '](_generated/')


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
