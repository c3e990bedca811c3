"""The functions of the native operators against PyTorch, and how a function that is not theirs is told."""

from __future__ import annotations

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from support.native import answers
from torch.nn import functional as F

from mobileprune.runtimes.kernels import BASES
from mobileprune.sparse_operators import ATTRIBUTES, DOMAIN, OPERATORS, function, is_function, is_sparse

ACTIVATIONS = {"": lambda y: y, "Relu": torch.relu, "Relu6": F.relu6, "HardSwish": F.hardswish}
sizes = st.integers(1, 3)


def model(name: str, inputs: dict[str, torch.Tensor], opset: int = 18, **attributes: object) -> onnx.ModelProto:
    """One call of ``name``; X is the input, the others are constants."""
    names = ["input", *(n for n in inputs if n != "X")]
    graph = helper.make_graph(
        [helper.make_node(name, names, ["y"], domain=DOMAIN, **attributes)],
        "one",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, list(inputs["X"].shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * inputs["X"].ndim)],
        [numpy_helper.from_array(value.numpy(), n) for n, value in inputs.items() if n != "X"],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function(name, opset)], opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=8)
@given(data=st.data())
def test_a_function_computes_what_pytorch_does(name: str, data: st.DataObject) -> None:
    base, add, activation = OPERATORS[name]
    torch.manual_seed(0)
    images = data.draw(sizes)
    if base == "SparseGemm":
        inputs = {"X": torch.randn(images, data.draw(sizes)) * 4}
        inputs["W"] = torch.randn(data.draw(sizes), inputs["X"].shape[1])
        attributes: dict[str, object] = {}
        expected = F.linear(inputs["X"], inputs["W"])
    else:
        group, kernel = data.draw(sizes), (data.draw(sizes), data.draw(sizes))
        strides, dilations = ((data.draw(sizes), data.draw(sizes)) for _ in range(2))
        size = [data.draw(sizes) + (k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        top, left, bottom, right = pads = [data.draw(sizes) - 1 for _ in range(4)]
        inputs = {"X": torch.randn(images, group * data.draw(sizes), *size) * 4}
        inputs["W"] = torch.randn(group * data.draw(sizes), inputs["X"].shape[1] // group, *kernel)
        attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group, "input_size": size}
        assert set(attributes) == set(ATTRIBUTES[base])
        padded = F.pad(inputs["X"], (left, right, top, bottom))
        expected = F.conv2d(padded, inputs["W"], None, strides, 0, dilations, group)
    inputs["B"] = torch.randn(len(inputs["W"]))
    expected = expected + inputs["B"].reshape(-1, *[1] * (expected.ndim - 2))
    if add:
        inputs["R"] = torch.randn(expected.shape)
        expected = expected + inputs["R"]
    made = model(name, inputs, **attributes)
    onnx.checker.check_model(made, full_check=True)
    got = torch.from_numpy(answers(made.SerializeToString(), inputs["X"].numpy()))
    torch.testing.assert_close(got, ACTIVATIONS[activation](expected), rtol=1e-5, atol=1e-5)


def test_there_are_sixteen_and_their_names_can_be_found_in_a_file() -> None:
    assert len(OPERATORS) == 16
    assert all(name.encode().startswith(BASES) for name in OPERATORS)


@pytest.mark.parametrize("opset", [18, 22])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_function_is_known_again_after_it_was_stored(name: str, opset: int) -> None:
    stored = onnx.FunctionProto.FromString(function(name, opset).SerializeToString())
    assert is_function(stored)
    assert [o.version for o in stored.opset_import] == [opset]


def test_any_other_function_is_not_taken_for_one() -> None:
    def changed(name: str = "SparseConvAddRelu") -> onnx.FunctionProto:
        return function(name, 18)

    leaky, swapped, renamed, old, nothing = (changed() for _ in range(5))
    leaky.node[-1].op_type = "Sigmoid"
    swapped.node[1].input[1] = "y0"
    renamed.name = "SparseConvAdd"
    old.opset_import[0].version = 17
    del nothing.opset_import[:]
    assert is_function(changed())
    assert not any(map(is_function, (leaky, swapped, renamed, nothing)))
    assert is_function(old), "the same operators of another opset"


def test_only_calls_in_the_domain_are_calls() -> None:
    assert is_sparse(helper.make_node("SparseConv", ["X"], ["Y"], domain=DOMAIN))
    assert not is_sparse(helper.make_node("SparseConv", ["X"], ["Y"]))
    assert not is_sparse(helper.make_node("UnpackRiceFloat", ["X"], ["Y"], domain=DOMAIN))
