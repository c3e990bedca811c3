"""The same model gives the same ``.ort`` bytes: its table of kernel types, written in random order, is put in order.

ONNX Runtime keeps the names of kernels' types in a hash table with a random seed and writes them last, which is at the
front: FlatBuffers grow towards it, so nothing behind refers to them. The rest of the file is taken over as it is.
"""

from __future__ import annotations

import flatbuffers

from mobileprune.flatbuffer import Table, root

MAGIC = b"ORTM"
VERSION, MODEL, TYPES = 0, 1, 3
ALIGNMENT = 16

Argument = tuple[int, int]
Kernel = tuple[str, list[tuple[str, list[Argument]]]]
"""Operator -> (type's name -> (input or output, its index))."""


def in_order(content: bytes) -> bytes:
    """``content`` of an ``.ort`` file with its kernels sorted by operator."""
    session = root(content)
    model, types = session.table(MODEL), session.table(TYPES)
    assert model is not None
    assert types is not None
    rest = content[min(model.position, model.vtable) :]
    builder = flatbuffers.Builder(2 * len(content))
    builder.minalign = ALIGNMENT
    builder.Bytes[-len(rest) :] = rest
    builder.head -= len(rest)
    version = builder.CreateString(session.text(VERSION))
    table = _table(builder, {0: _vector(builder, [_operator(builder, kernel) for kernel in kernels(types)])})
    model_offset = len(content) - model.position
    builder.Finish(_table(builder, {VERSION: version, MODEL: model_offset, TYPES: table}), MAGIC)
    return bytes(builder.Output())


def kernels(types: Table) -> list[Kernel]:
    return sorted(
        (
            operator.text(0),
            sorted(
                (kind.text(0), [(a.integer(0, "b"), a.integer(1, "I")) for a in kind.tables(1)])
                for kind in operator.tables(1)
            ),
        )
        for operator in types.tables(0)
    )


def _operator(builder: flatbuffers.Builder, kernel: Kernel) -> int:
    name, types = kernel
    kinds = [
        _table(
            builder, {0: builder.CreateString(kind), 1: _vector(builder, [_argument(builder, *a) for a in arguments])}
        )
        for kind, arguments in types
    ]
    return _table(builder, {0: builder.CreateString(name), 1: _vector(builder, kinds)})


def _argument(builder: flatbuffers.Builder, side: int, index: int) -> int:
    builder.StartObject(2)
    builder.PrependUint32Slot(1, index, 0)
    builder.PrependInt8Slot(0, side, 0)
    return int(builder.EndObject())


def _table(builder: flatbuffers.Builder, fields: dict[int, int]) -> int:
    builder.StartObject(max(fields) + 1)
    for number, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
