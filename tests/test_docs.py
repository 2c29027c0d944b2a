"""The guides hold what they say: code runs, each error has its entry, links lead somewhere."""

import ast
import csv
import dataclasses
import importlib.util
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp
import timm
import torch
from rasterio.transform import from_origin
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

import torchgeo_aom
from torchgeo_aom import catalogue, errors
from torchgeo_aom.models.checkpoint import save_weights
from torchgeo_aom.models.weights_enum import ENUMS
from torchgeo_aom.studies.cards import paper_cards
from torchgeo_aom.tasks import (
    ClassificationTask,
    PretrainTask,
    SemanticSegmentationTask,
    upstream,
)

DOCS = Path(__file__).resolve().parents[1] / 'docs'
GUIDES = ('index', 'start', 'bands', 'patch_sizes', 'sensors', 'own_weights', 'weights')
CLASSES = [
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.AOMError | errors.AOMWarning)
]


def page(name: str) -> str:
    return (DOCS / f'{name}.md').read_text(encoding='utf-8')


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def inline(name: str, start: str) -> list[str]:
    """Calls in the sentences of a page."""
    return re.findall(rf'`({start}\b[\w.]*\([^`]*\))`', page(name))


def run(code: str, names: dict[str, Any], origin: str) -> None:
    exec(compile(code, origin, 'exec'), names)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the sensors and weights that a guide adds."""
    monkeypatch.setattr(catalogue, '_catalogue', None)
    before = {cls: (set(cls._member_map_), list(cls._member_names_)) for cls in ENUMS.values()}
    yield
    for cls, (known, names) in before.items():
        for name in set(cls._member_map_) - known:
            type.__delattr__(cls, name)
            del cls._member_map_[name]
        cls._member_names_[:] = names


@pytest.mark.usefixtures('forgotten')
@pytest.mark.parametrize('name', GUIDES)
def test_code_of_a_guide_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page(name)
    for toml in blocks(text, 'toml'):
        (tmp_path / 'fieldcam.toml').write_text(toml, encoding='utf-8')
    names: dict[str, Any] = {'__name__': name}
    found = blocks(text, 'python')
    assert found
    for code in found:
        run(code, names, f'{name}.md')


def test_start_has_the_shapes_that_it_says() -> None:
    names: dict[str, Any] = {}
    for code in blocks(page('start'), 'python')[:3]:
        run(code, names, 'start.md')
    assert names['image'].shape == (4, 64, 64)
    assert names['feature'].shape == (1, 192)
    assert names['tokens'].shape == (1, 1 + 8 * 8, 192)


def checkpoint(task: Any, path: str) -> None:
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator='cpu')
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)


def test_code_of_scenes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bands = 'sentinel2:10m'
    place: dict[str, Any] = {'crs': 'EPSG:32631', 'transform': from_origin(5e5, 4.6e6, 10, 10)}
    size: dict[str, Any] = {'width': 40, 'height': 24, 'count': 4, 'dtype': 'uint16'}
    with rasterio.open('IN.tif', 'w', driver='GTiff', **size, **place) as scene:
        scene.write(np.full((4, 24, 40), 1500, dtype=np.uint16))
    save_weights(torchgeo_aom.aom_vitt(bands=bands), 'aom.safetensors')
    task = SemanticSegmentationTask(
        model='upernet', backbone='aom_vitt', bands=bands, num_classes=2, decoder_channels=16
    )
    checkpoint(task, 'task.ckpt')
    for code in blocks(page('scenes'), 'python'):
        run(code, {}, 'scenes.md')
    with rasterio.open('MAP.tif') as file:
        assert file.shape == (24, 40)
    assert Path('EMB.tif').is_file() and Path('EMB.parquet').is_file()


def test_code_of_pretraining_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sharded, complete = blocks(page('pretraining'), 'python')
    names: dict[str, Any] = {'PretrainTask': PretrainTask, 'timm': timm}
    names |= {f.__name__: f for f in (fully_shard, register_fsdp_forward_method)}
    run(sharded, names, 'pretraining.md')
    assert 'configure_model' in vars(names['Sharded'])
    small: dict[str, Any] = {'depth': 1, 'decoder_depth': 1, 'patch_sizes': (16, 32)}
    checkpoint(PretrainTask('aom_vitt', bands='sentinel2', **small), 'last.ckpt')
    names = {'image': torch.randn(1, 2, 64, 64)}
    run(complete, names, 'pretraining.md')
    assert names['red_edge'].shape == (1, 1, 64, 64)


def test_code_for_hugging_face_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    run(blocks(page('frameworks'), 'python')[0], names, 'frameworks.md')
    model, restored = names['model'], names['restored']
    assert restored.bands == model.bands
    assert all(map(torch.equal, restored.parameters(), model.parameters()))
    (code,) = inline('frameworks', 'ClassificationTask')
    task = eval(code, {'ClassificationTask': upstream.Classification})
    assert task.model.bands == model.bands
    (weights,) = re.findall(r"weights='(my_aom/[^']+)'", page('frameworks'))
    bands = ['sentinel2:B8A', 'red', 1.61]
    task = ClassificationTask('aom_vitt', weights=weights, bands=bands, patch_size=8, num_classes=4)
    assert all(map(torch.equal, task.model.parameters(), model.parameters()))


def test_networks_of_smp_are_built() -> None:
    built = inline('frameworks', 'smp')
    assert len(built) == 2
    for code in built:
        network = eval(code.replace('vitb', 'vitt'), {'smp': smp}).eval()
        with torch.inference_mode():
            assert network(torch.rand(1, 4, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize('name', CLASSES)
def test_every_error_and_warning_has_an_entry(name: str) -> None:
    entry = page('troubleshooting').partition(f'\n### {name}\n')[2].partition('\n#')[0]
    assert len(entry.split()) > 20
    base = getattr(errors, name).__mro__
    also = next((c.__name__ for c in base if c in (ValueError, RuntimeError)), None)
    assert also is None or f'Also a `{also}`' in entry


def test_examples_of_errors_say_what_the_code_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = page('troubleshooting')
    names: dict[str, Any] = {}
    for code in blocks(text, 'python'):
        run(code, names, 'troubleshooting.md')
    lines = '\n'.join(blocks(text, 'pycon'))
    examples = re.findall(r'^>>> (.+)\n(\w+): (.+)$', lines, re.MULTILINE)
    assert {kind for _, kind, _ in examples} == {
        name for name in CLASSES if name.endswith('Error') and name != 'AOMError'
    }
    for code, kind, message in examples:
        with pytest.raises(getattr(errors, kind)) as caught:
            eval(code, names)
        assert type(caught.value).__name__ == kind
        said = ' '.join(str(caught.value).split())
        assert said.startswith(message.removesuffix('...').strip()), code


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCS / f'{name}.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def pages() -> Any:
    return script('pages')


def test_numbers_of_studies_are_those_of_their_rows(pages: Any) -> None:
    tables = script('result_tables')
    linked = {}
    for guide in tables.GUIDES:
        text = (DOCS / guide).read_text(encoding='utf-8')
        assert tables.filled(text) == text, 'python docs/result_tables.py writes them anew'
        linked |= {name: text for name in tables.TABLES if f'<!-- {name} -->' in text}
        source = [text]
        pages.point_to_cards(None, guide, source)
        assert '.csv)' in source[0] and '.csv#' not in source[0]
    assert set(linked) == set(tables.TABLES)
    assert linked.pop('patches').count('](results/patches/study.json)') >= 10
    for name, text in linked.items():
        lines = (DOCS / 'results' / f'{name}.csv').read_text(encoding='utf-8').splitlines()
        numbers = re.findall(rf'± [\d.]+\]\(results/{name}.csv#L(\d+)\)', text)
        assert len(numbers) > 10
        for number in numbers:
            row = next(csv.DictReader([lines[0], lines[int(number) - 1]]))
            assert (row['seed'], row['status']) == ('0', 'ok')


def test_signatures_of_dataclasses_can_be_read(pages: Any) -> None:
    """Sphinx shows a signature that is no Python as raw text, with its ``<factory>``."""
    written = []
    for module in pages.public_modules():
        for value in map(vars(module).get, module.__all__):
            if dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
                raw = re.sub(r' -> None$', '', str(inspect.signature(value)))
                text, _ = pages.show_signature(None, 'class', '', value, None, raw, '')
                ast.parse(f'def made{text}: ...')
                written.append((raw, text))
    assert any('<factory>' in raw for raw, _ in written)
    assert any("packages: 'dict[str, str]' = {}" in text for _, text in written)


def test_signature_names_types_shortly(pages: Any) -> None:
    raw = "(bands: TypeAliasForwardRef('torchgeo_aom.bands.BandSpec'), k: str = 'torchgeo_aom.x')"
    text, returned = pages.show_signature(None, 'function', '', print, None, raw, 'None')
    assert text == "(bands: ~torchgeo_aom.bands.BandSpec, k: str = 'torchgeo_aom.x')"
    assert returned == 'None'


def test_cards_show_every_value_that_the_paper_prints(tmp_path: Path, pages: Any) -> None:
    pages.write(tmp_path)
    helps = (tmp_path / 'commands.md').read_text(encoding='utf-8')
    for verb in pages.COMMANDS:
        said = helps.partition(f'## torchgeo-aom {verb}'.rstrip() + '\n')[2].partition('\n## ')[0]
        assert f'usage: torchgeo-aom {verb}' in said
        assert 'show this help message' in said
    text = (tmp_path / 'cards.md').read_text(encoding='utf-8')
    for card in paper_cards():
        assert f'## {card["name"]}: {card["title"]}' in text
        for line in card['paper']:
            printed = line['aom'] if isinstance(line['aom'], str) else f'{line["aom"]:g}'
            assert f'| {line["what"]} | {printed} |' in text
    everything = ''.join(path.read_text(encoding='utf-8') for path in tmp_path.glob('api_*.md'))
    # Each module that says what of it is public is on exactly one page.
    named = re.findall(r'^## (torchgeo_aom\S*)$', everything, re.MULTILINE)
    assert sorted(named) == sorted(module.__name__ for module in pages.public_modules())


@pytest.mark.parametrize('path', sorted(DOCS.glob('*.md')), ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r'^```.*?^```$', '', path.read_text('utf-8'), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        made = target.startswith('_generated/')
        assert made or target.startswith('https://') or (path.parent / target).exists(), target


def test_command_line_has_every_verb() -> None:
    from test_cli import HELPS

    written = [*HELPS, 'fit --config']
    for verb in (verb for verb in written if verb not in ('weights', 'study', 'scene')):
        assert re.search(rf'^\| .* `torchgeo-aom {verb}\b', page('cli'), re.MULTILINE), verb


def test_every_page_is_in_the_menu() -> None:
    listed = '\n'.join(blocks(page('index'), '{toctree}')).split()
    for path in DOCS.glob('*.md'):
        assert path.stem in (*listed, 'index'), path.name
    for path in DOCS.glob('notebooks/*.ipynb'):
        assert f'notebooks/{path.stem}' in listed


def test_the_site_is_built_by_the_checks(root: Path) -> None:
    extras = tomllib.loads((root / 'pyproject.toml').read_text('utf-8'))['project']
    named = {re.split('[<>=]', entry)[0] for entry in extras['optional-dependencies']['docs']}
    assert {'sphinx', 'myst-nb', 'furo'} <= named
    for checks in ('.ci/run', '.github/workflows/tests.yml'):
        assert 'make docs' in (root / checks).read_text('utf-8')
