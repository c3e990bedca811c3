"""Tensors that standard operators unpack: bit for bit in ONNX Runtime and ONNX's reference, and folded on loading."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from mobileprune.convert.rice import pack
from mobileprune.export.onnx.unpack import Unpacker
from mobileprune.sparse_operators import DOMAIN

Arrays = list[NDArray[np.generic]]


def sparse(shape: tuple[int, ...], sparsity: float, dtype: type, seed: int = 0) -> NDArray[np.generic]:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 127, shape) * rng.choice([-1, 1], shape) * (1 if dtype == np.int8 else 1e-2)
    return np.where(rng.random(shape) < sparsity, 0, values).astype(dtype)


def model(tensors: Arrays, opset: int = 18) -> onnx.ModelProto:
    unpacker = Unpacker(opset)
    outputs = []
    for i, tensor in enumerate(tensors):
        unpacker.add(f"w{i}", pack(tensor))
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        outputs.append(helper.make_tensor_value_info(f"w{i}", kind, tensor.shape))
    graph = helper.make_graph(unpacker.nodes, "g", [], outputs, unpacker.initializers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    made = helper.make_model(graph, opset_imports=imports, functions=unpacker.functions(), ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(proto: onnx.ModelProto, optimised: str = "") -> Arrays:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = optimised, 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {}))


def same(found: Arrays, expected: Arrays) -> bool:
    return [(x.dtype, x.shape, x.tobytes()) for x in found] == [(x.dtype, x.shape, x.tobytes()) for x in expected]


DTYPES = (np.float32, np.float16, np.int8)
EVERY = [
    sparse(shape, sparsity, dtype)
    for dtype in DTYPES
    for shape, sparsity in (((4, 3, 3, 3), 0), ((8, 5, 3, 3), 0.5), ((31, 17), 0.9), ((40, 50), 0.995), ((7,), 1))
]


@pytest.mark.parametrize("opset", [18, 22])
def test_every_kind_of_code_is_unpacked_and_nothing_is_left_to_run(tmp_path, opset: int) -> None:
    proto = model(EVERY, opset)
    assert same(run(proto, str(tmp_path / "folded.onnx")), EVERY)
    assert [node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node] == []
    assert len({node.op_type for node in proto.graph.node}) >= 7, "some of its functions are never used here"


def test_the_reference_implementation_of_onnx_agrees() -> None:
    found = ReferenceEvaluator(model(EVERY)).run(None, {})
    assert same(found, EVERY)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0]),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
def test_odd_shapes(shape: tuple[int, ...], sparsity: float, dtype: type, seed: int) -> None:
    tensor = sparse(shape, sparsity, dtype, seed)
    assert same(run(model([tensor])), [tensor])


def test_magnitudes_near_the_largest_are_counted_downwards() -> None:
    tensor = np.where(np.arange(600) % 7 == 0, np.where(np.arange(600) % 2, 127, -126), 0).astype(np.int8)
    tensor[:14:7] = 3
    assert pack(tensor).values.direction == -1
    assert same(run(model([tensor])), [tensor])


def test_only_what_is_used_is_in_the_file() -> None:
    names = {f.name for f in model([sparse((6, 6), 0.5, np.float32)]).functions}
    assert names == {"Bits", "Ends", "UnpackMaskFloat"}
    assert not model([np.zeros((3, 3), np.int8)]).functions
