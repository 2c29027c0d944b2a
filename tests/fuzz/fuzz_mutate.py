"""Damages files: random bytes, extreme numbers, lost and doubled parts, inside containers too."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Sequence

# What readers stumble over: ends of ranges, as numbers of 1, 2, 4 and 8 bytes.
EDGES = (0, 1, 2, 3, 7, 8, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
HUGE = (2**40, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b'null', b'true', b'""', b'[]', b'{}', b'-1', b'0', b'1e999', b'-1e999', b'NaN', b'Infinity',
    b'99999999999999999999', b'0.5', b'"x"', b'\xff', b'\x00', b'[' * 3000, b'{"a":' * 1500,
    '"\u00e9\u202e"'.encode(), b'/etc/passwd', b'../..', b'http://127.0.0.1/x', b'file:///x',
)  # fmt: skip


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes], text: bool = False) -> bytes:
    """Damage a file in one to four places.

    Args:
        data: the content.
        rng: decides everything.
        others: further files, from which pieces are taken.
        text: whether it is text, into which words are put rather than numbers.

    Returns:
        The damaged content; sometimes the same length, sometimes not.
    """
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if not damaged:
            break
        change = rng.choice((_word, _word, _token) if text and rng.random() < 0.6 else CHANGES)
        change(damaged, rng, others)
    return bytes(damaged)


def mutate_inside(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage what a container holds, and close it again so that its own checks pass."""
    if data[:4] == b'PK\x03\x04':
        return _zip(data, rng)
    return _safetensors(data, rng)


def _zip(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    pickles = [k for k, (name, _) in enumerate(records) if name.endswith('data.pkl')]
    k = rng.choice(pickles) if rng.random() < 0.8 else rng.randrange(len(records))
    name, content = records[k]
    records[k] = name, mutate(content, rng, [content for _, content in records])
    if rng.random() < 0.1:
        del records[rng.randrange(len(records))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as archive:
        for name, content in records:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    (size,) = struct.unpack('<Q', data[:8])
    header, values = data[8 : 8 + size], data[8 + size :]
    facts = json.loads(header)
    if rng.random() < 0.7:  # still valid JSON, but other facts
        keys = sorted(facts)
        key = '__metadata__' if rng.random() < 0.4 and '__metadata__' in facts else rng.choice(keys)
        part = facts[key]
        inner = rng.choice(sorted(part))
        choices = (None, '', '[]', '9' * 30, '-1', '0', 'null', '[null]', '{}', 'x', '[1e999]')
        match rng.randrange(4):
            case 0:
                part[inner] = rng.choice(choices)
            case 1 if key == '__metadata__':
                part[inner] = mutate(part[inner].encode(), rng, (), text=True).decode(
                    errors='ignore'
                )
            case 2 if key != '__metadata__':
                facts[key + rng.choice(('0', '.x', '/../x'))] = facts.pop(key)
            case _ if key != '__metadata__':
                number = rng.choice((0, 1, 12, 97, 999, 60_000, 10**9, 10**18))
                facts[_renumbered(key, number)] = facts.pop(key)
        header = json.dumps(facts).encode()
    else:
        header = mutate(header, rng, (), text=True)
    return struct.pack('<Q', len(header)) + header + values


def _renumbered(name: str, number: int) -> str:
    """The name of a parameter with another number in it."""
    return '.'.join(str(number) if part.isdigit() else part for part in name.split('.'))


def _place(data: bytearray, rng: random.Random) -> int:
    """Often in the first or the last bytes, where formats keep what else depends on."""
    where = rng.random()
    if where < 0.45:
        return rng.randrange(min(len(data), 700))
    if where < 0.6:
        return len(data) - 1 - rng.randrange(min(len(data), 700))
    return rng.randrange(len(data))


def _bit(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _bytes(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, rng)
    data[at : at + rng.choice((1, 2, 4, 16))] = rng.randbytes(rng.choice((1, 2, 4, 16)))


def _number(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, rng) & ~1
    size = rng.choice((1, 2, 2, 4, 4, 4, 8))
    value = rng.choice(EDGES + HUGE if size == 8 else EDGES) % 256**size
    data[at : at + size] = value.to_bytes(size, rng.choice(('little', 'little', 'big')))


def _end(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[_place(data, rng) :]


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 12, 100, 1000))]


def _double(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((1, 2, 12, 100, 1000))]


def _zeros(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at, size = _place(data, rng), rng.choice((4, 12, 64, 512))
    data[at : at + size] = bytes(min(size, len(data) - at))


def _move(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    source, target, size = _place(data, rng), _place(data, rng), rng.choice((2, 4, 12, 64))
    data[target : target + size] = data[source : source + size]


def _foreign(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if not others:
        return
    other = rng.choice(others)
    if other:
        at, source = _place(data, rng), rng.randrange(len(other))
        data[at : at + 64] = other[source : source + 64]


def _token(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.choice((0, 1, 4))] = rng.choice(TEXTS)


def _word(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """Replace a value between two marks of punctuation."""
    marks = [k for k, byte in enumerate(data) if byte in b':,=[]{}<>"\n']
    if len(marks) < 2:
        return
    k = rng.randrange(len(marks) - 1)
    data[marks[k] + 1 : marks[k + 1]] = rng.choice(TEXTS)


CHANGES = (
    _bit, _bit, _bytes, _number, _number, _number, _end, _cut, _double, _zeros, _move, _foreign,
)  # fmt: skip
