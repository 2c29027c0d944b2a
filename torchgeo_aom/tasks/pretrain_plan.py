"""What a pretraining run will cost: operations, memory, GPU hours, files a second."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from ..bands import resolve_bands
from ..commands.choices import SPEEDS
from ..commands.plan_pretrain import plan_pretrain_parser
from ..errors import ConfigError
from ..layers.masking import visible_count
from ..layers.tokenizer import Tokenizer, as_pair
from ..models.decoder import Decoder
from .pretrain import PretrainTask

__all__ = (
    'Corpus',
    'ImageCost',
    'ScaleCost',
    'image_cost',
    'main',
    'report',
    'state_bytes',
    'table',
)

# What one block keeps for the backward pass, in bytes for each token and dimension: two norms'
# inputs and outputs, q, k, v, the attention's output, and the MLP's hidden layer (4 wide) before
# and after GELU. In mixed precision norms work in float32 and everything else in two bytes.
KEPT_BYTES = {'float32': 4 * (2 + 2 + 3 + 1 + 8), 'bfloat16': 4 * 2 + 2 * (2 + 3 + 1 + 8)}
STREAM_BYTES = 4  # the residual stream, which checkpointing keeps between blocks
STATE_BYTES = 16  # a parameter, its gradient and the two moments of AdamW, all float32

# The paper's images; the sizes of Landsat and RGB images, which it does not print, are assumed.


@dataclass(frozen=True)
class ScaleCost:
    """Cost of one image at one patch size.

    Attributes:
        patch_size: patch size in px.
        tokens: tokens of all bands.
        visible: those that the encoder sees.
        forward: operations of the forward pass, two for each multiply-add.
        kept: bytes kept for the backward pass.
    """

    patch_size: int
    tokens: int
    visible: int
    forward: float
    kept: float


@dataclass(frozen=True)
class ImageCost:
    """Cost of one image in one step, all of its scales together.

    Attributes:
        scales: the cost at each patch size.
        model: operations of forward and backward pass that the model needs: three forward passes.
            What a share of a peak is computed from.
        run: operations with those that are done twice to save memory; what time is spent on.
        kept: bytes kept for the backward pass.
    """

    scales: tuple[ScaleCost, ...]
    model: float
    run: float
    kept: float


@dataclass(frozen=True)
class Corpus:
    """Images of one kind.

    Attributes:
        bands: what they hold, see `torchgeo_aom.bands.resolve_bands`.
        size: height and width in px.
        images: how many there are.
    """

    bands: str
    size: tuple[int, int]
    images: int

    @classmethod
    def parse(cls, text: str) -> Corpus:
        """Read ``BANDS@SIZE=IMAGES``, such as ``sentinel2@264=1004000``.

        Args:
            text: what a user wrote.

        Returns:
            The corpus.

        Raises:
            ConfigError: if it is not of this form.
            BandError: if the bands are unknown.
        """
        bands, at, rest = text.partition('@')
        size, equals, images = rest.partition('=')
        sides = [part for part in size.split('x') if part.isdigit() and int(part)]
        if not at or not equals or not images.isdigit() or not int(images) or len(sides) not in (
            1, 2,
        ):  # fmt: skip
            raise ConfigError(
                f'{text!r} is not BANDS@SIZE=IMAGES, such as sentinel2@264=1004000 or '
                'naip@256x512=20000.'
            )
        resolve_bands(bands)
        return cls(bands, as_pair([int(side) for side in (sides * 2)[:2]], 'size'), int(images))


def _visible(kind: str, ratio: float, channels: int, places: int) -> int:
    """Visible tokens; ``'mixed'`` as tokens, since the three kinds differ by rounding alone."""
    if kind == 'spatial':
        return channels * visible_count(places, ratio)
    if kind == 'channel':
        return places * visible_count(channels, ratio)
    return visible_count(channels * places, ratio)


def _blocks(tokens: int, dim: int, depth: int) -> float:
    """Operations of transformer blocks: projections and MLP, and attention."""
    return depth * (24.0 * tokens * dim * dim + 4.0 * tokens * tokens * dim)


def _kept(tokens: int, dim: int, depth: int, precision: str, again: bool) -> float:
    """Bytes that blocks keep; with checkpoints, their inputs and what one of them keeps."""
    one = float(KEPT_BYTES[precision]) * tokens * dim
    return depth * STREAM_BYTES * tokens * dim + one if again else depth * one


def _scale(
    task: PretrainTask, channels: int, size: tuple[int, int], patch_size: int, precision: str
) -> ScaleCost:
    options, encoder = task.hparams, task.encoder
    places = math.prod(Tokenizer.token_grid(size, (patch_size, patch_size)))
    tokens, area = channels * places, patch_size * patch_size
    visible = _visible(options['mask_kind'], options['mask_ratio'], channels, places)
    dim, depth, again = encoder.embed_dim, len(encoder.blocks), options['grad_checkpointing']
    forward = 2.0 * tokens * area * dim + _blocks(visible, dim, depth)
    kept = _kept(visible, dim, depth, precision, again)
    if str(patch_size) in task.decoders:
        decoder = cast(Decoder, task.decoders[str(patch_size)])
        width, layers = decoder.width, len(decoder.blocks)
        forward += 2.0 * visible * dim * width + _blocks(tokens, width, layers)
        forward += 2.0 * (tokens - visible) * width * area
        kept += _kept(tokens, width, layers, precision, again)
        kept += 4.0 * (tokens - visible) * (width + 2 * area)  # last norm, prediction, target
    if str(patch_size) in task.projectors:
        heads = task.projectors[str(patch_size)].modules()
        forward += sum(2.0 * m.weight.numel() for m in heads if isinstance(m, nn.Linear))
    return ScaleCost(patch_size, tokens, visible, forward, kept)


def image_cost(
    task: PretrainTask, channels: int, size: tuple[int, int], precision: str = 'float32'
) -> ImageCost:
    """Count what one image of a batch costs.

    Matrix products and attention are counted; norms, masks, the optimizer and the resizing of
    kernels, which happens once a batch, are not.

    Args:
        task: what is trained; it may be on the meta device.
        channels: number of bands.
        size: height and width in px.
        precision: ``'float32'``, or ``'bfloat16'`` for mixed precision.

    Returns:
        The cost.

    Raises:
        ConfigError: if the precision is unknown.
    """
    if precision not in KEPT_BYTES:
        raise ConfigError(f'precision must be one of {tuple(KEPT_BYTES)}, got {precision!r}.')
    options = task.hparams
    sizes = sorted(options['patch_sizes'])
    scales = tuple(_scale(task, channels, size, p, precision) for p in sizes)
    share = (options['scales_per_step'] or len(sizes)) / len(sizes)
    forward = share * sum(scale.forward for scale in scales)
    one_at_a_time = options['memory'] == 'scale'
    again = one_at_a_time + bool(options['grad_checkpointing'])
    kept = [scale.kept for scale in scales]
    return ImageCost(
        scales,
        3 * forward,
        (3 + again) * forward,
        max(kept) if one_at_a_time else share * sum(kept),
    )


def state_bytes(task: PretrainTask) -> int:
    """Bytes of parameters, gradients and the moments of AdamW, the same on each device with DDP."""
    return STATE_BYTES * sum(p.numel() for p in task.parameters())


def report(
    task: PretrainTask,
    corpora: Sequence[Corpus],
    epochs: int = 220,
    batch: int = 1024,
    devices: int = 64,
    speeds: Sequence[float] = SPEEDS,
    precision: str = 'bfloat16',
) -> dict[str, Any]:
    """Work out what a run over several corpora takes: arithmetic, nothing is measured.

    Args:
        task: what is trained; it may be on the meta device.
        corpora: the images.
        epochs: how often each is seen.
        batch: images a step, over all devices.
        devices: number of devices.
        speeds: assumed sustained speeds of one device in TFLOP/s.
        precision: as of `image_cost`.

    Returns:
        Plain data, for JSON or `table`.

    Raises:
        ConfigError: if a number is not positive, or the batch cannot be shared out.
    """
    for key, value in (('epochs', epochs), ('batch', batch), ('devices', devices)):
        if value < 1:
            raise ConfigError(f'{key} must be at least 1, got {value}.')
    if batch % devices or not speeds or min(speeds) <= 0:
        raise ConfigError(
            f'batch must be a multiple of devices and speeds positive, got {batch}, {devices} and '
            f'{list(speeds)}.'
        )
    rows, total = [], 0.0
    for corpus in corpora:
        channels = len(resolve_bands(corpus.bands))
        cost = image_cost(task, channels, corpus.size, precision)
        total += cost.run * corpus.images
        rows.append({**asdict(corpus), 'channels': channels, **asdict(cost)})
    images = sum(corpus.images for corpus in corpora)
    share = batch // devices
    widest = max((row['kept'] for row in rows), default=0.0)
    return {
        'corpora': rows,
        'images': images,
        'epochs': epochs,
        'batch': batch,
        'devices': devices,
        'steps': epochs * (images // batch),
        'flops': epochs * total,
        'state_bytes': state_bytes(task),
        'kept_bytes': share * widest,
        'device_bytes': state_bytes(task) + share * widest,
        'speeds': [
            {
                'tflops': speed,
                'gpu_hours': epochs * total / (speed * 1e12) / 3600,
                'hours': epochs * total / (speed * 1e12) / 3600 / devices,
                'files_per_second': devices * speed * 1e12 * images / total,
            }
            for speed in speeds
        ],
    }


def table(found: dict[str, Any]) -> str:
    """The report in plain text.

    Args:
        found: what `report` gave.

    Returns:
        Several lines.
    """
    lines = [
        f'{"bands":<14}{"px":>10}{"images":>11}{"scale":>7}{"tokens":>8}{"visible":>9}'
        f'{"forward":>16}'
    ]
    for row in found['corpora']:
        height, width = row['size']
        for scale in row['scales']:
            lines.append(
                f'{row["bands"]:<14}{f"{height} x {width}":>10}{row["images"]:>11,}'
                f'{scale["patch_size"]:>7}{scale["tokens"]:>8,}{scale["visible"]:>9,}'
                f'{scale["forward"] / 1e9:>10,.1f} GFLOP'
            )
        lines.append(
            f'  one image in one step: {row["model"] / 1e12:.3f} TFLOP, with recomputing '
            f'{row["run"] / 1e12:.3f}; keeps {row["kept"] / 2**30:.2f} GiB'
        )
    on = f'hours on {found["devices"]}'
    lines += [
        '',
        f'{found["images"]:,} images x {found["epochs"]} epochs, batch {found["batch"]:,}: '
        f'{found["steps"]:,} steps, {found["flops"] / 1e18:,.1f} EFLOP',
        f'{found["devices"]} devices: about {found["device_bytes"] / 2**30:.1f} GiB each '
        f'({found["state_bytes"] / 2**30:.1f} parameters, gradients and AdamW, '
        f'{found["kept_bytes"] / 2**30:.1f} activations of '
        f'{found["batch"] // found["devices"]} images)',
        '',
        'Arithmetic, not a measurement: assumed sustained speed of one device',
        f'{"TFLOP/s":>8}{"GPU hours":>12}{on:>14}{"files/s":>10}',
    ]
    lines += [
        f'{row["tflops"]:>8g}{row["gpu_hours"]:>12,.0f}{row["hours"]:>14,.1f}'
        f'{row["files_per_second"]:>10,.0f}'
        for row in found['speeds']
    ]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: print the report.

    Args:
        argv: arguments, those of the process where None.

    Returns:
        Exit status.
    """
    args = plan_pretrain_parser().parse_args(argv)
    corpora = [Corpus.parse(text) for text in args.corpus]
    with torch.device('meta'):
        task = PretrainTask(
            args.model, tuple(args.patch_sizes), args.scales_per_step, memory=args.memory,
            grad_checkpointing=args.grad_checkpointing,
        )  # fmt: skip
    found = report(
        task, corpora, args.epochs, args.batch, args.devices, args.speeds, args.precision
    )
    print(json.dumps(found, indent=2) if args.json else table(found))
    return 0
