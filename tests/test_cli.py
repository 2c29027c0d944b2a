"""The command line: results on stdout, reasons on stderr, exit codes 0, 1 and 2."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from torchgeo_aom import __version__
from torchgeo_aom.cli import main
from torchgeo_aom.verbs import MODULES, TRAINING

VERBS = ('bands', 'plan', 'weights', 'doctor')
HELPS = (
    *('bands', 'plan', 'weights', 'weights list', 'weights show', 'weights export', 'doctor'),
    *('demo', 'bench', 'bench --pretrain', 'plan --pretrain'),
    *('probe', 'probe --loading', 'segment', 'stats'),
    *('scene', 'scene embed', 'scene predict', 'scene complete', 'scene similar'),
    *('study', 'study bands', 'study patches', 'study speed', 'study sensors'),
    *('study objectives', 'study figures', 'study cards'),
)

SENSOR = """
[sensors.mysensor]
title = "My sensor"
default_group = "all"
bands = [
  { name = "G1", wavelength_um = 0.56, common_name = "green" },
  { name = "N1", wavelength_um = 0.842, common_name = "nir" },
]
[sensors.mysensor.groups]
all = ["G1", "N1"]
"""


def json_of(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    code = main([*argv, '--json'])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def light(root: Path, argv: str, pipe: str = '') -> subprocess.CompletedProcess[str]:
    """Run without the package's own ``__init__``, which registers the models; refuse torch."""
    code = f"""
import sys
from importlib.util import find_spec, module_from_spec
package = module_from_spec(find_spec('torchgeo_aom'))
package.__version__ = '0'
sys.modules['torchgeo_aom'] = package
from torchgeo_aom.cli import main
code = main([{argv}])
heavy = {{'torch', 'timm', 'torchgeo', 'numpy'}} & set(sys.modules)
sys.exit(f'imported {{heavy}}' if heavy else code)
"""
    command = f'{shlex.quote(sys.executable)} -c {shlex.quote(code)} {pipe}'
    return subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True)


class TestUsage:
    @pytest.mark.parametrize('verb', VERBS)
    def test_help_has_examples(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([verb, '--help']) == 0
        assert f'torchgeo-aom {verb}' in capsys.readouterr().out.partition('examples:')[2]

    def test_help_lists_every_verb(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['--help']) == 0
        out = capsys.readouterr().out
        for verb in (*VERBS, *MODULES, *TRAINING):
            assert f'\n    {verb} ' in out

    @pytest.mark.parametrize('argv', HELPS)
    def test_help_of_every_verb(
        self, argv: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each has an example; each option says what it is, and its default where it has one."""
        parsers: list[argparse.ArgumentParser] = []
        plain = argparse.ArgumentParser.format_help

        def remember(self: argparse.ArgumentParser) -> str:
            parsers.append(self)
            return plain(self)

        monkeypatch.setattr(argparse.ArgumentParser, 'format_help', remember)
        assert main([*argv.split(), '--help']) == 0
        out = ' '.join(capsys.readouterr().out.split())
        assert f'torchgeo-aom {argv}' in out.partition('example')[2]
        assert '``' not in out
        for action in parsers[-1]._actions:
            takes_value = action.option_strings and action.nargs != 0
            if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                continue
            assert action.help or isinstance(action, argparse._SubParsersAction), action
            if takes_value and action.default not in (None, argparse.SUPPRESS, []):
                assert 'default' in str(action.help), action
            if takes_value:
                # More than "default: X": what it is.
                assert not str(action.help).startswith('default'), action

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['--version']) == 0
        assert capsys.readouterr().out == f'torchgeo-aom {__version__}\n'

    @pytest.mark.parametrize(
        'argv',
        [[], ['nothing'], ['bands'], ['weights'], ['plan', '--size', 'big'], ['bands', '--x']],
    )
    def test_wrong_usage(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ''
        assert 'usage: torchgeo-aom' in captured.err

    def test_module(self, root: Path) -> None:
        command = [sys.executable, '-m', 'torchgeo_aom', 'bands', 'nosuchsensor']
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stdout == ''
        assert done.stderr.startswith('torchgeo-aom: BandError: ')
        assert 'Traceback' not in done.stderr


class TestBands:
    def test_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['bands', 'landsat8']) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:3] == ['channel', 'band', 'sensor']
        assert [line.split()[1] for line in lines[1:]] == [f'B{n}' for n in range(1, 8)]

    def test_mixed(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = json_of(capsys, 'bands', 'sentinel2:B8A', '0.49', 'red')
        assert isinstance(rows, list)
        assert [row['index'] for row in rows] == [8, 1, 3]

    def test_two_names_of_one_band(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A look-up may name a band twice; it says so."""
        assert main(['bands', 'sentinel2:B8A', '865', 'red', '--json']) == 0
        captured = capsys.readouterr()
        assert [row['index'] for row in json.loads(captured.out)] == [8, 8, 3]
        assert 'same band' in captured.err

    def test_sensor(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = json_of(capsys, 'bands', 'B04', 'B03', '--sensor', 'sentinel2')
        assert isinstance(rows, list)
        assert [row['name'] for row in rows] == ['B04', 'B03']

    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        presets = json_of(capsys, 'bands', '--list')
        assert isinstance(presets, dict)
        assert presets['sentinel2:rgb'] == 'B04 B03 B02'
        assert main(['bands', '--list']) == 0
        assert len(capsys.readouterr().out.splitlines()) == len(presets)

    def test_missing_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['bands', 'red', '--sensors', 'missing.toml']) == 1
        assert 'missing.toml' in capsys.readouterr().err

    def test_own_sensor(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr('torchgeo_aom.catalogue._catalogue', None)  # a fresh one, for this test
        (tmp_path / 'mine.toml').write_text(SENSOR, encoding='utf-8')
        rows = json_of(capsys, 'bands', 'mysensor', '--sensors', str(tmp_path / 'mine.toml'))
        assert isinstance(rows, list)
        assert [row['index'] for row in rows] == [2, 7]

    def test_needs_no_torch(self, root: Path) -> None:
        done = light(root, '"bands", "sentinel2:rgb", "--json"')
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)) == 3

    def test_reader_that_stops_early(self, root: Path) -> None:
        done = light(root, '"bands", "--list"', pipe='| head -n 1')
        assert done.stdout.startswith('sentinel2 ')
        assert done.stderr == ''


class TestPlan:
    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        plan = json_of(capsys, 'plan', '--bands', 'sentinel2', '--size', '512', '--patch', '16')
        assert isinstance(plan, dict)
        assert plan['tokens'] == 13 * 32 * 32
        assert plan['kernel_size'] == 16

    def test_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ['plan', '--model', 'aom_vits', '--bands', 'B04', 'B03', '--sensor', 'sentinel2']
        assert main([*argv, '--size', '500', '400', '--patch', '24', '--batch', '8']) == 0
        out = capsys.readouterr().out
        assert '500 x 400' in out
        assert 'aom_vits' in out

    @pytest.mark.parametrize(
        'argv',
        [['--model', 'aom_vitx'], ['--bands', 'purple'], ['--patch', '0'], ['--dtype', 'int8']],
    )
    def test_refused(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['plan', *argv]) == 1
        captured = capsys.readouterr()
        assert captured.out == ''
        assert argv[1] in captured.err


class TestWeights:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = json_of(capsys, 'weights', 'list')
        assert list(rows) == ['aom_vitt', 'aom_vits', 'aom_vitb', 'aom_vitl']
        assert main(['weights', 'list']) == 0
        assert len(capsys.readouterr().out.splitlines()) == 4

    def test_show_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(['weights', 'show', 'AOMBase_Weights.NOTHING']) == 1
        assert 'AOMBase_Weights.NOTHING' in capsys.readouterr().err

    def test_export_and_show(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torchgeo_aom import AOM
        from torchgeo_aom.models.weights import load_backbone, register_weights
        from torchgeo_aom.models.weights_enum import AOMTiny_Weights

        model = AOM(embed_dim=192, depth=12, num_heads=3, bands='rgb').eval()
        hparams = {'model': 'aom_vitt.rgb', 'in_channels': 3}
        state = {f'model.{key}': value for key, value in model.state_dict().items()}
        ckpt, out = tmp_path / 'last.ckpt', tmp_path / 'encoder.safetensors'
        torch.save({'state_dict': state, 'hyper_parameters': hparams}, ckpt)

        assert main(['weights', 'export', str(ckpt), str(out)]) == 0
        assert 'sha256' in capsys.readouterr().out
        image = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(load_backbone(out)(image), model(image))

        assert main(['weights', 'export', str(ckpt), str(out)]) == 1
        assert '--overwrite' in capsys.readouterr().err
        assert main(['weights', 'export', str(ckpt), str(out), '--overwrite']) == 0
        capsys.readouterr()

        # The members of an enum cannot be removed: this one stays in a copy of its tables.
        for table in ('_member_map_', '_member_names_', '_value2member_map_'):
            monkeypatch.setattr(AOMTiny_Weights, table, getattr(AOMTiny_Weights, table).copy())
        register_weights('CLI_TEST', out, 'aom_vitt', meta={'gsd': 10, 'licence': 'MIT'})
        shown = json_of(capsys, 'weights', 'show', 'AOMTiny_Weights.CLI_TEST')
        assert isinstance(shown, dict)
        assert shown['name'] == 'AOMTiny_Weights.CLI_TEST'
        assert shown['licence'] == 'MIT'

    def test_export_of_something_else(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / 'x.ckpt').write_bytes(b'not a checkpoint')
        out = tmp_path / 'x.safetensors'
        assert main(['weights', 'export', str(tmp_path / 'x.ckpt'), str(out)]) == 1
        assert 'CheckpointError' in capsys.readouterr().err
        assert not out.exists()


class TestTraining:
    """Everything of a training verb belongs to TorchGeo's command line."""

    @pytest.mark.parametrize('verb', TRAINING)
    def test_arguments_are_handed_on(self, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        monkeypatch.setattr('torchgeo.main.main', lambda: seen.append(sys.argv[1:]))
        monkeypatch.setattr(sys, 'argv', ['torchgeo-aom', 'something'])
        argv = [verb, '--config', 'config.yaml', '--help']
        assert main(argv) == 0
        assert seen == [argv]
        assert sys.argv[0] == 'torchgeo-aom'  # Lightning starts other processes with it

    def test_wrong_usage(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, 'argv', ['torchgeo-aom'])
        monkeypatch.setattr(os, 'environ', dict(os.environ))  # TorchGeo sets GDAL options there
        assert main(['fit', '--model', 'NoSuchTask']) == 2
        assert 'NoSuchTask' in capsys.readouterr().err


class TestDoctor:
    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = json_of(capsys, 'doctor', '--imports')
        assert isinstance(report, dict)
        assert report['problems'] == []
        assert 'aom_vitb' in report['models']['timm']
        assert 'aom_vitb' in report['models']['smp']
        assert 'aom_vitb' in report['models']['torchgeo']
        assert 'cpu' in report['devices']
        assert {'torchgeo', 'timm'} <= set(report['packages'])
        assert {'scikit-learn', 'h5py', 'pyarrow', 'onnxruntime'} <= set(report['optional'])
        assert {'terratorch', 'torchgeo-bench'} == set(report['programs'])

    def test_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        folder = tmp_path / 'torchgeo_aom' / 'features'
        folder.mkdir(parents=True)
        (folder / 'some.npz').write_bytes(bytes(3 * 2**20))
        report = json_of(capsys, 'doctor')
        assert isinstance(report, dict)
        assert report['cache']['features'] == f'{folder}  (1 files, 3 MiB)'
        assert report['cache']['statistics'].endswith('(empty)')
        assert 'downloaded weights' in report['cache']

    def test_missing_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr('torchgeo_aom.doctor.REQUIRED', {'no-such-package': 'nothing'})
        monkeypatch.setattr('torchgeo_aom.doctor.OPTIONAL', {'no-such-extra': ('probe', 'probing')})
        assert main(['doctor']) == 1
        out = capsys.readouterr().out
        assert "pip install 'no-such-package'" in out
        assert "pip install 'torchgeo_aom[probe]'" in out

    def test_broken_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / 'broken_module.py').write_text('raise RuntimeError("operator does not exist")')
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr('torchgeo_aom.doctor.REQUIRED', {'pytest': 'broken_module'})
        assert main(['doctor', '--imports']) == 1
        assert 'operator does not exist' in capsys.readouterr().out
