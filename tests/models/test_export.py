"""``torch.compile`` and ``torch.export``: one graph for every batch, height and width."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from common import RGB, close, image, perturb, tiny
from torch import nn
from torch.export import Dim

from torchgeo_aom import AOM
from torchgeo_aom.models.smp_encoder import AOMEncoder

# Sizes that no graph was made with: multiples, others, long ones, every one another token grid.
SIZES = ((2, 33, 40), (1, 50, 71), (3, 64, 64), (2, 17, 100), (4, 100, 18), (1, 224, 30))
INDEX = torch.tensor([[3.0, 2.0, 1.0], [8.5, float('nan'), float('nan')]])


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Every test compiles from nothing."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def small(**kwargs: Any) -> AOM:
    """One block: what a graph is made of does not depend on the depth."""
    return tiny(**{'depth': 1, **kwargs})


def compiled(model: nn.Module) -> Any:
    """The whole model as one graph with dynamic sizes, traced but run without code generation."""
    return torch.compile(model, fullgraph=True, dynamic=True, backend='eager')


def exported(model: nn.Module, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """A program with dynamic batch, height and width."""
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    dynamic: dict[str, Any] = {'x': sizes} | {name: None for name in kwargs}
    return torch.export.export(model, (x, *args), kwargs or None, dynamic_shapes=dynamic)


class TestCompile:
    @torch.no_grad()
    @pytest.mark.parametrize('patch', [16, (8, 24)])
    def test_any_size(self, patch: Any) -> None:
        model = small(bands=RGB, num_classes=3, patch_size=patch)
        graph = compiled(model)
        for batch, height, width in SIZES[:4]:
            x = image(3, height, width, batch)
            close(graph(x), model(x))

    @torch.no_grad()
    def test_one_graph_serves_all_sizes(self) -> None:
        model = small()
        graph = compiled(model)
        graph(image(3, 33, 40))
        with torch.compiler.set_stance('fail_on_recompile'):
            for batch, height, width in ((3, 50, 71), (2, 64, 90), (5, 101, 18)):
                x = image(3, height, width, batch)
                close(graph(x), model(x))

    @torch.no_grad()
    @pytest.mark.filterwarnings('ignore:Dynamo detected a call to a `functools.lru_cache`')
    def test_patch_size_of_the_call(self) -> None:
        """One graph for each patch size, which still serves every image size."""
        model = small()
        graph = compiled(model)
        for patch in (24, (12, 20), 24):
            for height in (40, 51):
                x = image(3, height, 33)
                close(graph(x, patch_size=patch), model(x, patch_size=patch))

    @torch.no_grad()
    def test_bands_of_the_call(self) -> None:
        model = small()
        graph = compiled(model)
        for x in (image(3, 40, 33), image(3, 20, 50)):
            close(graph(x, bands=INDEX), model(x, bands=INDEX))
            close(graph(x, bands=INDEX[0]), model(x, bands=INDEX[0]))

    @torch.no_grad()
    def test_names_of_the_call(self) -> None:
        """Names are read by Python between two graphs."""
        model = small()
        graph = torch.compile(model, backend='eager')
        x = image()
        close(graph(x, bands='sentinel2:rgb'), model(x, bands='sentinel2:rgb'))

    @pytest.mark.parametrize('checkpointing', [False, True])
    def test_training(self, checkpointing: bool) -> None:
        """Gradients of the traced model, with and without checkpointing."""
        model = small(num_classes=3).train()
        x = image()
        model(x).square().sum().backward()
        expected = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        model.set_grad_checkpointing(checkpointing)
        backend = 'eager' if checkpointing else 'aot_eager'
        graph = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
        graph(x).square().sum().backward()
        for name, parameter in model.named_parameters():
            close(parameter.grad, expected[name])

    @torch.no_grad()
    def test_autocast(self) -> None:
        model = small(patch_size=24)
        x = image()
        with torch.autocast('cpu', torch.bfloat16):
            close(compiled(model)(x).float(), model(x).float(), 2e-2)

    @pytest.mark.slow
    @torch.no_grad()
    def test_default_backend(self) -> None:
        """Once with the code generator that users get, which takes a minute to build its code."""
        model = small(num_classes=2, patch_size=24)
        for x in (image(3, 40, 33), image(3, 60, 70)):
            close(torch.compile(model, fullgraph=True, dynamic=True)(x), model(x))


@pytest.mark.filterwarnings('ignore:No complete tensor found in the group')
class TestExport:
    @pytest.mark.parametrize('patch', [16, 10])
    def test_any_size(self, patch: int) -> None:
        model = small(bands=RGB, num_classes=3, patch_size=patch)
        program = exported(model, image(3, 33, 40)).module()
        for batch, height, width in SIZES:
            x = image(3, max(height, patch + 1), max(width, patch + 1), batch)
            close(program(x), model(x), 1e-5)

    def test_smaller_than_the_graph_allows_is_refused(self) -> None:
        """A graph of several rows of patches is not one of a single row: refused, never wrong."""
        program = exported(small(), image(3, 33, 40)).module()
        with pytest.raises((AssertionError, RuntimeError), match='Guard failed|Expected input'):
            program(image(3, 10, 40))

    def test_bands_per_sample(self) -> None:
        model = small(num_classes=3)
        program = torch.export.export(
            model,
            (image(3, 33, 40), INDEX),
            dynamic_shapes={
                'x': {0: Dim.AUTO, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},
                'bands': {0: Dim.AUTO},
            },
        ).module()
        for height, width in ((33, 40), (50, 71)):
            x = image(3, height, width)
            close(program(x, INDEX), model(x, bands=INDEX), 1e-5)
        other = torch.tensor([[float('nan'), 4.0, 5.0], [1.0, 2.0, 3.0]])
        close(program(x, other), model(x, bands=other), 1e-5)

    def test_save_and_load(self) -> None:
        model = small(bands='sentinel2:10m', num_classes=3, patch_size=20)
        file = io.BytesIO()
        torch.export.save(exported(model, image(4, 33, 40)), file)
        file.seek(0)
        program = torch.export.load(file)
        names = set(program.state_dict)
        assert names == set(dict(model.named_parameters()))
        run = program.module()
        for height, width in ((33, 40), (77, 61)):
            x = image(4, height, width)
            close(run(x), model(x), 1e-5)

    def test_no_pseudo_inverse_in_the_graph(self) -> None:
        graph = exported(small(patch_size=24), image(3, 40, 40)).graph
        targets = {str(node.target) for node in graph.nodes}
        assert not any('linalg' in target or 'svd' in target for target in targets)

    def test_encoder(self) -> None:
        """The flag that SMP asks is true: the pyramid exports too."""
        model = AOMEncoder(embed_dim=24, num_heads=3, blocks=4, bands=RGB)
        perturb(model).eval()
        assert model._is_torch_exportable and model._is_torch_compilable
        program = exported(model, image(3, 33, 40)).module()
        for batch, height, width in SIZES[:3]:
            x = image(3, height, width, batch)
            for one, other in zip(program(x), model(x), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

    def test_gradients_of_what_was_exported(self) -> None:
        """An exported model can still be fine-tuned: its parameters are the model's."""
        model = small(num_classes=3)
        program = exported(model, image(3, 33, 40)).module()
        x = image(3, 50, 40)
        program(x).square().sum().backward()
        model(x).square().sum().backward()
        own = dict(model.named_parameters())
        close(dict(program.named_parameters())['head.weight'].grad, own['head.weight'].grad)
