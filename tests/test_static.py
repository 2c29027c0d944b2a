"""Guards over the source tree: what must never appear, and what must always be shipped."""

import ast
import configparser
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pytest_socket import SocketConnectBlockedError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'torchgeo_aom'
SOURCES = sorted(PACKAGE.rglob('*.py'))
TEXT = ('.py', '.md', '.toml', '.cfg', '.cff', '.yml', '.yaml', '.json', '.txt', '')

pytestmark = pytest.mark.skipif(not (ROOT / '.git').exists(), reason='guards the repository')


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding='utf-8')))


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in listed.split('\0') if name and (ROOT / name).is_file()]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize('path', SOURCES, ids=ident)
class TestSource:
    def test_every_file_says_what_it_is_for(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))

    def test_no_assert(self, path: Path) -> None:
        """Asserts vanish with ``python -O``; input is refused with our exceptions."""
        assert [n.lineno for n in nodes(path) if isinstance(n, ast.Assert)] == []

    def test_no_bare_except(self, path: Path) -> None:
        handlers = (n for n in nodes(path) if isinstance(n, ast.ExceptHandler))
        assert [handler.lineno for handler in handlers if handler.type is None] == []

    def test_no_unsafe_load(self, path: Path) -> None:
        """A pickle is a program: only ``torch.load(..., weights_only=True)`` may read one."""
        for call in (n for n in nodes(path) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            if name in (
                'torch.load',
                'load_state_dict_from_url',
                'torch.hub.load_state_dict_from_url',
            ):
                weights_only = [
                    ast.unparse(k.value) for k in call.keywords if k.arg == 'weights_only'
                ]
                assert weights_only == ['True'], f'line {call.lineno}'
            assert name not in (
                'eval',
                'exec',
                'os.system',
                'pickle.load',
                'pickle.loads',
                'yaml.load',
            )


class TestTree:
    def test_length(self) -> None:
        """A file is read in one sitting."""
        length = {
            ident(path): path.read_text(encoding='utf-8').count('\n')
            for path in tracked()
            if path.suffix == '.py'
        }
        assert {name: lines for name, lines in length.items() if lines > 400} == {}

    def test_no_machine_paths(self) -> None:
        pattern = re.compile(r'(?<![\w.])/(work|farm|root|tmp/bash|home/\w+)/')
        found = [
            f'{ident(path)}:{number}'
            for path in tracked()
            if path.suffix in TEXT and path != Path(__file__)
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
            if pattern.search(line)
        ]
        assert found == []

    def test_setup_cfg_holds_import_contracts_only(self) -> None:
        config = configparser.ConfigParser()
        config.read(ROOT / 'setup.cfg')
        assert config.sections()
        assert [s for s in config.sections() if not s.startswith('importlinter')] == []

    def test_citation_has_the_version_of_the_package(self) -> None:
        citation = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
        version = re.search(r"__version__ = '(.+)'", (PACKAGE / '__init__.py').read_text())
        assert version
        assert f'\nversion: {version[1]}\n' in citation

    def test_every_requirement_has_a_reason(self) -> None:
        text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
        lines = text[text.index('\ndependencies') : text.index('[project.optional')].splitlines()
        above = dict(zip(lines[1:], lines, strict=False))
        requirements = [line for line in lines if line.lstrip().startswith('"')]
        assert len(requirements) == len(tomllib.loads(text)['project']['dependencies'])
        for line in requirements:
            assert above[line].lstrip().startswith('#'), line
            assert '>=' in line

    def test_geobench_is_no_requirement(self) -> None:
        """Its pins make pip go back to a broken release in silence."""
        project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
        extras = project['optional-dependencies'].values()
        requirements = [*project['dependencies'], *(r for extra in extras for r in extra)]
        assert not [r for r in requirements if re.match(r'geobench\b', r)]


class TestSuite:
    """What the other tests rely on."""

    @pytest.mark.filterwarnings('ignore:A test tried')
    def test_no_network(self) -> None:
        with pytest.raises(SocketConnectBlockedError):
            socket.create_connection(('192.0.2.1', 80), timeout=1)  # an address of nobody

    def test_our_warnings_are_errors(self) -> None:
        for module in ('torchgeo_aom', 'torchgeo_aom.scene.cog'):
            with pytest.raises(DeprecationWarning):
                warnings.warn_explicit('x', DeprecationWarning, 'x.py', 1, module=module)

    def test_property_tests_repeat(self) -> None:
        assert settings.default.derandomize
        assert settings.default.deadline is None


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a wheel and a source distribution, built from the tracked files without network."""
    pytest.importorskip('setuptools', minversion='77')
    folder = tmp_path_factory.mktemp('built')
    for path in tracked():
        target = folder / 'src' / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    code = (
        'from setuptools import build_meta as backend; '
        'backend.build_sdist(".."); backend.build_wheel("..")'
    )
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        cwd=folder / 'src',
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope='module')
def wheel(built: Path) -> list[str]:
    """Names in the wheel."""
    (path,) = built.glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


class TestSdist:
    def test_has_all_that_a_clone_has(self, built: Path) -> None:
        """So that packagers can run the tests and build the documentation from it."""
        (path,) = built.glob('*.tar.gz')
        with tarfile.open(path) as archive:
            inside = {name.partition('/')[2] for name in archive.getnames()}
        wanted = {ident(path) for path in tracked() if not ident(path).startswith('.')}
        assert len(wanted) > 400
        assert wanted - inside == set()


class TestWheel:
    def test_has_everything_of_the_package(self, wheel: list[str]) -> None:
        inside = {ident(path) for path in tracked() if PACKAGE in path.parents}
        assert inside - set(wheel) == set()
        assert 'torchgeo_aom/py.typed' in wheel
        assert 'torchgeo_aom/sensors.toml' in wheel

    def test_has_nothing_else(self, wheel: list[str]) -> None:
        assert {name.split('/')[0].partition('-')[0] for name in wheel} == {'torchgeo_aom'}

    def test_has_the_license_and_the_command(self, wheel: list[str]) -> None:
        assert [name for name in wheel if name.endswith('licenses/LICENSE')]
        assert [name for name in wheel if name.endswith('entry_points.txt')]


class TestImport:
    def test_timm_can_append_to_the_registry(self) -> None:
        """``timm.models.register_model`` before 1.0.31 appends to the ``__all__`` of the module."""
        from torchgeo_aom.models import registry

        assert isinstance(registry.__all__, list)

    def test_light_silent_and_harmless_twice(self) -> None:
        """We add modules of our own to what TorchGeo imports, and of these the lower rooms only."""
        code = """
import importlib, sys
import torchgeo.models
before = set(sys.modules)
import torchgeo_aom
added = {name for name in set(sys.modules) - before}
importlib.reload(torchgeo_aom)
print(*sorted({name.partition('.')[0] for name in added} - sys.stdlib_module_names))
print(*sorted({name.split('.')[1] for name in added if name.startswith('torchgeo_aom.')}))
"""
        packages, rooms = run(code).splitlines()  # and nothing else on stdout
        assert packages == 'torchgeo_aom'
        heavy = {path.parent.name for path in PACKAGE.glob('*/__init__.py')} - {'layers', 'models'}
        assert {'data', 'scene', 'studies', 'tasks'} <= heavy
        assert heavy.isdisjoint(rooms.split())

    def test_quick(self) -> None:
        """Processor time beside that of TorchGeo in one process: a busy machine slows both."""
        code = """
import time
start = time.process_time()
import torchgeo.models
between = time.process_time()
import torchgeo_aom
print((time.process_time() - between) / (between - start))
"""
        # The first one may have to compile. Measured: a fortieth; a tenth is about 0.5 s.
        assert any(float(run(code)) < 0.1 for _ in range(3))
