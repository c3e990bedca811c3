"""Files of other targets: their operators, and that a broken one is one error, whatever its reader does with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import flatbuffers
import onnx
import pytest
import torch
from torch import nn

from mobileprune.errors import ArtifactError
from mobileprune.export import ort_format, torchscript_lite
from mobileprune.export.target import ExportOptions
from mobileprune.inspection import readers
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.inspection.readers import READERS, contents_of

SHAPE = (1, 6, 6)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()


def test_the_operators_of_a_lite_file(model, tmp_path) -> None:
    torchscript_lite.write(model, SHAPE, tmp_path / "model.ptl", ExportOptions(sparse_format="dense"))
    found = contents_of(tmp_path / "model.ptl", SHAPE)
    assert found.operators is not None
    assert {"aten::linear", "aten::relu"} < found.operators.keys()
    assert set(found.operators.values()) == {None}


def test_the_operators_of_an_ort_file(tmp_path) -> None:
    text = '<ir_version: 10, opset_import: ["": 18]> g (float[N, 4] x) => (float[N, 4] y) { a = Abs (x) y = Exp (a) }'
    content = ort_format.convert(onnx.parser.parse_model(text), tmp_path / "made.ort", [])
    (tmp_path / "model.ort").write_bytes(content)
    assert contents_of(tmp_path / "model.ort", SHAPE).operators == {"Abs": None, "Exp": None}


def tflite(codes: list[int], operators: list[int]) -> bytes:
    """A TensorFlow Lite file with nothing but ``operators``, by their places in ``codes``."""
    builder = flatbuffers.Builder()

    def table(fields: dict[int, tuple[str, int]], size: int) -> int:
        builder.StartObject(size)
        for number, (kind, value) in fields.items():
            getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
        return int(builder.EndObject())

    def vector(tables: list[int]) -> int:
        builder.StartVector(4, len(tables), 4)
        for each in reversed(tables):
            builder.PrependUOffsetTRelative(each)
        return int(builder.EndVector())

    used = vector([table({0: ("Uint32", index)}, 1) for index in operators])
    graph = vector([table({3: ("UOffsetTRelative", used)}, 4)])
    known = vector([table({0: ("Int8", min(code, 127)), 3: ("Int32", code)}, 4) for code in codes])
    builder.Finish(table({1: ("UOffsetTRelative", known), 2: ("UOffsetTRelative", graph)}, 3), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_the_operators_of_a_tflite_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(readers, "_tflite_names", lambda: {3: "CONV_2D", 124: "DENSIFY"})
    (tmp_path / "model.tflite").write_bytes(tflite([3, 124, 200], [0, 0, 1, 2]))
    found = contents_of(tmp_path / "model.tflite", SHAPE)
    assert found.operators == {"CONV_2D": 2, "DENSIFY": 1, "operator 200": 1}


def test_a_kind_without_a_reader_tells_nothing_and_says_so(tmp_path) -> None:
    (tmp_path / "model.mnn").write_bytes(b"...")
    found = contents_of(tmp_path / "model.mnn", SHAPE)
    assert (found.layers, found.operators) == ((), None)
    assert ".mnn" in found.notes[0]


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("content", [b"x" * 100, tflite([3], [1])[:-30], tflite([3], [7])], ids=["text", "cut", "lies"])
def test_a_broken_file_is_an_artifact_error(tmp_path, suffix, content) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"model{suffix}"):
        contents_of(path, SHAPE)


@pytest.mark.parametrize(
    "harm",
    [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1 / 0, lambda: bytes(2**45)],
    ids=["dies", "raises", "eats"],
)
def test_a_reader_that_comes_to_harm_takes_nobody_with_it(tmp_path, monkeypatch, harm) -> None:
    def read(path: Path, shape: tuple[int, int, int] | None) -> Contents:
        harm()
        return Contents()

    monkeypatch.setitem(READERS, ".onnx", read)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError):
        contents_of(tmp_path / "model.onnx")


def test_contents_come_back_from_json() -> None:
    made = Contents((Layer("a", (2, 3), 1, None, 12, 4, 3),), {"Conv": 1, "Relu": None}, 12, ("note",))
    assert Contents.from_dict(made.to_dict()) == made
    assert made.to_dict()["zero_macs"] == 2
