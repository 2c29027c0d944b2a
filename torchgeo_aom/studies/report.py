"""Reports of studies: the same tables and figures as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import FigureBase

from ..files import write_whole

__all__ = ('Report', 'points', 'spread_of')

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #bbb; padding: 0.2rem 0.6rem; text-align: left; }
th { background: #eee; } td.number { text-align: right; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #444; }
.wide { overflow-x: auto; }
"""


def points(mean: float, spread: float | None = None) -> str:
    """A score from 0 to 1 in percent, with its spread where there is one."""
    if mean != mean:
        return 'failed'
    value = f'{round(100 * mean, 1) + 0.0:.1f}'  # no -0.0
    return value if spread is None or spread != spread else f'{value} ± {100 * spread:.1f}'


def spread_of(scores: Sequence[float]) -> float:
    """Standard deviation over seeds; NaN with a single one."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else float('nan')


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Picture:
    name: str
    caption: str
    data: bytes


@dataclass
class Report:
    """Headings, paragraphs, tables and figures in order."""

    title: str
    blocks: list[tuple[str, object]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Add a heading."""
        self.blocks.append(('heading', text))

    def text(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self.blocks.append(('text', _Text(text)))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table.

        Args:
            header: names of the columns.
            rows: what stands in them.
        """
        cells = tuple(tuple(str(value) for value in row) for row in rows)
        self.blocks.append(('table', _Table(tuple(header), cells)))

    def figure(self, name: str, figure: FigureBase, caption: str) -> None:
        """Add a figure.

        Args:
            name: name of its file, without ending.
            figure: the figure.
            caption: what it shows.
        """
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=110)  # type: ignore[attr-defined]
        self.blocks.append(('picture', _Picture(name, caption, buffer.getvalue())))

    def markdown(self) -> str:
        """The report as Markdown, with links to the files of its figures."""
        parts = [f'# {self.title}\n']
        for kind, block in self.blocks:
            if kind == 'heading':
                parts.append(f'## {block}\n')
            elif isinstance(block, _Text):
                parts.append(f'{block.text}\n')
            elif isinstance(block, _Table):
                lines = [block.header, tuple('---' for _ in block.header), *block.rows]
                escaped = [[cell.replace('|', '\\|') for cell in line] for line in lines]
                parts.append('\n'.join(f'| {" | ".join(line)} |' for line in escaped) + '\n')
            elif isinstance(block, _Picture):
                parts.append(f'![{block.caption}]({block.name}.png)\n\n*{block.caption}*\n')
        return '\n'.join(parts)

    def page(self) -> str:
        """The report as one HTML page, which needs no other file."""
        title = html.escape(self.title)
        parts = [f'<h1>{title}</h1>']
        for kind, block in self.blocks:
            if kind == 'heading':
                parts.append(f'<h2>{html.escape(str(block))}</h2>')
            elif isinstance(block, _Text):
                parts.append(f'<p>{html.escape(block.text)}</p>')
            elif isinstance(block, _Table):
                parts.append(_html_table(block))
            elif isinstance(block, _Picture):
                data = base64.b64encode(block.data).decode()
                text = html.escape(block.caption)
                parts.append(
                    f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
                    f'<figcaption>{text}</figcaption></figure>'
                )
        body = '\n'.join(parts)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
        )

    def write(self, folder: Path) -> Path:
        """Write ``report.md`` with its figures, and ``report.html``.

        Args:
            folder: where to.

        Returns:
            Path of the HTML page.
        """
        for _, block in self.blocks:
            if isinstance(block, _Picture):
                write_whole(folder / f'{block.name}.png', block.data)
        write_whole(folder / 'report.md', self.markdown().encode())
        write_whole(folder / 'report.html', self.page().encode())
        return folder / 'report.html'


def _html_table(table: _Table) -> str:
    head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in table.header)
    rows = []
    for row in table.rows:
        cells = []
        for cell in row:
            number = cell[:1].isdigit() or cell[:1] in '+-±'
            mark = ' class="number"' if number else ''
            cells.append(f'<td{mark}>{html.escape(cell)}</td>')
        rows.append(f'<tr>{"".join(cells)}</tr>')
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
