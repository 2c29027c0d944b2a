"""Writes the golden tensors and names: ``python tests/models/golden/make.py``, from the repository.

Only for a change of the model that is meant: every old checkpoint then gives other features. The
parameters come from a formula, so that no random generator is part of what is compared.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from torchgeo_aom import AOM

FOLDER = Path(__file__).parent
PATCH_SIZES = {'8': 8, '14': 14, '16': 16, '24': 24, '32': 32, '48': 48, '20x12': (20, 12)}
BANDS = ('sentinel2:B02', 'landsat8:B5', 'sentinel2:B8A', 1.61)
NAMES = FOLDER / 'state_dict.txt'


def waves(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    """Numbers between -1 and 1 without pattern at the sizes that matter, from no generator."""
    steps = np.arange(np.prod(shape), dtype=np.float64)
    return torch.from_numpy(np.sin(steps * 1.618 + steps**2 * 1e-3 + phase)).float().reshape(shape)


def golden_model() -> AOM:
    """A small AOM with parameters from a formula."""
    model = AOM(embed_dim=24, depth=2, num_heads=3, num_classes=5, bands=BANDS).eval()
    with torch.no_grad():
        for k, (name, parameter) in enumerate(model.named_parameters()):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            start = 1.0 if 'norm' in name and name.endswith('weight') else 0.0
            parameter.copy_(start + waves(tuple(parameter.shape), k) / fan_in**0.5)
    return model


def golden_image() -> torch.Tensor:
    """Two images of four bands, not square, and no multiple of any patch size."""
    return 1.5 * waves((2, 4, 50, 69), 0.3)


def golden(model: nn.Module) -> dict[str, torch.Tensor]:
    """Input, features and logits for each patch size."""
    x = golden_image()
    tensors = {'input': x}
    with torch.no_grad():
        for name, patch_size in PATCH_SIZES.items():
            tensors[f'features.{name}'] = model.forward_features(x, patch_size=patch_size)
            tensors[f'logits.{name}'] = model(x, patch_size=patch_size)
    return tensors


def state_names() -> str:
    """Parameters of all sizes as text: one line for each name and shape."""
    from torchgeo_aom.models.aom import SIZES

    lines = []
    for size, options in SIZES.items():
        with torch.device('meta'):
            model = AOM(**options, num_classes=10)
        lines.append(f'[{size}]')
        lines += [
            f'{name} {"x".join(map(str, value.shape))}'
            for name, value in model.state_dict().items()
        ]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    tensors = {key: value.contiguous() for key, value in golden(golden_model()).items()}
    save_file(tensors, FOLDER / 'tiny.safetensors')
    NAMES.write_text(state_names(), encoding='utf-8')
    sys.stdout.write(f'wrote {len(tensors)} tensors and {NAMES.name}\n')
