"""Reads thousands of damaged files: only errors of the package, no hang, no crash, no growth.

    python tests/fuzz/fuzz.py checkpoints --count 10000 --log checkpoints.jsonl
    python tests/fuzz/fuzz.py rasters --count 10000 --log rasters.jsonl
    python tests/fuzz/fuzz.py rasters --only 137 --keep .
    python tests/fuzz/fuzz.py checkpoints rasters texts --count 200

File number N of a seed is always the same, so a finding can be read again (``--only``, with its
traceback). Files are read in a process of their own, which is replaced when it crashes or hangs.
With ``--log``, a stopped run goes on where it was. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# This process stays small: only the one that reads imports torch and GDAL.
KINDS = ('checkpoints', 'rasters', 'texts')
MIB = 2**20
ADDRESS_SPACE = 4096 * MIB  # beyond what the imports take
ONE_FILE = 512 * MIB  # of memory for one file of some kB
GROWTH = 96 * MIB  # over all files after the first quarter


def resident() -> int:
    """Bytes of memory that this process holds, or its peak where the system tells no more."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_address_space() -> None:
    """A file that asks for very much memory gets an error instead of the machine."""
    try:
        size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, size + ADDRESS_SPACE))
    except (OSError, ValueError, IndexError):
        pass  # a system without limits; the check of each file remains


def read_one(files: Any, index: int) -> tuple[str, str]:
    """Read a damaged file; the outcome, and what was said."""
    from torchgeo_aom.errors import AOMError

    name, content = files.damaged(index)
    path = files.path(name, index)
    path.write_bytes(content)
    before = resident()
    outcome, text = 'read', ''
    try:
        files.read(path)
    except AOMError as error:
        outcome, text = 'refused', f'{type(error).__name__}: {error}'
    except Exception as error:
        outcome, text = 'error', ''.join(traceback.format_exception(error)[-6:])
    finally:
        path.unlink(missing_ok=True)
    if outcome != 'error' and resident() - before > ONE_FILE:
        outcome, text = 'memory', f'{(resident() - before) / MIB:.0f} MiB for {len(content)} bytes'
    return outcome, text


def work(kind: str, seed: int, indices: Sequence[int], pipe: int) -> None:
    """Read files, and say on a pipe what became of each."""
    os.environ['OMP_NUM_THREADS'] = '1'
    warnings.simplefilter('ignore')
    from fuzz_readers import KINDS as READERS

    with tempfile.TemporaryDirectory(prefix='fuzz_') as folder, os.fdopen(pipe, 'w') as out:
        files = READERS[kind](Path(folder), seed)
        for index in range(-len(files.valid), 0):
            outcome, text = read_one(files, index)
            if outcome != 'read':
                raise SystemExit(f'{files.damaged(index)[0]} is not read although whole: {text}')
        limit_address_space()
        for index in indices:
            print(json.dumps({'start': index}), file=out, flush=True)
            start = time.process_time()  # of this process only: the machine may be busy
            outcome, text = read_one(files, index)
            text = '' if outcome == 'refused' else text
            facts = {'index': index, 'outcome': outcome, 'text': text, 'rss': resident()}
            facts['seconds'] = time.process_time() - start
            print(json.dumps(facts), file=out, flush=True)


def lines(pipe: int, timeout: float) -> Iterator[dict[str, Any] | None]:
    """Messages of a worker; None where it says nothing for too long."""
    rest = b''
    while True:
        if not select.select([pipe], [], [], timeout)[0]:
            yield None
            return
        block = os.read(pipe, 65536)
        if not block:
            return
        *whole, rest = (rest + block).split(b'\n')
        for line in whole:
            yield json.loads(line)


def read_all(kind: str, seed: int, first: int, count: int, timeout: float) -> Iterator[Any]:
    """What became of each file, in order, whatever becomes of the workers.

    Args:
        kind: one of `KINDS`.
        seed: of the damage.
        first: number of the first file.
        count: number after the last one.
        timeout: seconds for one file; three times as many for the start of a worker.

    Yields:
        ``index, outcome, text, rss, seconds``; the outcome is ``read``, ``refused``,
        ``error``, ``memory``, ``hang`` or ``crash``.
    """
    while first < count:
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(here)
                work(kind, seed, range(first, count), there)
                code = 0
            except SystemExit as error:
                print(error, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(there)
        running, hung, start = None, False, time.perf_counter()
        try:
            for message in lines(here, 3 * timeout):
                if message is None:
                    hung = True
                    break
                if 'start' in message:
                    running, start = message['start'], time.perf_counter()
                    continue
                if message['seconds'] > timeout:
                    message |= {'outcome': 'hang', 'text': f'{message["seconds"]:.1f} s'}
                yield message
                first, running = message['index'] + 1, None
        finally:
            os.close(here)
            if hung or sys.exc_info()[0] is not None:
                os.kill(child, 9)
            _, status = os.waitpid(child, 0)
        if running is not None:
            what = 'hang' if hung else 'crash'
            text = f'exit status {os.waitstatus_to_exitcode(status)}'
            spent = time.perf_counter() - start
            yield {'index': running, 'outcome': what, 'text': text, 'rss': 0, 'seconds': spent}
            first = running + 1
        elif first < count:
            raise SystemExit(f'the worker could not start (status {status})')


class Log:
    """What became of the files, kept on disk so that a stopped run goes on."""

    def __init__(self, path: Path | None, kind: str, seed: int) -> None:
        self.path, self.kind, self.seed = path, kind, seed
        self.rows: list[dict[str, Any]] = []
        if path is not None and path.is_file():
            head, *rows = path.read_text().splitlines()
            if json.loads(head) != {'kind': kind, 'seed': seed}:
                raise SystemExit(f'{path} is the log of another run: {head}')
            self.rows = [json.loads(row) for row in rows if row.endswith('}')]
        elif path is not None:
            path.write_text(json.dumps({'kind': kind, 'seed': seed}) + '\n')

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.path is not None:
            with self.path.open('a') as file:
                file.write(json.dumps(row) + '\n')

    @property
    def findings(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row['outcome'] not in ('read', 'refused')]

    @property
    def growth(self) -> float:
        """Bytes that the process gained between the second and the last quarter of the files."""
        rss = [row['rss'] for row in self.rows if row['rss']]
        quarter = len(rss) // 4
        if quarter == 0:
            return 0.0
        return statistics.median(rss[-quarter:]) - statistics.median(rss[quarter : 2 * quarter])

    def summary(self) -> dict[str, Any]:
        """Numbers of a run."""
        slowest = max(self.rows, key=lambda row: row['seconds'], default={'seconds': 0, 'index': 0})
        return {
            'kind': self.kind,
            'seed': self.seed,
            'files': len(self.rows),
            **Counter(row['outcome'] for row in self.rows),
            'seconds': round(sum(row['seconds'] for row in self.rows), 1),
            'slowest_s': round(slowest['seconds'], 2),
            'slowest': slowest['index'],
            'growth_MiB': round(self.growth / MIB, 1),
        }


def show(kind: str, seed: int, index: int, keep: Path | None) -> int:
    """Read one damaged file here, with its traceback, and keep it if wanted."""
    from fuzz_readers import KINDS as READERS

    with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
        files = READERS[kind](Path(folder), seed)
        name, content = files.damaged(index)
        if keep is not None:
            (keep / f'{index}_{name}').write_bytes(content)
        outcome, text = read_one(files, index)
    print(f'{kind} {index} ({name}): {outcome}\n{text}'.rstrip())
    return outcome not in ('read', 'refused')


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=KINDS, nargs='+', help='one, or several in turn')
    parser.add_argument('--count', type=int, default=10_000, help='how many files')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other damage')
    parser.add_argument('--timeout', type=float, default=60, help='seconds for one file')
    parser.add_argument('--log', type=Path, help='what became of each file; a run goes on with it')
    parser.add_argument('--only', type=int, metavar='N', help='read one file, in this process')
    parser.add_argument('--keep', type=Path, metavar='FOLDER', help='with --only: write it there')
    options = parser.parse_args(argv)
    if len(options.kind) > 1:
        if options.log is not None or options.only is not None:
            parser.error('--log and --only are for one kind')
        import fuzz_readers  # noqa: F401 - loaded once, for the workers of all kinds
    elif options.only is not None:
        return show(options.kind[0], options.seed, options.only, options.keep)
    return max([run(kind, options) for kind in options.kind])


def run(kind: str, options: argparse.Namespace) -> int:
    """Read the files of a kind, and say what became of them."""
    seed, count = options.seed, options.count
    log = Log(options.log, kind, seed)
    first = max((row['index'] + 1 for row in log.rows), default=0)
    told = time.monotonic()
    for row in read_all(kind, seed, first, count, options.timeout):
        log.add(row)
        if row['outcome'] not in ('read', 'refused'):
            print(f'{kind} {row["index"]}: {row["outcome"]}\n{row["text"]}', file=sys.stderr)
        if time.monotonic() - told > 20:
            told = time.monotonic()
            print(f'{row["index"] + 1} of {count}', file=sys.stderr)
    print(json.dumps(log.summary()))
    return int(bool(log.findings) or log.growth > GROWTH)


if __name__ == '__main__':
    sys.exit(main())
