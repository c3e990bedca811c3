"""Files in ONNX Runtime's own format: required operators, and what is damaged, lies or belongs to another target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from support.flips import flips
from support.runtimes import SHAPE, Files, opened, pixels

from mobileprune.errors import ArtifactError
from mobileprune.export.ort_format import convert
from mobileprune.runtimes import RuntimeOptions
from mobileprune.runtimes.ort_format import MAGIC, open_session, required_operators


@pytest.mark.slow
def test_a_flipped_bit_gives_a_result_or_an_artifact_error(files: Files, tmp_path: Path) -> None:
    counts = flips("ort", files["ort", False], tmp_path)
    assert counts["other"] == {}
    assert counts["result"] > 20
    assert counts["refused"] > 20


def made(text: str, folder: Path) -> Path:
    """A graph as ``.ort``."""
    content = convert(parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {text}'), folder / "raw", [])
    path = folder / "m.ort"
    path.write_bytes(content)
    return path


def test_required_operators_are_those_of_the_file_as_a_reduced_build_takes_them(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(files["ort", False])
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    text = required_operators(path)
    (tmp_path / "required_operators.config").write_text(text)
    operators, types = parse_config(str(tmp_path / "required_operators.config"))
    assert types is None
    assert operators["com.microsoft"] == {1: {"FusedConv"}}
    assert operators["ai.onnx"][13] >= {"Gemm"}
    assert "#" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("loops", [1, 2])
def test_a_loop_is_refused_also_inside_a_branch(tmp_path: Path, loops: int) -> None:
    loop = """{out} = Loop ({count}, yes, x) <body = g (int64 i, bool c, float[N, 3, 4, 4] v) =>
              (bool d, float[N, 3, 4, 4] w) {{ d = Identity (c) w = Add (v, v) }}>"""
    body = (
        loop.format(out="y", count="three")
        if loops == 1
        else (
            "y = If (wanted) <then_branch = t () => (float[N, 3, 4, 4] z) {"
            + loop.format(out="z", count="three")
            + "},"
            " else_branch = e () => (float[N, 3, 4, 4] z) { z = Identity (x) }>"
        )
    )
    path = made(
        "agraph (float[N, 3, 4, 4] input) => (float[N, 4] logits) <int64 three = {3}, bool yes = {1}> {"
        "x = Relu (input) sum = ReduceSum <keepdims = 0> (input) zero = Sub (sum, sum) wanted = Equal (sum, zero)"
        + body
        + " f = Flatten (y) a = Constant <value_ints = [0]> () b = Constant <value_ints = [4]> ()"
        " one = Constant <value_ints = [1]> () logits = Slice (f, a, b, one) }",
        tmp_path,
    )
    assert "Loop" in required_operators(path)
    with pytest.raises(ArtifactError, match="an image classifier does not need: Loop"):
        open_session(path, RuntimeOptions(1, "input", SHAPE))


def test_another_input_than_the_manifest_says_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="inputs are"):
        opened(files["ort", False], tmp_path, "ort", input_name="other")
    with pytest.raises(ArtifactError, match="inference failed"):
        opened(files["ort", False], tmp_path, "ort", input_shape=(3, 9, 9))


def test_an_onnx_file_is_not_taken_for_one(files: Files, tmp_path: Path) -> None:
    for read in (lambda: opened(files["onnx", False], tmp_path, "ort"), lambda: required_operators(tmp_path / "model")):
        with pytest.raises(ArtifactError, match=r"is no \.ort file"):
            read()


def test_text_that_only_begins_like_one_is_corrupt(tmp_path: Path) -> None:
    for content in (b"\x08\0\0\0ORTM", b"\xff" * 4 + MAGIC + b"\xff" * 500, b"\x08\0\0\0ORTM" + b"\x07" * 500):
        with pytest.raises(ArtifactError, match=r"corrupt \.ort file"):
            opened(content, tmp_path, "ort")


def test_sparse_weights_that_unfold_to_far_more_than_the_file_are_refused(tmp_path: Path) -> None:
    size = 2**35
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 3, 4, 4] input) => (float[N, 3, 4, 4] logits)'
        "{ s = ReduceSum (w) logits = Add (input, s) }"
    )
    small = onnx.helper.make_sparse_tensor(
        values, onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [3]), [1717]
    )
    graph.graph.sparse_initializer.append(small)
    content = convert(graph, tmp_path / "raw", ["ConstantFolding"])
    told = (1717).to_bytes(8, "little")
    assert content.count(told) >= 1
    with pytest.raises(ArtifactError):
        opened(content.replace(told, size.to_bytes(8, "little")), tmp_path, "ort").predict(pixels(1))


def test_several_sessions_answer_side_by_side(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(files["ort", False])
    one, two = (open_session(path, RuntimeOptions(threads, "input", SHAPE)) for threads in (1, 2))
    x = pixels(300)
    np.testing.assert_array_equal(one(x), two(x))
