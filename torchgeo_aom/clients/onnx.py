"""AOM as an ONNX file (``pip install 'torchgeo_aom[onnx]'``): any batch, height and width."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from .. import __version__
from ..errors import AOMWarning, ConfigError
from ..files import replacing
from ..layers.tokenizer import Tokenizer
from ..models.speed import speed_text
from ..models.trunk import Trunk

__all__ = ('export_onnx', 'read_metadata')

KEYS = ('torchgeo_aom', 'bands', 'patch_size', 'speed')

TOLERANCE = 1e-4


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
) -> dict[str, str]:
    """Write a model as an ONNX file whose batch, height and width are dynamic, and check it.

    Bands and patch size are those of the constructor and stay fixed; the file names them, see
    :func:`read_metadata`. Before the file is there, onnxruntime runs it on batches of two other
    sizes, and the results are compared with the model's.

    The input is ``image``, normalized float32 of shape (B, C, H, W); the outputs are ``output``, or
    ``output_0``, ``output_1`` ... where the model returns several tensors. The graph does not check
    values: NaN goes in and out.

    Args:
        model: an AOM, an encoder of SMP's kind, or a model around one that takes images and returns
            a tensor or several, in evaluation mode, on the CPU and in float32.
        path: file to write, ``.onnx``.
        overwrite: replace the file if there is one.
        tolerance: largest difference allowed, absolute and relative.

    Returns:
        What :func:`read_metadata` gives for the file.

    Raises:
        ConfigError: if the model is of another kind or in training mode, if the file exists, or if
            the exported graph computes something else than the model.

    Warns:
        AOMWarning: if it does so only for images smaller than a patch, as files of PyTorch 2.8 do.

    .. versionadded:: 0.1
    """
    path = Path(path)
    if path.suffix != '.onnx':
        raise ConfigError(f'the file must end in .onnx, got {str(path)!r}')
    if path.exists() and not overwrite:
        raise ConfigError(f'{path} exists; name another file or give overwrite=True')
    tokenizer = _tokenizer(model)
    rows, cols = tokenizer.patch_size
    # Two patches or more, and none of them whole: what is a constant 1 here would stay one.
    example = _images(tokenizer, 2, 2 * rows + 1, 3 * cols - 1)
    with torch.no_grad():
        count = len(_as_list(model(example)))
        program: Any = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},),
            input_names=['image'],
            output_names=['output'] if count == 1 else [f'output_{k}' for k in range(count)],
            verbose=False,
        )
    metadata = _metadata(tokenizer) | {'speed': _speed(model)}
    program.model.metadata_props.update(metadata)
    with replacing(path) as part:
        program.save(part)
        for size in ((1, 3 * rows, 2 * cols), (3, rows + 1, 4 * cols + 3)):
            if found := _difference(model, part, _images(tokenizer, *size), tolerance):
                raise ConfigError(f'{found}. No file was written')
        tiny = _images(tokenizer, 2, (rows + 1) // 2, 2 * cols)
        if found := _difference(model, part, tiny, tolerance):
            warnings.warn(
                f'For images smaller than a patch of {rows} x {cols} px the file is not right: '
                f'enlarge them, or export with a newer PyTorch than {torch.__version__} ({found}).',
                AOMWarning,
                stacklevel=2,
            )
    return metadata


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What an exported file says of itself.

    Args:
        path: file of :func:`export_onnx`.

    Returns:
        ``bands`` (JSON, in the order of the channels), ``patch_size`` (JSON), ``speed``, and
        ``torchgeo_aom``, the version.

    .. versionadded:: 0.1
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    found: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    return {key: found[key] for key in KEYS if key in found}


def _tokenizer(model: nn.Module) -> Tokenizer:
    found = [module for module in model.modules() if isinstance(module, Tokenizer)]
    if len(found) != 1:
        raise ConfigError(
            f'export_onnx takes an AOM or a model around one; {type(model).__name__} holds '
            f'{len(found)} AOM encoders'
        )
    if model.training:
        raise ConfigError(
            'the model is in training mode, and its dropout would be exported: eval()'
        )
    like = next(found[0].parameters())
    if like.device.type != 'cpu' or like.dtype != torch.float32:
        raise ConfigError(
            f'the model must be on the CPU in float32, it is {like.dtype} on {like.device}: '
            f'model.cpu().float()'
        )
    return found[0]


def _images(tokenizer: Tokenizer, batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, tokenizer.in_chans, height, width, generator=generator)


def _as_list(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def _metadata(tokenizer: Tokenizer) -> dict[str, str]:
    named: list[Any] = [band.label for band in tokenizer.bands or ()]
    labels = named or list(range(tokenizer.in_chans))
    return {
        'torchgeo_aom': __version__,
        'bands': json.dumps(labels),
        'patch_size': json.dumps(list(tokenizer.patch_size)),
    }


def _speed(model: nn.Module) -> str:
    return next(speed_text(part.speed) for part in model.modules() if isinstance(part, Trunk))


def _difference(model: nn.Module, path: Path, images: Tensor, tolerance: float) -> str:
    """How the file differs from the model for some images; empty where it does not."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    got = session.run(None, {'image': images.numpy()})
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in _as_list(model(images))]
    for one, other in zip(got, expected, strict=True):
        if one.shape != other.shape or not np.allclose(one, other, tolerance, tolerance):
            return (
                f'the exported graph computes something else than the model for images of shape '
                f'{tuple(images.shape)}: {one.shape} instead of {other.shape}, or values that '
                f'differ by more than {tolerance}'
            )
    return ''
