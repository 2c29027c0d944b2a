"""The bench of inference: rows of the modes, and growth with the number of bands."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from torchgeo_aom import bench
from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.cli import main as cli

SMALL = ['--model', 'aom_vitt', '--size', '32', '--runs', '1', '--no-peers']


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(['bench', '--bands', 'sentinel2', *SMALL, '--json']) == 0
    rows = {row['model']: row for row in json.loads(capsys.readouterr().out)}
    tokens = [row['tokens'] for row in rows.values()]
    assert list(rows)[2:4] == ['aom_vitt, balanced', 'aom_vitt, fast']
    assert any('precision auto' in name for name in rows)
    assert tokens[:4] == [52, 52, 16, 8] and rows['aom_vitt']['ratio'] == 1.0


def test_modes_are_what_they_say() -> None:
    """Each row runs its own mode."""
    image = torch.randn(1, 13, 32, 32)
    called: list[Any] = []

    def model(x: torch.Tensor, speed: Any = None) -> torch.Tensor:
        called.append((speed, torch.is_autocast_enabled('cpu')))
        return x

    resolved = resolve_bands('sentinel2')
    names = []
    for name, _, run in bench._modes(model, 'aom_vitt', image, resolved, 16):  # type: ignore[arg-type]
        run()
        names.append(name)
    assert [speed for speed, _ in called] == ['balanced', 'fast', None]
    assert called[-1][1] is ('bfloat16' in names[-1]) and not called[0][1]


def test_growth(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['bench', '--model', 'aom_vitt', '--size', '64', '--runs', '1', '--growth']
    assert cli([*arguments, '4', '60', '--threads', '1', '--json']) == 0
    table = json.loads(capsys.readouterr().out)
    assert table['exact']['4'] == 1.0 and table['exact']['60'] > 2 * table['fast']['60']
    assert cli([*arguments, '4', '5']) == 0
    assert 'fast' in capsys.readouterr().out
    assert cli([*arguments, '1']) == 1
    assert '--growth' in capsys.readouterr().err
