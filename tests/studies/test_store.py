"""The table of a study: half written lines, several writers, other columns."""

import multiprocessing
from contextlib import nullcontext
from pathlib import Path

import pytest

from torchgeo_aom.errors import AOMWarning, DataError
from torchgeo_aom.studies.store import RowStore


def write(path: Path, who: str) -> None:
    own = RowStore(path, ('who', 'number'), ('value',))
    for k in range(50):
        own.append([{'who': who, 'number': k, 'value': 'x' * k}])


def store(path: Path) -> RowStore:
    return RowStore(path / 'rows.csv', ('who', 'number'), ('value',))


class TestRowStore:
    def test_round_trip(self, tmp_path: Path) -> None:
        own = store(tmp_path)
        assert own.rows() == {}
        own.append([{'who': 'a, "b"', 'number': 1, 'value': 'two\nlines, and a comma'}])
        own.append([])
        assert store(tmp_path).rows() == {
            ('a, "b"', '1'): {
                'who': 'a, "b"', 'number': '1', 'value': 'two lines, and a comma',
            }
        }  # fmt: skip

    def test_last_row_holds(self, tmp_path: Path) -> None:
        own = store(tmp_path)
        own.append([{'who': 'a', 'number': 1, 'value': 'failed'}])
        own.append([{'who': 'a', 'number': 1, 'value': 'ok'}])
        assert [row['value'] for row in own.rows().values()] == ['ok']

    @pytest.mark.parametrize('cut', range(1, 14, 3))
    def test_half_written_line(self, tmp_path: Path, cut: int) -> None:
        own = store(tmp_path)
        for k in range(3):
            own.append([{'who': 'a', 'number': k, 'value': 'z'}])
        data = own.path.read_bytes()
        own.path.write_bytes(data[:-cut])
        with pytest.warns(AOMWarning, match='1 damaged') if cut > 1 else nullcontext():
            assert len(own.rows()) == (2 if cut > 1 else 3)
        own.append([{'who': 'b', 'number': 9, 'value': 'z'}])  # on a line of its own
        with pytest.warns(AOMWarning) if cut > 1 else nullcontext():
            assert ('b', '9') in own.rows()

    def test_other_columns(self, tmp_path: Path) -> None:
        store(tmp_path).append([{'who': 'a', 'number': 1, 'value': 'z'}])
        with pytest.raises(DataError, match='another study'):
            RowStore(tmp_path / 'rows.csv', ('who',), ('value',)).rows()

    def test_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / 'file').write_text('')
        own = RowStore(tmp_path / 'file' / 'rows.csv', ('who',), ())
        with pytest.raises(DataError, match='cannot be written'):
            own.append([{'who': 'a'}])

    def test_several_writers(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context('fork')  # a new interpreter would import torch
        path = tmp_path / 'rows.csv'
        writers = [context.Process(target=write, args=(path, name)) for name in 'abc']
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        rows = store(tmp_path).rows()
        assert len(rows) == 150
        assert all(len(row['value']) == int(row['number']) for row in rows.values())
