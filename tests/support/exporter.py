"""torch's ONNX exporter, which takes seconds, asked once for each network: for tests of what is done with its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import onnx
import torch
from torch import nn

Shape = tuple[int, int, int]
Convert = Callable[[nn.Module, Shape, int], onnx.ModelProto]
MADE: dict[str, bytes] = {}


def once(convert: Convert) -> Convert:
    """``convert`` as it answered before for the same classes, attributes and tensors."""

    def converted(model: nn.Module, shape: Shape, opset: int) -> onnx.ModelProto:
        key = fingerprint(model, shape, opset)
        if key not in MADE:
            MADE[key] = convert(model, shape, opset).SerializeToString()
        return onnx.load_model_from_string(MADE[key])

    return converted


def fingerprint(model: nn.Module, shape: Shape, opset: int) -> str:
    digest = hashlib.sha256(repr((shape, opset)).encode())
    for name, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        assert not any(isinstance(value, torch.Tensor) for value in plain.values()), "repr() would not tell it all"
        digest.update(repr((name, type(module), plain, getattr(module, "code", ""))).encode())
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]:
        values = tensor.detach().contiguous()
        digest.update(repr((name, values.dtype, values.shape)).encode() + values.numpy().tobytes())
    return digest.hexdigest()
