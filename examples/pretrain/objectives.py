"""Table 4 in small: which objective learns features that tell classes apart, over several seeds.

Pretrains the same small encoder with each objective and the same images, steps and masks, then fits
linear probes on labelled images that no run has seen: other places of HLS, chips of EuroSAT, and
photographs of UC Merced where they are given. The first row of each seed is the encoder before any
training. Rows are written as they come; a run that is killed goes on where it was.

    python examples/weights/corpus.py --data DATA --out corpus
    python examples/pretrain/objectives.py --hls DATA/hls_water --steps 600

A row takes about two minutes of one core. What it gave: "Collapse" in docs/pretraining.md.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor
from torch.nn import functional as F

from torchgeo_aom.data.loader import PretrainDataModule
from torchgeo_aom.data.samples import EuroSAT200
from torchgeo_aom.datasets.hls_water import WorldCoverPatches
from torchgeo_aom.tasks.divisions import Division, given_division
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.pretrain_metrics import rank_me
from torchgeo_aom.tasks.probe import extract_features, run_probe
from torchgeo_aom.transforms import Normalize

sys.path.insert(0, str(Path(__file__).parents[1] / 'weights'))
from rules import hls_split, ucmerced_split

BATCH = 32
STRENGTHS = (0.01, 0.1, 1.0)
SOURCES = Path(__file__).with_name('objectives.yaml')
#: What Eq. 8 is made of in each run; weights of reconstruction and alignment.
OBJECTIVES: dict[str, dict[str, Any]] = {
    'MSE': {'align_weight': 0.0},
    'MSE + InfoNCE, Eq. 7 as printed': {'negatives': 'none'},
    'MSE + InfoNCE, Eq. 7, no batch norm': {'negatives': 'none', 'projector_norm': 'none'},
    'MSE + InfoNCE, batch negatives': {'negatives': 'batch'},
    'the same, each scale its own view': {'negatives': 'batch', 'view_size': 64},
}
TESTS = {'hls': 'HLS patches', 'eurosat': 'EuroSAT-200', 'ucmerced': 'UC Merced'}
COLUMNS = ('objective', 'seed', 'steps', *TESTS, 'rank_me', 'embedding_std')


@dataclass
class Labelled:
    """Normalized images of a probe."""

    bands: str
    images: Tensor
    labels: np.ndarray[Any, Any]
    divisions: list[Division]
    groups: np.ndarray[Any, Any] | None = None  # places

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one of them."""
        if index >= len(self):
            raise IndexError(index)
        return {'image': self.images[index], 'label': torch.tensor(int(self.labels[index]))}


class Spread(Callback):
    """Keeps the last spread of the embeddings that the task logs."""

    value = float('nan')

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read it off."""
        self.value = float(trainer.callback_metrics.get('train/embedding_std', float('nan')))


def eurosat() -> Labelled:
    """The shipped chips, 13 bands, five folds by place."""
    data = EuroSAT200()
    normalize = Normalize(data.bands, product=data.product)
    images = torch.stack([normalize(data[k]['image']) for k in range(len(data))])
    divisions = [given_division(np.where(data.folds == fold, 'test', 'train')) for fold in range(5)]
    return Labelled('sentinel2:eurosat', images, data.labels, divisions, np.array(data.cells))


def ucmerced(folder: Path, size: int = 128) -> Labelled:
    """UC Merced at half its resolution, split by hash: 60, 20 and 20 % of each class."""
    import rasterio

    files = sorted(folder.glob('*/*.tif'))
    if len(files) != 2100:
        raise SystemExit(f'{folder} holds {len(files)} images in folders of classes, not 2100.')
    normalize = Normalize('rgb', unit='uint8')
    images = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # they have no georeference
        for path in files:
            with rasterio.open(path) as file:
                image = torch.from_numpy(file.read([1, 2, 3])).float()[None]
            image = F.interpolate(image, (size, size), mode='bilinear', antialias=True)
            images.append(normalize(image)[0])
    labels = np.unique([path.parent.name for path in files], return_inverse=True)[1]
    division = given_division(ucmerced_split([path.name for path in files]))
    return Labelled('rgb', torch.stack(images), labels, [division])


def hls(root: Path) -> Labelled:
    """Patches with a class of WorldCover, 7 bands; half of the places train, the others test."""
    with (root / 'derived_meta.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    sites = [row['site_group'] for row in rows]  # all places: the split is of these
    split = dict(zip(sites, hls_split(sites), strict=True))
    data = WorldCoverPatches(root, split='all')
    normalize = data.normalize(nodata_fill=True)
    images = torch.stack([normalize(data[k]['image']) for k in range(len(data))])
    division = given_division([split[str(site)] for site in data.groups])
    return Labelled(
        'hls:common7', images, np.asarray(data.labels), [division], np.asarray(data.groups)
    )


def features(encoder: Any, data: Labelled) -> np.ndarray[Any, Any]:
    """Image features at patch size 16."""
    found = extract_features(encoder, data, data.bands, 16, batch_size=32, cache=False)
    return found.values.astype(np.float64)


def probe(values: np.ndarray[Any, Any], data: Labelled) -> float:
    """Accuracy in percent of a linear probe."""
    result = run_probe(values, data.labels, data.divisions, data.groups, strengths=STRENGTHS)
    return 100 * result.mean


def pretrain(
    options: dict[str, Any], arguments: argparse.Namespace, seed: int, steps: int
) -> tuple[Any, float]:
    """One run; the encoder and the last spread of its embeddings."""
    seed_everything(seed, verbose=False)
    task = PretrainTask(
        model='aom_vitt',
        embed_dim=arguments.width,
        depth=arguments.depth,
        decoder_depth=1,
        patch_sizes=(12, 16, 24),
        kernel_sizes=(16, 32),
        scales_per_step=2,
        batch_size=BATCH,
        base_lr=8e-3,
        warmup_epochs=1,
        epochs=10,
        seed=seed,
        metrics_every=25,
        **options,
    )
    if not steps:
        return task.encoder, float('nan')
    data = PretrainDataModule(arguments.sources, batch_size=BATCH, seed=seed)
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    spread = Spread()
    trainer = Trainer(
        accelerator='cpu', devices=1, max_steps=steps, logger=False,
        enable_checkpointing=False, callbacks=[spread], num_sanity_val_steps=0,
        limit_train_batches=steps // 10, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, data)
    return task.encoder, spread.value


def cells(arguments: argparse.Namespace) -> list[tuple[str, dict[str, Any], int]]:
    """Name, options and steps of each row of a seed, the untrained encoder first."""
    wanted = [name for name in OBJECTIVES if not arguments.only or name in arguments.only]
    trained = [(name, OBJECTIVES[name], arguments.steps) for name in wanted]
    return [('before training', {}, 0), *trained]


def measured(encoder: Any, spread: float, tests: dict[str, Labelled]) -> dict[str, str]:
    """What an encoder is worth: a column each."""
    values = {key: features(encoder, data) for key, data in tests.items()}
    row = {key: f'{probe(values[key], data):.2f}' for key, data in tests.items()}
    row['rank_me'] = f'{float(rank_me(torch.from_numpy(values["eurosat"]))):.1f}'
    return row | {'embedding_std': f'{spread:.4f}'}


def main() -> None:
    """Run all cells that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sources', default=str(SOURCES), help='YAML list of sources')
    parser.add_argument('--hls', type=Path, required=True, help='folder of the HLS water chips')
    parser.add_argument('--ucmerced', type=Path, help='folder of 21 class folders')
    parser.add_argument('--only', nargs='*', choices=OBJECTIVES, help='these, and no training')
    parser.add_argument('--out', type=Path, default=Path('runs/objectives'))
    parser.add_argument('--steps', type=int, default=100, help='a multiple of 10')
    parser.add_argument('--width', type=int, default=96, help='of the encoder')
    parser.add_argument('--depth', type=int, default=3, help='blocks of the encoder')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / 'rows.csv'
    tests = {'hls': hls(arguments.hls), 'eurosat': eurosat()}
    if arguments.ucmerced:
        tests['ucmerced'] = ucmerced(arguments.ucmerced)
    for seed in arguments.seeds:
        for name, options, steps in cells(arguments):
            rows = list(csv.DictReader(table.open())) if table.exists() else []
            done = {(row['objective'], row['seed'], row['steps']) for row in rows}
            if (name, str(seed), str(steps)) in done:
                continue
            encoder, spread = pretrain(options, arguments, seed, steps)
            row = {'objective': name, 'seed': seed, 'steps': steps}
            row |= measured(encoder, spread, tests)
            with table.open('a', newline='') as file:
                writer = csv.DictWriter(file, COLUMNS, restval='nan')
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)
    report(table)


def report(table: Path) -> None:
    """Print mean and spread over seeds, and how often training was of use."""
    rows = list(csv.DictReader(table.open()))
    before = {row['seed']: row for row in rows if row['steps'] == '0'}
    heads = ''.join(f'{title:>22}' for title in TESTS.values())
    print(f'{"objective":36} {"steps":>5}{heads}  RankMe  spread')
    for name, steps in dict.fromkeys((row['objective'], row['steps']) for row in rows):
        own = [row for row in rows if (row['objective'], row['steps']) == (name, steps)]
        columns = {c: np.array([float(row[c]) for row in own]) for c in COLUMNS[3:]}
        text = ''
        for key in TESTS:
            better = sum(float(row[key]) > float(before[row['seed']][key]) for row in own)
            wins = f' ({better}/{len(own)})' if steps != '0' else ' ' * 6
            text += f'{columns[key].mean():10.1f} +- {_spread(columns[key]):3.1f}{wins:>6}'
        rank, std = columns['rank_me'].mean(), columns['embedding_std'].mean()
        print(f'{name:36} {steps:>5}{text}  {rank:6.1f}  {std:6.3f}')
    print('(n/m): better than before training for n of m seeds')


def _spread(values: np.ndarray[Any, Any]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float('nan')


if __name__ == '__main__':
    main()
