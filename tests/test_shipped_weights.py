"""The weights that ship with the package: whole, described, offline, and in every builder."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchgeo.models import get_weight

from torchgeo_aom.models.checkpoint import file_sha256, read_state_dict
from torchgeo_aom.models.published import FOLDER, PACKAGE, published_facts
from torchgeo_aom.models.weights import (
    AOMTiny_Weights,
    default_weights,
    find_weights,
    load_backbone,
    validate_meta,
)
from torchgeo_aom.models.weights_enum import local_path
from torchgeo_aom.tasks import ClassificationTask, SemanticSegmentationTask

FACTS = published_facts()
MIB = 2**20


def ids(facts: dict[str, Any]) -> str:
    return str(facts['full_name'])


@pytest.mark.parametrize('facts', FACTS, ids=ids)
class TestFiles:
    def test_meta_is_complete(self, facts: dict[str, Any]) -> None:
        meta = find_weights(facts['full_name']).meta
        validate_meta(meta, facts['model'])
        assert meta['metrics'], 'weights ship with what was measured'
        assert all('evaluate.py' in one['command'] for one in meta['metrics'])
        assert meta['hours'] > 0 and meta['version']
        assert sum(source['images'] for source in meta['sources']) > 1000
        assert all(source['licence'] and source['repository'] for source in meta['sources'])

    def test_file(self, facts: dict[str, Any]) -> None:
        path = local_path(f'package://{PACKAGE}/{FOLDER}/{facts["file"]}')
        assert path is not None and path.stat().st_size < 16 * MIB
        assert file_sha256(path) == facts['meta']['sha256']
        state, _ = read_state_dict(path)
        assert {value.dtype for value in state.values()} == {torch.float16}
        assert all(bool(value.isfinite().all()) for value in state.values())

    def test_card_says_the_same(self, facts: dict[str, Any], root: Path) -> None:
        card = (root / PACKAGE / FOLDER / facts['file']).with_suffix('.md').read_text()
        assert facts['meta']['sha256'] in card
        assert facts['full_name'] in card
        assert 'TODO' not in card
        for source in facts['meta']['sources']:
            assert source['repository'] in card


class TestUse:
    def test_default(self) -> None:
        member = default_weights('aom_vitt.sentinel2_rgb')
        assert member is AOMTiny_Weights.OPTICAL is get_weight('AOMTiny_Weights.OPTICAL')  # type: ignore[attr-defined]

    def test_any_bands_without_network(self) -> None:
        for bands, channels in (('sentinel2', 13), ('landsat8', 7), ('naip', 4), ('rgb', 3)):
            model = load_backbone('AOMTiny_Weights.OPTICAL', bands=bands)
            features = model(torch.randn(2, channels, 48, 40))
            assert features.shape == (2, 192)
            assert features.dtype == torch.float32
            assert bool(features.isfinite().all())

    def test_timm(self) -> None:
        model = timm.create_model('aom_vitt', pretrained=True)
        own = AOMTiny_Weights.OPTICAL  # type: ignore[attr-defined]
        assert [band.label for band in model.bands] == own.meta['bands']
        image = own.transforms(torch.full((1, 12, 32, 32), 2000.0))
        assert model(image).shape == (1, 192)

    def test_meta_builds_the_model(self) -> None:
        """As with TorchGeo's own members."""
        meta = AOMTiny_Weights.OPTICAL.meta  # type: ignore[attr-defined]
        model = timm.create_model(meta['model'], in_chans=meta['in_chans'], bands=meta['bands'])
        assert model(torch.randn(1, meta['in_chans'], 32, 32)).shape == (1, 192)
        assert meta['publication'].startswith('https://arxiv.org/')

    def test_not_random(self) -> None:
        """Features tell images apart better than those of random weights: more directions vary."""
        torch.manual_seed(0)
        images = torch.randn(32, 3, 4, 4)
        images = torch.nn.functional.interpolate(images, (64, 64), mode='bilinear')

        def directions(model: Any) -> float:
            with torch.inference_mode():
                x = model(images)
            share = torch.linalg.svdvals(x - x.mean(0)).square()
            share = share / share.sum()
            return float((-(share * share.clamp(min=1e-12).log()).sum()).exp())

        trained = directions(load_backbone('AOMTiny_Weights.OPTICAL', bands='rgb'))
        random = directions(timm.create_model('aom_vitt', bands='rgb').eval())
        assert trained > random

    def test_tasks(self) -> None:
        task = ClassificationTask(
            model='aom_vitt', weights=True, bands=['sentinel2:B8A', 'red'], num_classes=3
        )
        dense = SemanticSegmentationTask(
            'upernet', 'aom_vitt', weights='AOMTiny_Weights.OPTICAL', bands='landsat8',
            num_classes=3, freeze_backbone=True,
        )  # fmt: skip
        state = AOMTiny_Weights.OPTICAL.get_state_dict()  # type: ignore[attr-defined]
        name = 'blocks.5.mlp.fc1.weight'
        for model in (task.model, dense.model.encoder):
            found = [v for k, v in model.state_dict().items() if k.endswith(name)]
            torch.testing.assert_close(found[0], state[name].float(), rtol=0, atol=0)
