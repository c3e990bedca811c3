"""Nodes that become a block: which do, which do not, and the same answers bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.lint import findings
from support.native import answers, needs_library

from mobileprune import native
from mobileprune.export.onnx.native import DENSE, NATIVE, choose
from mobileprune.runtimes.kernels import calls_operators
from mobileprune.sparse_operators import BLOCKS, body, is_sparse, weight_inputs

CHANNELS, SIZE = 8, 9
ACTIVATIONS = ("Relu", "Clip", "HardSwish")


def chain(
    activations: tuple[str, str] = ("Clip", "Clip"),
    zeros: tuple[float, float] = (0.9, 0.9),
    also: str = "",
    residual: bool = True,
    after: str = "",
    kernel: int = 3,
    size: int = SIZE,
    **depthwise: Any,
) -> onnx.ModelProto:
    """An inverted residual. ``also``: a value that is an output too; ``depthwise``: attributes of the layer between."""
    rng, nodes = np.random.default_rng(0), []
    given = {"strides": [1, 1], "pads": [kernel // 2] * 4, "dilations": [1, 1], "group": 4 * CHANNELS} | depthwise
    shapes = {
        "expand": (4 * CHANNELS, CHANNELS, 1, 1),
        "depthwise": (4 * CHANNELS, 4 * CHANNELS // given["group"], kernel, kernel),
        "project": (CHANNELS, 4 * CHANNELS, 1, 1),
    }
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, share in zip(("expand", "project"), zeros, strict=True):
        weights[name].ravel()[: round(share * weights[name].size)] = 0
    weights |= {"b": rng.standard_normal(CHANNELS).astype(np.float32)}
    weights |= {"low": np.float32(0), "high": np.float32(6)}
    value = "input"
    for name, activation in (("expand", activations[0]), ("depthwise", activations[1])):
        nodes.append(helper.make_node("Conv", [value, name], [name[0]], **(given if name == "depthwise" else {})))
        bounds = ["low", "high"] if activation == "Clip" else []
        nodes.append(helper.make_node(activation, [name[0], *bounds], [value := f"{name[0]}a"]))
    nodes.append(helper.make_node("Conv", [value, "project", "b"], [value := "p"]))
    if residual:
        nodes.append(helper.make_node("Add", ["input", value], [value := "r"]))
    if after:
        nodes.append(helper.make_node(after, [value], [value := "f"]))
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    x = helper.make_tensor_value_info("input", 1, ["N", CHANNELS, size, size])
    outputs = [helper.make_tensor_value_info(name, 1, [None] * 4) for name in (value, also) if name]
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], outputs, tensors), opset_imports=opsets, ir_version=10)


def names(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in choose(proto, "native")[0].graph.node]


RESIDUAL, SEPARABLE = "SparseConvInvertedResidualAdd", "SparseConvSeparableAdd"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kernel", "strides"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_block_answers_as_its_layers_did(activation: str, kernel: int, strides: int, residual: bool) -> None:
    if residual and strides == 2:
        pytest.skip("a residual has the size of the result")
    proto = chain((activation, activation), kernel=kernel, strides=[strides] * 2, residual=residual)
    made, _ = choose(proto, "native")
    ending = {"Clip": "Relu6"}.get(activation, activation)
    assert names(proto) == [f"SparseConvInvertedResidual{'Add' if residual else ''}{ending}"]
    onnx.checker.check_model(made, full_check=True)
    assert findings(made.SerializeToString()) == []
    assert calls_operators(made.SerializeToString())
    x = np.random.default_rng(1).standard_normal((3, CHANNELS, SIZE, SIZE)).astype(np.float32)
    before = answers(proto.SerializeToString(), x)
    assert answers(made.SerializeToString(), x).tobytes() == before.tobytes()
    if native.library():
        got = answers(made.SerializeToString(), x, native.library())
        np.testing.assert_allclose(got, before, rtol=0, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [f"{RESIDUAL}Relu6"]),
        ({"activations": ("Relu", "Clip")}, ["SparseConvRelu", f"{SEPARABLE}Relu6"]),
        ({"zeros": (0.5, 0.9)}, ["Conv", "Clip", f"{SEPARABLE}Relu6"]),
        ({"zeros": (0.5, 0.9), "strides": [2, 2], "residual": False}, ["Conv", "Clip"] * 2 + ["SparseConv"]),
        ({"zeros": (0.9, 0.5)}, ["SparseConvRelu6", "Conv", "Clip", "Conv", "Add"]),
        ({"zeros": (0.5, 0.5)}, ["Conv", "Clip"] * 2 + ["Conv", "Add"]),
        # another user of what would be gone
        ({"also": "ea"}, ["SparseConvRelu6", f"{SEPARABLE}Relu6"]),
        ({"also": "da"}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
        ({"also": "p"}, [f"{RESIDUAL[:-3]}Relu6", "Add"]),
        # what follows the last layer is not the block's, but for the sum
        ({"after": "Relu"}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAddRelu"]),
        ({"after": "Sigmoid"}, [f"{RESIDUAL}Relu6", "Sigmoid"]),
        # depthwise layers that the library does not compute
        ({"kernel": 1}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
        ({"kernel": 7}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
        ({"dilations": [2, 2], "pads": [2] * 4}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
        ({"strides": [2, 1], "residual": False}, ["SparseConvRelu6", "Conv", "Clip", "SparseConv"]),
        ({"strides": [3, 3], "residual": False}, ["SparseConvRelu6", "Conv", "Clip", "SparseConv"]),
        ({"pads": [3, 0, 0, 0], "residual": False}, ["SparseConvRelu6", "Conv", "Clip", "SparseConv"]),
        ({"group": CHANNELS}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
        ({"size": 1200}, ["SparseConvRelu6", "Conv", "Clip", "SparseConvAdd"]),
    ],
    ids=str,
)
def test_what_becomes_a_block(changes: dict[str, Any], expected: list[str]) -> None:
    assert names(chain(**changes)) == expected


@needs_library
def test_the_library_takes_the_largest_block_that_is_made() -> None:
    proto = chain(size=900)
    assert names(proto) == [f"{RESIDUAL}Relu6"]
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, 900, 900)).astype(np.float32)
    content = choose(proto, "native")[0].SerializeToString()
    before = answers(content, x)
    np.testing.assert_allclose(answers(content, x, native.library()), before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_every_layer_of_a_block_is_recorded() -> None:
    made, kernels = choose(chain(), "native")
    assert [(layer.name, layer.operator, layer.kernel) for layer in kernels.layers] == [
        (name, f"{RESIDUAL}Relu6", NATIVE) for name in ("expand", "depthwise", "project")
    ]
    assert "in a block with sparse layers" in kernels.layers[1].why
    (node,) = filter(is_sparse, made.graph.node)
    assert [node.input[at] for at in weight_inputs(node.op_type)] == ["expand", "depthwise", "project"]
    _, alone = choose(chain(zeros=(0.5, 0.5)), "native")
    assert [layer.kernel for layer in alone.layers] == [DENSE] * 3


@pytest.mark.parametrize("name", BLOCKS)
def test_names_and_texts_of_blocks(name: str) -> None:
    """As many convolutions as weights; the activation behind each but the last, the sum behind that."""
    lines = [line.split("= ")[1].split()[0] for line in body(name).splitlines()[1:-1] if "Constant" not in line]
    _, add, activation = BLOCKS[name]
    inner = ["Conv", {"Relu6": "Clip"}.get(activation, activation)] * (len(weight_inputs(name)) - 1)
    assert lines == [*inner, "Conv", *(["Add"] if add else [])]
