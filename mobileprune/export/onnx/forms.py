"""How an ONNX file keeps its weights (``FORMS``), and the smallest that gives the same answers, bit for bit.

    dense    every number, zeros included
    coo      ONNX's sparse initializers: values and int64 places; smaller than dense above two thirds of zeros
    packed   values and Rice-coded gaps, unpacked by functions in the file when it is loaded

A tensor takes the form only where it gains by it. All three load in stock ONNX Runtime, which holds dense weights in
memory and computes as fast as with any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mobileprune.convert.entropy import bound_bits
from mobileprune.convert.rice import pack, unpack
from mobileprune.errors import MobilepruneError
from mobileprune.export.choice import choose, noise
from mobileprune.export.onnx.unpack import Unpacker
from mobileprune.export.target import AUTO, DENSE, Storage
from mobileprune.onnx_runtime import session
from mobileprune.sparse_operators import DOMAIN

CALL_BYTES = 300
"""About what the calls and names of a packed tensor take: what it has to gain."""


def dense(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    return proto, sum(values.nbytes for _, values in _weights(proto))


def coo(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    made, kept, size = onnx.ModelProto(), list[onnx.TensorProto](), 0
    made.CopyFrom(proto)
    weights = dict(_weights(made))
    for tensor in made.graph.initializer:
        values = weights.get(tensor.name)
        places = None if values is None or not values.ndim else np.flatnonzero(values)  # ONNX has no sparse scalars
        if values is None or places is None or (sparse := len(places) * (8 + values.itemsize)) >= values.nbytes:
            kept.append(tensor)
            size += 0 if values is None else values.nbytes
            continue
        nonzero = numpy_helper.from_array(values.ravel()[places], tensor.name)
        index = numpy_helper.from_array(places.astype(np.int64), f"{tensor.name}.places")
        made.graph.sparse_initializer.append(helper.make_sparse_tensor(nonzero, index, list(values.shape)))
        size += sparse
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made, size


def packed(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    made, kept, size = onnx.ModelProto(), list[onnx.TensorProto](), 0
    made.CopyFrom(proto)
    unpacker = Unpacker(next(o.version for o in proto.opset_import if not o.domain))
    weights = dict(_weights(made))
    for tensor in made.graph.initializer:
        values = weights.get(tensor.name)
        code = None if values is None else pack(values)
        if values is None or code is None or code.num_bytes + CALL_BYTES >= values.nbytes:
            kept.append(tensor)
            size += 0 if values is None else values.nbytes
            continue
        if unpack(code).tobytes() != values.tobytes():
            raise MobilepruneError(f"{tensor.name} does not survive packing; use --sparse-format dense and report this")
        unpacker.add(tensor.name, code)
        size += code.num_bytes
    nodes = [*unpacker.nodes, *made.graph.node]
    del made.graph.initializer[:], made.graph.node[:]
    made.graph.initializer.extend([*kept, *unpacker.initializers])
    made.graph.node.extend(nodes)
    made.functions.extend(unpacker.functions())
    if unpacker.nodes and DOMAIN not in {o.domain for o in made.opset_import}:
        made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return made, size


FORMS: dict[str, Callable[[onnx.ModelProto], tuple[onnx.ModelProto, int]]] = {
    DENSE: dense,
    "coo": coo,
    "packed": packed,
}
"""Name -> model, bytes of its weights."""


def store(proto: onnx.ModelProto, form: str) -> tuple[bytes, Storage]:
    """The file's content in ``form``, or with "auto" in the smallest that answers as the dense one does."""
    wanted = FORMS if form == AUTO else {DENSE: dense, form: FORMS[form]}
    contents, weight_bytes = dict[str, bytes](), dict[str, int]()
    for name, make in wanted.items():
        made, weight_bytes[name] = make(proto)
        contents[name] = made.SerializeToString(deterministic=True)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    inputs = {proto.graph.input[0].name: noise((shape[0], shape[1], shape[2]))}

    def answers(content: bytes) -> bytes:
        return bytes(session(content).run(None, inputs)[0].tobytes())

    chosen, why = choose(contents, form, answers)
    sizes = {name: len(content) for name, content in contents.items()}
    bound = math.ceil(sum(bound_bits(values) for _, values in _weights(proto)) / 8)
    return contents[chosen], Storage(chosen, why, sizes, bound, weight_bytes[chosen])


def _weights(proto: onnx.ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
    """What was learnt: every initializer of float32, float16 or int8."""
    for tensor in proto.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8):
            yield tensor.name, numpy_helper.to_array(tensor)
