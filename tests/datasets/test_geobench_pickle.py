"""Labels in pickles: genuine ones are read, crafted ones do nothing and are refused."""

from __future__ import annotations

import builtins
import datetime
import io
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_geobench import attribute

from torchgeo_aom.datasets.geobench_pickle import (
    MAX_BYTES,
    Inert,
    label_in,
    loads,
    parse_attribute,
)
from torchgeo_aom.errors import DataError


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def spelled(value: object, protocol: int = 4) -> str:
    return str(pickle.dumps(value, protocol))


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize(
    ('label', 'expected'),
    [
        (3, 3),
        (0, 0),
        (np.int64(5), 5),
        (np.array(6), 6),
        ([0, 1, 0], [0, 1, 0]),
        ((1.0, 0.0), [1, 0]),
        (np.array([0, 1, 1]), [0, 1, 1]),
        (np.array([0, 1, 1], '>i4'), [0, 1, 1]),
        (np.array([0, 1, 1], bool), [0, 1, 1]),
        (np.array([0, 1, 1], np.float32), [0, 1, 1]),
        (np.eye(43, dtype=np.uint8)[42], [0] * 42 + [1]),
    ],
)
def test_labels(label: Any, expected: object, protocol: int) -> None:
    assert label_in(parse_attribute(attribute(label, ['02 - Blue'], protocol))) == expected


def test_objects_are_records_without_behavior() -> None:
    facts = parse_attribute(attribute(1, ['02 - Blue'], when=datetime.datetime(2020, 1, 1)))
    info = facts['02 - Blue']['band_info']
    assert type(info) is Inert and info.name == 'geobench.dataset Sentinel2'
    assert (info.state['name'], info.state['wavelength']) == ('02 - Blue', 0.49)
    assert type(facts['when']) is Inert and facts['02 - Blue']['date'] is None
    assert facts['bands_order'] == ['02 - Blue']
    assert parse_attribute(spelled(OrderedDict(a=1))) == {'a': 1}


@pytest.mark.parametrize(
    'function',
    [os.system, eval, exec, builtins.__import__, getattr, open, subprocess.Popen, os.remove],
)
def test_crafted_calls_do_not_run(function: Any, tmp_path: Path) -> None:
    victim = tmp_path / 'victim'
    victim.write_text('here')
    made = tmp_path / 'made'
    texts = {
        os.system: f'touch {made}',
        eval: f'open({str(made)!r}, "w")',
        exec: f'open({str(made)!r}, "w")',
        subprocess.Popen: ['touch', str(made)],
        os.remove: str(victim),
    }
    arguments: tuple[Any, ...] = (texts.get(function, str(made)),)
    if function is open:
        arguments = (str(made), 'w')
    for protocol in range(6):
        with pytest.raises(DataError, match='which GEO-Bench does not use'):
            parse_attribute(spelled({'label': Calls(function, *arguments)}, protocol))
    assert victim.exists() and not made.exists()


def test_allowed_names_cannot_be_used_to_call_others() -> None:
    for function in (np.load, np.frombuffer, np.fromfile, np.memmap, np.save):
        with pytest.raises(DataError, match='which GEO-Bench does not use'):
            parse_attribute(spelled({'label': Calls(function, 'x')}))
    tricks = [
        b'cgeobench.dataset\nBand.__init__\n.',  # an attribute of an allowed class
        b'cgeobench\n__builtins__.eval\n.',
        b'cnumpy\nload\n.',
        b'cdatetime\nsys\n.',
        b'\x80\x04\x8c\x08builtins\x94\x8c\x04eval\x94\x93.',
        b"(S'echo'\nios\nsystem\n.",  # INST
        b'Pid\n.',  # PERSID
        b'\x82\x01.',  # EXT1
    ]
    for blob in tricks:
        with pytest.raises(DataError, match='was not read'):
            loads(blob)


def test_filling_objects_changes_nothing_outside() -> None:
    """BUILD on a class or a dict, which would set attributes or call __setstate__."""
    allowed = b'cgeobench.dataset\nBand\n'
    facts = loads(allowed + b'}\x8c\x08__init__K\x01sb.')
    assert facts == Inert('geobench.dataset Band', None, {'__init__': 1})
    assert loads(allowed + b'.') == Inert('geobench.dataset Band')
    for blob in (b'}}b.', b'K\x01}b.', b'}K\x01a.', b'K\x01)R.', allowed + b')R)R.'):
        with pytest.raises(DataError, match='was not read'):
            loads(blob)


def test_damaged_pickles() -> None:
    good = pickle.dumps({'label': 3, 'more': [1, 2, (3, 'x')]})
    for end in range(len(good)):
        with pytest.raises(DataError, match='was not read'):
            loads(good[:end])
    for blob in (b'', b'0.', b't.', b'h\x05.', b'(.', b'\x85.', b'K\x01K\x02.', b'}K\x01s.'):
        with pytest.raises(DataError, match='was not read'):
            loads(blob)


def test_little_memory_and_time() -> None:
    """Small pickles that would take gigabytes or years elsewhere."""
    nested = b')' + b''.join(b'\x94h' + bytes([k]) + b'\x86' for k in range(60))  # (x, x) over x
    bombs = [
        b'\x80\x05\x96' + struct.pack('<Q', 1 << 40) + b'x.',  # BYTEARRAY8 of a terabyte
        b'\x80\x04\x8e' + struct.pack('<Q', 1 << 40) + b'x.',  # BINBYTES8
        b'\x80\x04\x8b' + struct.pack('<i', 1 << 30) + b'x.',  # LONG4
        b'}' + nested + b'K\x01s.',  # a key whose hash takes 2 ** 60 steps
        b'I' + b'9' * 100_000 + b'\n.',
    ]
    tracemalloc.start()
    begin = time.process_time()  # the machine may be busy
    for blob in bombs:
        with pytest.raises(DataError):
            loads(blob)
    assert loads(b'K\x01r\xff\xff\xff\x7f.') == 1  # LONG_BINPUT 2 ** 31 - 1
    assert time.process_time() - begin < 10
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_size_limit_and_spelling() -> None:
    with pytest.raises(DataError, match=f'more than {MAX_BYTES}'):
        loads(bytes(MAX_BYTES + 1))
    with pytest.raises(DataError, match='characters'):
        parse_attribute("b'" + 'x' * 4 * MAX_BYTES + "'")
    # Anything but one literal would be evaluated: deep brackets crash Python's parser.
    for text in ('[' * 100_000, "b'' + b''", "b'a' b'b'", "__import__('os')", "b'\n'", "b''[", ''):
        with pytest.raises(DataError, match='not one piece of bytes'):
            parse_attribute(text)
    with pytest.raises(DataError, match='damaged'):
        parse_attribute(r"b'\x'")
    for value in (3, None, np.zeros(3)):
        with pytest.raises(DataError, match='is no text'):
            parse_attribute(value)
    assert parse_attribute(spelled({'label': "'"}).encode()) == {'label': "'"}
    assert parse_attribute(spelled({'label': '\'"\n\\'})) == {'label': '\'"\n\\'}


def array_with(**changes: Any) -> Inert:
    kind = Inert('numpy dtype', ('i8', False, True), (3, '<', None, None, None, -1, -1, 0))
    facts = {'shape': (2,), 'kind': kind, 'fortran': False, 'raw': bytes(16), **changes}
    state = (1, facts['shape'], facts['kind'], facts['fortran'], facts['raw'])
    return Inert('numpy.core.multiarray _reconstruct', (), state)


@pytest.mark.parametrize(
    'label',
    [
        None,
        'text',
        True,
        [],
        [2, 3],
        ['0', '1'],
        [0] * 5000,
        {'a': 1},
        Inert('geobench.dataset Band', ()),
        Inert('numpy.core.multiarray _reconstruct', ()),
        Inert('numpy.core.multiarray scalar', (1,)),
        array_with(shape=(1 << 40,)),
        array_with(shape=(3,)),
        array_with(shape=(-1, -2)),
        array_with(shape=('x',)),
        array_with(shape=None),
        array_with(raw='x'),
        array_with(raw=None),
        array_with(fortran=True),
        array_with(kind='i8'),
        array_with(kind=Inert('numpy dtype', ('O8', False, True))),
        array_with(kind=Inert('numpy dtype', ('V99999999999',))),
        array_with(kind=Inert('numpy dtype', ())),
    ],
)
def test_odd_labels(label: Any) -> None:
    with pytest.raises(DataError, match='its label'):
        label_in({'label': label})
    with pytest.raises(DataError, match='no label'):
        label_in({'bands_order': []})
    with pytest.raises(DataError, match='no label'):
        label_in(io.BytesIO())
    assert label_in({'label': array_with()}) == [0, 0]
