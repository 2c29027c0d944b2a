"""The command line: results on stdout, reasons on stderr, exit codes 0, 1 and 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from torchgeo_aom import __version__
from torchgeo_aom.cli import MODULES, TRAINING, main

VERBS = ('bands', 'plan', 'weights', 'doctor')

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


def json_of(capsys: pytest.CaptureFixture[str], *argv: str) -> object:
    code = main([*argv, '--json'])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def process(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'torchgeo_aom', *argv]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


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
        done = process(root, 'bands', 'nosuchsensor')
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

    def test_own_sensor(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / 'mine.toml').write_text(SENSOR, encoding='utf-8')
        done = process(
            root, 'bands', 'mysensor', '--sensors', str(tmp_path / 'mine.toml'), '--json'
        )
        assert done.returncode == 0, done.stderr
        assert [row['index'] for row in json.loads(done.stdout)] == [2, 7]

    def test_reader_that_stops_early(self, root: Path) -> None:
        command = f'"{sys.executable}" -m torchgeo_aom bands --list | head -n 1'
        done = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True)
        assert done.stdout.startswith('sentinel2 ')
        assert done.stderr == ''

    def test_needs_no_torch(self, root: Path) -> None:
        code = (
            'import sys, torchgeo_aom.cli\n'
            'code = torchgeo_aom.cli.main(["bands", "sentinel2:rgb", "--json"])\n'
            'heavy = {"torch", "timm", "torchgeo", "numpy"} & set(sys.modules)\n'
            'sys.exit(f"imported {heavy}" if heavy else code)'
        )
        done = subprocess.run(
            [sys.executable, '-c', code], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


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


class TestDoctor:
    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = json_of(capsys, 'doctor')
        assert isinstance(report, dict)
        assert report['problems'] == []
        assert 'aom_vitb' in report['models']['timm']
        assert 'aom_vitb' in report['models']['smp']
        assert 'aom_vitb' in report['models']['torchgeo']
        assert 'cpu' in report['devices']

    def test_missing_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr('torchgeo_aom.doctor.REQUIRED', {'no-such-package': 'nothing'})
        monkeypatch.setattr('torchgeo_aom.doctor.OPTIONAL', {'no-such-extra': 'probe'})
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
        assert main(['doctor']) == 1
        assert 'operator does not exist' in capsys.readouterr().out
