"""Examples can be asked what they do, and name nothing that is not there."""

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[1] / 'examples'
SCRIPTS = sorted(p for p in EXAMPLES.rglob('*.py') if 'argparse' in p.read_text(encoding='utf-8'))
CONFIGS = sorted(EXAMPLES.rglob('*.yaml'))


def ident(path: Path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


@pytest.mark.parametrize('path', SCRIPTS, ids=ident)
def test_help(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', [path.name, '--help'])
    monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(path), run_name='__main__')
    assert left.value.code == 0
    assert f'usage: {path.name}' in capsys.readouterr().out


def class_paths(value: Any) -> Iterator[str]:
    """All that a configuration names as a class."""
    if isinstance(value, dict):
        if isinstance(value.get('class_path'), str):
            yield value['class_path']
        for inner in value.values():
            yield from class_paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from class_paths(inner)


@pytest.mark.parametrize('path', CONFIGS, ids=ident)
def test_classes_exist(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert content
    for name in class_paths(content):
        module, _, cls = name.rpartition('.')
        if module.partition('.')[0] in sys.stdlib_module_names or not module:
            continue
        if module.partition('.')[0] == 'terratorch':
            pytest.importorskip('terratorch', reason='an environment of its own, tests/clients')
        assert isinstance(getattr(importlib.import_module(module), cls), type), name
