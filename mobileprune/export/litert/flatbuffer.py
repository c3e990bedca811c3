"""TensorFlow Lite's flatbuffer as objects, through the schema that ai-edge-litert ships: read, cleaned, written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IDENTIFIER = b"TFL3"
INPUT, OUTPUT = b"input", b"logits"
_ALIGNMENT = 16  # the schema's force_align of Buffer.data, which the generated Python code does not know


def read(content: bytes) -> Any:
    """The file's ``ModelT``, whose data are copies."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    import flatbuffers

    class Aligned(flatbuffers.Builder):  # type: ignore[misc, name-defined, unused-ignore]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
            return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

    builder = Aligned(2**20)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def clean(model: Any) -> None:
    """Drop the converter's notes and the names of tensors, which are those of the user's classes; zeros become +0."""
    graph = model.subgraphs[0]
    model.description, model.metadata, model.metadataBuffer = b"mobileprune", [], None
    for tensor in graph.tensors:
        tensor.name = b""
    graph.name = b"main"
    graph.tensors[graph.inputs[0]].name = INPUT
    graph.tensors[graph.outputs[0]].name = OUTPUT
    signature = model.signatureDefs[0]
    signature.inputs[0].name, signature.outputs[0].name = INPUT, OUTPUT
    for tensor in graph.tensors:
        if (values := constant(model, tensor)) is not None and values.dtype == np.float32:
            model.buffers[tensor.buffer].data = as_bytes(values + np.float32(0))
    forget_unused(model)


def free_batch(model: Any) -> None:
    """Let the batch of a model that was converted for one image be any number.

    A reshape that keeps a leading 1 keeps the batch whatever its size, since the other sizes hold all the rest: it
    gets -1 there. Every other operator takes its sizes from its inputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    for operator in graph.operators:
        if code(model, operator) != schema.BuiltinOperator.RESHAPE or graph.tensors[operator.inputs[0]].shape[0] != 1:
            continue
        target = graph.tensors[operator.inputs[1]]
        sizes = constant(model, target)
        if sizes is None or not len(sizes) or sizes[0] != 1 or -1 in sizes:
            continue
        free = np.concatenate([np.array([-1], sizes.dtype), sizes[1:]])
        operator.inputs = np.array([operator.inputs[0], add_constant(model, free, target.type)], np.int32)
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.NONE, None
    for index in (graph.inputs[0], graph.outputs[0]):
        tensor = graph.tensors[index]
        tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    forget_unused(model)


def code(model: Any, operator: Any) -> int:
    """The operator's number in ``BuiltinOperator``; the field is one of two, by the file's age."""
    entry = model.operatorCodes[operator.opcodeIndex]
    return int(max(entry.builtinCode, entry.deprecatedBuiltinCode))


def constant(model: Any, tensor: Any) -> NDArray[Any] | None:
    """The float32 or int32 values in the file, shaped as the tensor; None where there are none."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type not in dtypes or tensor.sparsity is not None:
        return None
    return np.frombuffer(bytes(data), dtypes[tensor.type]).reshape(tensor.shape)


def add_constant(model: Any, values: NDArray[Any], kind: int) -> int:
    """A new tensor of ``values`` and type ``kind`` -> its index."""
    from ai_edge_litert import schema_py_generated as schema

    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = as_bytes(values)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.type = b"", np.array(values.shape, np.int32), kind
    tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(values.tobytes(), np.uint8)


def forget_unused(model: Any) -> None:
    """Empty the buffers that no tensor refers to."""
    graph = model.subgraphs[0]
    used = {tensor.buffer for tensor in graph.tensors}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
