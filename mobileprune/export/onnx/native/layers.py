"""The layers of an ONNX graph, and whether an operator of the native library computes what they compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from mobileprune.sparse_operators import WEIGHT_INPUT

Size = int | str
"""Of an axis: a number, the name of one that is left open, or "" where nothing is known."""
OPERATORS = {"Conv": "SparseConv", "Gemm": "SparseGemm"}
ELSEWHERE = -1
"""The user of a value that is an output of the graph, or that a branch may use."""
MAX_EXTENT, MAX_NUMBERS = 65536, 2**27
"""Below what the library takes: of an axis, of the copies that it lays out of an input, of weights."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Node ``at`` of the graph, a Conv or Gemm with constant weights (M, C/group, kH, kW) or (M, K).

    ``attributes``: of the operator that takes its place. ``refusal``: why none can, or "".
    """

    at: int
    node: onnx.NodeProto
    weights: NDArray[Any]
    attributes: dict[str, Any]
    refusal: str = ""

    @property
    def name(self) -> str:
        return str(self.node.input[WEIGHT_INPUT])

    @property
    def zeros(self) -> float:
        """Their share of the weights."""
        return 1 - int(np.count_nonzero(self.weights)) / max(self.weights.size, 1)

    @property
    def pixels(self) -> int | None:
        """Of a convolution's output; None for any other layer, and where there is a ``refusal``."""
        met = self._met()
        return math.prod(axis.shape[1] for axis in met) if met else None

    @property
    def skipped(self) -> float:
        """Share of weights that the library does not multiply by: zeros, and what meets nothing but padding."""
        used = self.weights
        if met := self._met():
            rows, columns = (axis.sum(1) > 0 for axis in met)
            used = used[:, :, rows[:, None] & columns]
        return 1 - int(np.count_nonzero(used)) / max(self.weights.size, 1)

    def _met(self) -> list[NDArray[np.bool_]] | None:
        """Of a convolution's rows and columns: which elements of the kernel meet the image, for which of the output."""
        if self.refusal or not self.attributes:
            return None
        found, pads = [], self.attributes["pads"]
        given = (self.attributes[name] for name in ("input_size", "strides", "dilations"))
        for axis, (size, stride, dilation, kernel) in enumerate(zip(*given, self.weights.shape[2:], strict=True)):
            padded = size + pads[axis] + pads[axis + 2]
            first = np.arange(0, padded - dilation * (kernel - 1), stride) - pads[axis]
            at = first + dilation * np.arange(kernel)[:, None]
            found.append((at >= 0) & (at < size))
        return found

    @property
    def depthwise(self) -> bool:
        return bool(self.attributes.get("group", 1) > 1 and self.weights.shape[1] == 1)


class Graph:
    """A graph with the shapes of its values, its constants by name, and who uses a value."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.nodes = list(proto.graph.node)
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self.shapes: dict[str, tuple[Size, ...]] = {v.name: _shape(v) for v in values}
        self.users: dict[str, list[int]] = {value.name: [ELSEWHERE] for value in proto.graph.output}
        for at, node in enumerate(self.nodes):
            for name in node.input:
                self.users.setdefault(name, []).append(at)
            for name in _inside(node):
                self.users.setdefault(name, []).append(ELSEWHERE)

    def only_user(self, value: str) -> int | None:
        """The number of the node that alone uses ``value``, and once."""
        users = self.users.get(value, [])
        return users[0] if len(users) == 1 and users[0] != ELSEWHERE else None

    def layers(self) -> list[Layer]:
        """In the graph's order, those of constant weights."""
        found = []
        for at, node in enumerate(self.nodes):
            if not node.domain and node.op_type in OPERATORS and node.input[WEIGHT_INPUT] in self.constants:
                weights = numpy_helper.to_array(self.constants[node.input[WEIGHT_INPUT]])
                given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                attributes, refusal = (self._conv if node.op_type == "Conv" else self._gemm)(node, weights, given)
                found.append(Layer(at, node, weights, attributes, refusal or self._constants(node, weights)))
        return found

    def _conv(self, node: onnx.NodeProto, weights: NDArray[Any], given: dict[str, Any]) -> tuple[dict[str, Any], str]:
        axes, size = weights.ndim - 2, self.shapes.get(node.input[0], ())[2:]
        made = {name: list(given.get(name, [1] * axes)) for name in ("strides", "dilations")}
        pads, group = list(given.get("pads", [0] * 2 * axes)), given.get("group", 1)
        attributes = {**made, "pads": pads, "group": group, "input_size": list(size)}
        if axes != 2:
            return attributes, f"a convolution of {axes} axes, not of 2"
        if given.get("auto_pad", b"NOTSET") != b"NOTSET":
            return attributes, f"auto_pad {given['auto_pad'].decode()}: its pads are not in the file"
        height, width = size if len(size) == 2 else ("", "")
        if not isinstance(height, int) or not isinstance(width, int):
            return attributes, "the height and width of its input are left open"
        extents = (height, width, *weights.shape[2:], *made["strides"], *made["dilations"], *pads)
        padded = (height + pads[0] + pads[2]) * (width + pads[1] + pads[3])
        if min(pads) < 0 or max(extents) > MAX_EXTENT:
            return attributes, f"a height, width, stride, dilation or pad that does not lie in [0, {MAX_EXTENT}]"
        if padded * weights.shape[1] * group * weights.shape[3] > MAX_NUMBERS:
            return attributes, f"its input, copied for each column of the kernel, has more than {MAX_NUMBERS:,} numbers"
        return attributes, ""

    def _gemm(self, node: onnx.NodeProto, weights: NDArray[Any], given: dict[str, Any]) -> tuple[dict[str, Any], str]:
        plain = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}
        odd = [f"{name} {given[name]:g}" for name, value in plain.items() if given.get(name, value) != value]
        if "transB" not in given:
            odd.append("transB 0")
        return {}, f"{', '.join(odd)}: it is not x W^T + b" if odd else ""

    def _constants(self, node: onnx.NodeProto, weights: NDArray[Any]) -> str:
        bias = node.input[2] if len(node.input) > 2 else ""
        if weights.dtype != np.float32:
            return f"its weights are {weights.dtype}, not float32"
        if not 0 < weights.size <= MAX_NUMBERS:
            return f"{weights.size:,} weights: there must be 1 to {MAX_NUMBERS:,}"
        if bias and (bias not in self.constants or list(self.constants[bias].dims) != [len(weights)]):
            return f"its bias is no constant of shape ({len(weights)},)"
        return ""


def _shape(value: onnx.ValueInfoProto) -> tuple[Size, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim)


def _inside(node: onnx.NodeProto) -> Iterator[str]:
    """What the branches of ``node`` use."""
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            yield from (value.name for value in branch.output)
            for inner in branch.node:
                yield from inner.input
                yield from _inside(inner)


def same_shape(a: tuple[Size, ...], b: tuple[Size, ...]) -> bool:
    """Known to be: axes that are left open have a name, and the same one."""
    return a == b and len(a) > 0 and all(size != "" for size in a)
