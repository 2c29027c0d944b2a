"""The contract that timm and everything built on it expects of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models._features import feature_take_indices
from torch import nn

from ..errors import ConfigError, UnsupportedError
from ..layers.channel_pool import ChannelPool
from ..layers.tokenizer import Tokenizer

__all__ = ('Backbone',)


class Backbone(nn.Module):
    """What frameworks ask of a backbone besides features: head, groups, pruning, sizes."""

    patch_embed: Tokenizer
    blocks: nn.ModuleList
    channel_pool: ChannelPool
    norm: nn.Module
    head: nn.Module
    embed_dim: int
    num_classes: int
    global_pool: str
    grad_checkpointing: bool
    feature_info: list[dict[str, Any]]

    def __prepare_scriptable__(self) -> None:
        """What ``torch.jit.script`` asks for first, of models within others too.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            'An AOM cannot be scripted (TorchScript): it takes names of bands and checks values, '
            'which is Python. Use torch.export.export or torch.compile, or write an ONNX file with '
            'torchgeo_aom.clients.onnx.'
        )

    def _set_global_pool(self, global_pool: str) -> None:
        if global_pool not in ('avg', ''):
            raise ConfigError(
                f"global_pool must be 'avg' (the paper) or '' (all tokens), got {global_pool!r}."
            )
        self.global_pool = global_pool

    def _set_feature_info(self) -> None:
        reduction = max(self.patch_embed.patch_size)
        self.feature_info = [
            {'module': f'blocks.{i}', 'num_chs': self.embed_dim, 'reduction': reduction}
            for i in range(len(self.blocks))
        ]

    def get_classifier(self) -> nn.Module:
        """The classification head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classification head.

        Args:
            num_classes: width of the new head; 0 for none.
            global_pool: ``'avg'``, ``''``, or None to leave it.
        """
        if global_pool is not None:
            self._set_global_pool(global_pool)
        self.num_classes = num_classes
        like = next(self.patch_embed.parameters())
        if num_classes:
            self.head = nn.Linear(self.embed_dim, num_classes, device=like.device, dtype=like.dtype)
        else:
            self.head = nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass instead of storing their activations."""
        self.grad_checkpointing = enable

    def set_input_size(
        self,
        img_size: int | Sequence[int] | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> None:
        """Change the nominal image size and the default patch size; the parameters stay."""
        self.patch_embed.set_input_size(img_size, patch_size)
        self._set_feature_info()

    def no_weight_decay(self) -> set[str]:
        """Parameters that optimizers should not decay.

        Kernels among them: fine-tuning at one patch size gives the others no gradient, and decay
        alone would wear them away.
        """
        kernels = {f'patch_embed.kernels.{size}.weight' for size in self.patch_embed.kernel_sizes}
        return kernels | ({'channel_pool.query'} if self.channel_pool.kind == 'attn' else set())

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rate decay."""
        return {
            'stem': r'^patch_embed',
            'blocks': [(r'^blocks\.(\d+)', None), (r'^channel_pool|^norm', (99999,))],
        }

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop what the intermediate features asked for do not need.

        Args:
            indices: the last n blocks if an integer, these blocks if a list.
            prune_norm: whether to drop the final norm.
            prune_head: whether to drop the head.

        Returns:
            Indices of the blocks whose features are taken.
        """
        take, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return list(take)
