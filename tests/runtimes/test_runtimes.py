"""Both runtimes against PyTorch, and against files that are damaged, lie about themselves or reach for the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
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
from torch import Tensor, nn

from mobileprune.artifact import Artifact, Manifest
from mobileprune.convert.preprocessing import Baked
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.runtimes import RUNTIMES, Runtime, open_runtime

SHAPE, MEAN, STD = (3, 4, 4), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
MANIFEST = Manifest(
    target="onnx",
    file="model",
    sha256="",
    size_bytes=0,
    input_shape=SHAPE,
    num_classes=4,
    mean=tuple(MEAN),
    std=tuple(STD),
    preprocessing_baked=False,
    labels=(),
    sparsity={},
    forms=(),
    parity={},
    lineage={},
    created="",
)


def opened(content: bytes, folder: Path, target: str, **changes: Any) -> Runtime:
    """A runtime for ``content``, as if its hash had been checked."""
    (folder / "model").write_bytes(content)
    return open_runtime(Artifact(folder, replace(MANIFEST, target=target, **changes)))


def pixels(count: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], bytes]:
    """(target, preprocessing baked) -> exported file."""
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for target in TARGETS:
        for baked in (False, True):
            model = Baked(network(), MEAN, STD).eval() if baked else network()
            TARGETS[target].write(model, SHAPE, folder / "model", ExportOptions())
            made[target, baked] = (folder / "model").read_bytes()
    return made


Files = dict[tuple[str, bool], bytes]
each_target = pytest.mark.parametrize("target", RUNTIMES)


@each_target
@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize(("count", "batch_size"), [(1, 256), (17, 1), (17, 5), (17, 17)])
def test_logits_are_those_of_the_pytorch_model(
    files: Files, tmp_path: Path, target: str, baked: bool, count: int, batch_size: int
) -> None:
    runtime = opened(files[target, baked], tmp_path, target, preprocessing_baked=baked)
    x = pixels(count)
    got = runtime.predict(x, batch_size)
    normalised = (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, network()(torch.tensor(normalised).float()).detach(), rtol=1e-4, atol=1e-5)


@each_target
def test_no_images_give_no_logits(files: Files, tmp_path: Path, target: str) -> None:
    got = opened(files[target, False], tmp_path, target).predict(pixels(0))
    assert (got.shape, got.dtype) == ((0, 4), np.float32)


@each_target
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3, 4), (2, 3, 5, 4), (2, 3, 4, 4, 1), (0, 3, 4, 5), (3, 4, 4)])
def test_images_of_another_shape_are_a_usage_error(
    files: Files, tmp_path: Path, target: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="does not fit this model: it takes"):
        opened(files[target, False], tmp_path, target).predict(np.zeros(shape, np.float32))


def test_a_target_without_a_runtime_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="target 'tflite' has no runtime; known: onnx, torchscript-lite"):
        opened(b"", tmp_path, "tflite")


@each_target
@pytest.mark.parametrize("cut", [0, 1, 10, 0.5, -1])
def test_truncated_files_are_refused(files: Files, tmp_path: Path, target: str, cut: float) -> None:
    content = files[target, False]
    with pytest.raises(ArtifactError):
        opened(content[: int(cut * len(content)) if cut == 0.5 else int(cut)], tmp_path, target).predict(pixels(2))


@each_target
def test_other_files_are_refused(files: Files, tmp_path: Path, target: str) -> None:
    others = [content for (name, _), content in files.items() if name != target]
    for content in [*others, b"\x00" * 100, np.random.default_rng(0).bytes(5000), b"PK\x03\x04" + b"\x00" * 100]:
        with pytest.raises(ArtifactError):
            opened(content, tmp_path, target)


# --- damaged files, in a process of their own: a crash there is a failure, not the end of the tests

FLIPS = """
import json, random, sys
from pathlib import Path
import numpy as np
from mobileprune.artifact import Artifact, Manifest
from mobileprune.errors import ArtifactError
from mobileprune.runtimes import open_runtime

folder = Path(sys.argv[1])
outcomes = {}
for target in ("onnx", "torchscript-lite"):
    good, rng = (folder / target).read_bytes(), random.Random(0)
    bits = [rng.randrange(8 * len(good)) for _ in range(150)]
    if target == "torchscript-lite":  # all bits of one record's two headers and of the archive's end
        central = good.index(b"PK\\x01\\x02")
        bits += [8 * start + i for start, size in ((0, 30), (central, 46)) for i in range(8 * size)]
        bits += range(8 * (len(good) - 98), 8 * len(good))
    counts = outcomes[target] = {"result": 0, "refused": 0, "other": {}}
    for bit in bits:
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / "model").write_bytes(flipped)
        manifest = Manifest(target, "model", "", 0, (3, 4, 4), 4, (0.0,) * 3, (1.0,) * 3, False, (), {}, (), {}, {}, "")
        try:
            open_runtime(Artifact(folder, manifest)).predict(np.ones((2, 3, 4, 4), np.float32))
            counts["result"] += 1
        except ArtifactError:
            counts["refused"] += 1
        except Exception as error:
            counts["other"][f"bit {bit}"] = repr(error)[:100]
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def flipped(files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """What the process printed, and the files it left in its home folder."""
    folder, home = tmp_path_factory.mktemp("flips"), tmp_path_factory.mktemp("home")
    for target in RUNTIMES:
        (folder / target).write_bytes(files[target, False])
    kept = {
        key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FLIPS, str(folder)],
        env=kept | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [path for path in home.rglob("*") if path.is_file()]


@each_target
def test_a_flipped_bit_gives_a_result_or_an_artifact_error(flipped: tuple[str, list[Path]], target: str) -> None:
    counts = json.loads(flipped[0].splitlines()[-1])[target]
    assert counts["other"] == {}
    assert counts["result"] > 20
    assert counts["refused"] > 20


def test_runtimes_print_nothing_themselves(flipped: tuple[str, list[Path]]) -> None:
    assert len(flipped[0].splitlines()) == 1


def test_runtimes_leave_no_trace_in_the_home_folder(flipped: tuple[str, list[Path]]) -> None:
    assert [path.name for path in flipped[1]] == [], "ONNX Runtime collects telemetry unless told not to"


# --- ONNX files that lie


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


# --- ONNX files that reach for other files

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


# --- TorchScript-lite files that lie


class Honest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4]


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class TooManyClasses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5]


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4].to_sparse()


class Index(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 99]


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(x, x).flatten(1)[:, :4]


class Raise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no")


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> None:
        return None


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mobileprune_tests.twice(x)


class WritesWhenRun(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + torch.from_file("written.bin", True, 4)


class WritesWhenLoaded(nn.Module):
    """``__setstate__`` runs while the interpreter loads the file."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.w = state[0] + torch.from_file("written.bin", True, 4)
        self.training = state[1]


def lite(model: nn.Module, folder: Path, *, flatbuffer: bool = False) -> bytes:
    file = folder / "lite"
    scripted = torch.jit.script(model.eval())
    scripted._save_for_lite_interpreter(str(file), _use_flatbuffer=flatbuffer)
    return file.read_bytes()


lite_deprecated = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")


@lite_deprecated
def test_an_honest_lite_model_runs(tmp_path: Path) -> None:
    runtime = opened(lite(Honest(), tmp_path), tmp_path, "torchscript-lite", preprocessing_baked=True)
    assert runtime.predict(np.ones((3, *SHAPE), np.float32), 2).tolist() == [[1.0] * 4] * 3


@lite_deprecated
@pytest.mark.parametrize(
    "model",
    [Scalar, TooManyClasses, Sparse, Index, Complex, Raise, Pair, Nothing],
)
def test_lite_files_that_do_not_fit_their_manifest_are_refused(tmp_path: Path, model: type[nn.Module]) -> None:
    with pytest.raises(ArtifactError):
        opened(lite(model(), tmp_path), tmp_path, "torchscript-lite").predict(pixels(3), 2)


@lite_deprecated
@pytest.mark.parametrize("model", [WritesWhenRun, WritesWhenLoaded])
def test_lite_files_that_write_files_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: type[nn.Module]
) -> None:
    content = lite(model(), tmp_path)
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    with pytest.raises(ArtifactError, match="aten::from_file"):
        opened(content, tmp_path, "torchscript-lite")
    assert list(Path().iterdir()) == []


@lite_deprecated
def test_operators_outside_the_allow_list_are_refused(tmp_path: Path) -> None:
    library = torch.library.Library("mobileprune_tests", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
    content = lite(Custom(), tmp_path)
    with pytest.raises(ArtifactError, match="does not need: mobileprune_tests::twice"):
        opened(content, tmp_path, "torchscript-lite")


@lite_deprecated
def test_an_archive_behind_another_format_does_not_vouch_for_it(tmp_path: Path) -> None:
    """The interpreter also reads flatbuffers, whose damage aborts the process; Python finds the archive at the end."""
    other = lite(Honest(), tmp_path, flatbuffer=True)
    with pytest.raises(ArtifactError, match="corrupt"):
        opened(other + lite(Honest(), tmp_path), tmp_path, "torchscript-lite")
