"""A short run of the fuzzer; `fuzz.py` says how to run a long one, and to read a finding again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fuzz
import pytest
from fuzz_mutate import mutate

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='files are read in a process of their own')
def test_only_our_errors() -> None:
    command = [sys.executable, str(HERE / 'fuzz.py'), *fuzz.KINDS, '--count', '200']
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [*command, '--timeout', '300'], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr[-5000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row['kind'] for row in rows] == list(fuzz.KINDS)
    for found in rows:
        assert found['files'] == found['read'] + found['refused'] == 200
        assert found['read'] > 5  # neither all files are refused ...
        assert found['refused'] > 5  # ... nor none


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='files are read in a process of their own')
def test_crash_and_hang_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever becomes of a worker, the files after are read; a stopped run goes on."""

    def work(kind: str, seed: int, indices: Sequence[int], pipe: int) -> None:
        with os.fdopen(pipe, 'w') as out:
            for index in indices:
                print(json.dumps({'start': index}), file=out, flush=True)
                if index == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                if index == 3:
                    time.sleep(60)
                row = {'index': index, 'outcome': 'read', 'text': '', 'rss': 1, 'seconds': 0}
                print(json.dumps(row), file=out, flush=True)

    monkeypatch.setattr(fuzz, 'work', work)
    log = tmp_path / 'log.jsonl'
    options = ['texts', '--timeout', '2', '--log', str(log)]
    assert fuzz.main([*options, '--count', '2']) == 1
    assert fuzz.main([*options, '--count', '5']) == 1
    assert fuzz.main([*options, '--count', '5']) == 1  # nothing left to do
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found['read'], found['crash'], found['hang'], found['files']) == (3, 1, 1, 5)
    with pytest.raises(SystemExit, match='another run'):
        fuzz.main([*options, '--seed', '1'])


def test_growth_is_found() -> None:
    log = fuzz.Log(None, 'texts', 0)
    for index in range(400):
        rss = 2**30 + (2**20 * index if index > 90 else 0)
        log.add({'index': index, 'outcome': 'read', 'text': '', 'rss': rss, 'seconds': 0})
    assert log.growth > fuzz.GROWTH


def test_damage_is_the_same_each_time() -> None:
    data = bytes(range(256)) * 8
    first, again, other = (mutate(data, random.Random(k), [data]) for k in (1, 1, 2))
    assert first == again
    assert len({first, other, data}) == 3
