"""What names and shapes of parameters tell of the model that they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

__all__ = ('BANK', 'KERNEL', 'MAX_KERNEL_SIZE', 'shape_facts')

BANK = 'patch_embed.kernels.'
KERNEL = re.compile(r'patch_embed\.kernels\.([1-9][0-9]{0,3})\.weight')
BLOCK = re.compile(r'blocks\.[0-9]+\.attn\.qkv\.weight')
MAX_KERNEL_SIZE = 512


def shape_facts(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the names and shapes of a backbone tell of its size.

    Args:
        state_dict: parameters by the backbone's own names.

    Returns:
        ``embed_dim``, ``depth`` and ``kernel_sizes``.

    Raises:
        CheckpointError: if there are no patch kernels, or not of the size that they are named by.
    """
    kernels = {int(m[1]): v for key, v in state_dict.items() if (m := KERNEL.fullmatch(key))}
    if not kernels:
        raise CheckpointError(
            f'The checkpoint holds no AOM backbone: none of its {len(state_dict)} names has '
            f"'{BANK}', the first are {list(state_dict)[:3]}. For ViT or MAE weights there is "
            'warm_start.'
        )
    for size, kernel in kernels.items():
        if size > MAX_KERNEL_SIZE or kernel.shape[1:] != (1, size, size) or not len(kernel):
            raise CheckpointError(
                f'{BANK}{size}.weight has shape {tuple(kernel.shape)}, expected (embed_dim, 1, '
                f'{size}, {size}) with at most {MAX_KERNEL_SIZE} px. Get the file again.'
            )
    width = next(iter(kernels.values())).shape[0]
    # Blocks count with their weights, so that no model is much larger than the file.
    depth = sum(
        BLOCK.fullmatch(key) is not None and value.shape == (3 * width, width)
        for key, value in state_dict.items()
    )
    return {'embed_dim': width, 'depth': depth, 'kernel_sizes': sorted(kernels)}
