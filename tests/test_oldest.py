"""`make test-minimum` tests the lower bounds of pyproject.toml: all of them, and nothing newer."""

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
EXTRA = 'tests'

pytestmark = pytest.mark.skipif(
    not (ROOT / 'pyproject.toml').is_file(), reason='guards the repository'
)


def required(extra: str | None = None) -> list[Requirement]:
    """What the package needs, or one of its extras with all that this includes."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    listed = project['dependencies'] if extra is None else project['optional-dependencies'][extra]
    found = []
    for requirement in map(Requirement, listed):
        if requirement.name == project['name']:
            found += [inner for name in requirement.extras for inner in required(name)]
        else:
            found.append(requirement)
    return found


def floor(requirement: Requirement) -> Version:
    (bound,) = [part.version for part in requirement.specifier if part.operator == '>=']
    return Version(bound)


def pinned() -> dict[str, Version]:
    text = (ROOT / 'tests' / 'oldest.txt').read_text(encoding='utf-8')
    lines = re.findall(r'^([\w.-]+)==(\S+)$', text, re.MULTILINE)
    assert len(lines) == len([line for line in text.splitlines() if not line.startswith('#')])
    return {name.lower(): Version(number) for name, number in lines}


def test_pins_are_the_lower_bounds() -> None:
    requirements = [*required(), *required(EXTRA)]
    assert len(requirements) > 25
    found = pinned()
    wrong = {r.name: (floor(r), found.get(r.name.lower())) for r in requirements}
    assert {name: both for name, both in wrong.items() if both[0] != both[1]} == {}


@pytest.mark.skipif('OLDEST' not in os.environ, reason='for `make test-minimum`')
def test_the_lower_bounds_are_what_is_installed() -> None:
    installed = {r.name: Version(version(r.name)) for r in [*required(), *required(EXTRA)]}
    wrong = {name: found for name, found in installed.items() if found != pinned()[name.lower()]}
    assert wrong == {}
