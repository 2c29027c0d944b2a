"""Compiles the blocks of a pretraining task, so that all patch sizes share the compiled code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ('compile_blocks',)

MARGIN = 16  # compilations allowed besides those of one block for each width


def compile_blocks(task: nn.Module, backend: Any = 'inductor') -> int:
    """Compile the transformer blocks of encoder and decoders in place.

    Blocks are compiled one by one and for any number of images and tokens. Blocks of one width
    share the code, so the first steps compile once for the encoder and once for the decoders,
    whatever the patch sizes, bands and image sizes that follow. Names of parameters do not change.

    Args:
        task: task with ``encoder`` and ``decoders``.
        backend: of `torch.compile`.

    Returns:
        Number of blocks.
    """
    modules: list[Any] = [task.encoder, *task.decoders.values()]  # type: ignore[operator]
    blocks = [block for module in modules for block in module.blocks]
    # Training, validation and autocast each count; the default of 8 is for one of them.
    limit = torch._dynamo.config
    limit.recompile_limit = max(limit.recompile_limit, MARGIN)
    for block in blocks:
        block.compile(backend=backend, dynamic=True)
    return len(blocks)
