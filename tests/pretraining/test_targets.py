"""Maps of teachers: computed once, kept, and cut as the view is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from torchgeo_aom.bands import resolve_bands
from torchgeo_aom.errors import CheckpointError, DataError
from torchgeo_aom.pretraining.csmask import CloudTeacher, channels_of
from torchgeo_aom.pretraining.packed import PackedCorpus
from torchgeo_aom.pretraining.targets import CELLS, RGBTeacher, TargetMaps, store_maps

from .conftest import means


def test_maps_hold_what_the_teacher_sees(corpus: PackedCorpus, maps: TargetMaps) -> None:
    stored = maps.read('coarse', [0, 5, 9])
    seen = means(corpus.read('coarse', [0, 5, 9])[0], corpus.source('coarse'))
    assert stored is not None
    assert stored.shape == (3, 2, CELLS, CELLS)
    # two components of three dimensions, one of which is constant: nothing is lost
    flat = stored.permute(0, 2, 3, 1).reshape(-1, 2).double()
    inputs = torch.cat((flat, torch.ones(len(flat), 1)), 1)
    wanted = seen.permute(0, 2, 3, 1).reshape(-1, 3)[:, :1].double()
    rest = wanted - inputs @ torch.linalg.lstsq(inputs, wanted).solution
    assert rest.std() < 0.02 * wanted.std()


def test_units_give_mean_square_one(maps: TargetMaps) -> None:
    every = torch.from_numpy(np.concatenate(list(maps.maps.values())).astype(np.float32))
    rows = every.permute(0, 2, 3, 1) / maps.place_unit
    assert 0.5 < rows.square().mean() < 2


def test_what_is_there_is_kept(corpus: PackedCorpus, maps_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in maps_folder.glob('*.npy')}

    def fails(image: torch.Tensor, source: object) -> torch.Tensor:
        raise AssertionError('computed again')

    assert store_maps(corpus, fails, maps_folder, 2) == ['coarse', 'fine']
    assert {path: path.stat().st_mtime_ns for path in maps_folder.glob('*.npy')} == before


def test_a_source_that_the_teacher_cannot_see_has_no_maps(
    corpus: PackedCorpus, tmp_path: Path
) -> None:
    look = lambda image, source: means(image, source) if len(source.bands) > 3 else None  # noqa: E731
    assert store_maps(corpus, look, tmp_path, 2) == ['coarse']
    assert TargetMaps(tmp_path).read('fine', [0]) is None


def test_a_killed_run_leaves_no_half_file(corpus: PackedCorpus, tmp_path: Path) -> None:
    calls = []

    def dies(image: torch.Tensor, source: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return means(image, source)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        store_maps(corpus, dies, tmp_path, 2)
    done = {path.name for path in tmp_path.glob('*.npy')}
    assert 'fine.npy' not in done
    assert store_maps(corpus, means, tmp_path, 2) == ['coarse', 'fine']


def test_no_maps_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='holds no maps'):
        TargetMaps(tmp_path)


def test_rgb_teacher_sees_red_green_and_blue(corpus: PackedCorpus, tmp_path: Path) -> None:
    name = 'tf_efficientnet_lite0'
    torch.save(timm.create_model(name).state_dict(), tmp_path / 'lite0.pth')
    teacher = RGBTeacher(f'{name}.in1k', tmp_path / 'lite0.pth', size=64)
    image, _ = corpus.read('coarse', [0, 1])
    source = corpus.source('coarse')
    maps = teacher(image, source)
    assert maps is not None
    assert maps.shape[0] == 2
    assert maps.shape[2:] == (CELLS, CELLS)
    other = image.clone()
    other[:, 3:] += 1  # near and shortwave infrared
    torch.testing.assert_close(teacher(other, source), maps)
    with pytest.raises(CheckpointError, match='could not be loaded'):
        RGBTeacher(f'{name}.in1k', tmp_path / 'none.pth')


def test_six_bands_by_name() -> None:
    assert channels_of(resolve_bands('sentinel2:l2a')) == [1, 2, 3, 8, 10, 11]
    assert channels_of(resolve_bands('hls_l30:common7')) == [1, 2, 3, 4, 5, 6]
    assert channels_of(resolve_bands('naip')) is None


def test_values_inside_an_onnx_file_equal_those_of_torch(tmp_path: Path) -> None:
    """A small network with the input of ukis-csmask: what comes out inside is what torch has."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((5, 6, 8, 8)).astype(np.float32)
    last = rng.standard_normal((3, 5, 1, 1)).astype(np.float32)
    shape = ['batch_size', 6, 256, 256]
    graph = helper.make_graph(
        [
            helper.make_node('Conv', ['input', 'k'], ['inside'], strides=[8, 8]),
            helper.make_node('Conv', ['inside', 'l'], ['output']),
        ],
        'net',
        [helper.make_tensor_value_info('input', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('output', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel, 'k'), numpy_helper.from_array(last, 'l')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    onnx.save(model, tmp_path / 'net.onnx')
    (tmp_path / 'net.json').write_text(
        '{"data": {"dataset_statistics": {"img": [[0.1,0.1,0.1,0.1,0.1,0.1], [2,2,2,2,2,2]]}}}'
    )
    teacher = CloudTeacher(tmp_path / 'net.onnx', ('inside',))
    from torchgeo_aom.pretraining.packed import PackedSource

    bands = ['sentinel2:B02', 'sentinel2:B03', 'sentinel2:B04', 'sentinel2:B8A', 'sentinel2:B11',
             'sentinel2:B12']  # fmt: skip
    source = PackedSource('x', bands, [2.0] * 6, [0.5] * 6, 1e-4, -0.1, 1.0, 2, 64)
    image = torch.randn(2, 6, 64, 64)
    maps = teacher(image, source)
    stored = (image - 0.5) / 2
    reflectance = stored * 1e-4 - 0.1
    x = torch.nn.functional.pad((reflectance - 0.1) / 2, (32,) * 4, mode='reflect')
    inside = torch.nn.functional.conv2d(x, torch.from_numpy(kernel), stride=8)[..., 4:12, 4:12]
    wanted = torch.nn.functional.interpolate(inside, (16, 16), mode='bilinear')
    torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match='has no values nowhere'):
        CloudTeacher(tmp_path / 'net.onnx', ('nowhere',))
    with pytest.raises(CheckpointError, match='cannot be read'):
        CloudTeacher(tmp_path / 'none.onnx')
