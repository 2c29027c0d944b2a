"""The notebooks run from the first cell to the last and draw what they show."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / 'docs' / 'notebooks'
# figures that each must draw
FIGURES = {'start': 3, 'segmentation': 2, 'band_ablation': 3, 'scene_embedding': 2}
# The build of the documentation runs these on one Python, too.
LONG = ('segmentation', 'band_ablation')
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in FIGURES]


def cells(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f'{name}.ipynb').read_text('utf-8'))['cells']
    return found


def is_drawn(figure: Figure) -> bool:
    """Whether each part of a figure shows something."""
    panels = [axes for axes in figure.axes if axes.get_visible()]
    return bool(panels) and all(
        axes.images or axes.lines or axes.patches or axes.collections or axes.containers
        for axes in panels
    )


def test_every_notebook_is_known() -> None:
    assert {path.stem for path in FOLDER.glob('*.ipynb')} == set(FIGURES)


@pytest.mark.parametrize('name', FIGURES)
def test_notebook_is_kept_without_output(name: str) -> None:
    code = [cell for cell in cells(name) if cell['cell_type'] == 'code']
    assert code
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)


@pytest.mark.filterwarnings('ignore:FigureCanvasAgg is non-interactive')
@pytest.mark.parametrize('name', NAMES)
def test_notebook_draws_its_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {'__name__': name}
    for k, cell in enumerate(cells(name)):
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), f'{name}.ipynb, cell {k}', 'exec'), names)
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert len(figures) == FIGURES[name]
    assert all(map(is_drawn, figures))
