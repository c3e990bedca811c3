"""Hostile FlatBuffers: shared tables and long texts, which a small file may refer to without end."""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
import pytest

from mobileprune.errors import ArtifactError
from mobileprune.flatbuffer import MAX_TEXT_BYTES, MAX_VISITS, MalformedError, root
from mobileprune.runtimes.ort_format import GRAPH, MODEL, NODES, OP_TYPE, required_operators


def ort(name: str, count: int) -> bytes:
    """A graph that refers ``count`` times to one node, of the operator ``name``."""
    builder = flatbuffers.Builder(0)

    def table(field: int, offset: int) -> int:
        builder.StartObject(field + 1)
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        return int(builder.EndObject())

    node = table(OP_TYPE, builder.CreateString(name))
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(node)
    builder.Finish(table(MODEL, table(GRAPH, table(NODES, builder.EndVector()))), file_identifier=b"ORTM")
    content = bytes(builder.Output())
    return content + bytes(-len(content) % 4)


def written(folder: Path, content: bytes) -> Path:
    (folder / "model.ort").write_bytes(content)
    return folder / "model.ort"


def test_a_name_may_be_long_but_not_very(tmp_path: Path) -> None:
    name = "A" * MAX_TEXT_BYTES
    assert required_operators(written(tmp_path, ort(name, 2))) == f"ai.onnx;0;{name}\n"
    with pytest.raises(ArtifactError, match=r"corrupt \.ort file \(a name of 257 bytes, more than 256"):
        required_operators(written(tmp_path, ort(name + "A", 2000)))


def test_the_same_table_again_and_again_counts_each_time(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"more than {MAX_VISITS:,} tables"):
        required_operators(written(tmp_path, ort("Conv", MAX_VISITS)))


def test_a_size_behind_the_end_is_no_text() -> None:
    content = bytearray(ort("Conv", 1))
    at = content.index(b"Conv")
    content[at - 4 : at] = struct.pack("<I", 2**32 - 1)
    (node,) = root(bytes(content)).table(MODEL).table(GRAPH).tables(NODES)
    with pytest.raises(MalformedError, match="a name of 4,294,967,295 bytes"):
        node.text(OP_TYPE)
