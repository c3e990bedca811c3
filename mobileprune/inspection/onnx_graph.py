"""What an ONNX file computes, as ONNX Runtime sees it.

Weights may be packed, sparse, halved or quantised, so the runtime is asked for them, and in the same run, on one black
image, for the shape of what each layer makes. A layer that makes y of weights, each number of y from d of them, costs

    macs = (numbers in y for one image) d
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from mobileprune.convert.entropy import bound_bits
from mobileprune.errors import ArtifactError
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.runtimes.onnx_checks import STANDARD, read
from mobileprune.runtimes.onnx_constants import Feeds, ask, constant_names, only
from mobileprune.sparse_operators import ALL, DOMAIN

WEIGHT_INPUTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1}
ZERO_POINTS = {"ConvInteger": 3, "QLinearConv": 5, "MatMulInteger": 3}
SUFFIXES = ("_quantized", ".half")
"""Of a weight in int8 or float16."""
UNCOUNTED = ("Attention", "ConvTranspose", "DeformConv", "Einsum", "GRU", "If", "LSTM", "QLinearMatMul", "RNN")
"""Operators that multiply, which no layer here is made of; If for what its branches hold."""
OPEN = "the file leaves the size of images open: multiplications are not counted"


@dataclass(frozen=True)
class _Use:
    """A node that multiplies by the constant ``weight``; ``origin``: that weight as the file holds it."""

    node: Any
    weight: str
    origin: str
    zero: str


def contents(path: Path, input_shape: tuple[int, int, int] | None) -> Contents:
    """``input_shape`` (C, H, W) of images, where the file leaves it open; without it there are no MACs, and a note.

    ArtifactError for what is no ONNX model; what ONNX Runtime raises for one that it refuses.
    """
    model = _inlined(read(path.read_bytes(), path))
    if not model.graph.output:  # protobuf takes many a file for an empty model
        raise ArtifactError(f"{path}: corrupt ONNX file (no graph inside); export again")
    nodes = list(model.graph.node)
    stored = dict(_stored(model.graph))
    constants = constant_names(model, set(stored))
    makers = {name: node for node in nodes for name in node.output}
    passed = [n for n in nodes if n.op_type != "Constant" and not constants.issuperset(n.output)]
    uses = [use for node in passed if (use := _use(node, constants, makers))]
    weighted = {use.node.output[0] for use in uses}
    products = [n for n in passed if n.op_type == "MatMul" and n.output[0] not in weighted]
    wanted = {name for use in uses for name in (use.weight, use.origin, use.zero) if name}
    feeds = _black_image(model.graph, set(stored), input_shape)
    if feeds is None:
        values, shapes = ask(only(model, constants), wanted, set(), {})
    else:
        shown = weighted.union(*({node.output[0], node.input[0]} for node in products))
        values, shapes = ask(model, wanted, shown, feeds)
    images = next((x.shape[0] for x in (feeds or {}).values() if x.ndim), 1)
    layers = dict[str, Layer]()
    for use in uses:
        numbers = math.prod(shapes[use.node.output[0]]) // images if feeds is not None else None
        layer = _layer(use, values, numbers, layers, _bytes(use.weight, stored, makers))
        layers[layer.name] = layer
    macs = None
    if feeds is not None:
        macs = sum(layer.macs or 0 for layer in layers.values())
        macs += sum(math.prod(shapes[n.output[0]]) * shapes[n.input[0]][-1] // images for n in products)
    operators = Counter(kind for node in passed for kind in _kinds(node))
    uncounted = [kind for kind in sorted(operators) if kind in UNCOUNTED or "." in kind]
    notes = [OPEN] if feeds is None else [f"not counted in MACs: {', '.join(uncounted)}"] if uncounted else []
    return Contents(tuple(layers.values()), dict(sorted(operators.items())), macs, tuple(notes))


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without functions, but for those of mobileprune that only make constants."""
    own = [(f.domain, f.name) for f in model.functions if f.domain == DOMAIN and f.name not in ALL]
    if len(own) == len(model.functions):
        return model
    from onnx.inliner import inline_selected_functions

    return inline_selected_functions(model, own, exclude=True)


def _stored(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Constants in the file -> bytes of their numbers."""
    for tensor in graph.initializer:
        yield tensor.name, _payload(tensor)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, _payload(sparse.values) + _payload(sparse.indices)
    for node in graph.node:
        if node.op_type == "Constant":
            yield node.output[0], sum(_payload(a.t) if a.HasField("t") else a.ByteSize() for a in node.attribute)


def _payload(tensor: onnx.TensorProto) -> int:
    if tensor.raw_data or not tensor.data_type:
        return len(tensor.raw_data)
    return int(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize * math.prod(tensor.dims))


def _black_image(graph: onnx.GraphProto, stored: set[str], input_shape: tuple[int, int, int] | None) -> Feeds | None:
    """A batch of one for each input that is not among the ``stored`` constants; None where its size is nowhere said."""
    feeds = {}
    for value in graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        shape: list[int] = [d.dim_value for d in kind.shape.dim]  # 0: left open
        if len(shape) == 4 and input_shape is not None:
            shape[1:] = input_shape
        shape[:1] = [size or 1 for size in shape[:1]]
        if not all(shape) or not kind.elem_type:
            return None
        feeds[value.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return feeds


def _use(node: onnx.NodeProto, constants: set[str], makers: dict[str, onnx.NodeProto]) -> _Use | None:
    at = WEIGHT_INPUTS.get(node.op_type) if node.domain in STANDARD else None
    weight = node.input[at] if at is not None and at < len(node.input) else ""
    if not weight or weight not in constants:
        return None
    origin = weight
    while (maker := makers.get(origin)) and maker.domain in STANDARD and maker.input:
        origin = maker.input[0]
    zero = ZERO_POINTS.get(node.op_type, len(node.input))
    return _Use(node, weight, origin, node.input[zero] if zero < len(node.input) else "")


def _kinds(node: onnx.NodeProto) -> Iterator[str]:
    """Of the node and of those in its branches, which are part of an If."""
    yield node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            for inner in branch.node:
                yield from _kinds(inner)


def _layer(
    use: _Use, values: dict[str, NDArray[Any]], numbers: int | None, known: dict[str, Layer], stored_bytes: int
) -> Layer:
    """``numbers``: how many the layer makes for one image. A weight that two layers share costs both."""
    weight, origin, kind = values[use.weight], values[use.origin], use.node.op_type
    transposed = any(a.name == "transB" and a.i for a in use.node.attribute)
    if kind.startswith("MatMul") or (kind == "Gemm" and not transposed):
        depth, rows = weight.shape[-2:][0], np.moveaxis(weight, -1, 0)
    else:
        depth, rows = math.prod(weight.shape[1:]), weight
    rows = rows.reshape(len(rows), -1)
    zeros = rows == (values[use.zero].reshape(-1, 1) if use.zero else 0)
    name = use.origin
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    macs = None if numbers is None else numbers * depth + ((known[name].macs or 0) if name in known else 0)
    bound = math.ceil(bound_bits(origin) / 8) if origin.dtype in (np.float32, np.float16, np.int8) else None
    return Layer(name, weight.shape, int(zeros.sum()), int(zeros.all(1).sum()), macs, stored_bytes, bound)


def _bytes(name: str, stored: dict[str, int], makers: dict[str, onnx.NodeProto]) -> int:
    """Of all constants that ``name`` is made of."""
    parts, todo = set[str](), [name]
    while todo:
        part = todo.pop()
        if part not in parts:
            parts.add(part)
            todo += [] if part in stored or part not in makers else makers[part].input
    return sum(stored.get(part, 0) for part in parts)
