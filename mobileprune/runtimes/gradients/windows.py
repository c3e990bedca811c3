"""Operators that look at images: convolution, pooling, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileprune.runtimes.gradients.node import Inputs, Node, UnsupportedError, optional


def _window(node: Node, x: Tensor, weight: Tensor | None = None) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and pads (top, left, bottom, right) of an operator on (N, C, H, W)."""
    if x.ndim != 4 or node.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UnsupportedError(f"only images and explicit pads, not {x.ndim} axes, {node.get('auto_pad', b'')!r}")
    kernel = [*weight.shape[2:]] if weight is not None else node.get("kernel_shape", [])
    return kernel, node.get("strides", [1, 1]), node.get("dilations", [1, 1]), node.get("pads", [0, 0, 0, 0])


def padded(node: Node, x: Tensor, value: float = 0.0) -> Tensor:
    """``x`` with the node's pads around it."""
    top, left, bottom, right = _window(node, x)[3]
    return F.pad(x, (left, right, top, bottom), value=value) if top or left or bottom or right else x


def convolution(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, weight = inputs[:2]
    _, strides, dilations, _ = _window(node, x, weight)
    bias = optional(inputs, 2)
    return (F.conv2d(padded(node, x), weight, bias, strides, 0, dilations, node.get("group", 1)),)


def max_pool(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x = inputs[0]
    kernel, strides, dilations, _ = _window(node, x)
    ceil = bool(node.get("ceil_mode", 0))
    return (F.max_pool2d(padded(node, x, -torch.inf), kernel, strides, 0, dilations, ceil_mode=ceil),)


def average_pool(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    kernel, strides, dilations, pads = _window(node, inputs[0])
    if pads[:2] != pads[2:] or any(step != 1 for step in dilations):
        raise UnsupportedError("pads that differ between sides, or dilations")
    ceil, include = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    return (F.avg_pool2d(inputs[0], kernel, strides, pads[:2], ceil, include),)


def batch_norm(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, scale, bias, mean, variance = inputs
    if node.get("training_mode", 0):
        raise UnsupportedError("training mode, in which examples are mixed")
    return (F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5)),)


def instance_norm(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, scale, bias = inputs
    variance, mean = torch.var_mean(x, [*range(2, x.ndim)], correction=0, keepdim=True)
    shape = (-1, *[1] * (x.ndim - 2))
    normalised = (x - mean) * (variance + node.get("epsilon", 1e-5)).rsqrt()
    return (normalised * scale.reshape(shape) + bias.reshape(shape),)


def group_norm(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, scale, bias = inputs
    return (F.group_norm(x, node.get("num_groups", 1), scale, bias, node.get("epsilon", 1e-5)),)


def layer_norm(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, axis = inputs[0], node.get("axis", -1)
    bias = optional(inputs, 2)
    return (F.layer_norm(x, x.shape[axis:], inputs[1], bias, node.get("epsilon", 1e-5)),)
