"""Tables in plain text."""

from torchgeo_aom.text import aligned, ruled


def test_cells_are_below_each_other() -> None:
    rows = [('a', 'long name', '1'), ('bcd', 'x', '100')]
    assert aligned(rows) == ['a    long name  1', 'bcd  x          100']
    assert aligned(rows, right=(0, 2)) == ['  a  long name    1', 'bcd  x          100']


def test_a_short_row_runs_over_what_it_lacks() -> None:
    rows = [('a', 'b', 'c'), ('x', 'a long remark')]
    assert aligned(rows) == ['a  b  c', 'x  a long remark']


def test_no_rows() -> None:
    assert aligned([]) == []


def test_head() -> None:
    assert ruled([('name', 'n'), ('one', '1000')]) == ['name  n', '----------', 'one   1000']
