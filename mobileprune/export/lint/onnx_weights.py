"""What must not be among the tensors of an ONNX file: what nothing uses, images, and weights behind masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mobileprune.export.lint.onnx_parts import STANDARD, Found, Shape, label, messages, parts
from mobileprune.sparse_operators import ALL, weight_inputs

_NATIVE = {name: weight_inputs(name) for name, (base, _, _) in ALL.items() if base != "SparseGemm"}
CONVOLUTIONS = {"Conv": (1,), "ConvTranspose": (1,), "ConvInteger": (1,), "QLinearConv": (3,), **_NATIVE}
"""Operator -> its weights' inputs."""
PASSES_ON = ("Cast", "DequantizeLinear", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
WEIGHTED = (*CONVOLUTIONS, *ALL, "BatchNormalization", "Gemm", "MatMul")


def unused(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Tensors, nodes and functions that the outputs do not depend on."""
    called = set()
    for part in parts(model):
        outputs = part.output if part.DESCRIPTOR.name == "FunctionProto" else [value.name for value in part.output]
        live = set(outputs)
        for node in reversed(part.node):
            called.add((node.domain, node.op_type))
            if live.isdisjoint(node.output):
                yield label(node), f"{node.op_type} whose result nothing uses"
            else:
                live.update(filter(None, node.input))
                for inner in (m for a in node.attribute for m in messages(a) if m.DESCRIPTOR.name == "GraphProto"):
                    live.update(value.name for value in inner.output)
                    live.update(name for n in inner.node for name in n.input)
        if part.DESCRIPTOR.name == "GraphProto":
            held = [*part.initializer, *(sparse.values for sparse in part.sparse_initializer)]
            yield from ((label(t), f"{_sizes(t)} that nothing uses") for t in held if t.name not in live)
    for function in model.functions:
        if (function.domain, function.name) not in called:
            yield label(function), "function that nothing calls"


def images(model: onnx.ModelProto, input_shape: Shape | None) -> Found:
    """Tensors of the input's shape, more than one of them, that are no convolution's weights."""
    if input_shape is None:
        return
    channels, height, width = input_shape
    for part in parts(model):
        sources, tensors = _sources(part), _tensors(part)
        kernels = {
            _origin(node.input[at], sources)
            for node in part.node
            for at in CONVOLUTIONS.get(node.op_type, ())
            if at < len(node.input)
        }
        sparse = {} if part.DESCRIPTOR.name == "FunctionProto" else {s.values.name: s for s in part.sparse_initializer}
        for name, tensor in (tensors | sparse).items():
            shape = tuple(tensor.dims)
            alike = len(shape) == 4 and shape[0] > 1 and shape[1:] in (input_shape, (height, width, channels))
            if alike and name not in kernels:
                yield f"tensor {name}", f"{_sizes(tensor)}: {shape[0]} images?"


def masks(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Weights, or what they give, multiplied by zeros and ones: the file holds more weights than it uses."""
    for part in parts(model):
        sources, tensors = _sources(part), _tensors(part)
        for node in part.node:
            if node.op_type not in ("Mul", "Where") or node.domain not in STANDARD:
                continue
            origins = [_origin(name, sources) for name in node.input]
            for at, name in enumerate(origins[: 1 if node.op_type == "Where" else 2]):
                others = [o for i, o in enumerate(origins) if i != at]
                hides = any(o in tensors or (o in sources and sources[o].op_type in WEIGHTED) for o in others)
                if hides and name in tensors and _is_mask(tensors[name]):
                    yield f"tensor {name}", f"{_sizes(tensors[name])} of zeros and ones that hides weights"
        if part.DESCRIPTOR.name == "GraphProto":
            for sparse in part.sparse_initializer:
                values = _values(sparse.values)
                if values is not None and values.size > 1 and (values == 1).all():
                    yield f"tensor {sparse.values.name}", f"{_sizes(sparse)} of zeros and ones that hides weights"


def _sources(part: Any) -> dict[str, Any]:
    """The node that makes each value."""
    return {output: node for node in part.node for output in node.output}


def _tensors(part: Any) -> dict[str, Any]:
    """Constants of a graph or function by name: dense initializers and Constant nodes."""
    constants = {n.output[0]: a.t for n in part.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")}
    if part.DESCRIPTOR.name == "FunctionProto":
        return constants
    return {t.name: t for t in part.initializer} | constants


def _origin(name: str, sources: dict[str, Any]) -> str:
    """Where ``name`` comes from, behind nodes that only change its type or shape."""
    seen = set()
    while name in sources and sources[name].op_type in PASSES_ON and sources[name].input and name not in seen:
        seen.add(name)
        name = sources[name].input[0]
    return name


def _sizes(tensor: Any) -> str:
    return f"{'x'.join(map(str, tensor.dims)) or 'scalar'} tensor"


def _is_mask(tensor: Any) -> bool:
    values = _values(tensor)
    if values is None or values.size < 2:
        return False
    return bool(((values == 0) | (values == 1)).all() and (values == 1).any() and (values == 0).any())


def _values(tensor: Any) -> NDArray[Any] | None:
    """None for what cannot be read here: text, other files, and tensors that do not hold what they claim."""
    if tensor.external_data or tensor.data_type in (0, onnx.TensorProto.STRING):
        return None
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (TypeError, ValueError, KeyError):
        return None
