"""What an ONNX file claims, held against what it holds, before a runtime allocates or follows any of it.

Only what can be read off the file: what a runtime makes of it (constants that unfold, shapes that are computed) is
for :mod:`mobileprune.runtimes.trial` to bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import helper, numpy_helper

from mobileprune import sparse_operators
from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import MAX_FILE_BYTES

MAX_NODES = 100_000  # once functions are written out
FREE_BYTES, GROWTH = 64 * 2**20, 1000  # sparse tensors may grow to this, and to this many times the file
STANDARD = ("", "ai.onnx")
LOOPS = ("Loop", "Scan")
_SMALL = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
_PAYLOADS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


class _Bad(Exception):
    """What is wrong, without the file's name."""


def read(content: bytes, path: Path) -> onnx.ModelProto:
    """The model of a file's ``content``; ArtifactError when it is no model or claims what cannot be."""
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"{path}: corrupt ONNX file ({error}); export again") from error
    try:
        check(model, len(content))
    except (_Bad, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}") from error
    return model


def check(model: onnx.ModelProto, file_bytes: int) -> None:
    """All rules at once; the first that is broken is raised."""
    parts = list(_messages(model))
    tensors: list[Any] = [part for part in parts if part.DESCRIPTOR.name == "TensorProto"]
    if any(t.external_data or t.data_location == onnx.TensorProto.EXTERNAL for t in tensors):
        raise _Bad("keeps weights in other files, which is refused; export it as one file")
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in STANDARD and not 1 <= opset.version <= newest:
            raise _Bad(f"opset {opset.version} is unknown: must lie in [1, {newest}]; update onnx or export again")
    _check_nodes(model)
    _check_operators(model, parts)
    for tensor in tensors:
        _check_tensor(tensor)
    dense_bytes, most = 0, min(MAX_FILE_BYTES, FREE_BYTES + GROWTH * file_bytes)
    for part in parts:
        if part.DESCRIPTOR.name == "SparseTensorProto":
            dense_bytes += _check_sparse(part, most)
    if dense_bytes > most:
        raise _Bad(f"its sparse tensors unfold to {dense_bytes:,} bytes, more than the {most:,} allowed for its size")


def _messages(message: Message) -> Iterator[Message]:
    """Every message inside, however deep: of branches, attributes and functions too."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield item
                yield from _messages(item)


def _check_tensor(tensor: Any) -> None:
    """dims x type = bytes, exactly."""
    name, shape, kinds = repr(tensor.name[:80]), list(tensor.dims), onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise _Bad(f"tensor {name} has data type {tensor.data_type}, which ONNX does not know")
    if any(size < 0 for size in shape):
        raise _Bad(f"tensor {name} has a negative size: {shape[:8]}")
    count, kind = math.prod(shape), kinds.Name(tensor.data_type)
    packed = -(-count * _bits(tensor.data_type) // 8)
    if tensor.HasField("raw_data") and kind != "STRING":
        need, found = packed, len(tensor.raw_data)
    else:
        pairs = 2 if kind.startswith("COMPLEX") else 1
        need, found = packed if kind in _SMALL else pairs * count, sum(len(getattr(tensor, f)) for f in _PAYLOADS)
    if need != found:
        raise _Bad(f"tensor {name} of shape {shape[:8]} needs {need:,} bytes or values and holds {found:,}")


def _bits(data_type: int) -> int:
    kind = onnx.TensorProto.DataType.Name(data_type)
    return _SMALL.get(kind) or 8 * int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _check_sparse(sparse: Any, most: int) -> int:
    """COO positions inside the shape, ascending, each once; the bytes of the dense tensor. Its tensors are checked."""
    values, indices, shape = sparse.values, sparse.indices, list(sparse.dims)
    name, stored = repr(values.name[:80]), list(values.dims)
    count: int = math.prod(shape)
    if not shape or any(size < 1 for size in shape) or len(stored) != 1 or not values.data_type:
        raise _Bad(f"sparse tensor {name} of shape {shape[:8]} holds values of shape {stored[:8]}: must be (nonzeros,)")
    dense_bytes = -(-count * _bits(values.data_type) // 8)
    if dense_bytes > most:
        raise _Bad(f"sparse tensor {name} unfolds to {dense_bytes:,} bytes, more than {most:,} allowed for its size")
    if not stored[0] and not indices.dims:
        return dense_bytes
    if indices.data_type != onnx.TensorProto.INT64 or list(indices.dims) not in (stored, [*stored, len(shape)]):
        raise _Bad(f"sparse tensor {name} has positions of shape {list(indices.dims)[:8]}: must be int64 (nonzeros,)")
    at = numpy_helper.to_array(indices)
    if at.size and ((at < 0) | (at >= (shape if at.ndim == 2 else count))).any():
        raise _Bad(f"sparse tensor {name} has positions outside its shape {shape[:8]}")
    flat = np.ravel_multi_index(tuple(at.T), shape) if at.ndim == 2 else at
    if (np.diff(flat) <= 0).any():
        raise _Bad(f"sparse tensor {name} has positions that are not ascending, or one twice")
    return dense_bytes


def _check_nodes(model: onnx.ModelProto) -> None:
    """No loop, no function that calls itself, and not more nodes than a classifier has when all are written out."""
    functions: dict[tuple[str, str], Any] = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(part: Any, callers: tuple[tuple[str, str], ...]) -> int:
        """Nodes of a graph or function, those of its branches and of what it calls included."""
        total = 0
        for node in part.node:
            if node.op_type in LOOPS and node.domain in STANDARD:
                raise _Bad(f"uses operators that an image classifier does not need: {node.op_type}")
            total += 1 + sum(size(inner, callers) for a in node.attribute for inner in (a.g, *a.graphs))
            called = (node.domain, node.op_type)
            if called in callers:
                raise _Bad(f"function {node.op_type!r} calls itself")
            if called in functions and called not in sizes:
                sizes[called] = size(functions[called], (*callers, called))
            total += sizes.get(called, 0)
        if total > MAX_NODES:
            raise _Bad(f"has more than {MAX_NODES:,} nodes once its functions are written out")
        return total

    for key, function in functions.items():
        sizes.setdefault(key, size(function, (key,)))
    size(model.graph, ())


def _check_operators(model: onnx.ModelProto, parts: list[Message]) -> None:
    """What calls an operator of the native library has its function too, which says the same: else the file would
    compute one thing with the library and another without."""
    own = sparse_operators.DOMAIN
    found = {f.name for f in model.functions if f.domain == own and f.name in sparse_operators.ALL}
    wrong = [f.name for f in model.functions if f.name in found and not sparse_operators.is_function(f)]
    if wrong:
        raise _Bad(f"its function {wrong[0]!r} is not what the operator of this name computes; export again")
    nodes: list[Any] = [part for part in parts if part.DESCRIPTOR.name == "NodeProto"]
    if missing := {node.op_type for node in nodes if sparse_operators.is_sparse(node)} - found:
        raise _Bad(f"calls {min(missing)!r} of the native library without a function of that name; export again")
