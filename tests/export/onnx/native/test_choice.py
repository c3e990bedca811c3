"""Which layers are rewritten: by a rule that gives the same bytes everywhere, or by what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper
from support.native import needs_library
from torch.nn import functional

from mobileprune import native
from mobileprune.errors import TargetUnavailableError, UsageError
from mobileprune.export import TARGETS, ExportOptions, target
from mobileprune.export.onnx import finish
from mobileprune.export.onnx.native import DENSE, NATIVE, Kernels, choice, choose, least_zeros
from mobileprune.export.onnx.native.layers import Graph, Layer
from mobileprune.export.onnx.native.measure import Measure, alone
from mobileprune.schemas import problems

SHARES = {"many": 0.9, "just": 0.65, "few": 0.649, "none": 0.0}


def network(shares: dict[str, float] = SHARES, depthwise: float = 0.9, size: int = 8) -> onnx.ModelProto:
    """A 5x5 convolution of 40 x 40 channels, of that share of zeros, for each name; then a depthwise one."""
    nodes, tensors, value = [], [], "input"
    for name, share in [*shares.items(), ("depthwise", depthwise)]:
        shape = (40, 1, 5, 5) if name == "depthwise" else (40, 40, 5, 5)
        weights = np.ones(shape, np.float32)
        weights.ravel()[: round(share * weights.size)] = 0
        tensors.append(numpy_helper.from_array(weights, name))
        group = 40 if name == "depthwise" else 1
        nodes.append(helper.make_node("Conv", [value, name], [f"y{name}"], pads=[2] * 4, group=group))
        value = f"y{name}"
    images, answers = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 40, size, size]) for name in ("input", value)
    )
    graph = helper.make_graph(nodes, "g", [images], [answers], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def kernels(found: Kernels) -> dict[str, str]:
    return {layer.name: layer.kernel for layer in found.layers}


def test_the_rule_takes_layers_with_enough_zeros_and_no_depthwise_ones() -> None:
    made, found = choose(network(), "native")
    assert kernels(found) == {"many": NATIVE, "just": NATIVE, "few": DENSE, "none": DENSE, "depthwise": DENSE}
    assert [node.op_type for node in made.graph.node] == ["SparseConv"] * 2 + ["Conv"] * 3
    assert "65% zeros" in found.why
    assert [layer.operator for layer in found.layers] == ["SparseConv"] * 2 + ["Conv"] * 3
    assert {layer.name: layer.why for layer in found.layers} | {"just": ""} == {
        "many": "90.0% zeros",
        "just": "",
        "few": "64.9% zeros: dense kernels are faster for 64 pixels below 65.0%",
        "none": "0.0% zeros: dense kernels are faster for 64 pixels below 65.0%",
        "depthwise": "depthwise, 90.0% zeros: dense kernels are faster",
    }
    assert problems(found.to_dict(), "kernels") == []


def test_small_maps_need_more_zeros() -> None:
    _, found = choose(network({"most": 0.9, "many": 0.8, "half": 0.5}, size=3), "native")
    assert kernels(found) == {"most": NATIVE, "many": DENSE, "half": DENSE, "depthwise": DENSE}
    assert found.layers[0].why == "90.0% zeros"
    assert found.layers[1].why == "80.0% zeros: dense kernels are faster for 9 pixels below 80.3%"


@pytest.mark.parametrize("pixels", range(1, 40))
def test_the_zeros_that_pay_are_found_by_counting_lanes(pixels: int) -> None:
    lanes = 0
    while lanes < pixels:
        lanes += 8
    share = least_zeros(1000, pixels)
    assert 0.65 <= share <= 0.89
    assert (1 - share) * lanes == pytest.approx(max(0.11 * lanes, 0.35 * pixels))


@given(data=st.data())
def test_pixels_are_those_of_the_shape_that_onnx_infers(data: st.DataObject) -> None:
    def some(low: int, high: int, count: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, size = some(1, 4, 2), some(12, 20, 2)
    made = {"strides": some(1, 3, 2), "dilations": some(1, 3, 2), "pads": some(0, 3, 4)}
    weights = numpy_helper.from_array(np.ones((3, 2, *kernel), np.float32), "w")
    values = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2, *size])]
    values.append(helper.make_empty_tensor_value_info("y"))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **made)]
    proto = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [weights]))
    graph = Graph(proto)
    _, _, height, width = graph.shapes["y"]
    assert [layer.pixels for layer in graph.layers()] == [height * width]


@given(data=st.data())
def test_what_is_skipped_changes_no_answer_and_the_rest_does(data: st.DataObject) -> None:
    """Against PyTorch: each element of the kernel alone, on an image of ones."""

    def some(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=2, max_size=2))

    kernel, stride, dilation, pad = some(1, 4), some(1, 3), some(1, 2), some(0, 3)
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + data.draw(st.integers(0, 2))
        for k, d, p in zip(kernel, dilation, pad, strict=True)
    ]
    weights = data.draw(arrays(np.float32, (2, 1, *kernel), elements=st.sampled_from([0.0, 1.0])))
    attributes = {"pads": pad * 2, "strides": stride, "dilations": dilation, "group": 1, "input_size": size}
    layer = Layer(0, onnx.NodeProto(), weights, attributes)
    seen = np.zeros(weights.shape)
    for place in np.argwhere(weights):
        alone = torch.zeros(weights.shape)
        alone[tuple(place)] = 1
        answer = functional.conv2d(torch.ones(1, 1, *size), alone, None, tuple(stride), tuple(pad), tuple(dilation))
        seen[tuple(place)] = bool(answer.any())
    assert layer.skipped == pytest.approx(1 - seen.mean())


@pytest.mark.parametrize(
    ("shape", "zeros", "why"),
    [
        ((120, 400), 0.999, "99.9% zeros: dense kernels are faster"),
        ((512, 512), 0.9, "90.0% zeros: dense kernels are faster for one image below 94.0%"),
        ((512, 512), 0.96, "96.0% zeros"),
        ((2048, 2048), 0.9, "90.0% zeros"),
    ],
)
def test_a_linear_layer_is_taken_if_it_is_large(shape: tuple[int, int], zeros: float, why: str) -> None:
    weights = np.ones(shape, np.float32)
    weights.ravel()[: round(zeros * weights.size + 0.5)] = 0
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", count])
        for name, count in zip(("y", "x"), shape, strict=True)
    ]
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    graph = helper.make_graph([node], "g", values[1:], values[:1], [numpy_helper.from_array(weights, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert [layer.pixels for layer in Graph(proto).layers()] == [None]
    _, found = choose(proto, "native")
    assert found.layers[0].kernel == (DENSE if "dense" in why else NATIVE)
    assert found.layers[0].why == why


def test_padding_counts_as_zeros_where_maps_are_smaller_than_kernels() -> None:
    _, found = choose(network({"many": 0.8}, size=1), "native")
    assert kernels(found)["many"] == NATIVE
    assert found.layers[0].why == "80.0% zeros, 99.2% skipped with what meets only padding"


def test_nothing_to_choose_leaves_the_model_as_it_is() -> None:
    proto = network({"none": 0.0})
    made, found = choose(proto, "native")
    assert made is proto
    assert set(kernels(found).values()) == {DENSE}


def test_a_refusal_is_recorded() -> None:
    proto = network({"many": 0.9})
    proto.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "VALID"))
    _, found = choose(proto, "native")
    assert (found.layers[0].kernel, found.layers[0].why) == (DENSE, "auto_pad VALID: its pads are not in the file")


def test_the_rule_gives_the_same_bytes_with_and_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = set()
    for library in (None, tmp_path / "lib.so"):
        monkeypatch.setattr(native, "library", lambda library=library: library)
        storage = finish(network(), tmp_path / "m.onnx", ExportOptions(kernels="native"))
        contents.add((tmp_path / "m.onnx").read_bytes())
    assert len(contents) == 1
    assert storage.kernels == choose(network(), "native")[1].to_dict()
    assert problems(storage.kernels, "kernels") == []
    assert finish(network(), tmp_path / "m.onnx", ExportOptions()).kernels is None


def fake(monkeypatch: pytest.MonkeyPatch, layers: dict[str, float], whole: float) -> None:
    """A library whose speed is known."""

    def ratio(self: Measure, stock: onnx.ModelProto, rewritten: onnx.ModelProto) -> float:
        assert [n.domain for n in rewritten.graph.node] != [n.domain for n in stock.graph.node]
        return whole if len(stock.graph.node) > 1 else layers[stock.graph.node[0].input[1]]

    monkeypatch.setattr(native, "library", lambda: Path("lib.so"))
    monkeypatch.setattr(Measure, "ratio", ratio)


MEASURED = {"many": 3.0, "just": 1.04, "few": 1.06, "none": 0.5, "depthwise": 1.3}


def test_measured_layers_are_taken_if_they_win_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, MEASURED, 2.0)
    made, found = choose(network(), "measured")
    assert [name for name, kernel in kernels(found).items() if kernel == NATIVE] == ["many", "few", "depthwise"]
    assert [node.op_type for node in made.graph.node].count("SparseConv") == 3
    assert {layer.name: layer.ratio for layer in found.layers} == MEASURED
    assert (found.by, found.ratio, found.layers[0].why) == ("measured", 2.0, "90.0% zeros: 3.00x as fast")
    assert problems(found.to_dict(), "kernels") == []


@pytest.mark.parametrize("whole", [0.7, 1.0])
def test_a_model_that_is_no_faster_stays_stock(monkeypatch: pytest.MonkeyPatch, whole: float) -> None:
    fake(monkeypatch, MEASURED, whole)
    proto = network()
    made, found = choose(proto, "measured")
    assert made is proto
    assert set(kernels(found).values()) == {DENSE}
    assert {layer.operator for layer in found.layers} == {"Conv"}
    assert f"the whole model is no faster ({whole:.2f}x)" in found.why


def test_no_layer_that_wins_leaves_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, dict.fromkeys(MEASURED, 1.0), 9.0)
    made, found = choose(network(), "measured")
    assert found.ratio is None
    assert {node.domain for node in made.graph.node} == {""}


def test_measuring_needs_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(native, "reason", lambda: "no compiler")
    with pytest.raises(TargetUnavailableError, match=r"native library \(no compiler\); --kernels native") as caught:
        choose(network(), "measured")
    assert caught.value.exit_code == 5
    with pytest.raises(TargetUnavailableError):
        target("onnx").check("fp32", "auto", "measured")


@needs_library
def test_measuring_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = network({"many": 0.95, "none": 0.0})
    graph, library = Graph(proto), native.library()
    assert library is not None
    ratios = [Measure(library).ratio(*alone(proto, graph, layer)) for layer in graph.layers()]
    assert all(0.01 < ratio < 100 for ratio in ratios)
    assert ratios[0] > ratios[1], "zeros pay"
    monkeypatch.setattr(choice, "MIN_RATIO", 0.01)
    _, found = choose(proto, "measured")
    assert found.ratio is not None


def test_who_cannot_have_native_kernels_is_told() -> None:
    for name in TARGETS:
        if name != "onnx":
            with pytest.raises(UsageError, match=f"--kernels native: target {name} has stock; .* for --target onnx"):
                target(name).check("fp32", "auto", "native")
    with pytest.raises(UsageError, match=r"--kernels measured computes in float32.*fp32 or fp16, or --kernels stock"):
        target("onnx").check("int8", "auto", "measured")
    for precision in ("fp32", "fp16"):
        target("onnx").check(precision, "auto", "native")
    target("onnx").check("int8", "auto")


def test_options_are_as_in_the_configuration() -> None:
    assert replace(ExportOptions(), kernels="native").kernels in TARGETS["onnx"].kernels
