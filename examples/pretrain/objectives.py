"""Table 4 in small: which objective learns features that tell classes apart, over several seeds.

Pretrains the same small encoder with each objective and the same images, steps and masks, then fits
linear probes on labelled images that no run has seen. Rows are written as they come; a run that is
killed goes on where it was.

    python examples/weights/corpus.py --ucmerced DATA/UCMerced_LandUse/Images --chips DATA/testset \
        --out corpus
    python examples/pretrain/objectives.py --ucmerced DATA/UCMerced_LandUse/Images --hls DATA/hls
"""

from __future__ import annotations

import argparse
import csv
import logging
import warnings
from collections.abc import Callable
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
from torchgeo_aom.datasets.splits import fold_split, hash_split
from torchgeo_aom.tasks.pretrain import PretrainTask
from torchgeo_aom.tasks.pretrain_metrics import rank_me
from torchgeo_aom.tasks.probe import extract_features, fit_linear, linear_probe
from torchgeo_aom.transforms import Normalize

BATCH = 64
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
TESTS = {'eurosat': 'EuroSAT-200', 'ucmerced': 'UC Merced', 'hls': 'HLS patches'}
COLUMNS = ('objective', 'seed', 'steps', *TESTS, 'rank_me', 'embedding_std')


@dataclass
class Labelled:
    """Normalized images of a probe."""

    bands: str
    images: Tensor
    labels: np.ndarray[Any, Any]
    parts: np.ndarray[Any, Any]  # folds, or 'train', 'val' and 'test'
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
    return Labelled('sentinel2:eurosat', images, data.labels, data.folds)


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
    names = [path.parent.name for path in files]
    labels = np.unique(names, return_inverse=True)[1]
    parts = np.array(hash_split([path.name for path in files], names))
    return Labelled('rgb', torch.stack(images), labels, parts)


def hls(root: Path) -> Labelled:
    """Patches with a class of WorldCover, 7 bands, five folds by site."""
    data = WorldCoverPatches(root, split='all')
    normalize = data.normalize(nodata_fill=True)
    images = torch.stack([normalize(data[k]['image']) for k in range(len(data))])
    sites = np.asarray(data.groups)
    folds = np.zeros(len(data), dtype=int)
    for fold in range(1, 5):
        folds[np.array(fold_split(sites.tolist(), 5, fold)) == 'test'] = fold
    return Labelled('hls:common7', images, np.asarray(data.labels), folds, sites)


def probe(encoder: Any, data: Labelled) -> float:
    """Accuracy in percent of a linear probe at patch size 16."""
    found = extract_features(encoder, data, data.bands, 16, batch_size=32, cache=False)
    values = found.values.astype(np.float64)
    if data.parts.dtype.kind == 'i':
        groups = data.parts if data.groups is None else data.groups
        return 100 * linear_probe(values, data.labels, data.parts, groups, STRENGTHS).mean
    x = {part: (values[data.parts == part], data.labels[data.parts == part]) for part in
         ('train', 'val', 'test')}  # fmt: skip
    fits = [fit_linear(*x['train'], strength) for strength in STRENGTHS]
    scores = [(fit(x['val'][0]) == x['val'][1]).mean() for fit in fits]
    best = fits[int(np.argmax(scores))]
    return 100 * float((best(x['test'][0]) == x['test'][1]).mean())


def pretrain(
    options: dict[str, Any], arguments: argparse.Namespace, seed: int
) -> tuple[Any, float]:
    """One run; the encoder and the last spread of its embeddings."""
    seed_everything(seed, verbose=False)
    task = PretrainTask(
        model='aom_vitt',
        depth=arguments.depth,
        decoder_depth=2,
        patch_sizes=(12, 16, 24),
        kernel_sizes=(16, 32),
        scales_per_step=2,
        batch_size=BATCH,
        base_lr=4e-3,
        warmup_epochs=1,
        epochs=10,
        seed=seed,
        metrics_every=25,
        **options,
    )
    data = PretrainDataModule(arguments.sources, batch_size=BATCH, seed=seed)
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    spread = Spread()
    trainer = Trainer(
        accelerator='cpu', devices=1, max_steps=arguments.steps, logger=False,
        enable_checkpointing=False, callbacks=[spread], num_sanity_val_steps=0,
        limit_train_batches=arguments.steps // 10, enable_model_summary=False,
        enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(task, data)
    return task.encoder, spread.value


def main() -> None:
    """Run all cells that are not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sources', default=str(SOURCES), help='YAML list of sources')
    parser.add_argument('--ucmerced', type=Path, required=True, help='folder of 21 class folders')
    parser.add_argument('--hls', type=Path, required=True, help='folder of the HLS water chips')
    parser.add_argument('--only', nargs='*', help='these objectives, and random weights')
    parser.add_argument('--out', type=Path, default=Path('runs/objectives'))
    parser.add_argument('--steps', type=int, default=200, help='a multiple of 10')
    parser.add_argument('--depth', type=int, default=4, help='blocks of the encoder')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / 'rows.csv'
    tests = dict(
        zip(TESTS, (eurosat(), ucmerced(arguments.ucmerced), hls(arguments.hls)), strict=True)
    )
    cells: list[tuple[str, Callable[[int], tuple[Any, float]], int]] = [
        ('random', lambda seed: pretrain({}, _with(arguments, 0), seed), 0)
    ]
    for name, options in OBJECTIVES.items():
        if arguments.only and name not in arguments.only:
            continue
        run = lambda seed, options=options: pretrain(options, arguments, seed)  # noqa: E731
        cells.append((name, run, arguments.steps))
    for seed in arguments.seeds:
        for name, run, steps in cells:
            rows = list(csv.DictReader(table.open())) if table.exists() else []
            done = {(row['objective'], row['seed'], row['steps']) for row in rows}
            if (name, str(seed), str(steps)) in done:
                continue
            encoder, spread = run(seed)
            row: dict[str, Any] = {'objective': name, 'seed': seed, 'steps': steps}
            row |= {key: f'{probe(encoder, data):.2f}' for key, data in tests.items()}
            features = extract_features(encoder, tests['ucmerced'], 'rgb', 16, cache=False).values
            row |= {'rank_me': f'{float(rank_me(torch.from_numpy(features))):.1f}'}
            row |= {'embedding_std': f'{spread:.4f}'}
            with table.open('a', newline='') as file:
                writer = csv.DictWriter(file, COLUMNS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)
    report(table)


def _with(arguments: argparse.Namespace, steps: int) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(arguments), 'steps': steps})


def report(table: Path) -> None:
    """Print mean and spread over seeds."""
    rows = list(csv.DictReader(table.open()))
    heads = ''.join(f'{title:>16}' for title in TESTS.values())
    print(f'{"objective":36} {"steps":>5}{heads}  RankMe  spread')
    for name, steps in dict.fromkeys((row['objective'], row['steps']) for row in rows):
        own = [row for row in rows if (row['objective'], row['steps']) == (name, steps)]
        columns = {c: np.array([float(row[c]) for row in own]) for c in COLUMNS[3:]}
        text = ''.join(f'{columns[c].mean():9.1f} +- {_spread(columns[c]):3.1f}' for c in TESTS)
        rank, std = columns['rank_me'].mean(), columns['embedding_std'].mean()
        print(f'{name:36} {steps:>5}{text}  {rank:6.1f}  {std:6.3f}')


def _spread(values: np.ndarray[Any, Any]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float('nan')


if __name__ == '__main__':
    main()
