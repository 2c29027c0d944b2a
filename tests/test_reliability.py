"""The table of docs/reliability.md is true: all numbers, and each test named is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'reliability.md'
NAME = re.compile(r'`(tests/[\w/]+\.py)::([\w:]+)`')

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason='the pages are not here')


@cache
def functions(path: str) -> set[str]:
    """Functions of a file, those of classes as ``Class::function``."""
    tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f'{node.name}::{f.name}' for f in node.body if isinstance(f, ast.FunctionDef)}
    return found


def rows() -> list[list[str]]:
    """Cells of the numbered rows."""
    lines = PAGE.read_text(encoding='utf-8').splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return [row for row in cells if row[0].isdigit()]


def test_all_numbers() -> None:
    assert [int(row[0]) for row in rows()] == list(range(1, 73))
    for number, demand, held, found in rows():
        assert NAME.search(held), number
        assert demand and found, number


def test_every_test_named_exists() -> None:
    named = NAME.findall(PAGE.read_text(encoding='utf-8'))
    assert len(named) > 150
    missing = [
        f'{path}::{name}'
        for path, name in named
        if not (ROOT / path).is_file() or name not in functions(path)
    ]
    assert missing == []


def test_what_is_named_is_run() -> None:
    """Tests by their name, or a check that the encoders are run through."""
    checks = (ROOT / 'tests' / 'backbone_checks.py').read_text(encoding='utf-8')
    listed = set(re.findall(r'\w+', checks[checks.index('\nCHECKS = (') :]))
    for path, name in NAME.findall(PAGE.read_text(encoding='utf-8')):
        last = name.rpartition(':')[2]
        if Path(path).name.endswith('_checks.py'):
            assert last in listed, name
        else:
            assert last.startswith('test_') and Path(path).name.startswith('test_'), name
