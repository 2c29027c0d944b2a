"""Each configuration of `examples/downstream` runs by its command, on small files in true form."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from torchgeo_aom.cli import main
from torchgeo_aom.commands.probe import probe_parser
from torchgeo_aom.tasks.probe_cli import _values, config_from

sys.path.insert(0, str(Path(__file__).parents[1] / 'datasets'))
import true_files
from make_geobench import write_task

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'examples' / 'downstream'
DOCS = (ROOT / 'docs' / 'downstream.md').read_text(encoding='utf-8')
pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore:LightningCLI:UserWarning'),
    pytest.mark.filterwarnings('ignore:.*num_workers'),
    pytest.mark.filterwarnings('ignore:.*lr_scheduler.step'),
]


def task(name: str, size: int = 64) -> Callable[[Path], object]:
    return lambda root: write_task(root, name, size=size)


def several(name: str) -> Callable[[Path], object]:
    """With so many samples that every split has all classes that it needs."""
    return lambda root: write_task(root, name, size=32, counts=(20, 12, 12))


DENSE: dict[str, tuple[Callable[[Path], object], str]] = {
    'burn_scars': (true_files.burn_scars, 'dataset_args.root'),
    'cashew_plant': (task('m-cashew-plant'), 'root'),
    'chesapeake': (task('m-chesapeake'), 'root'),
    'hls_water': (true_files.hls_water, 'dataset_args.root'),
    'neontree': (task('m-NeonTree'), 'root'),
    'nz_cattle': (task('m-nz-cattle'), 'root'),
    'pv4ger_seg': (task('m-pv4ger-seg'), 'root'),
    'sa_crop_type': (task('m-SA-crop-type'), 'root'),
    'sparcs': (
        lambda root: true_files.sparcs(root, ('001081', '002053', '009058')),
        'dataset_args.root',
    ),
}
PROBES: dict[str, Callable[[Path], object]] = {
    'bigearthnet': lambda root: true_files.bigearthnet_v1(root, 4),
    'eurosat_probe': true_files.eurosat,
    'geobench_bigearthnet': several('m-bigearthnet'),
    'geobench_brick_kiln': several('m-brick-kiln'),
    'geobench_eurosat': several('m-eurosat'),
    'geobench_forestnet': several('m-forestnet'),
    'geobench_pv4ger': several('m-pv4ger'),
    'geobench_so2sat': several('m-so2sat'),
    'hls_worldcover': true_files.hls_water,
    'ucmerced': true_files.ucmerced,
}


@pytest.fixture(scope='module')
def burn_scars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return true_files.burn_scars(tmp_path_factory.mktemp('burn_scars'))


def test_none_is_forgotten() -> None:
    assert {path.stem for path in FOLDER.glob('*.yaml')} == {*DENSE, *PROBES}


@pytest.mark.parametrize('name', DENSE)
def test_fit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps and a validation; for one of them the test of the checkpoint too."""
    make, root = DENSE[name]
    make(tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    small = {
        'model.init_args.backbone': 'aom_vitt', 'model.init_args.decoder_channels': 16,
        f'data.init_args.{root}': tmp_path / 'data', 'data.init_args.batch_size': 2,
        'data.init_args.crop': 64, 'data.init_args.eval_crop': 64, 'data.init_args.num_workers': 0,
        'trainer.accelerator': 'cpu', 'trainer.max_steps': 2, 'trainer.limit_train_batches': 2,
        'trainer.limit_val_batches': 1, 'trainer.limit_test_batches': 1,
        'trainer.enable_progress_bar': 'false', 'trainer.enable_model_summary': 'false',
        'trainer.logger': 'false', 'trainer.default_root_dir': tmp_path,
        'trainer.num_sanity_val_steps': 0,
    }  # fmt: skip
    if name == 'sparcs':
        small |= {'data.init_args.dataset_args.folds': 3}
    options = ['--config', str(FOLDER / f'{name}.yaml'), *(f'--{k}={v}' for k, v in small.items())]
    assert main(['fit', *options]) == 0
    (checkpoint,) = tmp_path.rglob('*.ckpt')
    if name == 'hls_water':
        assert main(['test', *options, f'--ckpt_path={checkpoint}']) == 0


@pytest.mark.parametrize('name', PROBES)
def test_probe(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PROBES[name](tmp_path / 'data')
    small = '--model aom_vitt --patch-size 32 --seeds 1 --methods statistics random --num-workers 0'
    where = ['--root', str(tmp_path / 'data'), '--output', str(tmp_path)]
    # Logistic regression once for one label, once for several; elsewhere what takes less time.
    probe = 'linear' if name in ('ucmerced', 'bigearthnet') else 'knn5'
    options = [*small.split(), '--probes', probe, *where]
    code = main(['probe', '--config', str(FOLDER / f'{name}.yaml'), *options])
    out, err = capsys.readouterr()
    assert code == 0, err
    rows = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert rows and all(0 <= score <= 1 for row in rows for score in row['mean'].values())
    assert {row['method'] for row in rows} == {'statistics', 'random'} and 'random' in out


@pytest.mark.parametrize('block', re.findall(r'```python\n(.*?)```', DOCS, re.DOTALL), ids=range(2))
def test_documented_python(
    block: str, burn_scars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    block = block.replace("'data/hls_burn_scars'", repr(str(burn_scars)))
    exec(compile(block, 'downstream.md', 'exec'), names)
    if 'result' in names:
        assert 0.3 < names['result'].mean < 1 and capsys.readouterr().out
    else:
        assert names['data'].bands == ('hls:nir08', 'hls:swir22')


def test_documented_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of the documentation and of the files' heads have options that exist."""
    monkeypatch.chdir(ROOT)
    text = DOCS + ''.join(path.read_text() for path in FOLDER.glob('*.yaml'))
    joined = re.sub(r'\\\n[ #]*', '', text)
    found = re.findall(r'^[#$ ]*torchgeo-aom probe ((?!--help).*)$', joined, re.MULTILINE)
    assert len(found) >= 12
    for line in found:
        config_from(_values(probe_parser().parse_args(line.split())), line)
    for line in re.findall(r'^[#$ ]*torchgeo-aom (?:fit|test) (.*)$', joined, re.MULTILINE):
        path = ROOT / line.split()[1]
        keys = re.findall(r'--data\.init_args\.([\w.]+)=', line)
        where: Any = yaml.safe_load(path.read_text())['data']['init_args']
        for key in keys[0].split('.'):
            where = where[key]
        assert where.startswith('data')
