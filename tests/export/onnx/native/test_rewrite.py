"""Rewritten graphs: which nodes become one, which do not and why, and the same answers bit for bit."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from support.lint import findings
from support.native import answers, needs_library, operators, parsed
from support.pruned import PRUNED, images, pruned
from torch import nn

from mobileprune import native
from mobileprune.export import ExportOptions
from mobileprune.export.onnx import convert, finish, write
from mobileprune.export.onnx.native.layers import Graph
from mobileprune.export.onnx.native.rewrite import fuse, rewrite
from mobileprune.sparse_operators import DOMAIN, is_sparse

STORED: list[Any] = [("lenet5", "fp32", "dense"), ("resnet8", "fp32", "coo"), ("lenet5", "fp32", "packed")]
STORED += [("resnet8", "fp16", "packed"), pytest.param("mobilenetv2", "fp16", "coo", marks=pytest.mark.long)]
CONV = ("SparseConvRelu", "SparseConvAddRelu", "SparseConv")


def all_rewritten(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Whatever its zeros."""
    graph = Graph(proto)
    return rewrite(proto, graph, fuse(graph, [layer for layer in graph.layers() if not layer.refusal]))


def names(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node if is_sparse(node)]


@cache
def converted(name: str) -> onnx.ModelProto:
    return convert(pruned(name), PRUNED[name], 18)


def stored(name: str, path: Path, precision: str, form: str, kernels: str) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(converted(name))
    finish(copy, path, ExportOptions(precision=precision, sparse_format=form, kernels=kernels))
    return path.read_bytes()


@pytest.mark.parametrize(("name", "precision", "form"), STORED)
def test_stock_onnx_runtime_answers_as_before_and_runs_the_same_graph(
    tmp_path: Path, name: str, precision: str, form: str
) -> None:
    x, found = images(5, PRUNED[name]), {}
    for kernels in ("stock", "native"):
        content = stored(name, tmp_path / kernels, precision, form, kernels)
        found[kernels] = answers(content, x, optimised=str(tmp_path / f"{kernels}.optimised")).tobytes()
    assert found["native"] == found["stock"]
    assert operators(tmp_path / "native.optimised") == operators(tmp_path / "stock.optimised")
    onnx.checker.check_model(content, full_check=form != "coo")
    assert findings(content) == []
    assert names(onnx.load_model_from_string(content))


@needs_library
@pytest.mark.parametrize(("name", "precision", "form"), STORED)
def test_the_library_answers_alike(tmp_path: Path, name: str, precision: str, form: str) -> None:
    x = images(5, PRUNED[name])
    content = stored(name, tmp_path / "m", precision, form, "native")
    expected = answers(content, x)
    got = answers(content, x, native.library(), str(tmp_path / "optimised"))
    assert set(operators(tmp_path / "optimised")) >= set(names(onnx.load_model_from_string(content)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_layers_take_what_follows_them() -> None:
    lenet, resnet = (all_rewritten(converted(name)) for name in ("lenet5", "resnet8"))
    assert names(lenet) == ["SparseConvRelu"] * 2 + ["SparseGemmRelu"] * 2 + ["SparseGemm"]
    assert Counter(names(resnet)) == {"SparseConvRelu": 4, "SparseConvAddRelu": 3, "SparseConv": 2, "SparseGemm": 1}
    assert {node.op_type for node in resnet.graph.node} - {*names(resnet)} == {"ReduceMean", "Reshape"}


@pytest.mark.long
def test_mobilenets_layers_take_relu6_and_sums() -> None:
    made = all_rewritten(converted("mobilenetv2"))
    assert names(made).count("SparseConvRelu6") == 35
    assert names(made).count("SparseConvAdd") + names(made).count("SparseConv") == 17
    assert not {t.name for t in made.graph.initializer} & {"min_val_cast", "max_val_cast"}, "nothing uses them any more"


def test_what_nothing_uses_any_more_is_not_kept() -> None:
    clipped = f"c = {PADDED} (input, w) y = Clip (c, low, six)"
    proto = parsed(f"g (float[N, 4, 8, 8] input) => (float[N, 4, 8, 8] y) {W} {{ {clipped} }}")
    assert [t.name for t in all_rewritten(proto).graph.initializer] == ["w", "b", "one", "zeros.4"]


def test_a_second_export_gives_the_same_bytes_and_leaves_the_graph_alone(tmp_path: Path) -> None:
    before = converted("resnet8").SerializeToString()
    first, second = (stored("resnet8", tmp_path / "m", "fp32", "auto", "native") for _ in range(2))
    assert first == second
    assert converted("resnet8").SerializeToString() == before


def ones(count: int) -> str:
    return ", ".join(["1"] * count)


W = f"""<float[4, 4, 3, 3] w = {{{ones(144)}}}, float[4] b = {{1, 2, 3, 4}},
         float low = {{0}}, float six = {{6}}, float one = {{1}}>"""
PADDED = "Conv <pads = [1, 1, 1, 1]>"


def fused(body: str, output: str = "float[N, 4, 8, 8] y", weights: str = W) -> list[str]:
    return names(all_rewritten(parsed(f"g (float[N, 4, 8, 8] input) => ({output}) {weights} {{ {body} }}")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"c = {PADDED} (input, w, b) y = Relu (c)", ["SparseConvRelu"]),
        (f"c = {PADDED} (input, w) y = HardSwish (c)", ["SparseConvHardSwish"]),
        (f"c = {PADDED} (input, w) y = Clip (c, low, six)", ["SparseConvRelu6"]),
        (f"c = {PADDED} (input, w) y = Clip (c, low, one)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) y = Clip (c, low)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) d = Sigmoid (c) y = Relu (d)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) y = Add (input, c)", ["SparseConvAdd"]),
        (f"c = {PADDED} (input, w) d = Add (c, input) y = Clip (d, low, six)", ["SparseConvAddRelu6"]),
        (f"c = {PADDED} (input, w) r = Sigmoid (input) d = Add (c, r) y = Relu (d)", ["SparseConvAddRelu"]),
        (f"c = {PADDED} (input, w) d = Relu (c) y = Add (input, d)", ["SparseConvRelu"]),
        # two layers are added up
        (f"c = {PADDED} (input, w) d = {PADDED} (input, w, b) y = Add (d, c)", ["SparseConv", "SparseConvAdd"]),
        # another user of what would be gone
        (f"c = {PADDED} (input, w) d = Relu (c) y = Mul (c, d)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) y = Add (c, c)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) d = Add (c, input) e = Relu (d) y = Mul (d, e)", ["SparseConvAdd"]),
        # sums of other shapes
        (f"c = {PADDED} (input, w) y = Add (c, one)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) m = GlobalMaxPool (input) y = Add (c, m)", ["SparseConv"]),
        (f"c = {PADDED} (input, w) m = GlobalMaxPool (c) y = Add (m, input)", ["SparseConv"]),
    ],
)
def test_what_is_fused(body: str, expected: list[str]) -> None:
    assert fused(body) == expected


def test_an_output_of_the_graph_stays_one() -> None:
    both = "float[N, 4, 8, 8] c, float[N, 4, 8, 8] y"
    assert fused(f"c = {PADDED} (input, w) y = Relu (c)", both) == ["SparseConv"]


def test_what_a_branch_uses_stays() -> None:
    branch = "else_branch = e () => (float[N, 4, 8, 8] o) { o = Relu (c) }"
    then = "then_branch = t () => (float[N, 4, 8, 8] p) { p = Sigmoid (r) }"
    body = f"c = {PADDED} (input, w) r = Relu (c) s = Cast <to = 9> (one) y = If (s) <{then}, {branch}>"
    assert fused(body) == ["SparseConv"]


GEMM = f"<float[3, 256] w = {{{ones(768)}}}, float[3] b = {{1, 2, 3}}, float[1] one = {{1}}>"
SHORT = f"<float[4, 4, 3] w = {{{ones(48)}}}>"
HALF = W.replace("float[4, 4, 3, 3]", "float16[4, 4, 3, 3]")


@pytest.mark.parametrize(
    ("weights", "body", "why"),
    [
        (W, 'y = Conv <auto_pad = "SAME_UPPER"> (input, w)', "auto_pad SAME_UPPER"),
        (W, "y = Conv <pads = [-1, 0, 0, 0]> (input, w)", "does not lie in"),
        (W, "y = Conv <pads = [70000, 0, 0, 0]> (input, w)", "does not lie in"),
        (W, "y = Conv <pads = [9000, 9000, 0, 0]> (input, w)", "more than 134,217,728 numbers"),
        (W, "r = Sigmoid (b) y = Conv (input, w, r)", "bias is no constant"),
        (W, "s = Cast <to = 7> (b) r = Reshape (input, s) y = Conv (r, w)", "left open"),
        (HALF, "h = Cast <to = 10> (input) y = Conv (h, w)", "float16"),
        (SHORT, "s = Constant <value_ints = [0, 4, -1]> () r = Reshape (input, s) y = Conv (r, w)", "1 axes"),
        (GEMM, "r = Flatten (input) t = Transpose (w) y = Gemm <transA = 1, transB = 1> (t, w)", "transA 1"),
        (GEMM, "r = Flatten (input) y = Gemm <transB = 1, alpha = 2.0> (r, w)", "alpha 2"),
        (GEMM, "r = Flatten (input) y = Gemm <transB = 1, beta = 0.5> (r, w, b)", "beta 0.5"),
        (GEMM, "r = Flatten (input) y = Gemm (w, w)", "transB 0"),
        (GEMM, "r = Flatten (input) y = Gemm <transB = 1> (r, w, one)", "bias is no constant of shape (3,)"),
    ],
)
def test_a_layer_that_is_something_else_is_refused_with_the_reason(weights: str, body: str, why: str) -> None:
    proto = parsed(f"g (float[N, 4, 8, 8] input) => (float y) {weights} {{ {body} }}")
    (layer,) = Graph(proto).layers()
    assert why in layer.refusal
    assert all_rewritten(proto) is proto


def test_weights_that_an_image_changes_are_no_layer() -> None:
    assert fused("v = Sigmoid (w) y = Conv (input, v)") == []


def test_a_bias_of_zeros_takes_no_name_that_is_there() -> None:
    text = f"g (float[N, 4, 8, 8] input) => (float[N, 4, 8, 8] y) {W} {{ c = {PADDED} (input, w) y = {PADDED} (c, w) }}"
    proto = parsed(text)
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "zeros.4"
    made = all_rewritten(proto)
    onnx.checker.check_model(made, full_check=True)
    x = images(2, (4, 8, 8))
    assert answers(made.SerializeToString(), x).tobytes() == answers(proto.SerializeToString(), x).tobytes()
    assert [t.name for t in made.graph.initializer if t.name.startswith("zeros")] == ["zeros.4_"]


FOLLOWS = ("", "Relu", "HardSwish", "Sigmoid")
steps = st.tuples(
    st.sampled_from([(1, 1), (3, 3), (2, 3)]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(FOLLOWS),
    st.booleans(),
)
Step = tuple[tuple[int, int], tuple[int, int], tuple[int, ...], int, str, bool]


def network(drawn: list[Step]) -> onnx.ModelProto:
    """Convolutions one after the other, most of them followed by a sum with their input, an activation or both."""
    rng, nodes, tensors, value, size = np.random.default_rng(0), [], [], "input", (9, 7)
    for i, (kernel, strides, pads, group, follows, added) in enumerate(drawn):
        shape, before = (4, 4 // group, *kernel), size
        tensors.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"w{i}"))
        attributes = {"strides": strides, "pads": pads, "group": group}
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], **attributes))
        size = tuple((n + pads[d] + pads[d + 2] - kernel[d]) // strides[d] + 1 for d, n in enumerate(size))
        made = f"c{i}"
        if added and size == before:
            nodes.append(helper.make_node("Add", [value, made], [f"s{i}"]))
            made = f"s{i}"
        if follows:
            nodes.append(helper.make_node(follows, [made], [f"a{i}"]))
            made = f"a{i}"
        value = made
    images, answers = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4, *shape])
        for name, shape in (("input", (9, 7)), (value, size))
    )
    graph = helper.make_graph(nodes, "g", [images], [answers], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=4))
def test_any_network_answers_as_before(drawn: list[Step]) -> None:
    proto = network(drawn)
    made = all_rewritten(proto)
    onnx.checker.check_model(made, full_check=True)
    assert len(names(made)) == len(drawn)
    x = images(3, (4, 9, 7))
    expected = answers(proto.SerializeToString(), x)
    assert answers(made.SerializeToString(), x).tobytes() == expected.tobytes()
    if library := native.library():
        limit = 1e-5 * max(1e-3, np.abs(expected).max())
        np.testing.assert_allclose(answers(made.SerializeToString(), x, library), expected, rtol=0, atol=limit)


def test_kernels_of_the_inputs_shape_are_not_taken_for_images(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 4), nn.Flatten(), nn.Linear(6, 3)).eval()
    nn.init.zeros_(model[0].weight)
    write(model, (3, 4, 4), tmp_path / "m.onnx", ExportOptions(kernels="native"))
    content = (tmp_path / "m.onnx").read_bytes()
    assert names(onnx.load_model_from_string(content)) == ["SparseConv"]
    assert DOMAIN in {o.domain for o in onnx.load_model_from_string(content).opset_import}
    assert findings(content) == []
