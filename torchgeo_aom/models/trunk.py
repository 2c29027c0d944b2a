"""The blocks of the encoder: tokens of bands in, tokens of bands or of merged groups out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint
from torch import Tensor
from torch.fx import Proxy, wrap

from ..bands import BandSpec
from ..errors import ConfigError
from ..layers.channel_pool import attention_mask
from ..layers.masking import split_tokens
from ..layers.merging import group_members, merge_slots, merge_visible
from .backbone import Backbone
from .speed import Schedule, Speed, SpeedLoss, merge_schedule, warn_loss

__all__ = ('Trunk',)

# Leaves for torch.fx: what they do depends on real shapes.
wrap('attention_mask')
wrap('merge_slots')


class Trunk(Backbone):
    """Transformer over the tokens of all bands (Eq. 4), merged on the way where asked for."""

    speed: Speed
    #: what is known of the loss of merge schedules with the weights loaded; None for random weights
    speed_loss: SpeedLoss | None = None

    def set_speed(self, speed: Speed) -> None:
        """Change the speed mode where a call names none; the parameters stay.

        Args:
            speed: see :func:`~torchgeo_aom.models.speed.merge_schedule`.

        Raises:
            ConfigError: if there is no such mode, or the schedule is impossible.

        Warns:
            AOMWarning: if the mode costs accuracy with the weights loaded, or nobody knows.
        """
        schedule = merge_schedule(speed, len(self.blocks))
        self.speed = speed if isinstance(speed, str) else schedule
        self.warn_speed()

    def warn_speed(self) -> None:
        """Warn of a speed mode that costs accuracy with the weights loaded, or may."""
        schedule = self.schedule()
        if schedule and self.speed_loss is not None:
            warn_loss(self.speed, schedule, self.speed_loss)

    def schedule(self, speed: Speed | None = None) -> Schedule:
        """Merge schedule of a call: that of *speed*, or of the constructor where None.

        A graph of torch.fx is one of the constructor's mode: it cannot branch on an argument.
        """
        own = speed is None or isinstance(speed, Proxy)
        return merge_schedule(self.speed if own else speed, len(self.blocks))

    def embed(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None,
        patch_size: int | Sequence[int] | None,
        merge: Schedule,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Tokens (B, C, Nh, Nw, D), channels that exist and, for merging, spectral positions."""
        if merge:
            own = self.patch_embed
            if bands is None and own.bands and own.in_chans != len(own.bands):
                raise ConfigError(
                    f'the {own.in_chans} channels are {own.in_chans // len(own.bands)} dates of '
                    f"{len(own.bands)} bands, and merging would average dates: use speed='exact'."
                )
            tokens, valid, position = self.patch_embed(x, bands, patch_size, position=True)
            return tokens, valid, position
        tokens, valid = self.patch_embed(x, bands, patch_size)
        return tokens, valid, None

    def _block(self, i: int, x: Tensor, mask: Tensor | None) -> Tensor:
        block = self.blocks[i]
        if self.grad_checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, attn_mask=mask)
        else:
            x = block(x, attn_mask=mask)
        return x

    def run_blocks(
        self,
        tokens: Tensor,
        valid: Tensor | None = None,
        position: Tensor | None = None,
        merge: Schedule = (),
        take: Sequence[int] = (),
        last: int | None = None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Run the transformer (Eq. 4), and merge bands on the way.

        Blocks do not ask where a token lies: the N places may be any, as long as all bands of a
        sample have the same ones, for instance the visible places of masked pretraining.

        Args:
            tokens: tokens of shape (B, C, N, D).
            valid: which bands exist, bool of shape (B, C); None for all.
            position: where in the spectrum the bands lie, of shape (C,) or (B, C), as of
                ``patch_embed(..., position=True)``; for merging only.
            merge: pairs (k, g): after k blocks, bands are merged into at most g groups.
            take: blocks whose band-pooled output is wanted.
            last: block to stop after, or None for all.

        Returns:
            Tokens of shape (B, G, N, D), where G = C without merging; how many bands each counts
            for: *valid* without merging, else float of shape (1, G) or (B, G), 0 for groups that a
            sample does not have; and maps of shape (B, N, D) of the blocks *take*.
        """
        places = tokens.shape[2]
        groups = dict(merge)
        weight = valid
        x = tokens.flatten(1, 2)  # (B, C*N, D)
        mask = attention_mask(weight, places, x)
        maps = []
        for i in range(len(self.blocks) if last is None else last + 1):
            if i in groups and position is not None:
                slots = x.unflatten(1, (-1, places))
                slots, weight, position = merge_slots(slots, weight, position, groups[i])
                x = slots.flatten(1, 2)
                mask = attention_mask(weight, places, x)
            x = self._block(i, x, mask)
            if i in take:
                maps.append(self.channel_pool(x.unflatten(1, (-1, places)), weight))
        return x.unflatten(1, (-1, places)), weight, maps

    def _summarize(self, tokens: Tensor, weight: Tensor | None) -> Tensor:
        """Image feature and map, normed: (B, G, N, D) -> (B, 1 + N, D).

        The image feature is the global average of all tokens, then LayerNorm.
        """
        pooled = self.channel_pool(tokens, weight)  # (B, N, D)
        normed: Tensor = self.norm(torch.cat((pooled.mean(1, keepdim=True), pooled), dim=1))
        return normed

    def forward_visible(
        self,
        x: Tensor,
        ids_keep: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        speed: Speed | None = None,
    ) -> Tensor:
        """Tokens of the last block where only some are let in (Eq. 4), for masked pretraining.

        With merging, visible tokens of one place and one group are averaged, however many they are;
        each of them gets the token of its group back.

        Args:
            x: normalized images of shape (B, C, H, W).
            ids_keep: which of the C * Nh * Nw tokens are visible, indices of shape (B, K).
            bands: see :meth:`AOM.forward_features`.
            patch_size: see :meth:`AOM.forward_features`.
            speed: see :meth:`AOM.forward_features`.

        Returns:
            Tokens of shape (B, K, D), before the final norm, in the order of *ids_keep*.
        """
        merge = self.schedule(speed)
        grid, valid, position = self.embed(x, bands, patch_size, merge)
        channels, places = grid.shape[1], grid.shape[2] * grid.shape[3]
        tokens = split_tokens(grid.flatten(1, 3), ids_keep)
        weight = None if valid is None else valid.repeat_interleave(places, 1).gather(1, ids_keep)
        mask = attention_mask(weight, 1, tokens)
        groups = {k: g for k, g in merge if g < channels}
        keys, bands_in, origin = ids_keep, valid, None
        for i in range(len(self.blocks)):
            if i in groups and position is not None:
                member, bands_in, position = group_members(bands_in, position, groups[i])
                slot = member.argmax(1).expand(len(keys), -1).gather(1, keys // places)
                size = torch.ones_like(keys) if weight is None else weight
                tokens, weight, keys, target = merge_visible(
                    tokens, size.float(), slot * places + keys % places
                )
                origin = target if origin is None else target.gather(1, origin)
                mask = attention_mask(weight, 1, tokens)
            tokens = self._block(i, tokens, mask)
        return tokens if origin is None else split_tokens(tokens, origin)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        speed: Speed | None = None,
    ) -> Any:
        """Band-pooled maps after several blocks, in timm's form.

        Args:
            x: normalized images of shape (B, C, H, W).
            indices: the last n blocks if an integer, these blocks if a list, all if None.
            return_prefix_tokens: return (map, image feature) for each block.
            norm: apply the final norm to the maps.
            stop_early: do not run blocks after the last one wanted.
            output_fmt: ``'NCHW'`` for maps of shape (B, D, Nh, Nw), ``'NLC'`` for (B, Nh * Nw, D).
            intermediates_only: return the list of maps alone.
            bands: see :meth:`AOM.forward_features`.
            patch_size: see :meth:`AOM.forward_features`.
            speed: see :meth:`AOM.forward_features`.

        Returns:
            (features as of :meth:`AOM.forward_features`, list of maps), or the list alone.

        Raises:
            ConfigError: if the output format or the speed is unknown.
        """
        if output_fmt not in ('NCHW', 'NLC'):
            raise ConfigError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}.")
        take, last = feature_take_indices(len(self.blocks), indices)
        merge = self.schedule(speed)
        tokens, valid, position = self.embed(x, bands, patch_size, merge)
        rows, cols = tokens.shape[2], tokens.shape[3]
        tokens, weight, maps = self.run_blocks(
            tokens.flatten(2, 3), valid, position, merge, take, last if stop_early else None
        )
        outputs: list[Any] = []
        for pooled in maps:
            full = torch.cat((pooled.mean(1, keepdim=True), pooled), dim=1)
            prefix, grid = (self.norm(full) if norm else full).split((1, rows * cols), dim=1)
            if output_fmt == 'NCHW':
                grid = grid.transpose(1, 2).unflatten(2, (rows, cols)).contiguous()
            outputs.append((grid, prefix) if return_prefix_tokens else grid)
        if intermediates_only:
            return outputs
        return self._summarize(tokens, weight), outputs
