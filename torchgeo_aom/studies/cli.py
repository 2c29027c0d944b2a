"""The command ``torchgeo-aom study``: what each study takes, and where its report goes."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..command import read_options
from ..errors import ConfigError, suggest
from ..files import write_whole

if TYPE_CHECKING:  # its figures need matplotlib
    from .report import Report

__all__ = ('STUDIES', 'finish', 'main', 'said', 'values_of')

PROG = 'torchgeo-aom study'
#: what each study is about, and the module whose main(argv) runs it
STUDIES = {
    'bands': ('how many bands and which: ablation, importance', 'torchgeo_aom.studies.bands_cli'),
    'patches': ('scores, time and memory by patch size', 'torchgeo_aom.studies.patches_cli'),
    'speed': ('score against time by speed mode', 'torchgeo_aom.studies.speed_cli'),
    'sensors': ('train on one sensor, test on another', 'torchgeo_aom.studies.sensors_cli'),
    'figures': ('Figures 4 and 6, attention, band tokens', 'torchgeo_aom.studies.look_cli'),
    'objectives': ('Tables 4 and 5 as small runs', 'torchgeo_aom.studies.objectives_cli'),
    'cards': ('what the paper says and we got, table by table', 'torchgeo_aom.studies.cards'),
}
DESCRIPTION = 'Find out on your data which bands, patch sizes and sensors matter, with figures.'
EPILOG = """\
examples:
  torchgeo-aom study bands --models statistics rcf aom_vitt
  torchgeo-aom study STUDY --help

A study writes rows.csv as it goes; the same command goes on where it was killed, and several may
write to one folder. report.md, report.html and figures stand beside it.
"""


def values_of(config: Path | None, given: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Options of a file, and those of the command line over them.

    Args:
        config: a YAML file, or None.
        given: options of the command line.
        kind: the dataclass whose fields they are.

    Returns:
        Values by name.

    Raises:
        ConfigError: if the file cannot be read, or an option is unknown.
    """
    values = {} if config is None else read_options(config)
    merged = {**values, **given}
    arguments = {**(values.get('dataset_args') or {}), **(given.get('dataset_args') or {})}
    if arguments:
        merged['dataset_args'] = arguments
    known = [field.name for field in fields(kind)]
    for key in merged:
        if key not in known:
            raise ConfigError(
                f'there is no option {key!r}{suggest(str(key), known)}. Known: {", ".join(known)}'
            )
    return merged


def finish(
    report: Report,
    folder: Path,
    start: float,
    failed: int,
    results: Sequence[Mapping[str, Any]] | None = None,
) -> int:
    """Write a report, say where it is, and choose the exit code.

    Args:
        report: the report.
        folder: where to.
        start: when the study began, by ``time.monotonic()``.
        failed: number of failures.
        results: what reproduction cards take from it, with ``dataset``, ``bands``, ``run``,
            ``model`` and ``scores``.

    Returns:
        0, or 1 where something failed.
    """
    page = report.write(folder)
    if results is not None:
        facts = {'version': __version__, 'title': report.title, 'results': results}
        write_whole(folder / 'study.json', (json.dumps(facts, indent=1) + '\n').encode())
    print(folder / 'report.md')
    print(page)
    seconds = time.monotonic() - start
    print(f'{seconds:.0f} s, {time.process_time():.0f} s of processors', file=sys.stderr)
    if failed:
        print(f'{failed} failed; the reasons stand in the report', file=sys.stderr)
    return 1 if failed else 0


def said(argv: Sequence[str], study: str) -> str:
    """The command, for the report."""
    return shlex.join(['torchgeo-aom', 'study', study, *argv])


def main(argv: list[str] | None = None) -> int:
    """Run a study.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        PROG, description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = parser.add_subparsers(title='studies', metavar='STUDY', dest='study', required=True)
    for name, (text, _) in STUDIES.items():
        verbs.add_parser(name, help=text, add_help=False)
    options, _ = parser.parse_known_args(arguments[:1])
    run: Callable[[list[str]], int] = import_module(STUDIES[options.study][1]).main
    return run(arguments[1:])
