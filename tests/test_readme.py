"""The Python blocks of the README run as they stand, and its tables say what is so."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from torchgeo_aom.bands import resolve_bands

README = (Path(__file__).resolve().parents[1] / 'README.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```python\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return README.partition(f'\n## {title}\n')[2].partition('\n## ')[0]


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, 'README.md', 'exec'), {'__name__': 'readme'})


def test_quick_start_has_the_shapes_that_it_says() -> None:
    names: dict[str, object] = {}
    exec(section('Quick start').partition('```python\n')[2].partition('```')[0], names)
    assert names['features'].shape == (2, 1 + 4 * 4, 192)  # type: ignore[attr-defined]
    assert names['logits'].shape == (1, 10)  # type: ignore[attr-defined]


def test_configuration_builds_a_task() -> None:
    block = section('Segment').partition('```yaml\n')[2].partition('```')[0]
    model = yaml.safe_load(block)['model']
    module, _, name = model['class_path'].rpartition('.')
    task = getattr(importlib.import_module(module), name)(**model['init_args'])
    assert task.hparams['in_channels'] == 7


def test_presets_have_the_bands_that_it_says() -> None:
    rows = re.findall(r'^\| (`.+`) \| ([\d, ]+)', section('Bands'), re.MULTILINE)
    counted = 0
    for names, counts in rows:
        presets = re.findall(r'`(.+?)`', names)
        numbers = [int(count) for count in counts.split(',')]
        assert [len(resolve_bands(preset)) for preset in presets] == numbers
        counted += len(presets)
    assert counted >= 15


def test_models_have_the_parameters_that_it_says() -> None:
    from torchgeo_aom.models.plan import describe

    rows = re.findall(r'^\| `(aom_\w+)` \| .+? \| ([\d.]+) M \|', section('Weights'), re.MULTILINE)
    assert len(rows) == 4
    for name, millions in rows:
        assert f'{describe(name).parameters / 1e6:.1f}' == millions


def test_links_lead_somewhere(root: Path) -> None:
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        assert target.startswith('https://') or (root / target).exists(), target
