"""Every example is run by a test: the table says by which, and a new example needs a line."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from example_tools import EXAMPLES

TESTS = EXAMPLES.parent / 'tests'
#: Pattern of paths below ``examples`` and the test that runs them to their end.
RUN_BY = {
    'classification.yaml': 'tasks/test_cli_fit.py::test_fit_and_test',
    'segmentation.yaml': 'tasks/test_cli_fit.py::test_fit_and_test',
    'downstream/*.yaml': 'tasks/test_downstream_runs.py::test_none_is_forgotten',
    'pretrain/completion.py': 'examples/test_pretrain_examples.py::test_small_and_completion',
    'pretrain/objectives.*': 'examples/test_pretrain_examples.py::test_objectives',
    'pretrain/paper.yaml': 'examples/test_pretrain_examples.py::test_paper',
    'pretrain/small.yaml': 'examples/test_pretrain_examples.py::test_small_and_completion',
    'scenes/agreement.py': 'scene/test_scene_examples.py::test_agreement',
    'scenes/bench.py': 'scene/test_scene_examples.py::test_speed',
    'scenes/dates.py': 'scene/test_scene_examples.py::test_dates',
    'studies/*.yaml': 'examples/test_study_examples.py::test_study',
    'terratorch/upernet.yaml': 'clients/test_terratorch.py::test_command',
    'terratorch/aom_backbones/__init__.py': 'clients/test_terratorch.py::test_command',
    'torchgeo_bench/model/aom_vitt.yaml': 'clients/test_torchgeo_bench.py::test_command',
    'weights/aom_vitt_*.yaml': 'examples/test_weights_examples.py::test_training',
    'weights/corpus.*': 'test_corpus.py::test_build',
    'weights/cut.py': 'test_cut.py::test_one_file_for_each_band',
    'weights/evaluate.py': 'examples/test_weights_examples.py::test_measures',
    'weights/heldout.py': 'examples/test_weights_examples.py::test_measures',
    'weights/packed.yaml': 'test_cut.py::test_sets_are_valid',
    'weights/prepare.py': 'examples/test_weights_examples.py::test_packed_run',
    'weights/pretrain.py': 'examples/test_weights_examples.py::test_packed_run',
    'weights/publish.py': 'examples/test_weights_examples.py::test_training',
    'weights/rules.py': 'test_corpus.py::test_build',
    'weights/segment.py': 'examples/test_weights_examples.py::test_segmentation',
    'weights/start.py': 'examples/test_weights_examples.py::test_training',
    'weights/train.py': 'examples/test_weights_examples.py::test_training',
    'weights/vitt_6.yaml': 'examples/test_weights_examples.py::test_packed_run',
    'weights/water.py': 'examples/test_weights_examples.py::test_measures',
}


def examples() -> list[str]:
    """Scripts, configurations and notebooks."""
    kinds = {'.py', '.yaml', '.yml', '.ipynb'}
    paths = (path for path in EXAMPLES.rglob('*') if path.suffix in kinds)
    return sorted(path.relative_to(EXAMPLES).as_posix() for path in paths)


def test_every_example_is_run() -> None:
    for name in examples():
        lines = [pattern for pattern in RUN_BY if fnmatchcase(name, pattern)]
        assert len(lines) == 1, f'{name}: name the test that runs it in RUN_BY, once'


@pytest.mark.parametrize('pattern', RUN_BY)
def test_line_is_true(pattern: str) -> None:
    """There is such an example, and such a test."""
    assert any(fnmatchcase(name, pattern) for name in examples())
    path, _, function = RUN_BY[pattern].partition('::')
    text = (TESTS / path).read_text(encoding='utf-8')
    assert re.search(rf'^def {function}\(', text, re.MULTILINE), RUN_BY[pattern]
