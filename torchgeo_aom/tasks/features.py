"""Features of a data set from a frozen encoder, once: loading overlaps with computing."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .. import __version__
from ..bands import BandSpec, resolve_bands
from ..errors import ConfigError, InputError, SizeError
from ..files import cache_folder
from ..models.aom import AOM
from ..models.precision import check_precision, mixed_precision
from .feature_cache import (
    Arrays,
    content,
    dataset_digest,
    load_arrays,
    module_digest,
    store_arrays,
)
from .readout import READOUT_PRECISIONS, check_readout, read_out

__all__ = ('Features', 'Reading', 'extract', 'extract_features', 'prefetched')

Batch = dict[str, Any]

#: bytes of images that are kept where a data set has to be read to know whether it is known
KEPT = 1 << 30
AHEAD = 3


@dataclass(frozen=True)
class Features:
    """Features of a data set.

    Attributes:
        values: features of shape (N, D).
        labels: classes of shape (N,), or zeros and ones of shape (N, K) where there are several.
        key: hash of all that the features depend on.
        cached: whether they were read instead of computed.
        images: hash of each stored image, in two numbers, of shape (N, 2).

    .. versionadded:: 0.1
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    key: str
    cached: bool
    images: NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """How images get from a data set to an encoder.

    Attributes:
        normalize: transform of whole batches of stored values, on the device; None where samples
            are normalized already.
        size: height and width that images are resized to after that; None to leave them.
        batch_size: images a batch.
        num_workers: processes that load; with 0, one thread does.
        device: where images go.
        cache: whether to keep features, and use those that were kept.
        cache_dir: folder of the cache; that of the user where not given.
        progress: whether to show a progress bar; None for only on a terminal.

    .. versionadded:: 0.1
    """

    normalize: nn.Module | None = None
    size: tuple[int, int] | None = None
    batch_size: int = 16
    num_workers: int = 0
    device: str | torch.device = 'cpu'
    cache: bool = True
    cache_dir: str | Path | None = None
    progress: bool | None = None

    def prepare(self, image: Tensor | list[Tensor]) -> Tensor:
        """Move a batch to the device, normalize and resize it.

        Args:
            image: images (B, C, H, W), or a list of images (C, H, W) of different sizes.

        Returns:
            Images (B, C, H, W).

        Raises:
            SizeError: if sizes differ, and none is given.
        """
        if isinstance(image, list):
            if self.size is None:
                sizes = sorted({f'{x.shape[-2]} x {x.shape[-1]}' for x in image})
                raise SizeError(
                    f'images of one batch have different sizes: {", ".join(sizes[:6])} px; give '
                    'size= (--size) to resize them'
                )
            return torch.cat([self.prepare(one[None]) for one in image])
        batch: Tensor = image.to(self.device, non_blocking=True)
        if self.normalize is not None:
            batch = self.normalize(batch)
        if self.size is not None and tuple(batch.shape[-2:]) != self.size:
            batch = F.interpolate(
                batch, self.size, mode='bilinear', align_corners=False, antialias=True
            )
        return batch


def extract_features(
    model: AOM,
    dataset: Dataset[dict[str, Any]],
    bands: BandSpec | None = None,
    patch_size: int | None = None,
    *,
    batch_size: int = 16,
    cache_dir: str | Path | None = None,
    cache: bool = True,
    label: str = 'features',
    progress: bool | None = None,
    normalize: nn.Module | None = None,
    size: tuple[int, int] | None = None,
    num_workers: int = 0,
    readout: str = 'mean',
    precision: str = 'float32',
) -> Features:
    """Run a frozen encoder over a data set, once.

    Features are kept in a cache: the same weights, model, data, bands and patch size are never
    computed twice, and a change of any of them is noticed, since the key is their content. A data
    set that knows its files is not read for that.

    Args:
        model: encoder, used in evaluation mode and left as it was.
        dataset: samples with an ``image`` and a ``label``.
        bands: bands of the images' channels where not those of the model.
        patch_size: patch size in px where not that of the model.
        batch_size: images a batch.
        cache_dir: folder of the cache; that of the user where not given.
        cache: whether to use it.
        label: what the progress bar says.
        progress: whether to show it; None for only on a terminal.
        normalize: transform of whole batches, where the samples hold stored values.
        size: height and width that normalized images are resized to.
        num_workers: processes that load; with 0, one thread does.
        readout: what a feature is made of: ``'mean'``, or ``'pyramid'``, see :func:`.read_out`.
        precision: of the encoder's products: ``'float32'``, or ``'bfloat16'``, which GPUs and
            CPUs with matrix units do faster.

    Returns:
        Features and labels, in the order of the data set.

    Raises:
        BandError: if the bands do not fit the images.
        ConfigError: if there is no such readout or precision.
        InputError: if the data set is empty, or samples have no label.
        SizeError: if images differ in size, and none is given.

    .. versionadded:: 0.1
    """
    check_readout(readout)
    check_precision(precision, READOUT_PRECISIONS)
    facts = [f'{patch_size}'.encode(), module_digest(model)]
    if readout != 'mean':
        facts.append(readout.encode())
    if precision != 'float32':
        facts.append(precision.encode())
    if isinstance(bands, Tensor):
        facts.append(content(bands))
    elif bands is not None:
        facts.append(repr(resolve_bands(bands)).encode())
    device = next(model.parameters()).device
    reading = Reading(normalize, size, batch_size, num_workers, device, cache, cache_dir, progress)

    def encode(image: Tensor) -> Tensor:
        with mixed_precision(device, precision):
            return read_out(model, image, bands, patch_size, readout)

    mode = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return extract(encode, facts, dataset, reading, label)
    finally:
        for module, training in mode.items():
            module.training = training


def extract(
    function: Callable[[Tensor], Tensor],
    facts: Sequence[bytes],
    dataset: Dataset[dict[str, Any]],
    reading: Reading,
    label: str = 'features',
) -> Features:
    """Run a function over a data set, once; see :func:`extract_features`.

    Args:
        function: normalized images (B, C, H, W) to features (B, D).
        facts: all that the function depends on, for the key.
        dataset: samples with an ``image`` and a ``label``.
        reading: how to load, normalize and keep.
        label: what the progress bar says.

    Returns:
        Features and labels, in the order of the data set.

    Raises:
        ConfigError: if the batch size or the number of workers is impossible.
        InputError: if the data set is empty, or samples have no label.
        SizeError: if images differ in size, and none is given.
    """
    if reading.batch_size < 1 or reading.num_workers < 0:
        raise ConfigError(
            f'a batch has at least one image and there are at least 0 workers, got '
            f'{reading.batch_size} and {reading.num_workers}'
        )
    count = len(dataset)  # type: ignore[arg-type]
    if not count:
        raise InputError('The data set is empty: there is nothing to take features of.')
    own = hashlib.sha256(f'{__version__} {reading.size}'.encode())
    for fact in facts:
        own.update(fact)
    if reading.normalize is not None:
        own.update(module_digest(reading.normalize))
    loader = DataLoader(
        dataset,
        reading.batch_size,
        num_workers=reading.num_workers,
        collate_fn=_collate,
        pin_memory=torch.device(reading.device).type == 'cuda',
    )
    batches: Iterable[Batch] = loader
    known = dataset_digest(dataset)
    key = _key(own, known) if known else None
    if reading.cache and key is None:
        bar = _bar(count, f'{label}: reading', reading.progress)
        rows, kept = _first_pass(loader, bar)
        key = _key(own, _row_digest(rows))
        batches = loader if kept is None else kept
    folder = Path(reading.cache_dir or cache_folder('features'))
    if reading.cache and (found := load_arrays(folder / f'{key}.npz')) is not None:
        return Features(found.values, found.labels, str(key), True, found.images)

    outputs, rows = [], []
    with torch.inference_mode(), _bar(count, label, reading.progress) as bar:
        kept_or_workers = isinstance(batches, list) or reading.num_workers > 0
        for batch in batches if kept_or_workers else prefetched(batches):
            outputs.append(function(reading.prepare(batch['image'])).float())
            rows.append((batch['label'], batch['digest']))
            bar.update(len(batch['label']))
    values = torch.cat([part.cpu() for part in outputs]).numpy()
    labels, images = (torch.cat(parts).numpy() for parts in zip(*rows, strict=True))
    arrays = Arrays(values, labels.astype(np.int64), images)
    key = key or _key(own, _row_digest(rows))
    if reading.cache:
        store_arrays(folder / f'{key}.npz', arrays)
    return Features(arrays.values, arrays.labels, key, False, arrays.images)


def _bar(total: int, text: str, progress: bool | None) -> tqdm[Any]:
    hidden = None if progress is None else not progress
    return tqdm(total=total, desc=text, unit='image', disable=hidden)


def _key(own: Any, data: bytes) -> str:
    digest = own.copy()
    digest.update(data)
    return str(digest.hexdigest())


def _collate(samples: Sequence[dict[str, Any]]) -> Batch:
    """Stack samples, and take the hash of each image where it is loaded."""
    if any('image' not in sample or 'label' not in sample for sample in samples):
        raise InputError(
            f'a probe needs samples with an image and a label, these have '
            f'{", ".join(samples[0])}; a data set with masks is for segmentation'
        )
    images = [torch.as_tensor(sample['image']) for sample in samples]
    digests = [
        np.frombuffer(hashlib.blake2b(content(x), digest_size=16).digest(), '<i8') for x in images
    ]
    same = len({image.shape for image in images}) == 1
    return {
        'image': torch.stack(images) if same else images,
        'label': torch.stack([torch.as_tensor(sample['label']) for sample in samples]),
        'digest': torch.from_numpy(np.stack(digests).astype(np.int64)),
    }


def _row_digest(rows: Sequence[tuple[Tensor, Tensor]]) -> bytes:
    """Hash of all images and labels, the same for every size of batches."""
    digest = hashlib.sha256()
    for labels, images in zip(
        *(torch.cat(parts) for parts in zip(*rows, strict=True)), strict=True
    ):
        digest.update(content(images) + content(labels))
    return digest.digest()


def _first_pass(loader: Iterable[Batch], bar: tqdm[Any]) -> tuple[list[Any], list[Batch] | None]:
    """Read all samples for their hashes; the batches too, unless they are too many to keep."""
    rows: list[tuple[Tensor, Tensor]] = []
    kept: list[Batch] | None = []
    size = 0
    with bar:
        for batch in loader:
            rows.append((batch['label'], batch['digest']))
            bar.update(len(batch['label']))
            image = batch['image']
            parts = image if isinstance(image, list) else [image]
            size += sum(part.nbytes for part in parts)
            kept = None if kept is None or size > KEPT else [*kept, batch]
    return rows, kept


def prefetched(batches: Iterable[Any], ahead: int = AHEAD) -> Iterator[Any]:
    """Iterate in a thread of its own, a few items ahead, so that loading overlaps with computing.

    Args:
        batches: what to iterate over.
        ahead: items that may wait.

    Yields:
        The same items; an error of the thread is raised where its item would have been.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put((True, batch)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=work, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            more, item = waiting.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        thread.join()
