"""Any-Optical-Model: one vision transformer over the tokens of any bands of any optical sensor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..bands import Band, BandSpec
from ..errors import ConfigError
from ..layers.channel_pool import CHANNEL_POOLS, ChannelPool
from ..layers.tokenizer import KERNEL_SIZES, MAX_TOKENS, Tokenizer
from .loading import kernel_bank_hook
from .names import SIZES
from .speed import Speed
from .trunk import Trunk

__all__ = ('AOM', 'SIZES', 'pyramid_blocks')

NORM_EPS = 1e-6  # ViT's and MAE's; PyTorch's default of 1e-5 would change warm-started weights


def pyramid_blocks(depth: int) -> tuple[int, ...]:
    """Blocks whose maps feed dense heads: four evenly spaced ones, (2, 5, 8, 11) of 12."""
    return tuple((i + 1) * depth // 4 - 1 for i in range(4))


class AOM(Trunk):
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
        speed: Speed = 'exact',
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
            speed: speed mode where a call names none: ``'exact'``, ``'balanced'`` and ``'fast'``,
                which merge tokens of neighboring bands on the way, or pairs (blocks, groups) of a
                merge schedule; see :func:`~torchgeo_aom.models.speed.merge_schedule`.

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
        self.set_speed(speed)
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

    def forward_features(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        speed: Speed | None = None,
    ) -> Tensor:
        """Image feature and map of an image.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: bands of the channels where not those of the constructor; or a float tensor of
                channel indices, (C,) or (B, C) with NaN where a sample lacks the channel.
            patch_size: patch size in px where not that of the constructor.
            speed: speed mode, or pairs (blocks, groups), where not those of the constructor; see
                :func:`~torchgeo_aom.models.speed.merge_schedule`.

        Returns:
            Features of shape (B, 1 + Nh * Nw, D): the image feature, then the map, averaged over
            bands, row by row.

        Raises:
            BandError: if the bands do not fit the image.
            InputError: if the image is not a floating-point tensor of four dimensions.
            SizeError: if the patch size is impossible or the token budget is exceeded.
        """
        merge = self.schedule(speed)
        tokens, valid, position = self.embed(x, bands, patch_size, merge)
        tokens, weight, _ = self.run_blocks(tokens.flatten(2, 3), valid, position, merge)
        return self._summarize(tokens, weight)

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
        speed: Speed | None = None,
    ) -> Tensor:
        """Images to logits, or to image features where there is no head.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.
            speed: see :meth:`forward_features`.

        Returns:
            Logits of shape (B, num_classes), or features of shape (B, D).
        """
        return self.forward_head(self.forward_features(x, bands, patch_size, speed))

    def forward_band_tokens(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        speed: Speed | None = None,
    ) -> Tensor:
        """Normed tokens of each band by itself.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.
            speed: see :meth:`forward_features`.

        Returns:
            Tokens of shape (B, C, Nh, Nw, D); NaN for channels that a sample does not have.

        Raises:
            ConfigError: if the speed mode merges bands, of which none is left by itself then.
        """
        if self.schedule(speed):
            raise ConfigError(
                f'speed={self.speed if speed is None else speed!r} merges bands, so there are no '
                "tokens of each band by itself; call this with speed='exact'."
            )
        grid, valid = self.patch_embed(x, bands, patch_size)
        tokens, _, _ = self.run_blocks(grid.flatten(2, 3), valid)
        normed: Tensor = self.norm(tokens).unflatten(2, grid.shape[2:4])
        if valid is None:
            return normed
        return normed.masked_fill(~valid[:, :, None, None, None], float('nan'))

    def forward_band_maps(
        self,
        x: Tensor,
        bands: BandSpec | Tensor | None = None,
        patch_size: int | Sequence[int] | None = None,
        speed: Speed | None = None,
    ) -> Tensor:
        """Feature maps of each band by itself.

        Args:
            x: normalized images of shape (B, C, H, W).
            bands: see :meth:`forward_features`.
            patch_size: see :meth:`forward_features`.
            speed: see :meth:`forward_features`.

        Returns:
            Maps of shape (B, C, D, Nh, Nw); NaN for channels that a sample does not have.
        """
        return self.forward_band_tokens(x, bands, patch_size, speed).permute(0, 1, 4, 2, 3)
