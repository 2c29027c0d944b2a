"""Labels out of the pickles of GEO-Bench files, read as data: nothing in a file can run.

GEO-Bench keeps the label of an image in a pickle, and a pickle can call any function. These are
never unpickled: their instructions are walked through here, and objects of the few classes that
GEO-Bench writes become records without behavior; everything else is an error.
"""

from __future__ import annotations

import ast
import math
import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ('MAX_BYTES', 'Inert', 'label_in', 'loads', 'parse_attribute')

#: Genuine pickles have 0.5 to 50 kB; a longer one is refused before anything is read of it.
MAX_BYTES = 1 << 20
#: More entries than any label has: the largest one has 43.
MAX_ENTRIES = 1 << 12

# Python's own spelling of bytes, and nothing around it.
_LITERAL = re.compile(r"""b'(?:[^'\\\n]|\\[^\n])*'|b"(?:[^"\\\n]|\\[^\n])*\"""")
_ALLOWED = re.compile(
    r"""
    (?:geobench|ccb)(?:\.\w+)*\ \w+                        # band descriptions, label types
    | affine(?:\.\w+)*\ Affine | rasterio(?:\.\w+)*\ (?:CRS|Affine)  # where an image lies
    | datetime\ (?:date|datetime|timedelta|timezone)
    | collections\ OrderedDict | copyreg\ _reconstructor | builtins\ object
    | numpy\ (?:dtype|ndarray)
    | numpy\.(?:core|_core)\.(?:multiarray\ (?:_reconstruct|scalar)|numeric\ _frombuffer)
    | _codecs\ encode                                      # bytes in protocols 0 to 2
    """,
    re.VERBOSE,
)
_VALUES = {
    'NONE': None,
    'NEWTRUE': True,
    'NEWFALSE': False,
    'EMPTY_TUPLE': (),
}
_ARGUMENTS = (
    'BININT BININT1 BININT2 LONG1 BINFLOAT '
    'SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BYTEARRAY8'
).split()
_NUMBERS = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')


@dataclass
class Inert:
    """What a pickle would have made an object of.

    Attributes:
        name: module and name of the class or function, with a space between.
        arguments: what it would have been called with; None for the class itself.
        state: what the object would have been filled with.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    state: Any = None


class _Machine:
    """Walks through a pickle; every step costs a bounded amount of time and memory."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, steps: Iterator[tuple[Any, Any, int | None]]) -> Any:
        for opcode, argument, _ in steps:
            name = opcode.name
            if name == 'STOP':
                break
            self.step(name, argument)
        (result,) = self.stack
        return result

    def step(self, name: str, argument: Any) -> None:
        if name in ('PROTO', 'FRAME'):
            return
        if name in _VALUES:
            self.stack.append(_VALUES[name])
        elif name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in ('EMPTY_DICT', 'EMPTY_LIST'):
            self.stack.append({} if name == 'EMPTY_DICT' else [])
        elif name == 'MARK':
            self.marks.append(self.stack)
            self.stack = []
        elif name in ('MEMOIZE', 'BINPUT', 'LONG_BINPUT'):
            self.memo[len(self.memo) if name == 'MEMOIZE' else argument] = self.stack[-1]
        elif name in ('BINGET', 'LONG_BINGET'):
            self.stack.append(self.memo[argument])
        elif name in ('TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3'):
            items = self.marked() if name == 'TUPLE' else self.top(int(name[-1]))
            self.stack.append(tuple(items))
        elif name in ('APPEND', 'APPENDS'):
            items = self.marked() if name == 'APPENDS' else self.top(1)
            self.target(list).extend(items)
        elif name in ('SETITEM', 'SETITEMS'):
            items = self.marked() if name == 'SETITEMS' else self.top(2)
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, str | int):  # others can take forever to compare
                    raise ValueError(f'a key of type {type(key).__name__}')
                self.target(dict)[key] = value
        elif name in ('GLOBAL', 'STACK_GLOBAL'):
            self.find(argument if name == 'GLOBAL' else ' '.join(map(str, self.top(2))))
        elif name in ('NEWOBJ', 'REDUCE'):
            found, arguments = self.top(2)
            if not (isinstance(found, Inert) and found.arguments is None):
                raise ValueError('something is called that is no class')
            if not isinstance(arguments, tuple):
                raise ValueError('a class is called with no tuple')
            plain = found.name == 'collections OrderedDict' and not arguments
            self.stack.append({} if plain else Inert(found.name, arguments))
        elif name == 'BUILD':
            (state,) = self.top(1)
            self.target(Inert).state = state
        else:
            raise ValueError(f'instruction {name}, which GEO-Bench does not use')

    def find(self, name: str) -> None:
        if not _ALLOWED.fullmatch(name):
            raise ValueError(
                f'{name.replace(" ", ".")!r}, which GEO-Bench does not use: the file may have been '
                f'made to run commands on the machines of its readers'
            )
        self.stack.append(Inert(name))

    def top(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) != count:
            raise ValueError('too few values')
        del self.stack[-count:]
        return items

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def target(self, kind: type[Any]) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f'something is filled that is no {kind.__name__}')
        return self.stack[-1]


def loads(blob: bytes) -> Any:
    """Read a pickle as data.

    Args:
        blob: the pickle.

    Returns:
        Its values; in place of every object an `Inert` record.

    Raises:
        DataError: if it is too long or damaged, or has anything in it that GEO-Bench never writes.
    """
    if len(blob) > MAX_BYTES:
        raise DataError(f'the pickle has {len(blob)} bytes; more than {MAX_BYTES} are not read')
    try:
        return _Machine().run(pickletools.genops(blob))
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeError) as error:
        raise DataError(f'the pickle was not read, it holds {error}') from error


def parse_attribute(text: object) -> Any:
    """Read the attribute ``pickle`` of a GEO-Bench file: a pickle, spelled as Python's bytes.

    Args:
        text: the attribute.

    Returns:
        See `loads`.

    Raises:
        DataError: if it is no such text, or see `loads`.
    """
    if isinstance(text, bytes) and len(text) <= 4 * MAX_BYTES:
        text = text.decode('ascii', 'replace')
    if not isinstance(text, str):
        raise DataError('the attribute "pickle" is no text')
    if len(text) > 4 * MAX_BYTES:  # a byte is spelled with up to four characters
        raise DataError(
            f'the attribute "pickle" has {len(text)} characters; more than {4 * MAX_BYTES} '
            f'are not read'
        )
    if not _LITERAL.fullmatch(text):
        raise DataError('the attribute "pickle" is not one piece of bytes as Python spells them')
    try:
        blob = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise DataError(f'the attribute "pickle" is damaged: {error}') from error
    return loads(blob)


def label_in(attributes: object) -> int | list[int]:
    """Find the label among the attributes of a file.

    Args:
        attributes: what `parse_attribute` returns.

    Returns:
        A class, or zeros and ones for several.

    Raises:
        DataError: if there is none, or it is of another kind.
    """
    if not isinstance(attributes, dict) or 'label' not in attributes:
        raise DataError('its attributes hold no label')
    value = attributes['label']
    if isinstance(value, Inert):
        value = _numbers(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and 0 < len(value) <= MAX_ENTRIES:
        if all(isinstance(flag, int | float) and flag in (0, 1) for flag in value):
            return [int(flag) for flag in value]
    raise DataError(f'its label is no class and no zeros and ones, but a {type(value).__name__}')


def _numbers(record: Inert) -> Any:
    """The numbers of an array or a scalar of NumPy."""
    arguments = record.arguments or ()
    try:
        if record.name.endswith('_reconstruct'):
            _, shape, kind, fortran, raw = record.state
        elif record.name.endswith('_frombuffer'):
            raw, kind, shape, order = arguments
            fortran, raw = order != 'C', bytes(raw) if isinstance(raw, bytearray) else raw
        elif record.name.endswith('scalar'):
            shape, fortran = (), False
            kind, raw = arguments
        else:
            raise DataError(f'its label is an object: {record.name.replace(" ", ".")}')
        code = f'{kind.state[1] if kind.state else "|"}{kind.arguments[0]}'
        sizes, raw = [int(n) for n in shape], _latin(raw)
        plain = kind.name == 'numpy dtype' and _NUMBERS.fullmatch(code) and isinstance(raw, bytes)
    except (ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise DataError(f'its label is a damaged array of NumPy: {error}') from error
    if not plain or fortran or len(sizes) > 1 or min(sizes, default=0) < 0:
        raise DataError('its label is no plain row of numbers')
    dtype = np.dtype(code)
    if math.prod(sizes) > MAX_ENTRIES or len(raw) != math.prod(sizes) * dtype.itemsize:
        raise DataError('its label has another number of entries than it says')
    return np.frombuffer(raw, dtype).reshape(sizes).tolist()


def _latin(raw: Any) -> Any:
    """Bytes as protocols 0 to 2 write them: ``_codecs.encode(text, 'latin1')``."""
    if isinstance(raw, Inert) and raw.name == '_codecs encode' and raw.arguments:
        return str(raw.arguments[0]).encode('latin1')
    return raw
