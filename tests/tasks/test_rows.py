"""Rows of results: interrupted runs, several writers at once, other keys, damage."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from torchgeo_aom.errors import AOMWarning, DataError
from torchgeo_aom.tasks.rows import FAILED, RowFile


def write(path: Path, writer: int) -> None:
    file = RowFile(path)
    for k in range(40):
        file.add({'cell': k}, {'score': k / 7, 'writer': writer, 'more': 'x' * 3000})


def test_added_once_and_found(tmp_path: Path) -> None:
    file = RowFile(tmp_path / 'results.jsonl')
    cell = {'bands': ['red', 'nir08'], 'seed': 0, 'options': {'tuple': (1, 2)}, 'none': None}
    assert file.rows() == [] and file.find(cell) is None
    row = file.add(cell, {'score': 0.1 + 0.2})
    assert row['options'] == {'tuple': [1, 2]} and row['score'] == 0.1 + 0.2
    assert file.find(cell) == row
    assert file.add(cell, {'score': 0.5}) == row  # the first one counts
    assert file.rows() == [row]
    assert file.find({**cell, 'seed': 1}) is None
    assert file.find({**cell, 'bands': ['nir08', 'red']}) is None


def test_a_line_that_was_not_finished_is_run_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / 'results.jsonl')
    file.add({'cell': 0}, {'score': 1})
    with file.path.open('a') as handle:
        handle.write('{"cell": 1, "sco')
    with pytest.warns(AOMWarning, match='was not finished'):
        assert file.find({'cell': 1}) is None
    file.add({'cell': 1}, {'score': 2})
    assert [row['score'] for row in file.rows()] == [1, 2]
    file.path.write_text('{"cell": 1, "sco')
    file.add({'cell': 1}, {'score': 3})
    assert file.rows() == [{'cell': 1, 'score': 3}]


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_writers_at_the_same_time(tmp_path: Path) -> None:
    """Three processes write the same cells: every line is whole, and no cell has two."""
    path = tmp_path / 'results.jsonl'
    context = multiprocessing.get_context('fork')
    runs = [context.Process(target=write, args=(path, k)) for k in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join()
    assert [process.exitcode for process in runs] == [0, 0, 0]
    assert [row['cell'] for row in RowFile(path).rows()] == list(range(40))


def test_rows_with_other_keys_are_left_alone(tmp_path: Path) -> None:
    """An older version knew fewer options: its rows are kept, and answer no question of today."""
    file = RowFile(tmp_path / 'results.jsonl')
    old = file.add({'cell': 0}, {'score': 1})
    assert file.find({'cell': 0, 'option': 'new'}) is None
    new = file.add({'cell': 0, 'option': 'new'}, {'score': 2})
    assert file.rows() == [old, new]
    assert file.find({'cell': 0, 'option': 'new'}) == new


def test_a_failed_cell_is_run_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / 'results.jsonl')
    failed = file.add({'cell': 0}, {FAILED: 'RuntimeError: no memory'})
    assert file.find({'cell': 0}) is None
    good = file.add({'cell': 0}, {'score': 1})
    assert file.find({'cell': 0}) == good and file.rows() == [failed, good]


@pytest.mark.parametrize('line', ['{"cell": ', '[1]', 'null'])
def test_damage_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / 'results.jsonl'
    path.write_text(f'{json.dumps({"cell": 0})}\n{line}\n{json.dumps({"cell": 1})}\n')
    with pytest.raises(DataError, match=r'line 2 of .*results.jsonl is'):
        RowFile(path).rows()
