"""The configurations of ``examples/studies`` run by their command, on few chips and bands."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_tools import EXAMPLES
from true_files import hls_water

from torchgeo_aom.cli import main

SMALL = (
    '--probes',
    'knn5',
    '--seeds',
    '1',
    '--folds',
    '2',
    '--subsets',
    '1',
    '--orders',
    '1',
    '--peer-size',
    '32',
)


@pytest.mark.parametrize(
    'path', sorted((EXAMPLES / 'studies').glob('*.yaml')), ids=lambda p: p.stem
)
def test_study(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All models and kinds of importance that the file names, with three bands."""
    options = [
        '--config',
        str(path),
        *SMALL,
        '--patch-size',
        '32',
        '--output',
        str(tmp_path / 'out'),
    ]
    if 'WorldCoverPatches' in path.read_text():
        data = ['--root', str(hls_water(tmp_path / 'hls')), '--bands', 'blue', 'green', 'red']
    else:
        data = ['--every', '10', '--bands', 'sentinel2:rgb']
    assert main(['study', 'bands', *options, *data]) == 0
    captured = capsys.readouterr()
    assert captured.out.split()[-1] == str(tmp_path / 'out' / 'report.html')
    report = (tmp_path / 'out' / 'report.md').read_text()
    for name in ('aom_vitt', 'rcf', 'statistics', 'Shapley'):
        assert name in report
