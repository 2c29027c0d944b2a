"""Frozen multispectral teacher: a U-Net for clouds and their shadows, from an ONNX file.

The Python package ukis-csmask 1.0.0 (German Aerospace Center, Apache-2.0) brings U-Nets with
EfficientNet-B4 encoders over six bands in reflectance, trained on Sentinel-2 and Landsat-8 with the
labels of SPARCS and CloudSEN12+. What they see between input and mask is a dense, multispectral
description of a place. The file is run by onnxruntime as it is; only more of its values are given
out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..bands import Band
from ..errors import CheckpointError
from .packed import PackedSource
from .targets import cells

__all__ = ('OUTPUTS', 'CloudTeacher', 'channels_of')

#: encoder at strides 4, 8 and 16, and the decoder where it is back at stride 4
OUTPUTS = (
    '/model/encoder/_blocks.5/Add_output_0',
    '/model/encoder/_blocks.9/Add_output_0',
    '/model/encoder/_blocks.21/Add_output_0',
    '/model/decoder/blocks.2/conv2/conv2.2/Relu_output_0',
)
INDICES = (1.0, 2.0, 3.0, 8.0, 11.0, 12.0)  # blue, green, red, near infrared, two of SWIR
NEAR = 1.01  # B08 and B8A are both near infrared
SEEN = 128  # px of a chip with its mirrored margin


def channels_of(bands: tuple[Band, ...]) -> list[int] | None:
    """Channels of the six bands, None where one is missing.

    Args:
        bands: bands of an image.

    Returns:
        Channels of blue, green, red, near infrared and both bands of shortwave infrared.
    """
    found = []
    for index in INDICES:
        distance, channel = min((abs(band.index - index), k) for k, band in enumerate(bands))
        if distance >= (NEAR if index == 8.0 else 0.5):
            return None
        found.append(channel)
    return found


class CloudTeacher:
    """Maps of the network that one ONNX file holds.

    Args:
        path: ``model_6b_l2a.onnx`` of ukis-csmask, with its ``.json`` beside it.
        outputs: names of the values wanted.

    Raises:
        CheckpointError: if a file cannot be read, or has no such values.
    """

    def __init__(self, path: str | os.PathLike[str], outputs: tuple[str, ...] = OUTPUTS) -> None:
        """Open the file."""
        import onnx
        import onnxruntime

        try:
            facts = json.loads(Path(path).with_suffix('.json').read_text(encoding='utf-8'))
            model: Any = onnx.load(os.fspath(path))
        except Exception as error:
            raise CheckpointError(f'{path} cannot be read as a network: {error}') from error
        known = {name for node in model.graph.node for name in node.output}
        if missing := sorted(set(outputs) - known):
            raise CheckpointError(f'{path} has no values {", ".join(missing)}.')
        for axis in (2, 3):  # padding is that of any side that is a multiple of 32
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f'side{axis}'
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider']
        )
        self.outputs = list(outputs)
        mean, std = facts['data']['dataset_statistics']['img']
        self.mean, self.std = (torch.tensor(x)[:, None, None] for x in (mean, std))

    def __call__(self, image: Tensor, source: PackedSource) -> Tensor | None:
        """Maps of normalized chips of at most `SEEN` px.

        Args:
            image: chips of shape (B, C, S, S).
            source: what they are.

        Returns:
            Maps of shape (B, D, CELLS, CELLS), or None where one of the six bands is missing.
        """
        channels = channels_of(source.resolved)
        if channels is None or image.shape[-1] > SEEN:
            return None
        x = (source.reflectance(image)[:, channels] - self.mean) / self.std
        margin = (SEEN - x.shape[-1]) // 2
        x = F.pad(x, (margin,) * 4, mode='reflect')
        feed = {self.session.get_inputs()[0].name: x.numpy().astype(np.float32)}
        maps = []
        for one in self.session.run(self.outputs, feed):
            edge = margin * one.shape[-1] // SEEN
            part = torch.from_numpy(one).float()  # the file computes in half precision
            maps.append(
                cells(part[..., edge : part.shape[-1] - edge, edge : part.shape[-1] - edge])
            )
        return torch.cat(maps, dim=1)
