"""Any-Optical-Model: one vision transformer over the tokens of any bands of any optical sensor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..bands import Band, BandSpec
from ..errors import ConfigError
from ..layers.channel_pool import CHANNEL_POOLS, ChannelPool, attention_mask
from ..layers.masking import split_tokens
from ..layers.tokenizer import KERNEL_SIZES, MAX_TOKENS, Tokenizer
from .backbone import Backbone
from .loading import kernel_bank_hook

__all__ = ('AOM', 'SIZES', 'pyramid_blocks')

SIZES: dict[str, dict[str, int]] = {
    'aom_vitt': {'embed_dim': 192, 'depth': 12, 'num_heads': 3},
    'aom_vits': {'embed_dim': 384, 'depth': 12, 'num_heads': 6},
    'aom_vitb': {'embed_dim': 768, 'depth': 12, 'num_heads': 12},
    'aom_vitl': {'embed_dim': 1024, 'depth': 24, 'num_heads': 16},
}
NORM_EPS = 1e-6  # ViT's and MAE's; PyTorch's default of 1e-5 would change warm-started weights


def pyramid_blocks(depth: int) -> tuple[int, ...]:
    """Blocks whose maps feed dense heads: four evenly spaced ones, (2, 5, 8, 11) of 12."""
    return tuple((i + 1) * depth // 4 - 1 for i in range(4))


class AOM(Backbone):
    """Any-Optical-Model encoder.

    Every band of an image is tokenized by itself (SiTok) with a kernel resized to the patch size
    wanted (MAPE); all tokens of all bands go through one transformer. A checkpoint therefore serves
    any band subset, sensor, image size and patch size.

    The order of the children is a contract with TorchGeo's trainers: the first leaf is the patch
    kernel, the second to last child sees pooled features, the last is the head.

    If you use this model in your research, please cite the following paper:

    * https://arxiv.org/abs/2512.17224

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        kernel_sizes: Sequence[int] = KERNEL_SIZES,
        in_chans: int | None = None,
        bands: BandSpec | None = None,
        num_classes: int = 0,
        global_pool: str = 'avg',
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        init_values: float | None = None,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        channel_encoding: str = 'index',
        channel_pool: str = 'mean',
        max_tokens: int = MAX_TOKENS,
        dynamic_img_size: bool = True,
    ) -> None:
        """Initialize the encoder. The defaults are the paper's ViT-B.

        Args:
            img_size: nominal image size in px; any other size works too.
            patch_size: patch size in px where a call names none.
            kernel_sizes: sizes of the kernel bank in px.
            in_chans: number of channels C; the number of bands, or 3, where not given.
            bands: bands of the channels in file order, where a call names none: names, wavelengths,
                indices or a preset such as ``'sentinel2:rgb'``, see
                :func:`torchgeo_aom.bands.resolve_bands`.
            num_classes: width of the classification head; 0 for no head.
            global_pool: ``'avg'``, or ``''`` to return all tokens.
            embed_dim: embedding dimension D.
            depth: number of transformer blocks.
            num_heads: number of attention heads.
            mlp_ratio: hidden width of a block's MLP over D.
            qkv_bias: whether queries, keys and values have a bias.
            init_values: initial layer scale; None for no layer scale.
            drop_rate: dropout before the head.
            proj_drop_rate: dropout after projections.
            attn_drop_rate: dropout of attention weights.
            drop_path_rate: largest stochastic depth rate, rising linearly with depth.
            channel_encoding: ``'index'`` (the paper) or ``'wavelength'`` (its Table 5).
            channel_pool: ``'mean'``, ``'max'`` or ``'attn'``.
            max_tokens: largest number of tokens C * Nh * Nw of one image.
            dynamic_img_size: for timm's callers; AOM takes any size, so only True is possible.

        Raises:
            BandError: if the bands are unknown, or their number is not ``in_chans``.
            ConfigError: if an option has an unknown value.
            SizeError: if a size is impossible.
        """
        super().__init__()
        if not dynamic_img_size:
            raise ConfigError(
                'dynamic_img_size=False is not possible: AOM takes any image size. Leave it out.'
            )
        if channel_pool not in CHANNEL_POOLS:
            raise ConfigError(f'channel_pool must be one of {CHANNEL_POOLS}, got {channel_pool!r}.')
        for what, value, least in (
            ('depth', depth, 1), ('num_heads', num_heads, 1), ('num_classes', num_classes, 0),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f'{what} must be at least {least}, got {value}.')
        if embed_dim % num_heads:
            raise ConfigError(
                f'embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}.'
            )
        self.embed_dim = self.num_features = self.head_hidden_size = embed_dim
        self.num_classes = num_classes
        self.num_prefix_tokens = 1
        self.grad_checkpointing = False
        self._set_global_pool(global_pool)

        self.patch_embed = Tokenizer(
            img_size, patch_size, kernel_sizes, in_chans, bands, embed_dim, channel_encoding,
            max_tokens,
        )  # fmt: skip
        norm_layer = cast('type[nn.Module]', partial(nn.LayerNorm, eps=NORM_EPS))
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias=qkv_bias,
                init_values=init_values,
                proj_drop=proj_drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=drop_path_rate * i / max(depth - 1, 1),
                norm_layer=norm_layer,
            )
            for i in range(depth)
        )
        self.channel_pool = ChannelPool(embed_dim, channel_pool)
        self.norm: nn.Module = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.init_weights()
        self._set_feature_info()
        self.register_load_state_dict_pre_hook(kernel_bank_hook)

    # -- construction ------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Initialize like MAE: Xavier-uniform projections, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def bands(self) -> tuple[Band, ...] | None:
        """Bands that the model was built for; None where channels are only positions."""
        return self.patch_embed.bands

    # -- forward -----------------------------------------------------------------------------

    def _run_blocks(
        self,
        tokens: Tensor,
        valid: Tensor | None,
        take: Sequence[int] = (),
        last: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Transformer over all tokens (Eq. 4); also the band-pooled maps after some blocks.

        Args:
            tokens: tokens of shape (B, C, Nh, Nw, D).
            valid: bool of shape (B, C), or None.
            take: blocks whose output is wanted.
            last: block to stop after, or None for all.

        Returns:
            Tokens of shape (B, C, Nh, Nw, D), and maps of shape (B, Nh * Nw, D).
        """
        shape = tokens.shape
        places = shape[2] * shape[3]
        x = tokens.flatten(1, 3)  # (B, C*N, D)
        mask = attention_mask(valid, places)
        maps = []
        for i, block in enumerate(self.blocks if last is None else self.blocks[: last + 1]):
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, attn_mask=mask)
            else:
                x = block(x, attn_mask=mask)
            if i in take:
                maps.append(self.channel_pool(x.unflatten(1, (shape[1], places)), valid))
        return x.unflatten(1, shape[1:4]), maps

    def _summarize(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """Image feature and map, normed: (B, C, Nh, Nw, D) -> (B, 1 + Nh*Nw, D).

        The image feature is the global average of all tokens, then LayerNorm.
        """
        pooled = self.channel_pool(tokens.flatten(2, 3), valid)  # (B, N, D)
        return self._with_prefix(pooled)

    def _with_prefix(self, pooled: Tensor) -> Tensor:
        normed: Tensor = self.norm(torch.cat((pooled.mean(1, keepdim=True), pooled), dim=1))
        return normed

    def forward_features(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Image feature and map of an image.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: bands of the channels where not those of the constructor; or a float tensor of
                channel indices, (C,) or (B, C) with NaN where a sample lacks the channel.
            patch_size: patch size in px where not that of the constructor.

        Returns:
            Features of shape (B, 1 + Nh * Nw, D): the image feature, then the map, averaged over
            bands, row by row.

        Raises:
            BandError: if the bands do not fit the image.
            InputError: if the image is not a floating-point tensor of four dimensions.
            SizeError: if the patch size is impossible or the token budget is exceeded.
        """
        tokens, valid = self.patch_embed(x, bands, patch_size)
        tokens, _ = self._run_blocks(tokens, valid)
        return self._summarize(tokens, valid)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits.

        Args:
            x: features of shape (B, 1 + N, D).
            pre_logits: stop before the head.

        Returns:
            Logits of shape (B, num_classes), or features: (B, D), or (B, 1 + N, D) where
            ``global_pool`` is ``''``.
        """
        if self.global_pool == 'avg':
            x = x[:, 0]
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Images to logits, or to image features where there is no head.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.

        Returns:
            Logits of shape (B, num_classes), or features of shape (B, D).
        """
        return self.forward_head(self.forward_features(x, bands, patch_size))

    def forward_band_tokens(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Normed tokens of each band by itself.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.

        Returns:
            Tokens of shape (B, C, Nh, Nw, D); NaN for channels that a sample does not have.
        """
        tokens, valid = self.patch_embed(x, bands, patch_size)
        tokens, _ = self._run_blocks(tokens, valid)
        normed: Tensor = self.norm(tokens)
        if valid is None:
            return normed
        return normed.masked_fill(~valid[:, :, None, None, None], float('nan'))

    def forward_band_maps(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Feature maps of each band by itself.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.

        Returns:
            Maps of shape (B, C, D, Nh, Nw); NaN for channels that a sample does not have.
        """
        return self.forward_band_tokens(x, bands, patch_size).permute(0, 1, 4, 2, 3)

    def forward_visible(
        self,
        x: Tensor,
        ids_keep: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Tokens of the last block where only some are let in (Eq. 4), for masked pretraining.

        Args:
            x: normalized images of shape (B, C, H, W).
            ids_keep: which of the C * Nh * Nw tokens are visible, indices of shape (B, K).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.

        Returns:
            Tokens of shape (B, K, D), before the final norm, in the order of *ids_keep*.
        """
        grid, valid = self.patch_embed(x, bands, patch_size)
        tokens = split_tokens(grid.flatten(1, 3), ids_keep)
        # One row of places: with attention alone, blocks do not ask where a token lies.
        if valid is not None:
            valid = valid.repeat_interleave(grid.shape[2] * grid.shape[3], 1).gather(1, ids_keep)
        tokens, _ = self._run_blocks(tokens[:, :, None, None], valid)
        return tokens.flatten(1, 3)

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
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.

        Returns:
            (features as of :meth:`forward_features`, list of maps), or the list alone.

        Raises:
            ConfigError: if the output format is unknown.
        """
        if output_fmt not in ('NCHW', 'NLC'):
            raise ConfigError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}.")
        take, last = feature_take_indices(len(self.blocks), indices)
        tokens, valid = self.patch_embed(x, bands, patch_size)
        rows, cols = tokens.shape[2], tokens.shape[3]
        tokens, maps = self._run_blocks(tokens, valid, take, last if stop_early else None)

        outputs: list[Any] = []
        for pooled in maps:
            full = torch.cat((pooled.mean(1, keepdim=True), pooled), dim=1)
            prefix, grid = (self.norm(full) if norm else full).split((1, rows * cols), dim=1)
            if output_fmt == 'NCHW':
                grid = grid.transpose(1, 2).unflatten(2, (rows, cols)).contiguous()
            outputs.append((grid, prefix) if return_prefix_tokens else grid)
        if intermediates_only:
            return outputs
        return self._summarize(tokens, valid), outputs
