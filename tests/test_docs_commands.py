"""Commands in README and guides: the command line takes them as they stand."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from torchgeo_aom.cli import main
from torchgeo_aom.verbs import TRAINING

ROOT = Path(__file__).resolve().parents[1]


class Taken(Exception):
    """Arguments were parsed; nothing is to be run."""


def commands(path: Path) -> list[str]:
    """Commands of the shell blocks of a page, lines that go on joined."""
    blocks = re.findall(r'^```sh\n(.*?)^```$', path.read_text('utf-8'), re.MULTILINE | re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    found = [re.split(r'^\w+=\S+ ', line)[-1] for line in lines]
    return [line for line in found if line.startswith('torchgeo-aom ')]


PAGES = [path for path in (ROOT / 'README.md', *sorted(ROOT.glob('docs/*.md'))) if commands(path)]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_commands_are_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        raise Taken

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse)
    for command in commands(path):
        argv = shlex.split(command, comments=True)[1:]
        if argv[0] in TRAINING:
            configs = [text for text in argv if text.startswith('examples/')]
            assert all((ROOT / text).is_file() for text in configs), command
        elif '--help' in argv or argv == ['--version']:
            assert main(argv) == 0, command
        else:
            with pytest.raises(Taken):
                raise AssertionError(f'{command}: exit code {main(argv)}')
