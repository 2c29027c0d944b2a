"""The protocol of segmentation: sets of bands, methods and seeds, each cell once."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..datamodules.base import BandDataModule
from ..errors import ConfigError
from ..files import replacing
from ..models.speed import plain_speed
from ..models.weights import as_source, read_source
from .dense_scores import fit_pixels, iou_report, random_features
from .feature_cache import content, dataset_digest
from .rows import FAILED, STOP, RowFile
from .segmentation import SemanticSegmentationTask, Variant
from .short_training import TrainingProgress, quiet_lightning

__all__ = ('METHODS', 'NAMES', 'Protocol', 'maps_file', 'run_segmentation', 'samples')

METHODS = ('upernet', 'random', 'pixels', 'rcf')
NAMES = {
    'random': 'UPerNet, random weights', 'pixels': 'pixel regression', 'rcf': 'random convolutions',
}  # fmt: skip
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
    speed: str = 'exact'

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods; without weights, ``'random'`` would be ``'upernet'`` once more."""
        return tuple(name for name in METHODS if self.weights or name != 'random')

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
        if module.target != 'mask':
            raise ConfigError(f'{self.dataset} has no masks; use `torchgeo-aom probe` for it.')
        return module


def samples(module: BandDataModule, split: str) -> tuple[list[Tensor], list[Tensor]]:
    """Read a whole split.

    Args:
        module: data that is set up.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        Normalized images (C, H, W), and masks (H, W).
    """
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
        speed=plain_speed(protocol.speed),
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
            callbacks=[TrainingProgress(label, steps)],
            default_root_dir=scratch,
        )
        trainer.fit(task, datamodule=module)
    task.eval()
    said = []
    with torch.inference_mode():
        for image in samples(module, 'test')[0]:
            said.append(task(image[None].to(task.device)).argmax(1)[0].cpu().numpy())
    return said


def _baseline(method: str, module: BandDataModule, seed: int) -> list[NDArray[Any]]:
    images, masks = samples(module, 'train')
    features: Any = random_features(images, KERNELS, seed) if method == 'rcf' else lambda x: x
    classify = fit_pixels(
        (features(image) for image in images), masks, PIXELS, seed, module.ignore_index
    )
    return [classify(features(image)) for image in samples(module, 'test')[0]]


def run_segmentation(
    protocol: Protocol,
    bands: dict[str, Any],
    seeds: Sequence[int],
    folder: Path,
    methods: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Run all sets of bands, methods and seeds that a folder does not hold yet.

    A cell that fails is noted, with the reason, and the others are run; next time it is tried
    again.

    Args:
        protocol: what is run.
        bands: name of each set of bands, and the set; None for all bands.
        seeds: of the head, the order of samples, and the pixels of the baselines; where there are
            no weights, of the encoder too.
        folder: where results are kept, one line each in ``results.jsonl``, and class maps.
        methods: some of ``METHODS``; `Protocol.methods` where not given.

    Returns:
        The results asked for, in the order of bands, methods and seeds; of a cell that failed the
        reason, under ``'failed'``.

    Raises:
        BandError: if bands are unknown or not in the data.
        CheckpointError: if the weights cannot be read or do not fit.
        ConfigError: if the data has no masks, or an option is wrong.
        DataError: if the data is missing, or the folder holds results that cannot be read.
    """
    file = RowFile(folder / 'results.jsonl')
    facts = {'version': __version__, **asdict(protocol), 'weights content': _digest(protocol)}
    rows = []
    for name, spec in bands.items():
        module = protocol.data(spec)
        known = {**facts, 'data content': _content(module)}
        for method in methods or protocol.methods:
            for seed in seeds:
                cell = {'bands': name, 'spec': spec, 'method': method, 'seed': seed, **known}
                row = file.find(cell)
                if row is None:
                    first = seed == seeds[0]
                    row = file.add(cell, _measured(protocol, module, cell, folder, first))
                rows.append(row)
    return rows


def _digest(protocol: Protocol) -> str | None:
    """Hash of the weights: a file may have others next time."""
    source = as_source(protocol.weights, protocol.model)
    if source is None:
        return None
    digest = hashlib.sha256()
    for name, value in sorted(read_source(source)[0].items()):
        digest.update(name.encode() + content(value))
    return digest.hexdigest()


def _content(module: BandDataModule) -> str | None:
    """Hash of the files to train and to test on, where the data set knows them."""
    digest = hashlib.sha256()
    for split in ('train', 'test'):
        known = dataset_digest(getattr(module, f'{split}_dataset'))
        if known is None:
            return None
        digest.update(known)
    return digest.hexdigest()


def _measured(
    protocol: Protocol, module: BandDataModule, cell: dict[str, Any], folder: Path, draw: bool
) -> dict[str, Any]:
    """Run a cell: its scores, or why there are none."""
    start = time.monotonic()
    method, seed = cell['method'], cell['seed']
    label = f'{cell["bands"]}, {NAMES.get(method, method)}, seed {seed}'
    try:
        if method in ('upernet', 'random'):
            own = protocol if method == 'upernet' else replace(protocol, weights=None)
            said: list[Any] = _upernet(own, module, seed, label)
        else:
            print(label, file=sys.stderr)
            said = _baseline(method, module, seed)
        truth = [mask.numpy() for mask in samples(module, 'test')[1]]
        scores = iou_report(
            truth, said, module.classes, module.ignore_index, protocol.ignored_classes
        )
        if draw:
            _keep(maps_file(folder, cell), said)
    except STOP:
        raise
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        print(f'{label} failed, the others go on: {reason}', file=sys.stderr)
        return {FAILED: reason}
    left_out = [module.classes[k] for k in protocol.ignored_classes]
    seconds = round(time.monotonic() - start, 1)
    return {**scores, 'left out of the mean': left_out, 'seconds': seconds}


def maps_file(folder: Path, row: dict[str, Any]) -> Path:
    """The file of the class maps of a cell.

    Args:
        folder: where results are kept.
        row: the cell or its row.
    """
    keys = ('bands', 'method', 'seed', 'version', *(f.name for f in fields(Protocol)))
    facts = [row[key] for key in (*keys, 'weights content', 'data content')]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return folder / 'maps' / f'{digest[:16]}.npz'


def _keep(path: Path, said: list[NDArray[Any]]) -> None:
    """Keep the maps of the first places, in a file that is whole or absent."""
    path.parent.mkdir(exist_ok=True)
    shown = np.stack(said[:PLACES]) if len({s.shape for s in said}) == 1 else np.zeros(0)
    with replacing(path) as part:
        np.savez_compressed(part, maps=shown)
