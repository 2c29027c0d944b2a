"""Segmentation by bands and seeds: UPerNet on a frozen encoder, beside baselines without one."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..data.samples import composite
from ..datamodules.base import BandDataModule
from ..datasets.pictures import class_colors
from ..errors import ConfigError, DataError, suggest
from ..plot import plot_maps, plot_scores
from .dense_scores import fit_pixels, iou_report, random_features
from .heads import HEADS
from .landcover import Progress, quiet_lightning
from .segmentation import SemanticSegmentationTask, Variant

__all__ = ('METHODS', 'Protocol', 'main', 'run_segmentation')

METHODS = ('upernet', 'pixels', 'rcf')
NAMES = {'pixels': 'pixel regression', 'rcf': 'random convolutions'}
PIXELS = 10000
KERNELS = 32
PLACES = 4  # in the figure


@dataclass(frozen=True)
class Protocol:
    """What is run; each result belongs to one of these, a set of bands, a method and a seed."""

    dataset: str
    dataset_args: dict[str, Any] = field(default_factory=dict)
    model: str = 'aom_vitb'
    weights: str | None = None
    patch_size: int | str = 16
    image_size: int | None = None
    steps: int | None = None
    epochs: int = 20
    batch_size: int = 8
    crop: int | None = None
    lr: float = 1e-3
    normalization: str = 'catalogue'
    decoder_variant: Variant = 'smp'
    decoder_channels: int | None = None
    aux_weight: float = 0.4
    ignored_classes: tuple[int, ...] = ()

    def data(self, bands: Any) -> BandDataModule:
        """The data, with some of its bands.

        Args:
            bands: bands, or None for all.

        Returns:
            A data module that is set up.

        Raises:
            ConfigError: if samples have no masks.
        """
        module = BandDataModule(
            self.dataset,
            dict(self.dataset_args),
            bands,
            self.batch_size,
            crop=self.crop,
            normalization=self.normalization,
        )
        module.setup('fit')
        module.setup('test')
        if module._built().target != 'mask':
            raise ConfigError(f'{self.dataset} has no masks; use `torchgeo-aom probe` for it.')
        return module


def _samples(module: BandDataModule, split: str) -> tuple[list[Tensor], list[Tensor]]:
    """Normalized images and masks of a whole split."""
    dataset: Any = getattr(module, f'{split}_dataset')
    images, masks = [], []
    for k in range(len(dataset)):
        sample = dataset[k]
        batch = module.prepare({key: sample[key][None] for key in ('image', 'mask')})
        images.append(batch['image'][0])
        masks.append(batch['mask'][0])
    return images, masks


def _upernet(protocol: Protocol, module: BandDataModule, seed: int, label: str) -> list[Any]:
    """Train a head and return the class of each pixel of the test split."""
    seed_everything(seed, verbose=False)
    task = SemanticSegmentationTask(
        'upernet',
        protocol.model,
        weights=protocol.weights,
        bands=list(module.bands),
        patch_size=protocol.patch_size,
        image_size=protocol.image_size,
        num_classes=module.num_classes,
        ignore_index=module.ignore_index,
        ignored_classes=list(protocol.ignored_classes) or None,
        lr=protocol.lr,
        freeze_backbone=True,
        schedule='poly',
        weight_decay=0.01,
        decoder_variant=protocol.decoder_variant,
        decoder_channels=protocol.decoder_channels,
        aux_weight=protocol.aux_weight,
    )
    batches = len(module.train_dataloader())
    steps = protocol.steps or protocol.epochs * batches
    with quiet_lightning(), tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[Progress(label, steps)],
            default_root_dir=scratch,
        )
        trainer.fit(task, datamodule=module)
    task.eval()
    said = []
    with torch.inference_mode():
        for image in _samples(module, 'test')[0]:
            said.append(task(image[None].to(task.device)).argmax(1)[0].cpu().numpy())
    return said


def _baseline(method: str, module: BandDataModule, seed: int) -> list[NDArray[Any]]:
    images, masks = _samples(module, 'train')
    features: Any = random_features(images, KERNELS, seed) if method == 'rcf' else lambda x: x
    classify = fit_pixels(
        [features(image) for image in images], masks, PIXELS, seed, module.ignore_index
    )
    return [classify(features(image)) for image in _samples(module, 'test')[0]]


def run_segmentation(
    protocol: Protocol,
    bands: dict[str, Any],
    seeds: Sequence[int],
    folder: Path,
    methods: Sequence[str] = METHODS,
) -> list[dict[str, Any]]:
    """Run all sets of bands, methods and seeds that a folder does not hold yet.

    Args:
        protocol: what is run.
        bands: name of each set of bands, and the set; None for all bands.
        seeds: of the head, the order of samples, and the pixels of the baselines; where there are
            no weights, of the encoder too.
        folder: where results are kept, one line each in ``results.jsonl``, and class maps.
        methods: some of ``METHODS``.

    Returns:
        The results asked for.

    Raises:
        ConfigError: if the data has no masks.
        DataError: if the folder holds results that cannot be read.
    """
    path = folder / 'results.jsonl'
    kept = _kept(path)
    facts = json.loads(json.dumps({'version': __version__, **asdict(protocol)}))
    rows = []
    for name, spec in bands.items():
        module: BandDataModule | None = None
        for method in methods:
            for seed in seeds:
                cell = {'bands': name, 'spec': spec, 'method': method, 'seed': seed, **facts}
                row = next((r for r in kept if cell.items() <= r.items()), None)
                if row is None:
                    module = module or protocol.data(spec)
                    start = time.monotonic()
                    label = f'{name}, {NAMES.get(method, method)}, seed {seed}'
                    if method == 'upernet':
                        said: list[Any] = _upernet(protocol, module, seed, label)
                    else:
                        print(label, file=sys.stderr)
                        said = _baseline(method, module, seed)
                    truth = [mask.numpy() for mask in _samples(module, 'test')[1]]
                    scores = iou_report(
                        truth, said, module.classes, module.ignore_index, protocol.ignored_classes
                    )
                    left_out = [module.classes[k] for k in protocol.ignored_classes]
                    row = {**cell, **scores, 'left out of the mean': left_out}
                    row['seconds'] = round(time.monotonic() - start, 1)
                    if seed == seeds[0]:
                        shown = np.stack(said[:PLACES]) if len({s.shape for s in said}) == 1 else 0
                        np.savez_compressed(folder / f'{name}_{method}.npz', maps=shown)
                    with path.open('a', encoding='utf-8') as file:
                        file.write(json.dumps(row) + '\n')
                rows.append(row)
    return rows


def _kept(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    except ValueError as error:
        raise DataError(f'{path} is damaged ({error}); remove it, or its last line.') from error


def _scores(
    rows: list[dict[str, Any]], methods: Sequence[str], names: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Mean and standard deviation over seeds, by method and set of bands."""
    found = {}
    for method in methods:
        cells = [
            [r['mean IoU'] for r in rows if (r['method'], r['bands']) == (method, name)]
            for name in names
        ]
        found[method] = [
            (float(np.mean(c)), float(np.std(c, ddof=1)) if len(c) > 1 else 0.0) for c in cells
        ]
    return found


def _draw(
    protocol: Protocol,
    rows: list[dict[str, Any]],
    bands: dict[str, Any],
    methods: Sequence[str],
    folder: Path,
) -> None:
    label = f'UPerNet on frozen {protocol.model} ({protocol.weights or "random"})'
    titles = {'upernet': label, **NAMES}
    scores = _scores(rows, methods, list(bands))
    seeds = len({row['seed'] for row in rows})
    figure: Any = plot_scores(
        list(bands),
        {titles[method]: values for method, values in scores.items()},
        title=f'{protocol.dataset}: mean IoU on the test split',
        ylabel='mean IoU (%)',
        note=f'mean and standard deviation of {seeds} seeds',
    )
    figure.savefig(folder / 'scores.png', dpi=120)
    module = protocol.data(None)
    images, masks = _samples(module, 'test')
    count = min(PLACES, len(images))
    dataset: Any = module.test_dataset
    columns: dict[str, Any] = {
        'image': [composite(image, dataset.band_objects) for image in images[:count]],
        'truth': [mask.numpy() for mask in masks[:count]],
    }
    for name in bands:
        for method in methods:
            path = folder / f'{name}_{method}.npz'
            with np.load(path, allow_pickle=False) as file:
                if file['maps'].ndim == 3:
                    columns[f'{NAMES.get(method, method)},\n{name}'] = list(file['maps'])
    shades = class_colors(module.num_classes, dataset.colors)
    title = f'{protocol.dataset}: {label}'
    maps: Any = plot_maps(
        [f'test {k}' for k in range(count)], columns, module.classes, shades, title=title
    )
    maps.savefig(folder / 'maps.png', dpi=120)


def _table(
    rows: list[dict[str, Any]], methods: Sequence[str], bands: Sequence[str], model: str
) -> str:
    scores = _scores(rows, methods, bands)
    width = max(len(name) for name in bands) + 2
    names = {'upernet': f'UPerNet, {model}', **NAMES}
    lines = ['bands'.ljust(width) + '  '.join(names[m].rjust(22) for m in methods)]
    for k, name in enumerate(bands):
        cells = (f'{100 * scores[m][k][0]:.1f} +- {100 * scores[m][k][1]:.1f}' for m in methods)
        lines.append(name.ljust(width) + '  '.join(cell.rjust(22) for cell in cells))
    return '\n'.join(lines)


def _pair(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``, the value as JSON where it is JSON, else as text."""
    name, sign, value = text.partition('=')
    if not (name and sign):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _bands(entries: Sequence[str]) -> dict[str, Any]:
    """``all``, ``rgb``, ``nir08`` or ``red,nir08``, each perhaps after ``NAME=``."""
    chosen: dict[str, Any] = {}
    for entry in entries:
        name, _, spec = entry.rpartition('=')
        listed = spec.split(',') if ',' in spec else spec
        chosen[(name or spec).replace('/', '-')] = None if spec == 'all' else listed
    return chosen


EPILOG = """\
examples:
  torchgeo-aom segment --dataset HLSWater --data root=DIR --bands all --bands rgb --bands nir08 \\
      --model aom_vitt --patch 16 --steps 300 --output output/hls_water
"""


def main(argv: list[str] | None = None) -> int:
    """Run the protocol on a data set.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.

    Raises:
        ConfigError: if an option is wrong.
    """
    parser = argparse.ArgumentParser(
        'torchgeo-aom segment',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--dataset', required=True, help='class in torchgeo_aom.datasets, or an import path')
    add('--data', type=_pair, action='append', default=[], metavar='NAME=VALUE',
        help='an argument of the data set, such as root=DIR; may be repeated')  # fmt: skip
    add('--bands', action='append', default=[], metavar='[NAME=]BANDS',
        help="a set of bands: all, rgb, or red,nir08; may be repeated (default: all)")  # fmt: skip
    add('--seeds', type=int, nargs='+', default=[0, 1, 2], help='default: 0 1 2')
    add('--methods', nargs='+', default=list(METHODS), help='default: all of %(default)s')
    add('--model', default='aom_vitb', help='default: %(default)s')
    add('--weights', help='name or path of weights (default: random)')
    add('--patch', default='16', help="patch size in px, or 'auto' (default: %(default)s)")
    add('--image-size', type=int, help='image size in px, for --patch auto; --crop where given')
    add('--epochs', type=int, default=20, help='default: %(default)s, as in the paper')
    add('--steps', type=int, help='steps instead of epochs')
    add('--batch', type=int, default=8, help='images a batch (default: %(default)s)')
    add('--crop', type=int, help='crop in training, in px (default: whole images)')
    add('--lr', type=float, default=1e-3, help='learning rate of the head (default: %(default)s)')
    add('--normalization', default='catalogue', help='as of BandDataModule (default: %(default)s)')
    add('--decoder', default='smp', choices=HEADS, help='which UPerNet (default: %(default)s)')
    add('--decoder-channels', type=int, help='default: that of the decoder')
    add('--aux-weight', type=float, default=0.4, help='of the auxiliary head (default: 0.4)')
    add('--ignored-classes', type=int, nargs='*', default=[], help='left out of the mean IoU')
    add('--output', type=Path, default=Path('output/segment'), help='folder (default: %(default)s)')
    options = parser.parse_args(argv)
    for method in options.methods:
        if method not in METHODS:
            raise ConfigError(
                f'--methods must be of {", ".join(METHODS)}, got {method!r}'
                f'{suggest(method, METHODS)}.'
            )
    try:
        patch: int | str = 'auto' if options.patch == 'auto' else int(options.patch)
    except ValueError as error:
        raise ConfigError(f"--patch must be px or 'auto', got {options.patch!r}.") from error
    folder: Path = options.output.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'--output {folder} cannot be written: {error}') from error
    protocol = Protocol(
        options.dataset, dict(options.data), options.model, options.weights, patch,
        options.image_size or options.crop, options.steps, options.epochs, options.batch,
        options.crop, options.lr, options.normalization, options.decoder, options.decoder_channels,
        options.aux_weight, tuple(options.ignored_classes),
    )  # fmt: skip
    bands = _bands(options.bands or ['all'])
    rows = run_segmentation(protocol, bands, options.seeds, folder, options.methods)
    _draw(protocol, rows, bands, options.methods, folder)
    print(f'Mean IoU in % on the test split, mean and deviation of {len(options.seeds)} seeds')
    if rows[0]['left out of the mean']:
        print(f'Left out of the mean: {", ".join(rows[0]["left out of the mean"])}')
    print(_table(rows, options.methods, list(bands), options.model))
    print(folder / 'scores.png', folder / 'maps.png', sep='\n')
    return 0
