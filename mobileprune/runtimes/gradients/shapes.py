"""Operators that move numbers: none of them computes anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileprune.runtimes.gradients.node import Inputs, Node, UnsupportedError, ints, optional


def shape(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    return (torch.tensor(inputs[0].shape)[node.get("start", 0) : node.get("end", None)],)


def reshape(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, sizes = inputs[0], [int(size) for size in inputs[1].tolist()]
    if not node.get("allowzero", 0):
        sizes = [size or x.shape[i] for i, size in enumerate(sizes)]
    return (x.reshape(sizes),)


def flatten(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, axis = inputs[0], node.get("axis", 1)
    return (x.reshape(x.shape[:axis].numel(), -1),)


def split(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, axis, sizes = inputs[0], node.get("axis", 0), ints(node, inputs, 1, "split")
    most = -(-x.shape[axis] // len(node.outputs))
    return torch.split(x, sizes if sizes is not None else most, axis)


def squeeze(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    axes = ints(node, inputs, 1, "axes")
    return (inputs[0].squeeze(tuple(axes)) if axes is not None else inputs[0].squeeze(),)


def unsqueeze(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, axes = inputs[0], ints(node, inputs, 1, "axes") or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return (x,)


def slices(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x = inputs[0]
    starts, ends = ints(node, inputs, 1, "starts") or [], ints(node, inputs, 2, "ends") or []
    axes = ints(node, inputs, 3, "axes") or [*range(len(starts))]
    steps = ints(node, inputs, 4, "steps") or [1] * len(starts)
    if any(step < 1 for step in steps):
        raise UnsupportedError("steps backwards")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
    return (x,)


def pad(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    x, pads = inputs[0], ints(node, inputs, 1, "pads") or []
    if node.get("mode", b"constant") != b"constant" or len(pads) != 2 * x.ndim or optional(inputs, 3) is not None:
        raise UnsupportedError("other than constant pads of every axis")
    value = 0.0 if optional(inputs, 2) is None else float(inputs[2])
    order = [size for axis in reversed(range(x.ndim)) for size in (pads[axis], pads[axis + x.ndim])]
    return (F.pad(x, order, value=value),)


def concat(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    return (torch.cat([*inputs], node.get("axis", 0)),)


def transpose(node: Node, inputs: Inputs) -> Sequence[Tensor]:
    return (inputs[0].permute(node.get("perm", [*reversed(range(inputs[0].ndim))])),)
