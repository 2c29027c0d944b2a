"""The command ``torchgeo-aom study cards``: what the paper says and we got, table by table."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ..command import output_folder
from ..commands.study import cards_parser
from .cli import finish, said
from .report import Report
from .results import Result, read_results

__all__ = ('cards_report', 'main', 'paper_cards')

MISSING = 'not measured'


def paper_cards() -> list[dict[str, Any]]:
    """What the paper prints, table by table, with the commands that measure the same."""
    text = (files('torchgeo_aom') / 'studies' / 'paper.toml').read_text(encoding='utf-8')
    cards: list[dict[str, Any]] = tomllib.loads(text)['cards']
    return cards


def _ours(line: dict[str, Any], results: Sequence[Result]) -> str:
    fitting = [
        result
        for result in results
        if result.dataset == line.get('dataset')
        and line.get('bands', result.bands) == result.bands
        and line.get('run', '') == result.run
        and result.model.startswith('aom_')
    ]
    return '; '.join(map(str, fitting)) or MISSING


def _value(printed: float | str) -> str:
    return printed if isinstance(printed, str) else f'{printed:g}'


def cards_report(results: Sequence[Result], command: str) -> Report:
    """Make the cards.

    Args:
        results: what was measured.
        command: what made them.

    Returns:
        The report.
    """
    report = Report('Reproduction cards')
    report.text(
        'For each table and figure of the paper (arXiv 2512.17224): the command, the values that '
        'it prints for AOM and for the best other model, ours, and where the protocols differ. '
        'Values are percent; after ± is the standard deviation over seeds. A model that says '
        '"random" has no trained weights.'
    )
    report.text(f'Made by: {command}')
    for card in paper_cards():
        report.heading(f'{card["name"]}: {card["title"]}')
        for text in card['commands']:
            report.text(f'Command: {text}')
        rows = [
            (line['what'], _value(line['aom']), line['second'], _ours(line, results))
            for line in card['paper']
        ]
        if rows:
            report.table(('What', 'Paper, AOM', 'Paper, best other', 'Ours'), rows)
        else:
            report.text(f'The paper prints no values; ours: {MISSING}, figures to look at.')
        report.text(f'Seeds: {card["seeds"]}. Deviations: {card["deviations"]}')
    return report


def main(argv: list[str] | None = None) -> int:
    """Write the cards.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    options = cards_parser().parse_args(arguments)
    folder = output_folder(options.output)
    start = time.monotonic()
    report = cards_report(read_results(options.results), said(arguments, 'cards'))
    return finish(report, folder, start, 0)
