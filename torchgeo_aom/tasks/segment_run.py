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
from ..models.feature_memory import FeatureMemory
from ..models.hypercolumn import STRENGTHS
from ..models.speed import plain_speed
from ..models.weights import as_source, read_source
from . import upstream
from .dense_scores import fit_boosting, fit_pixels, iou_report, random_features
from .feature_cache import content, dataset_digest
from .pixel_training import PixelSettings
from .rows import FAILED, STOP, RowFile
from .segment_head import chips_of, predict_maps, save_task, train_head
from .segmentation import SemanticSegmentationTask, Variant
from .short_training import TrainingProgress, quiet_lightning

__all__ = ('METHODS', 'NAMES', 'Protocol', 'maps_file', 'run_segmentation', 'samples')

METHODS = (
    'hypercolumn', 'hypercolumn-random', 'windows', 'pixels', 'boosting', 'upernet', 'random',
    'rcf', 'resnet18',
)  # fmt: skip
#: the head that does best, beside what it has to beat
USUAL = ('hypercolumn', 'hypercolumn-random', 'windows', 'pixels', 'boosting')
RANDOM = ('hypercolumn-random', 'random')
HYPERCOLUMN = ('hypercolumn', 'hypercolumn-random', 'windows')
NAMES = {
    'hypercolumn-random': 'hypercolumn, random', 'windows': 'pixels + windows',
    'boosting': 'pixel boosting', 'random': 'UPerNet, random weights', 'pixels': 'pixel regression',
    'rcf': 'random convolutions', 'resnet18': 'ResNet-18 U-Net',
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
    aux_weight: float = 0.0
    ignored_classes: tuple[int, ...] = ()
    precision: str = 'float32'
    balance: float = 0.0
    band_dropout: float = 0.0
    speed: str = 'exact'

    @property
    def methods(self) -> tuple[str, ...]:
        """The usual methods; without weights, random ones would be the same once more."""
        return tuple(name for name in USUAL if self.weights or name not in RANDOM)

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
    return _fitted(task, protocol, module, label)


def _resnet(protocol: Protocol, module: BandDataModule, seed: int, label: str) -> list[Any]:
    """Train TorchGeo's U-Net over a ResNet-18 from end to end."""
    seed_everything(seed, verbose=False)
    task = upstream.SemanticSegmentation(
        'unet', 'resnet18', in_channels=len(module.bands), num_classes=module.num_classes,
        ignore_index=module.ignore_index, lr=protocol.lr,
    )  # fmt: skip
    return _fitted(task, protocol, module, label)


def _fitted(task: Any, protocol: Protocol, module: BandDataModule, label: str) -> list[Any]:
    """Fit a task, and return the class of each pixel of the test split."""
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


def _hypercolumn(
    method: str, protocol: Protocol, module: BandDataModule, seed: int, label: str, folder: Path,
    memories: dict[Any, FeatureMemory],
) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
    """Train the hypercolumn head; the class of each pixel of the test split, and facts."""
    weights = protocol.weights if method == 'hypercolumn' else None
    # Random encoders are of one seed: what differs between seeds is the head.
    seed_everything(seed if protocol.weights is None else 0, verbose=False)
    options: dict[str, Any] = {
        'bands': list(module.bands), 'patch_size': protocol.patch_size,
        'image_size': protocol.image_size, 'num_classes': module.num_classes,
        'ignore_index': module.ignore_index, 'freeze_backbone': True,
        'ignored_classes': list(protocol.ignored_classes) or None,
        'speed': plain_speed(protocol.speed),
    }  # fmt: skip
    first = SemanticSegmentationTask('hypercolumn', protocol.model, weights=weights, **options)
    state = first.model.encoder.state_dict()

    def make(strength: str) -> SemanticSegmentationTask:
        given = {**options, 'context': strength}
        task = SemanticSegmentationTask('hypercolumn', protocol.model, **given)
        task.model.encoder.load_state_dict(state)
        task.weights_from = first.weights_from
        return task

    key = (method, tuple(module.bands), None if protocol.weights else seed)
    memory = None if method == 'windows' else memories.setdefault(key, FeatureMemory())
    everything = {split: samples(module, split) for split in ('train', 'val', 'test')}
    start = time.monotonic()
    places = chips_of(first, everything, memory, protocol.precision, label)
    encoding = time.monotonic() - start
    settings = PixelSettings(balance=protocol.balance, band_dropout=protocol.band_dropout)
    if protocol.steps:
        settings = replace(settings, steps=protocol.steps)
    facts = {'classes': module.classes, 'ignore_index': module.ignore_index,
             'ignored': protocol.ignored_classes}  # fmt: skip
    strengths = ('none',) if method == 'windows' else tuple(STRENGTHS)
    task, strength, scores = train_head(make, places, settings, seed, facts, strengths)
    if method == 'hypercolumn':
        save_task(task, folder / f'seed{seed}.ckpt')
    known = {'context': strength, 'val': {k: round(v, 4) for k, v in scores.items()},
             'seconds of the encoder': round(encoding, 1)}  # fmt: skip
    return predict_maps(task, places['test']), known


def _baseline(method: str, module: BandDataModule, seed: int) -> list[NDArray[Any]]:
    images, masks = samples(module, 'train')
    if method == 'boosting':
        judge = fit_boosting(images, masks, PIXELS, seed, module.ignore_index)
        return [judge(image) for image in samples(module, 'test')[0]]
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
    memories: dict[Any, FeatureMemory] | None = None,
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
        memories: maps of encoders from an earlier run of the same model and weights on other
            splits of the same images; it is filled.

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
    memories = {} if memories is None else memories
    for name, spec in bands.items():
        module = protocol.data(spec)
        known = {**facts, 'data content': _content(module)}
        for method in methods or protocol.methods:
            for seed in seeds:
                cell = {'bands': name, 'spec': spec, 'method': method, 'seed': seed, **known}
                row = file.find(cell)
                if row is None:
                    first = seed == seeds[0]
                    row = file.add(cell, _measured(protocol, module, cell, folder, first, memories))
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
    protocol: Protocol,
    module: BandDataModule,
    cell: dict[str, Any],
    folder: Path,
    draw: bool,
    memories: dict[Any, FeatureMemory],
) -> dict[str, Any]:
    """Run a cell: its scores, or why there are none."""
    start = time.monotonic()
    method, seed = cell['method'], cell['seed']
    label = f'{cell["bands"]}, {NAMES.get(method, method)}, seed {seed}'
    known: dict[str, Any] = {}
    try:
        if method in HYPERCOLUMN:
            print(label, file=sys.stderr)
            heads = folder / 'heads' / cell['bands']
            said: list[Any]
            said, known = _hypercolumn(method, protocol, module, seed, label, heads, memories)
        elif method == 'resnet18':
            said = _resnet(protocol, module, seed, label)
        elif method in ('upernet', 'random'):
            own = protocol if method == 'upernet' else replace(protocol, weights=None)
            said = _upernet(own, module, seed, label)
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
    return {**scores, **known, 'left out of the mean': left_out, 'seconds': seconds}


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
