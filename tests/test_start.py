"""What starting the command and importing the package cost: processor time and modules, counted."""

import os
import pkgutil
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import torchgeo_aom
from torchgeo_aom.commands import choices
from torchgeo_aom.verbs import PARSERS

HEAVY = ('torch', 'timm', 'torchgeo', 'torchvision', 'lightning', 'matplotlib', 'pandas')
ANSWERS = (
    '--help', '--version', 'bands --help', 'bands landsat8', 'bands --list', 'doctor --help',
    'doctor', 'plan --help', 'plan --size 512', 'plan --bands naip --patch auto --json',
    'weights --help', 'weights list', 'weights list --json', 'weights show --help',
    'weights export --help', 'scene --help', 'scene embed --help', 'scene predict --help',
    'scene complete --help', 'scene similar --help', 'study --help',
    *(f'{name} --help' for name in PARSERS),
)  # fmt: skip


def start(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('argv', ANSWERS)
def test_answers_at_once_and_without_torch(argv: str, root: Path, tmp_path: Path) -> None:
    """Modules of these names come first on the path, and refuse to be imported."""
    for name in HEAVY:
        (tmp_path / f'{name}.py').write_text(f'raise RuntimeError({name!r} + " is imported")')
    command = [sys.executable, '-m', 'torchgeo_aom', *argv.split()]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join((str(tmp_path), str(root)))}
    seconds = []
    for _ in range(3):  # the first one may have to compile
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 1:
            break
    assert done.stdout
    assert min(seconds) < 1


def test_a_verb_that_needs_models_has_them(root: Path, tmp_path: Path) -> None:
    """The program's name is all that tells the command from other users of the package."""
    script = tmp_path / 'torchgeo-aom'
    script.write_text("""
import sys
import torchgeo_aom
assert 'torch' not in sys.modules
from torchgeo_aom import cli
import torchgeo_aom.demo
def main(arguments):
    import timm
    return 7 if timm.is_model('aom_vitt') else 8
torchgeo_aom.demo.main = main
assert 'aom_vitt' not in sys.modules['timm'].list_models()
sys.exit(cli.main(['demo']))
""")
    environment = os.environ | {'PYTHONPATH': str(root)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize('name', ['torchgeo-aom', 'mine.py'])
def test_worker_processes_register(name: str, root: Path, tmp_path: Path) -> None:
    """Also those of the command: what it sends them may build models by name."""
    script = tmp_path / name
    script.write_text("""
import multiprocessing, sys
if __name__ == '__main__':
    import torchgeo_aom
    context = multiprocessing.get_context('spawn')
    with context.Pool(1) as pool:
        import timm
        pool.apply(exec, ('import torchgeo_aom',))
        known = pool.apply(eval, ("__import__('timm').is_model('aom_vitt')",))
    sys.exit(0 if known else 'not registered')
""")
    environment = os.environ | {'PYTHONPATH': str(root)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestImport:
    def test_registers(self, root: Path) -> None:
        code = """
import torchgeo_aom, timm
print(timm.create_model('aom_vitt', bands='rgb').bands[0].name)
"""
        assert start(code, root).strip() == torchgeo_aom.resolve_bands('rgb')[0].name

    def test_modules_are_attributes(self, root: Path) -> None:
        names = {found.name for found in pkgutil.iter_modules(torchgeo_aom.__path__)} - {'__main__'}
        assert names == set(torchgeo_aom._MODULES)
        code = f"""
import torchgeo_aom
for name in {sorted(names)}:
    assert getattr(torchgeo_aom, name).__name__ == 'torchgeo_aom.' + name
print(torchgeo_aom.tasks.PretrainTask.__name__, torchgeo_aom.scene.embed_scene.__name__)
"""
        assert start(code, root).strip() == 'PretrainTask embed_scene'

    def test_public_names(self) -> None:
        for name in torchgeo_aom.__all__:
            assert getattr(torchgeo_aom, name) is not None
            assert name in dir(torchgeo_aom)
        with pytest.raises(AttributeError, match="'torchgeo_aom' has no attribute 'nothing'"):
            _ = torchgeo_aom.nothing  # type: ignore[attr-defined]

    def test_only_the_command_does_not_register(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for argv, expected in (
            (['python', '-m', 'torchgeo_aom', 'bands'], True),
            (['python', '/usr/bin/torchgeo-aom', 'bands'], True),
            (['python', '-m', 'torchgeo_aom.models'], False),
            (['python', 'train.py', 'torchgeo-aom'], False),
            (['python', '-m', 'pytest', 'torchgeo_aom'], False),
            (['python', '-c', 'import torchgeo_aom'], False),
            (['python'], False),
            ([], False),
        ):
            monkeypatch.setattr(sys, 'orig_argv', argv)
            assert torchgeo_aom._is_command() is expected, argv


def test_choices_are_what_there_is() -> None:
    """Names that help texts know without the modules that have what they stand for."""
    from torchgeo_aom import bench_pretrain
    from torchgeo_aom.studies import encoder, objectives, peers, sensor_cases, speed
    from torchgeo_aom.tasks import pretrain_plan

    assert choices.CLOCKS == tuple(bench_pretrain.CLOCKS)
    assert choices.KEPT_PRECISIONS == tuple(pretrain_plan.KEPT_BYTES)
    assert choices.PEERS == tuple(peers.PEERS)
    assert choices.STUDY_MODELS == encoder.model_names()
    assert choices.CASES == tuple(sensor_cases.CASES)
    assert choices.OBJECTIVES == tuple(objectives.OBJECTIVES)
    assert choices.STUDY_SPEEDS == speed.SPEEDS
