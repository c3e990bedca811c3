"""TensorFlow Lite's sparse tensors: a weight with many zeros becomes its nonzeros and a DENSIFY in front of its use.

A tensor (d_1, ..., d_n) is kept as compressed rows along d_n: the nonzeros, the place of each in its row, and for
each of the d_1 ... d_(n-1) rows where it starts. The interpreter unfolds it once. XNNPACK's sparse kernels, which ARM
phones and x86 without AVX have, take such 1x1 convolutions as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.export.litert import flatbuffer as tflite

ENTRY_BYTES = 400
"""About what the tables of a sparse tensor and its operator take: what it has to gain."""


def sparsify(model: Any) -> int:
    """Encode, in place, each float32 weight of a convolution or linear layer that gains by it -> how many."""
    from ai_edge_litert import schema_py_generated as schema

    kind = schema.BuiltinOperator
    layers = (kind.CONV_2D, kind.DEPTHWISE_CONV_2D, kind.FULLY_CONNECTED)
    graph, unfold = model.subgraphs[0], list[Any]()
    weights = {int(op.inputs[1]) for op in graph.operators if tflite.code(model, op) in layers}
    for index in sorted(weights):
        tensor = graph.tensors[index]
        values = tflite.constant(model, tensor)
        if values is None or values.dtype != np.float32:
            continue
        nonzeros, starts, places = compressed_rows(values)
        size = nonzeros.nbytes + starts.nbytes + places.nbytes + ENTRY_BYTES
        if size >= values.nbytes:
            continue
        sparse = tflite.add_constant(model, nonzeros, tensor.type)
        graph.tensors[sparse].shape = tensor.shape
        graph.tensors[sparse].sparsity = _parameters(values.shape, starts, places)
        unfold.append(_densify(model, sparse, index))
        tensor.buffer = 0  # by convention the empty one: its values come from the new operator
    graph.operators = [*unfold, *graph.operators]
    tflite.forget_unused(model)
    return len(unfold)


def compressed_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any]]:
    """(..., d) -> nonzeros (n,), starts (rows + 1,), places (n,), both integers as narrow as the format has them."""
    rows = values.reshape(-1, values.shape[-1])
    row, place = np.nonzero(rows)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
    return rows[row, place], _narrow(starts), _narrow(place)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    most = int(values.max(initial=0))
    return values.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.int32)


def _parameters(shape: tuple[int, ...], starts: NDArray[Any], places: NDArray[Any]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    parameters = schema.SparsityParametersT()
    parameters.traversalOrder, parameters.blockMap = np.arange(len(shape), dtype=np.int32), []
    parameters.dimMetadata = []
    for size in shape[:-1]:
        dense = schema.DimensionMetadataT()
        dense.format, dense.denseSize = schema.DimensionType.DENSE, int(size)
        parameters.dimMetadata.append(dense)
    rows = schema.DimensionMetadataT()
    rows.format = schema.DimensionType.SPARSE_CSR
    rows.arraySegments, rows.arraySegmentsType = _vector(starts)
    rows.arrayIndices, rows.arrayIndicesType = _vector(places)
    parameters.dimMetadata.append(rows)
    return parameters


def _vector(values: NDArray[Any]) -> tuple[Any, int]:
    from ai_edge_litert import schema_py_generated as schema

    made, kind = {
        np.dtype(np.uint8): (schema.Uint8VectorT, schema.SparseIndexVector.Uint8Vector),
        np.dtype(np.uint16): (schema.Uint16VectorT, schema.SparseIndexVector.Uint16Vector),
        np.dtype(np.int32): (schema.Int32VectorT, schema.SparseIndexVector.Int32Vector),
    }[values.dtype]
    vector = made()
    vector.values = values
    return vector, kind


def _densify(model: Any, sparse: int, dense: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    number = schema.BuiltinOperator.DENSIFY
    known = [i for i, entry in enumerate(model.operatorCodes) if entry.builtinCode == number]
    if not known:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = number
        entry.version = 1
        model.operatorCodes.append(entry)
        known = [len(model.operatorCodes) - 1]
    operator = schema.OperatorT()
    operator.opcodeIndex = known[0]
    operator.inputs, operator.outputs = np.array([sparse], np.int32), np.array([dense], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    operator.builtinOptions = schema.DensifyOptionsT()
    return operator
