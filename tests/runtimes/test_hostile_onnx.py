"""ONNX files made to crash, hang, eat memory or read other files: an ArtifactError each, and cheap."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper
from support.runtimes import MANIFEST, opened

from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError
from mobileprune.runtimes import open_runtime, trial
from mobileprune.runtimes.onnx_checks import MAX_NODES

SHAPE = {"input_shape": (4, 1, 1), "mean": (0.0,) * 4, "std": (1.0,) * 4}
SECS = 5  # of a processor; most take a hundredth
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def node(line: str, **attributes: Any) -> NodeProto:
    """``outputs = [domain.]Op inputs``"""
    outputs, call = line.split("=")
    op, *inputs = call.split()
    domain, _, op = op.rpartition(".")
    return helper.make_node(op, inputs, outputs.split(), domain=domain, **attributes)


def model(
    *nodes: NodeProto,
    tensors: tuple[TensorProto, ...] = (),
    sparse: tuple[SparseTensorProto, ...] = (),
    functions: tuple[FunctionProto, ...] = (),
    opset: int = 18,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", FLOAT, ["N", 4, 1, 1])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        initializer=tensors,
        sparse_initializer=sparse,
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("my", 1)] if functions else [])]
    made: ModelProto = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    return made.SerializeToString()


def busy_secs() -> float:
    """Of processors, by this process and its children that ended: other programs may keep a test waiting."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def run(content: bytes, folder: Path) -> Any:
    return opened(content, folder, "onnx", **SHAPE).predict(np.ones((2, 4, 1, 1), np.float32))


FLAT = node("f = Flatten input")
ADD = (FLAT, node("y = Add f w"))


def tensor(kind: int = FLOAT, shape: tuple[int, ...] = (4,), raw: bytes = bytes(16), **fields: Any) -> TensorProto:
    made = TensorProto(name="w", data_type=kind, dims=shape, **fields)
    if not fields:
        made.raw_data = raw
    return made


CLAIMS = {
    "2^40 elements": (tensor(shape=(2**20, 2**20)), "needs 4,398,046,511,104 .* and holds 16"),
    "dimensions that overflow": (tensor(shape=(2**62, 2**62)), "needs .* and holds 16"),
    "dimensions that overflow to what is there": (tensor(shape=(2**62, 4, 2**2, 1)), "needs .* and holds 16"),
    "negative": (tensor(shape=(-2, -2)), "negative size"),
    "one byte less": (tensor(raw=bytes(15)), "needs 16 .* and holds 15"),
    "one byte more": (tensor(raw=bytes(17)), "needs 16 .* and holds 17"),
    "too few floats": (tensor(float_data=[1, 2, 3]), "needs 4 .* and holds 3"),
    "too many floats": (tensor(float_data=[1, 2, 3, 4, 5]), "needs 4 .* and holds 5"),
    "odd nibbles": (tensor(TensorProto.INT4, (3,), bytes(1)), "needs 2 .* and holds 1"),
    "half a complex": (tensor(TensorProto.COMPLEX64, float_data=[1] * 4), "needs 8 .* and holds 4"),
    "text of another length": (tensor(TensorProto.STRING, string_data=[b"a"]), "needs 4 .* and holds 1"),
    "no type": (tensor(0), "data type 0"),
    "unknown type": (tensor(99), "data type 99"),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("place", ["initializer", "attribute", "function"])
def test_a_tensor_holds_what_it_claims(tmp_path: Path, claim: str, place: str) -> None:
    bad, message = CLAIMS[claim]
    constant = NodeProto(op_type="Constant", output=["w"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=bad)
    if place == "function":
        body = helper.make_function("my", "F", ["f"], ["y"], [constant, ADD[1]], [helper.make_opsetid("", 18)])
        content = model(FLAT, node("y = my.F f"), functions=(body,))
    else:
        content = model(*([constant] if place == "attribute" else []), *ADD, tensors=(bad,) * (place == "initializer"))
    with pytest.raises(ArtifactError, match=message):
        run(content, tmp_path)


@pytest.mark.parametrize(
    "good",
    [tensor(), tensor(float_data=[1] * 4), tensor(shape=(), float_data=[1]), tensor(shape=(1, 4, 1, 1)[:2])],
    ids=["raw", "floats", "scalar", "matrix"],
)
def test_an_honest_tensor_passes(tmp_path: Path, good: TensorProto) -> None:
    assert run(model(*ADD, tensors=(good,)), tmp_path).shape == (2, 4)


def coo(at: Any, shape: tuple[int, ...] = (4,), values: int = 2, kind: Any = np.int64) -> SparseTensorProto:
    held = numpy_helper.from_array(np.ones(values, np.float32), "w")
    return SparseTensorProto(values=held, indices=numpy_helper.from_array(np.array(at, kind), "i"), dims=shape)


SPARSE = {
    "beyond the end": (coo([1, 4]), "outside its shape"),
    "far beyond": (coo([1, 2**62]), "outside its shape"),
    "before the start": (coo([-1, 1]), "outside its shape"),
    "beyond a row": (coo([[0, 0], [0, 4]], (1, 4)), "outside its shape"),
    "unsorted": (coo([2, 1]), "not ascending"),
    "twice": (coo([2, 2]), "not ascending, or one twice"),
    "rows unsorted": (coo([[1, 0], [0, 0]], (2, 4)), "not ascending"),
    "fewer positions": (coo([1]), "positions of shape"),
    "positions of another type": (coo([1, 2], kind=np.int32), "must be int64"),
    "positions of another rank": (coo([[1, 2], [2, 3]]), "positions of shape"),
    "no shape": (coo([1, 2], ()), "must be"),
    "negative shape": (coo([1, 2], (-4,)), "must be"),
    "2^40 elements": (coo([1, 2], (2**40,)), "unfolds to 4,398,046,511,104 bytes"),
    "shape that overflows": (coo([1, 2], (2**62, 2**62)), "unfolds to"),
    "many that fit one by one": (coo([1, 2], (2**24,)), "unfold to 134,217,728 bytes"),
}


@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_sparse_tensors_stay_inside_their_shape(tmp_path: Path, case: str, place: str) -> None:
    bad, message = SPARSE[case]
    times = 2 if "many" in case else 1
    constants = [NodeProto(op_type="Constant", output=["w"]) for _ in range(times)]
    for constant in constants:
        constant.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=bad)
    inside = constants if place == "attribute" else []
    with pytest.raises(ArtifactError, match=message):
        run(model(*inside, *ADD, sparse=(bad,) * times if place == "initializer" else ()), tmp_path)


@pytest.mark.parametrize("good", [coo([1, 3]), coo([[0, 1], [0, 3]], (1, 4)), coo([], values=0)], ids=str)
def test_an_honest_sparse_tensor_passes(tmp_path: Path, good: SparseTensorProto) -> None:
    got = run(model(*ADD, sparse=(good,)), tmp_path)
    assert got[0].tolist() == ([1.0, 2.0, 1.0, 2.0] if good.values.dims[0] else [1.0] * 4)


def function(name: str, *nodes: NodeProto, output: str = "b") -> FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, ["a"], [output], nodes, opsets)


def doubling(levels: int) -> tuple[FunctionProto, ...]:
    """F0 calls F1 twice, which calls F2 twice, ..."""
    calls = [function(f"F{i}", node(f"m = my.F{i + 1} a"), node(f"b = my.F{i + 1} m")) for i in range(levels)]
    return (*calls, function(f"F{levels}", node("b = Relu a")))


def chain(length: int) -> tuple[FunctionProto, ...]:
    return (
        *(function(f"F{i}", node(f"b = my.F{i + 1} a")) for i in range(length)),
        function(f"F{length}", node("b = Relu a")),
    )


def body(*, inputs: int) -> onnx.GraphProto:
    info = [helper.make_tensor_value_info(n, k, []) for n, k in (("i", INT64), ("c", TensorProto.BOOL))][:inputs]
    return helper.make_graph([node("d = Identity c")], "b", info, [helper.make_tensor_value_info("d", 9, [])])


def calling(name: str, *functions: FunctionProto) -> bytes:
    return model(FLAT, node(f"y = my.{name} f"), functions=functions)


TRUE = numpy_helper.from_array(np.array(True), "t")
EXECUTED = {
    "function that calls itself": (calling("F", function("F", node("b = my.F a"))), "calls itself"),
    "functions that call each other": (
        calling("F", function("F", node("b = my.G a")), function("G", node("b = my.F a"))),
        "calls itself",
    ),
    "unused function that calls itself": (
        calling("F", function("F", node("b = Relu a")), function("G", node("b = my.G a"))),
        "calls itself",
    ),
    "functions that double": (calling("F0", *doubling(40)), f"more than {MAX_NODES:,} nodes"),
    "functions in a long chain": (calling("F0", *chain(3000)), "recursion"),
    "loop without end": (
        model(FLAT, node("= Loop  t", body=body(inputs=2)), node("y = Relu f"), tensors=(TRUE,)),
        "does not need: Loop",
    ),
    "cycle": (model(FLAT, node("a = Add f b"), node("b = Relu a"), node("y = Relu b")), "refuses this model"),
    "node that feeds itself": (model(FLAT, node("y = Add f y")), "refuses this model"),
    "two nodes of one name": (model(FLAT, node("y = Relu f"), node("y = Abs f")), "refuses this model"),
    "opset 0": (model(FLAT, node("y = Relu f"), opset=0), r"opset 0 is unknown: must lie in \[1, "),
    "opset of the future": (model(FLAT, node("y = Relu f"), opset=10**6), "opset 1000000 is unknown"),
    "negative opset": (model(FLAT, node("y = Relu f"), opset=-1), "opset -1 is unknown"),
}


@pytest.mark.parametrize("case", EXECUTED)
def test_what_would_hang_or_crash_is_refused(tmp_path: Path, case: str) -> None:
    content, message = EXECUTED[case]
    start = busy_secs()
    with pytest.raises(ArtifactError, match=message):
        run(content, tmp_path)
    assert busy_secs() - start < SECS


def unfolding(*nodes: NodeProto, **constants: Any) -> bytes:
    """y = f + sum of the ``k`` that ``nodes`` make"""
    total = node("s = ReduceSum k", keepdims=0)
    tensors = tuple(numpy_helper.from_array(np.array(v), name) for name, v in constants.items())
    return model(FLAT, *nodes, total, node("y = Add f s"), tensors=tensors)


ONES = numpy_helper.from_array(np.ones(1, np.float32))
LARGE = {
    "ConstantOfShape": lambda n: unfolding(node("k = ConstantOfShape c", value=ONES), c=[n]),
    "Expand": lambda n: unfolding(node("k = Expand f c"), c=[n, 1, 4]),
    "Tile": lambda n: unfolding(node("k = Tile f c"), c=[n, 1]),
    "Range": lambda n: unfolding(node("k = Range a c d"), a=np.float32(0), c=np.float32(n), d=np.float32(1)),
    "EyeLike": lambda n: unfolding(node("e = Expand f c"), node("x = Flatten e"), node("k = EyeLike x"), c=[n, 1, 4]),
    "RandomNormal": lambda n: unfolding(node("k = RandomNormal", shape=[n])),
    "Pad": lambda n: unfolding(node("k = Pad f c"), c=[0, 0, 0, n]),
    "Resize": lambda n: unfolding(
        helper.make_node("Resize", ["input", "", "c"], ["k"]), c=np.array([1, 1, n, 1], np.float32)
    ),
    "OneHot": lambda n: unfolding(node("k = OneHot i c v"), i=[0], c=n, v=np.array([0, 1], np.float32)),
    "outer product": lambda n: unfolding(
        node("a = ConstantOfShape c"), node("b = ConstantOfShape d"), node("k = Mul a b"), c=[n // 999 + 1, 1], d=[999]
    ),
}  # fmt: skip


@pytest.mark.parametrize("operator", LARGE)
def test_a_few_bytes_do_not_unfold_to_gigabytes(tmp_path: Path, operator: str) -> None:
    assert run(LARGE[operator](4), tmp_path).shape == (2, 4)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, busy_secs()
    with pytest.raises(ArtifactError, match=r"inference failed|refuses this model"):
        run(LARGE[operator](2**32), tmp_path)
    assert busy_secs() - start < SECS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "this process took the memory"


ASKS_THE_IMAGE = unfolding(
    node("m = ReduceMean f", keepdims=0), node("t = Mul m b"), node("n = Cast t", to=INT64), node("c = Reshape n l"),
    node("k = ConstantOfShape c", value=ONES), b=np.float32(2**27), l=[1],
)  # fmt: skip
IN_A_SMALL_MACHINE = """
import sys
from pathlib import Path
import numpy as np
from mobileprune.runtimes import onnxruntime as ours
from mobileprune.runtimes.base import RuntimeOptions
ours.physical_bytes = lambda: 2**29
session = ours.open_session(Path(sys.argv[1]), RuntimeOptions(1, "input", (4, 1, 1)))
print(session(np.full((1, 4, 1, 1), 0.25, np.float32))[0, 0])
session(np.full((1, 4, 1, 1), 1, np.float32))
"""


def test_memory_that_the_image_decides_about_is_bounded_in_every_run(tmp_path: Path) -> None:
    """A trial with one image cannot see it: 128 MiB for a dark image, 512 MiB for a white one."""
    (tmp_path / "model").write_bytes(ASKS_THE_IMAGE)
    argv = [sys.executable, "-c", IN_A_SMALL_MACHINE, str(tmp_path / "model")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert [float(x) for x in done.stdout.split()] == [2.0**25], done.stderr[-500:]
    assert "ArtifactError" in done.stderr
    assert "bfc_arena" in done.stderr, "the arena's limit, not the system's, must have stopped it"


def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_SECS", 0.5)
    children, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: children.append(fork()) or children[-1])
    slow = unfolding(node("a = ConstantOfShape c", value=ONES), node("k = MatMul a a"), c=[2**13, 2**13])
    start = busy_secs()
    with pytest.raises(ArtifactError, match=r"takes longer than 0\.5 s"):
        run(slow, tmp_path)
    assert busy_secs() - start < SECS
    (child,) = children
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def test_onnx_runtimes_own_format_is_never_read(tmp_path: Path) -> None:
    """It would be loaded unchecked: the runtime guesses the format from bytes 4 to 8 of a file."""
    honest = model(FLAT, node("y = Relu f"))
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "saved.ort")
    settings.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(honest, settings, providers=["CPUExecutionProvider"])
    own = (tmp_path / "saved.ort").read_bytes()
    onnxruntime.InferenceSession(own, providers=["CPUExecutionProvider"])
    with pytest.raises(ArtifactError, match="corrupt ONNX file"):
        run(own, tmp_path)
    both = b"\x7a\x84\x80\x00ORTM" + honest  # as protobuf: four bytes of a field that does not exist, and the model
    with pytest.raises(Exception, match=r"(?i)verification failed|flatbuffer|ORT model"):
        onnxruntime.InferenceSession(both, providers=["CPUExecutionProvider"])
    assert run(both, tmp_path).tolist() == [[1.0] * 4] * 2


def test_a_trial_works_beside_running_threads(tmp_path: Path) -> None:
    """A forked child has none of its parent's threads; sessions of several threads must not be waited for."""
    (tmp_path / "model").write_bytes(model(FLAT, node("y = Relu f")))
    first = open_runtime(Artifact(tmp_path, replace(MANIFEST, **SHAPE)), num_threads=4)
    assert first.predict(np.ones((512, 4, 1, 1), np.float32)).shape == (512, 4)
    for i in range(10):
        assert run(model(FLAT, node(f"a{i} = Relu f"), node(f"y = Relu a{i}")), tmp_path).shape == (2, 4)


def test_a_file_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = model(FLAT, node("y = Abs f"))
    run(content, tmp_path)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("tried again"))
    run(content, tmp_path)
