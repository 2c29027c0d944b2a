"""Speed beside other models, in one run: see :data:`torchgeo_aom.commands.bench.BENCH`."""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from tqdm import tqdm

from .bands import Band, resolve_bands
from .commands.bench import bench_parser
from .errors import ConfigError
from .models.aom import AOM, SIZES
from .models.plan import describe
from .models.precision import best_precision, mixed_precision
from .models.speed import SPEEDS, Speed

__all__ = ('Row', 'main', 'run')

Candidate = tuple[str, int, Callable[[], Tensor]]


@dataclass(frozen=True)
class Row:
    """One model: median time, and median of the ratios of its time to AOM's in the same round."""

    model: str
    tokens: int
    milliseconds: float
    ratio: float
    ratio_min: float
    ratio_max: float


def _trunk(name: str, tokens: int, batch: int, device: torch.device) -> Candidate:
    size: dict[str, Any] = dict(SIZES[name])
    vit: Any = timm.create_model('vit_base_patch16_224', num_classes=0, **size)
    vit.to(device).eval()
    x = torch.randn(batch, tokens, size['embed_dim'], device=device)
    return 'timm ViT trunk, same tokens', tokens, lambda: vit.norm(vit.blocks(x))


def _torchgeo_peers(image: Tensor, bands: tuple[Band, ...]) -> list[Candidate]:
    """DOFA and Panopticon in ViT-B size, each fed the wavelengths of the bands at 224 px."""
    from torchgeo.models import dofa_base_patch16_224, panopticon_vitb14

    um = [band.wavelength_um for band in bands]
    if None in um or image.shape[2:] != (224, 224):
        return []
    wavelengths = [value for value in um if value is not None]
    dofa = dofa_base_patch16_224().to(image.device).eval()
    panopticon = panopticon_vitb14(img_size=224).to(image.device).eval()
    nm = torch.tensor([[1000 * value for value in wavelengths]], device=image.device)
    sample = {'imgs': image, 'chn_ids': nm.repeat(len(image), 1)}
    return [
        ('TorchGeo DOFA ViT-B', 14 * 14 + 1, lambda: dofa.forward_features(image, wavelengths)),
        ('TorchGeo Panopticon ViT-B/14', 16 * 16 + 1, lambda: panopticon(dict(sample))),
    ]


def _modes(
    aom: AOM, name: str, image: Tensor, bands: tuple[Band, ...], patch_size: int
) -> list[Candidate]:
    """The speed modes of the same model, and its precision of the machine."""
    size = (image.shape[2], image.shape[3])
    candidates = []
    for speed in SPEEDS[1:]:
        plan = describe(name, bands, size, patch_size, speed=speed)
        tokens = round(sum(plan.block_tokens) / len(plan.block_tokens))
        run = partial(aom, image, speed=speed)
        candidates.append((f'{name}, {speed}', tokens, run))
    precision = best_precision(image.device)[0]
    tokens = describe(name, bands, size, patch_size).tokens

    def mixed() -> Tensor:
        with mixed_precision(image.device, precision):
            features: Tensor = aom(image)
        return features

    return [*candidates, (f'{name}, precision auto ({precision})', tokens, mixed)]


def growth(
    model: str = 'aom_vitb',
    counts: Sequence[int] = (3, 13, 50, 200),
    speed: Speed = 'fast',
    size: int = 224,
    patch_size: int = 16,
    runs: int = 3,
    device: str = 'cpu',
) -> dict[int, float]:
    """Time by number of bands, spread evenly over 0.41 to 2.45 um, in units of the first.

    Args:
        model: AOM model name.
        counts: numbers of bands.
        speed: speed mode or merge schedule.
        size: image height and width in px.
        patch_size: patch size in px.
        runs: rounds counted, after one warm-up.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        For each number of bands the median over rounds of its time to that of the first number.

    .. versionadded:: 0.2
    """
    target = torch.device(device)
    aom = timm.create_model(model, patch_size=patch_size, speed=speed).to(target).eval()
    candidates: list[Candidate] = []
    for count in counts:
        bands = [0.41 + 2.04 * k / (count - 1) for k in range(count)]
        image = torch.randn(1, count, size, size, device=target)
        candidates.append((str(count), count, partial(aom, image, bands=bands)))
    seconds = _rounds(candidates, runs, target)
    first = seconds[str(counts[0])]
    return {
        count: statistics.median(a / b for a, b in zip(seconds[str(count)], first, strict=True))
        for count in counts
    }


def _channelvit(folder: Path, name: str, image: Tensor, patch: int) -> Candidate:
    """ChannelViT from a checkout of its public repository."""
    if not (folder / 'channelvit' / 'backbone' / 'channel_vit.py').is_file():
        raise ConfigError(
            f'{folder} is no checkout of github.com/insitro/ChannelViT: '
            'channelvit/backbone/channel_vit.py is missing.'
        )
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module('channelvit.backbone.channel_vit')
    finally:
        sys.path.remove(str(folder))
    channels, height = image.shape[1], image.shape[2]
    model = module.ChannelVisionTransformer(
        img_size=[height], patch_size=patch, in_chans=channels, qkv_bias=True, **SIZES[name]
    )
    model = model.to(image.device).eval()
    index = torch.arange(channels, device=image.device).repeat(len(image), 1)
    tokens = channels * (height // patch) ** 2 + 1
    return 'ChannelViT', tokens, lambda: model(image, extra_tokens={'channels': index})


def _time(candidate: Candidate, device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    # On one thread, time on the processor: other programs disturb it less than the clock.
    alone = device.type == 'cpu' and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    start = clock()
    candidate[2]()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return clock() - start


def _rounds(
    candidates: Sequence[Candidate], runs: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round."""
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in candidates}
    with torch.inference_mode():
        for round_ in tqdm(range(runs + 1), desc='rounds', disable=None):
            for candidate in candidates:
                elapsed = _time(candidate, device)
                if round_:  # the first round warms up
                    seconds[candidate[0]].append(elapsed)
    return seconds


def run(
    model: str = 'aom_vitb',
    bands: str = 'sentinel2',
    size: int = 224,
    patch_size: int = 16,
    batch_size: int = 1,
    runs: int = 5,
    device: str = 'cpu',
    peers: bool = True,
    channelvit: Path | None = None,
) -> list[Row]:
    """Time AOM and its neighbours on one random image batch.

    Args:
        model: AOM model name.
        bands: bands of the image.
        size: image height and width in px.
        patch_size: patch size in px.
        batch_size: images a batch.
        runs: rounds counted, after one warm-up.
        device: ``'cpu'`` or ``'cuda'``.
        peers: also time TorchGeo's DOFA and Panopticon (224 px only).
        channelvit: checkout of ChannelViT's repository to time too.

    Returns:
        One row a model, AOM first.

    Raises:
        ConfigError: if the checkout is not one.

    .. versionadded:: 0.1
    """
    resolved = resolve_bands(bands)
    target = torch.device(device)
    image = torch.randn(batch_size, len(resolved), size, size, device=target)
    aom: Any = timm.create_model(model, bands=bands, patch_size=patch_size).to(target).eval()
    tokens = describe(model, bands, size, patch_size).tokens
    candidates: list[Candidate] = [
        (model, tokens, lambda: aom(image)),
        _trunk(model, tokens, batch_size, target),
        *_modes(aom, model, image, resolved, patch_size),
    ]
    if channelvit is not None:
        candidates.append(_channelvit(channelvit, model, image, patch_size))
    if peers:
        candidates += _torchgeo_peers(image, resolved)
    seconds = _rounds(candidates, runs, target)
    rows = []
    for name, count, _ in candidates:
        ratios = [a / b for a, b in zip(seconds[name], seconds[model], strict=True)]
        median = statistics.median(seconds[name])
        rows.append(
            Row(name, count, 1e3 * median, statistics.median(ratios), min(ratios), max(ratios))
        )
    return rows


def _growth(args: argparse.Namespace) -> int:
    """Print how time grows with the number of bands."""
    if min(args.growth) < 2:
        raise ConfigError(f'--growth takes numbers of bands from 2, got {min(args.growth)}')
    common = (args.size, args.patch, args.runs, args.device)
    table = {speed: growth(args.model, args.growth, speed, *common) for speed in SPEEDS}
    if args.json:
        print(json.dumps(table, indent=2))
        return 0
    print(f'{args.model}, {args.size} px, patch {args.patch}: time / {args.growth[0]} bands')
    print(f'{"bands":<10}' + ''.join(f'{count:>8}' for count in args.growth))
    for speed, own in table.items():
        print(f'{speed:<10}' + ''.join(f'{own[count]:>8.2f}' for count in args.growth))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line: print the table.

    Args:
        argv: arguments, those of the process where None.

    Returns:
        Exit status.
    """
    args = bench_parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.growth:
        return _growth(args)
    rows = run(
        args.model, args.bands, args.size, args.patch, args.batch, args.runs, args.device,
        not args.no_peers, args.channelvit,
    )  # fmt: skip
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    facts: dict[str, Any] = {'device': args.device, 'threads': torch.get_num_threads()}
    print(f'{args.bands}, {args.size} px, patch {args.patch}, batch {args.batch}, {facts}')
    print('tokens: of an image, the mean over blocks where bands are merged on the way')
    print(f'{"model":<42}{"tokens":>8}{"ms":>10}{"time / AOM":>12}{"min":>8}{"max":>8}')
    for row in rows:
        print(
            f'{row.model:<42}{row.tokens:>8,}{row.milliseconds:>10.1f}{row.ratio:>12.2f}'
            f'{row.ratio_min:>8.2f}{row.ratio_max:>8.2f}'
        )
    return 0
