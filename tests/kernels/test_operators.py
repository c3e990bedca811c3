"""The operators in ONNX Runtime: with the library as without it, and no file of a stranger's brings it down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mobileprune.sparse_operators import DOMAIN, OPERATORS, function

Floats = NDArray[np.float32]
OPSET = 18
ATTRIBUTES: dict[str, Any] = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}
SIZE = [6, 6]
INPUTS = {"X": [1, 4, *SIZE], "R": [1, 8, *SIZE]}
WEIGHTS, BIAS = (8, 4, 3, 3), (8,)
TOLERANCE = 1e-5


def numbers(shape: tuple[int, ...], seed: int, density: float = 1.0) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def model(name: str, weights: Floats, bias: Floats, **attributes: Any) -> onnx.ModelProto:
    """``name`` of X, W, B and R, where W and B are in the file; X and R may have any shape."""
    inputs = ["X", "W", "B", "R"] if "Add" in name else ["X", "W", "B"]
    graph = helper.make_graph(
        [helper.make_node(name, inputs, ["Y"], domain=DOMAIN, **attributes)],
        "one",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in inputs if n in "XR"],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(bias, "B")],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function(name, OPSET)], opset_imports=opsets, ir_version=10)


def answers(
    made: onnx.ModelProto, feed: dict[str, Floats], library: Path | None, threads: int = 1, kept: Path | None = None
) -> Floats:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(library))
    if kept:
        options.optimized_model_filepath = str(kept)
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def feed_of(name: str, made: onnx.ModelProto, x: Floats) -> dict[str, Floats]:
    """R is as large as what the layer alone gives."""
    if "Add" not in name:
        return {"X": x}
    shape_of = onnx.ModelProto.FromString(made.SerializeToString())
    base = OPERATORS[name][0]
    shape_of.graph.node[0].op_type = base
    del shape_of.graph.node[0].input[3], shape_of.graph.input[1], shape_of.functions[:]
    shape_of.functions.append(function(base, OPSET))
    return {"X": x, "R": numbers(answers(shape_of, {"X": x}, None).shape, 3)}


def assert_same(got: Floats, expected: Floats) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= TOLERANCE * max(1.0, np.abs(expected).max(initial=0))


@st.composite
def layers(draw: st.DrawFn, base: str) -> tuple[Floats, Floats, dict[str, Any]]:
    """x (1, ...), weights, attributes."""
    small, seed, density = st.integers(1, 3), draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.1, 1.0]))
    if base == "SparseGemm":
        size = draw(st.integers(1, 70))
        return numbers((1, size), seed), numbers((draw(st.integers(1, 20)), size), seed + 1, density), {}
    group, kernel, strides, dilations = draw(small), *((draw(small), draw(small)) for _ in range(3))
    size = [draw(st.integers(0, 9)) + (k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(small) - 1 for _ in range(4)]
    channels = draw(st.integers(1, 9))
    weights = numbers((group * draw(st.sampled_from([1, 3, 4, 8])), channels, *kernel), seed, density)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group, "input_size": size}
    return numbers((1, group * channels, *size), seed + 1), weights, attributes


@pytest.mark.parametrize("name", OPERATORS)
@given(data=st.data())
@settings(max_examples=8)
def test_the_library_answers_as_the_function_does(library: Path, name: str, data: st.DataObject) -> None:
    x, weights, attributes = data.draw(layers(OPERATORS[name][0]))
    made = model(name, weights, numbers(weights.shape[:1], 5), **attributes)
    for batch in (0, 1, 2, 17):
        feed = feed_of(name, made, np.concatenate([(i + 1) * x for i in range(batch)] or [x[:0]]))
        assert_same(answers(made, feed, library), answers(made, feed, None))


@pytest.mark.parametrize("name", ["SparseConvAddRelu", "SparseGemm"])
def test_the_node_stays_with_the_library_and_goes_without(library: Path, tmp_path: Path, name: str) -> None:
    gemm = name == "SparseGemm"
    weights, x = (numbers((8, 4) if gemm else WEIGHTS, 0), numbers((1, 4) if gemm else (1, 4, *SIZE), 1))
    made = model(name, weights, numbers(BIAS, 2), **({} if gemm else ATTRIBUTES | {"input_size": SIZE}))
    feed = feed_of(name, made, x)
    for native in (library, None):
        answers(made, feed, native, kept=tmp_path / "kept.onnx")
        operators = [node.op_type for node in onnx.load(tmp_path / "kept.onnx").graph.node]
        assert (name in operators) == bool(native)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_threads_give_the_same_bits(library: Path, density: float) -> None:
    weights, x = numbers((160, 64, 3, 3), 0, density), numbers((5, 64, 30, 30), 1)
    made = model("SparseConvAddRelu", weights, numbers((160,), 2), **ATTRIBUTES, input_size=[30, 30])
    feed = {"X": x, "R": numbers((5, 160, 30, 30), 3)}
    alone = answers(made, feed, library)
    assert [answers(made, feed, library, threads).tobytes() for threads in (2, 2, 3)] == [alone.tobytes()] * 3
    assert_same(alone, answers(made, feed, None))


Change = Callable[[onnx.ModelProto], object]


def attribute(name: str, value: Any = None) -> Change:
    """``name`` set to ``value``, or taken away."""

    def change(made: onnx.ModelProto) -> None:
        node = made.graph.node[0]
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        added = [] if value is None else [helper.make_attribute(name, value)]
        node.attribute.extend([*kept, *added])

    return change


def constant(name: str, values: NDArray[Any]) -> Change:
    def change(made: onnx.ModelProto) -> None:
        stored = {each.name: each for each in made.graph.initializer}
        stored[name].CopyFrom(numpy_helper.from_array(values, name))

    return change


def as_input(name: str) -> Change:
    def change(made: onnx.ModelProto) -> None:
        kept = [each for each in made.graph.initializer if each.name != name]
        del made.graph.initializer[:]
        made.graph.initializer.extend(kept)
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    return change


def inputs(*names: str) -> Change:
    def change(made: onnx.ModelProto) -> None:
        made.graph.node[0].input[:] = names

    return change


def doubles(*names: str) -> Change:
    def change(made: onnx.ModelProto) -> None:
        for value in made.graph.input:
            if value.name in names:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE

    return change


def outputs(made: onnx.ModelProto) -> None:
    made.graph.node[0].output.append("Z")


def nothing(made: onnx.ModelProto) -> None:
    """The file as it is."""


PAIRS = ("strides", "dilations", "input_size")
NUMBERS = (0, -1, -(2**31), 2**31, 2**62, -(2**63))
HOSTILE: dict[str, tuple[Change, dict[str, Any]]] = {
    **{f"{name} missing": (attribute(name), {}) for name in (*PAIRS, "pads", "group")},
    **{f"{name} {value}": (attribute(name, [value, 1]), {}) for name in PAIRS for value in NUMBERS},
    **{f"pads {value}": (attribute("pads", [0, 0, value, 0]), {}) for value in NUMBERS if value},
    **{f"group {value}": (attribute("group", value), {}) for value in (*NUMBERS, 2, 3, 8)},
    **{
        f"{name} {value!r}": (attribute(name, value), {})
        for name in (*PAIRS, "pads")
        for value in ([1], [1, 1, 1], [1] * 1000, 1, "1", [1.0, 1.0], ["1", "1"])
    },
    **{f"group {value!r}": (attribute("group", value), {}) for value in ([1], "1", 1.0)},
    "input_size larger": (attribute("input_size", [7, 6]), {}),
    "input_size smaller": (attribute("input_size", [6, 5]), {}),
    "input_size huge": (attribute("input_size", [65536, 65536]), {}),
    "kernel larger than input": (constant("W", numbers((8, 4, 9, 9), 0)), {}),
    "kernel dilated": (attribute("dilations", [65536, 65536]), {}),
    **{f"weights {s}": (constant("W", numbers(s, 0)), {}) for s in ((), (8,), (8, 36), (8, 4, 9), (8, 4, 3, 3, 1))},
    **{f"weights {s}": (constant("W", numbers(s, 0)), {}) for s in ((0, 4, 3, 3), (8, 0, 3, 3), (8, 4, 0, 3))},
    **{f"weights {s}": (constant("W", numbers(s, 0)), {}) for s in ((8, 3, 3, 3), (7, 4, 3, 3), (8, 5, 3, 3))},
    **{f"bias {s}": (constant("B", numbers(s, 0)), {}) for s in ((), (0,), (1,), (7,), (9,), (1, 8), (8, 1))},
    **{
        f"{n} {t}": (constant(n, np.ones(s, t)), {})
        for n, s in (("W", WEIGHTS), ("B", BIAS))
        for t in ("f2", "f8", "i4")
    },
    "weights from outside": (as_input("W"), {"W": list(WEIGHTS)}),
    "bias from outside": (as_input("B"), {"B": list(BIAS)}),
    "weights are the image": (inputs("X", "X", "B", "R"), {}),
    "everything is the image": (inputs("X", "X", "X", "X"), {}),
    "no residual": (inputs("X", "W", "B"), {}),
    "no bias": (inputs("X", "W"), {}),
    "only weights": (inputs("W"), {}),
    "five inputs": (inputs("X", "W", "B", "R", "R"), {}),
    "two outputs": (outputs, {}),
    **{
        f"input {at} empty": (inputs(*("" if i == at else name for i, name in enumerate("XWBR"))), {})
        for at in range(4)
    },
    **{f"image {shape}": (nothing, {"X": shape}) for shape in ([], [4], [4, 6, 6], [1, 4, 36], [1, 4, 6, 6, 1])},
    **{f"image {shape}": (nothing, {"X": shape}) for shape in ([1, 3, 6, 6], [1, 4, 0, 6], [1, 4, 6, 7], [2, 4, 6, 6])},
    **{f"residual {shape}": (nothing, {"R": shape}) for shape in ([], [1], [8, 6, 6], [1, 8, 6, 6, 1], [2, 8, 6, 6])},
    **{
        f"residual {shape}": (nothing, {"R": shape})
        for shape in ([1, 8, 6, 5], [1, 1, 1, 1], [0, 8, 6, 6], [1, 9, 6, 6])
    },
    "double image": (doubles("X"), {}),
    "double residual": (doubles("R"), {}),
    "double everything": (doubles("X", "R"), {}),
    "output of 2 GB": (attribute("pads", [8000, 8000, 0, 0]), {"R": [1, 8, 8006, 8006]}),
    "padded image of 1.2 GB": (
        lambda made: [attribute("pads", [60000, 1200, 0, 0])(made), attribute("dilations", [29000, 1])(made)],
        {"R": [1, 8, 2006, 1204]},
    ),
}
HARMLESS: dict[str, tuple[Change, dict[str, Any]]] = {
    "as it is": (nothing, {}),
    "no images": (nothing, {"X": [0, 4, 6, 6], "R": [0, 8, 6, 6]}),
    "another attribute": (attribute("more", [1]), {}),
    "weights without number": (constant("W", np.full(WEIGHTS, np.nan, np.float32)), {}),
    "infinite weights": (constant("W", np.full(WEIGHTS, np.inf, np.float32)), {}),
}

DRIVER = """
import json, os, resource, sys
from pathlib import Path
import numpy as np, onnxruntime
folder, library = map(Path, sys.argv[1:])

def run(name, shapes):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
    kinds = {each.name: "f8" if "double" in each.type else "f4" for each in session.get_inputs()}
    session.run(None, {key: np.ones(shape, kinds[key]) for key, shape in shapes.items() if key in kinds})

for name, shapes in json.loads((folder / "shapes.json").read_text()).items():
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            run(name, shapes)
            said = "result"
        except Exception as error:
            said = "refused: " + " ".join(str(error).split())
        print(json.dumps([name, said]), flush=True)
        os._exit(0)
    if status := os.waitpid(pid, 0)[1]:
        print(json.dumps([name, f"died: {status}"]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process says that opens and runs each file in a child, which may take 1 GiB more."""
    if sys.platform != "linux":
        pytest.skip("forks, and bounds address spaces as Linux does")
    folder, shapes = tmp_path_factory.mktemp("hostile"), {}
    for number, (change, differing) in enumerate((HOSTILE | HARMLESS).values()):
        made = model("SparseConvAdd", numbers(WEIGHTS, 0), numbers(BIAS, 1), **ATTRIBUTES, input_size=SIZE)
        change(made)
        (folder / str(number)).write_bytes(made.SerializeToString())
        shapes[str(number)] = INPUTS | differing
    (folder / "shapes.json").write_text(json.dumps(shapes))
    argv = [sys.executable, "-c", DRIVER, str(folder), str(library)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(map(json.loads, done.stdout.splitlines()))
    return dict(zip(HOSTILE | HARMLESS, said.values(), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name].startswith("refused: ")


@pytest.mark.parametrize("name", HARMLESS)
def test_an_odd_file_gives_a_result(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "result"
