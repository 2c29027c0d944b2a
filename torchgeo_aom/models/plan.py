"""What a request will cost, before it runs: bands, kernel, grid, tokens, operations and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..bands import Band, BandSpec, describe_bands, preset_tags, resolve_bands
from ..errors import ConfigError
from ..layers.sizes import (
    KERNEL_SIZES,
    MAX_TOKENS,
    as_pair,
    checked_patch_size,
    kernel_loss,
    nearest_kernel,
    token_grid,
)
from .names import SIZES, check_name
from .patch_rule import check_gsd, choose_patch_size, is_auto
from .speed import Speed, merge_schedule, slots_per_block, speed_text

if TYPE_CHECKING:  # the command needs no torch
    from .aom import AOM

__all__ = ('Plan', 'describe')

DTYPE_BYTES = {'float64': 8, 'float32': 4, 'bfloat16': 2, 'float16': 2}
MLP_RATIO = 4


@dataclass(frozen=True)
class Plan:
    """Facts and estimates of one forward pass (inference) or one step (training).

    .. versionadded:: 0.1
    """

    model: str
    bands: tuple[Band, ...]
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    kernel_size: int
    kernel_loss: float
    grid: tuple[int, int]
    tokens: int
    batch_size: int
    dtype: str
    parameters: int
    flops: float
    inference_bytes: float
    training_bytes: float
    max_tokens: int
    speed: str = 'exact'
    block_tokens: tuple[int, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the tokens of an image are within the model's budget."""
        return self.tokens <= self.max_tokens

    @property
    def merging(self) -> str:
        """Tokens of an image in each run of blocks that have equally many, as text."""
        runs = [(tokens, len(list(blocks))) for tokens, blocks in groupby(self.block_tokens)]
        if len(runs) == 1:
            return 'all tokens in all blocks'
        return ', '.join(f'{tokens:,} tokens in {n} block' + 's' * (n > 1) for tokens, n in runs)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, for JSON."""
        return asdict(self) | {'fits': self.fits}

    def __str__(self) -> str:
        """The plan as a table in plain text."""
        rows = {
            'model': f'{self.model}, {self.parameters / 1e6:.1f} M parameters',
            'image': f'{self.image_size[0]} x {self.image_size[1]} px, {len(self.bands)} bands',
            'patch': f'{self.patch_size[0]} x {self.patch_size[1]} px',
            'kernel': f'{self.kernel_size} px of the bank, PI-resize loses '
            f'{self.kernel_loss:.0%} of its freedom',
            'grid': f'{self.grid[0]} x {self.grid[1]} a band',
            'tokens': f'{self.tokens:,} an image'
            + ('' if self.fits else f' - OVER the budget of {self.max_tokens:,}'),
            'speed': f'{self.speed}: {self.merging}',
            'forward': f'{self.flops / 1e9:,.1f} GFLOP a batch of {self.batch_size}',
            'memory': f'about {self.inference_bytes / 2**30:.2f} GiB for inference, '
            f'{self.training_bytes / 2**30:.2f} GiB for training ({self.dtype}, AdamW)',
        }
        table = '\n'.join(f'{key:<8} {value}' for key, value in rows.items())
        return f'{describe_bands(self.bands)}\n\n{table}'


def _forward_flops(tokens: int, blocks: Sequence[int], dim: int, patch: tuple[int, int]) -> float:
    """Two operations for each multiply-add of one image: tokens, and tokens in each block."""
    projections = sum(2 * own * dim * dim * (4 + 2 * MLP_RATIO) for own in blocks)
    attention = sum(4 * own * own * dim for own in blocks)
    return projections + attention + 2 * tokens * patch[0] * patch[1] * dim


def describe(
    model: str | AOM = 'aom_vitb',
    bands: BandSpec | None = None,
    size: int | Sequence[int] = 224,
    patch_size: int | Sequence[int] | str | None = None,
    batch_size: int = 1,
    dtype: str = 'float32',
    gsd_m: float | None = None,
    speed: Speed | None = None,
) -> Plan:
    """Say what a request means and costs without building or running anything.

    Memory is estimated from tensor sizes with fused attention: parameters, plus the widest moment
    of a block (inference) or what all blocks keep for the backward pass, gradients and the two
    moments of AdamW (training).

    Args:
        model: name of a model, with or without a band preset as tag, or a built one.
        bands: bands of the image; those of the model where not given, RGB where it has none.
        size: image size in px, or (height, width).
        patch_size: patch size in px; that of a built model where not given, else 16; ``'auto'``
            for the rule of :func:`~torchgeo_aom.models.patch_rule.choose_patch_size`.
        batch_size: images a batch.
        dtype: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'float64'``.
        gsd_m: ground sampling distance in meters, for the rule; with ``'auto'`` only.
        speed: speed mode or merge schedule, see
            :func:`~torchgeo_aom.models.speed.merge_schedule`; that of a built model where not
            given, else ``'exact'``.

    Returns:
        The plan; ``print`` it for a table.

    Raises:
        BandError: if a band is unknown.
        ConfigError: if the model, its tag, the dtype or the speed is unknown, or *gsd_m* has no
            rule to serve.
        SizeError: if a size is impossible.

    .. versionadded:: 0.1
    """
    if dtype not in DTYPE_BYTES:
        raise ConfigError(f'dtype must be one of {tuple(DTYPE_BYTES)}, got {dtype!r}.')
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ConfigError(f'batch_size must be at least 1, got {batch_size}.')
    if not isinstance(model, str):
        name, dim, depth = 'AOM', model.embed_dim, len(model.blocks)
        kernels, budget = model.patch_embed.kernel_sizes, model.patch_embed.max_tokens
        parameters = sum(p.numel() for p in model.parameters())
        own: BandSpec = model.bands or list(range(model.patch_embed.in_chans))
        patch_size = model.patch_embed.patch_size if patch_size is None else patch_size
        speed = model.speed if speed is None else speed
    else:
        name, _, tag = check_name(model).partition('.')
        kernels, budget = KERNEL_SIZES, MAX_TOKENS
        own = preset_tags()[tag] if tag else 'rgb'
        dim, depth = SIZES[name]['embed_dim'], SIZES[name]['depth']
        block = (4 + 2 * MLP_RATIO) * dim * dim + (4 + MLP_RATIO + 1 + 4) * dim
        bank = sum(k * k * dim + dim for k in kernels)
        parameters = depth * block + bank + 2 * dim
    resolved = resolve_bands(own if bands is None else bands)
    image = as_pair(size, 'size')
    check_gsd(gsd_m, patch_size)
    if is_auto(patch_size):
        patch = checked_patch_size(choose_patch_size(image, gsd_m=gsd_m))
    else:
        patch = checked_patch_size(16 if patch_size is None else patch_size)
    grid = token_grid(image, patch)
    tokens = len(resolved) * grid[0] * grid[1]
    side = round((patch[0] * patch[1]) ** 0.5)
    kernel = nearest_kernel(kernels, side)

    schedule = merge_schedule(speed, depth)
    places = grid[0] * grid[1]
    blocks = [slots * places for slots in slots_per_block(len(resolved), schedule, depth)]
    unit = DTYPE_BYTES[dtype]
    token = float(batch_size) * dim * unit
    # Widest moment: residual stream and the MLP's input and hidden layer before and after GELU;
    # or tokens of all bands, and those that they are merged into before the first block.
    widest = token * max((2 + 2 * MLP_RATIO) * max(blocks), tokens + blocks[0])
    # Kept for the backward pass: two norms' inputs, their outputs, q, k, v, the attention's output,
    # and the MLP's hidden layer before and after GELU.
    kept = token * (8 + 2 * MLP_RATIO) * sum(blocks)
    return Plan(
        model=name,
        bands=resolved,
        image_size=image,
        patch_size=patch,
        kernel_size=kernel,
        kernel_loss=kernel_loss(kernel, patch),
        grid=grid,
        tokens=tokens,
        batch_size=batch_size,
        dtype=dtype,
        parameters=parameters,
        flops=batch_size * _forward_flops(tokens, blocks, dim, patch),
        inference_bytes=parameters * unit + widest,
        training_bytes=parameters * (unit + 12) + widest + kept,
        max_tokens=budget,
        speed=speed_text(speed),
        block_tokens=tuple(blocks),
    )
