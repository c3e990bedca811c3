"""ONNX operators in torch: ``OPERATORS``. Each maps a node and its inputs to its outputs.

Quantised values are kept as floats. Quantisation itself has no gradient; it gets that of its clamp (straight through:
1 inside the range, 0 outside, arXiv 1308.3432), so where it stands for a ReLU it acts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileprune.runtimes.gradients import shapes, windows
from mobileprune.runtimes.gradients.node import Inputs, Node, Operator, UnsupportedError, ints, optional

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Layers: their second input, where it is a constant, is their weight."""


def gemm(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    a, b = inputs[:2]
    if node.get("transA", 0):
        raise UnsupportedError("examples as columns")
    b = b.T if node.get("transB", 0) else b
    y = node.get("alpha", 1.0) * (a @ b)
    bias = optional(inputs, 2)
    return (y if bias is None else y + node.get("beta", 1.0) * bias,)


def reduce_mean(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    axes = ints(node, inputs, 1, "axes")
    if not axes:
        raise UnsupportedError("no axes")
    return (inputs[0].mean(axes, keepdim=bool(node.get("keepdims", 1))),)


def clamped(x: Tensor, whole: Tensor, low: Any, high: Any) -> Tensor:
    """``whole`` between ``low`` and ``high``, with a gradient where ``x`` lies inside and none at the edges.

    torch's clamp has one there, its ReLU6, which becomes a Clip in files, has none; a channel without weights is at 0.
    """
    found = whole
    for limit, outside in ((low, torch.le), (high, torch.ge)):
        if limit is not None:
            edge = torch.as_tensor(limit, dtype=x.dtype)
            found = torch.where(outside(x, edge), edge, found)
    return found


def clip(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x = inputs[0]
    low, high = (node.get(name, optional(inputs, at)) for at, name in ((1, "min"), (2, "max")))
    return (clamped(x, x, low, high),)


def cast(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    if node.get("to", 0) != onnx.TensorProto.FLOAT:
        raise UnsupportedError("to another type than float32")
    return (inputs[0].float(),)


def _along(node: Node, x: Tensor, parameter: Tensor) -> Tensor:
    """A scale or zero point for all of ``x``, or one for each slice along the node's axis."""
    if node.get("block_size", 0):
        raise UnsupportedError("scales of blocks")
    shape = [1] * x.ndim
    if parameter.numel() > 1:
        shape[node.get("axis", 1)] = -1
    return parameter.reshape(shape).float()


def quantize(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    """clamp(round(x / s) + z), to even."""
    x, scale = inputs[0], _along(node, inputs[0], inputs[1])
    stored = torch.zeros((), dtype=torch.uint8) if optional(inputs, 2) is None else inputs[2]
    zero, limits, exact = _along(node, x, stored), torch.iinfo(stored.dtype), x / scale
    whole = exact + (exact.round() - exact).detach() + zero
    return (clamped(exact + zero, whole, limits.min, limits.max),)


def dequantize(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    q, scale = inputs[0], _along(node, inputs[0], inputs[1])
    zero = 0 if optional(inputs, 2) is None else _along(node, q, inputs[2])
    return ((q - zero) * scale,)


def gelu(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    return (F.gelu(inputs[0], approximate=node.get("approximate", b"none").decode()),)


def hard_sigmoid(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    line = node.get("alpha", 0.2) * inputs[0] + node.get("beta", 0.5)
    return (clamped(line, line, 0, 1),)


def softmax(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    return (inputs[0].softmax(node.get("axis", -1)),)


def _each(function: Callable[..., Tensor]) -> Operator:
    """Of an operator that is a function of its inputs alone."""
    return lambda node, inputs: (function(*inputs),)


def _pooled(function: Callable[[Tensor, int], Tensor]) -> Operator:
    return lambda node, inputs: (function(inputs[0], 1),)


OPERATORS: dict[str, Operator] = {
    "Add": _each(torch.add),
    "AveragePool": windows.average_pool,
    "BatchNormalization": windows.batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Concat": shapes.concat,
    "Conv": windows.convolution,
    "DequantizeLinear": dequantize,
    "Div": _each(torch.div),
    "Dropout": lambda node, inputs: (inputs[0],),
    "Elu": lambda node, inputs: (F.elu(inputs[0], node.get("alpha", 1.0)),),
    "Erf": _each(torch.erf),
    "Exp": _each(torch.exp),
    "Flatten": shapes.flatten,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": _pooled(F.adaptive_avg_pool2d),
    "GlobalMaxPool": _pooled(F.adaptive_max_pool2d),
    "GroupNormalization": windows.group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _each(F.hardswish),
    "Identity": _each(lambda x: x),
    "InstanceNormalization": windows.instance_norm,
    "LayerNormalization": windows.layer_norm,
    "LeakyRelu": lambda node, inputs: (F.leaky_relu(inputs[0], node.get("alpha", 0.01)),),
    "Log": _each(torch.log),
    "MatMul": _each(torch.matmul),
    "MaxPool": windows.max_pool,
    "Mul": _each(torch.mul),
    "PRelu": _each(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Pad": shapes.pad,
    "Pow": _each(torch.pow),
    "QuantizeLinear": quantize,
    "ReduceMean": reduce_mean,
    "Relu": _each(torch.relu),
    "Reshape": shapes.reshape,
    "Shape": shapes.shape,
    "Sigmoid": _each(torch.sigmoid),
    "Slice": shapes.slices,
    "Softmax": softmax,
    "Softplus": _each(F.softplus),
    "Split": shapes.split,
    "Sqrt": _each(torch.sqrt),
    "Squeeze": shapes.squeeze,
    "Sub": _each(torch.sub),
    "Tanh": _each(torch.tanh),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
}
