"""Which layers are rewritten: by a rule that gives the same bytes everywhere, or by what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.native import needs_library

from mobileprune import native
from mobileprune.errors import TargetUnavailableError, UsageError
from mobileprune.export import TARGETS, ExportOptions, target
from mobileprune.export.onnx import finish
from mobileprune.export.onnx.native import DENSE, MIN_ZEROS, NATIVE, Kernels, choice, choose
from mobileprune.export.onnx.native.layers import Graph
from mobileprune.export.onnx.native.measure import Measure, alone
from mobileprune.schemas import problems

SHARES = {"many": 0.9, "just": 0.65, "few": 0.649, "none": 0.0}


def network(shares: dict[str, float] = SHARES, depthwise: float = 0.9) -> onnx.ModelProto:
    """A 1x1 convolution of 40 x 25 weights, of that share of zeros, for each name; then a depthwise one."""
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
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 40, 6, 6]) for name in ("input", value)
    )
    graph = helper.make_graph(nodes, "g", [images], [answers], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def kernels(found: Kernels) -> dict[str, str]:
    return {layer.name: layer.kernel for layer in found.layers}


def test_the_rule_takes_layers_with_enough_zeros_and_no_depthwise_ones() -> None:
    made, found = choose(network(), "native")
    assert kernels(found) == {"many": NATIVE, "just": NATIVE, "few": DENSE, "none": DENSE, "depthwise": DENSE}
    assert [node.op_type for node in made.graph.node] == ["SparseConv"] * 2 + ["Conv"] * 3
    assert f"{MIN_ZEROS:.0%} zeros" in found.why
    assert [layer.operator for layer in found.layers] == ["SparseConv"] * 2 + ["Conv"] * 3
    assert {layer.name: layer.why for layer in found.layers} | {"just": ""} == {
        "many": "90.0% zeros",
        "just": "",
        "few": "64.9% zeros",
        "none": "0.0% zeros",
        "depthwise": "depthwise, 90.0% zeros: dense kernels are faster",
    }
    assert problems(found.to_dict(), "kernels") == []


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
