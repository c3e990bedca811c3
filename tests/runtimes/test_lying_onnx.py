"""ONNX files that do not keep what their manifest says, or reach for other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    FunctionProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)
from support.runtimes import opened

from mobileprune.errors import ArtifactError


def onnx_model(
    nodes: list[NodeProto],
    *,
    output: Any = None,
    input: Any = None,
    initializer: list[TensorProto] | None = None,
    sparse: list[SparseTensorProto] | None = None,
    functions: list[FunctionProto] | None = None,
    domain: str = "",
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        input or [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 1, 1])],
        [output or helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=initializer,
        sparse_initializer=sparse,
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    made: ModelProto = helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=9)
    return made.SerializeToString()


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def run_onnx(content: bytes, folder: Path, count: int = 3, batch_size: int = 2) -> NDArray[np.float32]:
    shape = {"input_shape": (4, 1, 1), "mean": (0.0,) * 4, "std": (1.0,) * 4}
    return opened(content, folder, "onnx", **shape).predict(np.ones((count, 4, 1, 1), np.float32), batch_size)


FLATTEN = node("Flatten", "input", "f")
HUGE = numpy_helper.from_array(np.array(1e300), "c")
LIES = {
    "scalar": onnx_model([node("ReduceSum", "input", "y", keepdims=0)]),
    "four dimensions": onnx_model([node("Identity", "input", "y")]),
    "too many classes": onnx_model([FLATTEN, node("Concat", "f f", "y", axis=1)]),
    "too many rows": onnx_model([FLATTEN, node("Concat", "f f", "y", axis=0)]),
    "classes depend on batch": onnx_model([FLATTEN, node("Transpose", "f", "y", perm=[1, 0])]),
    "text": onnx_model(
        [node("Identity", "c", "y")],
        output=helper.make_tensor_value_info("y", TensorProto.STRING, None),
        initializer=[helper.make_tensor("c", TensorProto.STRING, [1, 4], ["no"] * 4)],
    ),
    "sequence": onnx_model(
        [node("SplitToSequence", "input", "y", axis=0)],
        output=helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None),
    ),
    "nothing": onnx_model(
        [node("Optional", "", "y", type=helper.make_tensor_type_proto(TensorProto.FLOAT, None))],
        output=helper.make_value_info(
            "y", helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        ),
    ),
    "beyond float32": onnx_model(
        [FLATTEN, node("Cast", "f", "d", to=TensorProto.DOUBLE), node("Mul", "d c", "y")],
        output=helper.make_tensor_value_info("y", TensorProto.DOUBLE, None),
        initializer=[HUGE],
    ),
    "fixed batch": onnx_model(
        [node("Flatten", "input", "y")], input=[helper.make_tensor_value_info("input", 1, [5, 4, 1, 1])]
    ),
    "whole numbers": onnx_model(
        [node("Flatten", "input", "y")], input=[helper.make_tensor_value_info("input", 7, ["N", 4, 1, 1])]
    ),
    "other input name": onnx_model([node("Flatten", "x", "y")], input=[helper.make_tensor_value_info("x", 1, None)]),
    "two inputs": onnx_model(
        [FLATTEN, node("Add", "f x", "y")],
        input=[helper.make_tensor_value_info(name, 1, None) for name in ("input", "x")],
    ),
    "much memory": onnx_model(
        [node("ConstantOfShape", "c", "y")], initializer=[numpy_helper.from_array(np.array([2**44]), "c")]
    ),
    "unknown operator": onnx_model([node("Foo", "input", "y")]),
    "custom domain": onnx_model([node("Foo", "input", "y", domain="com.example")], domain="com.example"),
}


def test_an_honest_model_runs(tmp_path: Path) -> None:
    assert run_onnx(onnx_model([node("Flatten", "input", "y")]), tmp_path).tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize("lie", LIES)
def test_onnx_files_that_do_not_fit_their_manifest_are_refused(tmp_path: Path, lie: str) -> None:
    with pytest.raises(ArtifactError):
        run_onnx(LIES[lie], tmp_path)


SECRET = "secret.bin"


def external(name: str = "w", kind: int = TensorProto.FLOAT, location: str = SECRET) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def sparse(values: TensorProto, indices: TensorProto) -> SparseTensorProto:
    made = SparseTensorProto(values=values, indices=indices, dims=[4])
    made.values.name = "w"
    return made


def constant(output: str, /, **value: Any) -> NodeProto:
    """A Constant with any attribute, also one that ``helper`` would refuse."""
    made = NodeProto(op_type="Constant", output=[output])
    made.attribute.add(**value)
    return made


VALUES = numpy_helper.from_array(np.full(4, 7, np.float32), "w")
POSITIONS = numpy_helper.from_array(np.arange(4))
INDICES = external("", TensorProto.INT64, "positions.bin")
ADD = [FLATTEN, node("Add", "f w", "y")]
TRUE = node("Constant", "", "c", value=numpy_helper.from_array(np.array(True)))
TENSOR = {"name": "value", "type": AttributeProto.TENSOR}
SPARSE = {"name": "sparse_value", "type": AttributeProto.SPARSE_TENSOR}


def branches(*nodes: NodeProto, **inside: Any) -> NodeProto:
    """An If whose first branch holds the hidden tensor."""
    nodes = nodes or (node("Identity", "w", "b"),)
    info = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    first = helper.make_graph(list(nodes), "then", [], info, **inside)
    other = helper.make_graph([node("Identity", "w", "b")], "else", [], info, initializer=[VALUES])
    return node("If", "c", "w", then_branch=first, else_branch=other)


def in_function(*nodes: NodeProto, default: AttributeProto | None = None) -> bytes:
    inside = [*nodes, node("Flatten", "x", "f"), node("Add", "f w", "z")]
    function = helper.make_function("my", "F", ["x"], ["z"], inside, [helper.make_opsetid("", 18)])
    function.attribute_proto.extend([default] if default else [])
    return onnx_model([node("F", "input", "y", domain="my")], functions=[function], domain="my")


HIDDEN = {
    "initializer": onnx_model(ADD, initializer=[external()]),
    "attribute": onnx_model([constant("w", **TENSOR, t=external()), *ADD]),
    "initializer of a branch": onnx_model([TRUE, branches(initializer=[external()]), *ADD]),
    "attribute in a branch": onnx_model([TRUE, branches(constant("b", **TENSOR, t=external())), *ADD]),
    "values of a sparse initializer": onnx_model(ADD, sparse=[sparse(external(), POSITIONS)]),
    "indices of a sparse initializer": onnx_model(ADD, sparse=[sparse(VALUES, INDICES)]),
    "outside the folder": onnx_model(ADD, sparse=[sparse(external(location="../home/secret.bin"), POSITIONS)]),
    "sparse initializer of a branch": onnx_model(
        [TRUE, branches(sparse_initializer=[sparse(external(), POSITIONS)]), *ADD]
    ),
    "sparse attribute": onnx_model([constant("w", **SPARSE, sparse_tensor=sparse(external(), POSITIONS)), *ADD]),
    "function": in_function(constant("w", **TENSOR, t=external())),
    "branch in a function": in_function(TRUE, branches(initializer=[external()])),
    "default of a function": in_function(
        constant("w", name="value", type=AttributeProto.TENSOR, ref_attr_name="v"),
        default=AttributeProto(name="v", type=AttributeProto.TENSOR, t=external()),
    ),
}


@pytest.fixture
def beside_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where ONNX Runtime looks for the files that a model names."""
    home = tmp_path / "home"
    home.mkdir()
    np.full(4, 7, np.float32).tofile(home / SECRET)
    np.arange(4).tofile(home / "positions.bin")
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("place", HIDDEN)
def test_onnx_files_that_read_other_files_are_refused(beside_a_secret: Path, place: str) -> None:
    with pytest.raises(ArtifactError, match="keeps weights in other files, which is refused"):
        run_onnx(HIDDEN[place], beside_a_secret)


@pytest.mark.parametrize("place", ["initializer of a branch", "sparse attribute", "outside the folder"])
def test_onnx_runtime_itself_would_read_them(beside_a_secret: Path, place: str) -> None:
    session = onnxruntime.InferenceSession(HIDDEN[place], providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": np.ones((1, 4, 1, 1), np.float32)})
    assert got.tolist() == [[8.0] * 4]
