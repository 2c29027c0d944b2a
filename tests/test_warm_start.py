"""Warm start: what a ViT brings to an AOM, exactly, and what it cannot bring."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from torchgeo_aom.errors import CheckpointError, ConfigError
from torchgeo_aom.layers.pi_resize import pi_resize
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.warm_start import warm_start


def nano_vit(**kwargs: Any) -> VisionTransformer:
    """A small ViT whose parameters are all random, biases too."""
    options: dict[str, Any] = {'img_size': 32, 'patch_size': 8, 'num_classes': 5}
    vit = VisionTransformer(**{**options, 'embed_dim': 24, 'depth': 2, 'num_heads': 3, **kwargs})
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    return vit.eval()


def nano_aom(**kwargs: Any) -> AOM:
    options: dict[str, Any] = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'bands': [3]}
    return AOM(**{'kernel_sizes': (4, 8, 16), 'patch_size': 8, **options, **kwargs}).eval()


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


class TestValues:
    def test_trunk_is_equal(self) -> None:
        vit, aom = nano_vit(), nano_aom()
        report = warm_start(aom, vit.state_dict())
        expected, got = vit.state_dict(), aom.state_dict()
        copied = [key for key in got if not key.startswith('patch_embed.')]
        assert len(copied) == 2 * 12 + 2
        assert all(torch.equal(got[key], expected[key]) for key in copied)
        assert set(report.loaded) == set(got)
        assert report.dropped == ('cls_token', 'pos_embed', 'head.weight', 'head.bias')
        assert report.resized == {4: 8, 16: 8}

    def test_bank(self) -> None:
        """Each kernel is the mean over R, G and B, resized; the bias is the ViT's."""
        vit, aom = nano_vit(), nano_aom()
        warm_start(aom, vit.state_dict())
        rgb = vit.patch_embed.proj.weight
        for size in (4, 8, 16):
            conv = aom.patch_embed.kernels[str(size)]
            mean = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2])[:, None] / 3
            torch.testing.assert_close(conv.weight, pi_resize(mean, (size, size)))
            assert torch.equal(conv.bias, vit.patch_embed.proj.bias)

    def test_tokens_of_a_gray_image(self) -> None:
        """A band holds a third of the ViT's response: b + (t - b) / 3."""
        vit, aom = nano_vit(), nano_aom()
        warm_start(aom, vit.state_dict())
        gray = torch.randn(2, 1, 32, 32)
        with torch.no_grad():
            full = vit.patch_embed.proj(gray.expand(-1, 3, -1, -1)).flatten(2).mT  # (B, N, D)
            conv = aom.patch_embed.kernels['8']
            own = nn.functional.conv2d(gray, conv.weight, conv.bias, 8).flatten(2).mT
            bias = vit.patch_embed.proj.bias
            torch.testing.assert_close(own, bias + (full - bias) / 3)
            tokens, _ = aom.patch_embed(gray)  # (B, C, Nh, Nw, D)
            zero, _ = aom.patch_embed(torch.zeros_like(gray))
        torch.testing.assert_close(
            (tokens - zero).flatten(1, 3), (full - bias) / 3, rtol=1e-4, atol=1e-5
        )

    def test_same_function_of_the_blocks(self) -> None:
        vit, aom = nano_vit(), nano_aom()
        warm_start(aom, vit.state_dict())
        tokens = torch.randn(2, 7, 24)
        with torch.no_grad():
            a, b = tokens, tokens
            for theirs, ours in zip(vit.blocks, aom.blocks, strict=True):
                a, b = theirs(a), ours(b)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        ('name', 'size'),
        [('vit_tiny', 'aom_vitt'), ('vit_small', 'aom_vits'), ('vit_base', 'aom_vitb'),
         ('vit_large', 'aom_vitl')],
    )  # fmt: skip
    def test_every_size_of_timm(self, name: str, size: str) -> None:
        """Two blocks with values, all blocks by name and shape."""
        vit = timm.create_model(f'{name}_patch16_224', depth=2)
        aom = AOM(**{**SIZES[size], 'depth': 2}, kernel_sizes=(16,))
        report = warm_start(aom, vit.state_dict())
        assert len(report.loaded) == 2 * 12 + 4
        assert vit.blocks[0].attn.num_heads == aom.blocks[0].attn.num_heads
        assert torch.equal(aom.blocks[1].mlp.fc2.weight, vit.blocks[1].mlp.fc2.weight)
        with torch.device('meta'):
            whole = timm.create_model(f'{name}_patch16_224'), AOM(**SIZES[size])
        theirs, ours = (
            {k: v.shape for k, v in m.state_dict().items() if k.startswith(('blocks.', 'norm.'))}
            for m in whole
        )
        assert theirs == ours


class TestSources:
    def test_average_pooling_vit(self) -> None:
        """ViTs with average pooling have fc_norm instead of norm."""
        vit, aom = nano_vit(global_pool='avg'), nano_aom()
        assert 'norm.weight' not in vit.state_dict()
        warm_start(aom, vit.state_dict())
        assert torch.equal(aom.norm.weight, vit.fc_norm.weight)

    @pytest.mark.parametrize('form', ['safetensors', 'mae', 'lightning'])
    def test_files(self, form: str, tmp_path: Path) -> None:
        vit, aom = nano_vit(num_classes=0), nano_aom()
        state = vit.state_dict()
        path = tmp_path / ('a.safetensors' if form == 'safetensors' else 'a.pth')
        if form == 'safetensors':
            save_file(state, path)
        elif form == 'mae':
            extra = {'mask_token': torch.zeros(1), 'decoder_blocks.0.norm1.weight': torch.ones(8)}
            torch.save({'model': {**state, **extra}}, path)
        else:
            torch.save({'state_dict': {f'model.{k}': v for k, v in state.items()}}, path)
        report = warm_start(aom, path)
        assert torch.equal(aom.blocks[1].attn.qkv.weight, vit.blocks[1].attn.qkv.weight)
        if form == 'mae':
            assert 'decoder_blocks.0.norm1.weight' in report.dropped

    def test_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vit, aom = nano_vit(), nano_aom()
        asked: list[Any] = []

        def create(name: str, **kwargs: Any) -> nn.Module:
            asked.append((name, kwargs['pretrained']))
            return vit

        monkeypatch.setattr(timm, 'create_model', create)
        warm_start(aom, 'vit_tiny_patch16_224.augreg_in21k')
        assert asked == [('vit_tiny_patch16_224.augreg_in21k', True)]
        assert torch.equal(aom.norm.bias, vit.norm.bias)


class TestRefusals:
    def refused(self, source: Any, match: str, aom: AOM | None = None) -> None:
        aom = aom or nano_aom()
        before = snapshot(aom)
        with pytest.raises(CheckpointError, match=match):
            warm_start(aom, source)
        assert all(torch.equal(value, before[key]) for key, value in aom.state_dict().items())

    def test_other_width(self) -> None:
        vit = nano_vit(embed_dim=48)
        self.refused(vit.state_dict(), r'shape \(48, 3, 8, 8\), this AOM needs \(24, channels')

    def test_other_depth(self) -> None:
        self.refused(nano_vit(depth=3).state_dict(), r'blocks\.2\.attn.*AOM has none')
        self.refused(nano_vit(depth=1).state_dict(), r'blocks\.1\.attn.*ViT has none')

    def test_other_mlp(self) -> None:
        match = r'fc1\.bias: ViT \(48,\), AOM \(96,\)'
        self.refused(nano_vit(mlp_ratio=2).state_dict(), match)

    def test_layer_scale(self) -> None:
        state = nano_vit(init_values=1e-5).state_dict()
        self.refused(state, r'ls1\.gamma: ViT \(24,\), AOM has none')
        warm_start(nano_aom(init_values=1e-5), state)

    @pytest.mark.parametrize('key', ['norm.weight', 'blocks.1.norm2.bias', 'patch_embed.proj.bias'])
    def test_missing(self, key: str) -> None:
        state = nano_vit().state_dict()
        del state[key]
        self.refused(state, key)

    def test_not_finite(self) -> None:
        state = nano_vit().state_dict()
        state['blocks.0.norm1.bias'] = torch.full((24,), float('nan'))
        self.refused(state, 'holds NaN')

    def test_not_a_vit(self) -> None:
        self.refused(nn.Linear(2, 2).state_dict(), 'Not the parameters of one ViT')
        self.refused(nano_aom().state_dict(), 'load_state')

    def test_truncated_file(self, tmp_path: Path) -> None:
        torch.save(nano_vit().state_dict(), tmp_path / 'a.pth')
        content = (tmp_path / 'a.pth').read_bytes()
        (tmp_path / 'a.pth').write_bytes(content[: len(content) // 2])
        self.refused(tmp_path / 'a.pth', 'bytes')

    def test_names(self, tmp_path: Path) -> None:
        self.refused(str(tmp_path / 'no.pth'), 'does not exist')
        with pytest.raises(ConfigError, match="did you mean 'vit_base_patch16_224'"):
            warm_start(nano_aom(), 'vit_bse_patch16_224')
        with pytest.raises(ConfigError, match='Linear is not an AOM'):
            warm_start(nn.Linear(1, 1), nano_vit().state_dict())

    def test_offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*_: Any, **__: Any) -> nn.Module:
            raise OSError('no route to host')

        monkeypatch.setattr(timm, 'create_model', offline)
        self.refused('vit_base_patch16_224.mae', 'no route to host.*give its path')
