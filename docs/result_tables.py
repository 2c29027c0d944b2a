"""Tables of guides that come from rows of studies, each number with a link to its row.

    python docs/result_tables.py

writes them into the guides anew, from the rows in ``docs/results``; the tests do not pass where a
number is not that of its rows. A table stands between ``<!-- NAME -->``, the name of its file of
rows, and ``<!-- end -->``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.studies.report import points, spread_of
from torchgeo_aom.studies.subsets import presets

DOCS = Path(__file__).parent
GUIDES = ('studies.md',)
MODELS = ('statistics', 'rcf', 'aom_vitt')
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """Rows of a study that were measured, each with the number of its line, from 1."""
    text = (DOCS / 'results' / f'{name}.csv').read_text(encoding='utf-8')
    numbered = enumerate(csv.DictReader(text.splitlines()), 2)
    return [{**row, 'line': str(line)} for line, row in numbered if row['status'] == 'ok']


def cell(name: str, found: Sequence[Row], wanted: dict[str, str]) -> str:
    """Mean and spread over seeds of the rows with some values, with a link to the first one."""
    own = [row for row in found if all(row[key] == value for key, value in wanted.items())]
    seeds = [row['seed'] for row in own]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f'{name}: several rows of one seed with {wanted}: rows of one run, please')
    if not own:
        return 'not possible'
    scores = [float(row['score']) for row in own]
    text = points(float(np.mean(scores)), spread_of(scores))
    return f'[{text}](results/{name}.csv#L{own[0]["line"]})'


def bands_sets(name: str) -> Iterator[str]:
    """Known sets of bands."""
    bands = resolve_bands('eurosat')
    found = rows(name)
    yield '| Bands | `statistics` | `rcf` | `aom_vitt` | `aom_vitt`, missing at test |'
    yield '|---|---|---|---|---|'
    every = tuple(range(len(bands)))
    sets = {s.name: s.columns for s in presets(bands)}
    sets = dict(sorted(sets.items(), key=lambda item: -len(item[1])))
    for title, columns in {'all': every, **sets}.items():
        wanted = {'bands': '+'.join(bands[k].name for k in columns), 'probe': 'linear'}
        wanted |= {'fill': 'none', 'trained': 'same'}
        cells = [cell(name, found, {**wanted, 'model': model}) for model in MODELS]
        missing = {**wanted, 'model': 'aom_vitt', 'trained': 'all'}
        cells.append('' if columns == every else cell(name, found, missing))
        yield f'| {title}, {len(columns)} | {" | ".join(cells)} |'


def sensors(name: str) -> Iterator[str]:
    """Trained on one sensor, tested on another."""
    found = rows(name)
    yield '| Trained on | Tested on | Channel index | `statistics` | `rcf` | `aom_vitt` |'
    yield '|---|---|---|---|---|---|'
    keys = ('case', 'trained', 'tested', 'index')
    ways = dict.fromkeys(tuple(row[key] for key in keys) for row in found)
    order = list(dict.fromkeys(row['case'] for row in found))
    for way in sorted(ways, key=lambda way: order.index(way[0])):
        cells = [
            cell(name, found, {**dict(zip(keys, way, strict=True)), 'model': model})
            for model in (MODELS if way[3] == 'counterpart' else MODELS[2:])
        ]
        cells = ['-'] * (len(MODELS) - len(cells)) + cells
        yield f'| {" | ".join((*way[1:], *cells))} |'


def patches(name: str) -> Iterator[str]:
    """Patch sizes, with all bands and with some."""
    path = f'results/{name}/study.json'
    found = json.loads((DOCS / path).read_text(encoding='utf-8'))['results']
    scores = {(row['bands'], row['model'].split(', ')[-1]): row['scores'] for row in found}
    columns = list(dict.fromkeys(bands for bands, _ in scores))
    yield f'| Patch | {" | ".join(columns)} |'
    yield f'|---|{"---|" * len(columns)}'
    for patch in dict.fromkeys(patch for _, patch in scores):
        values = [scores[bands, patch] for bands in columns]
        cells = [f'[{points(float(np.mean(v)), spread_of(v))}]({path})' for v in values]
        yield f'| {patch} | {" | ".join(cells)} |'


TABLES: dict[str, Callable[[str], Iterator[str]]] = {
    'bands': bands_sets,
    'patches': patches,
    'sensors': sensors,
}


def filled(text: str) -> str:
    """A guide with its tables as their rows are now."""
    for name, table in TABLES.items():
        block = '\n'.join((f'<!-- {name} -->', *table(name), '<!-- end -->'))
        before, start, rest = text.partition(f'<!-- {name} -->\n')
        text = before + block + rest.partition('<!-- end -->')[2] if start else text
    return text


if __name__ == '__main__':
    for guide in GUIDES:
        path = DOCS / guide
        path.write_text(filled(path.read_text(encoding='utf-8')), encoding='utf-8')
