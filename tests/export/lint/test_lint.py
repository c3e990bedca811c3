"""Every kind of leak, planted in a real exported file, is found there; the exports themselves are clean."""

from __future__ import annotations

import functools
import io
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.networks import CASES, made
from torch import nn

from mobileprune.convert.fold_bn import fold_bn
from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.lint import Finding, findings_of, lint

SHAPE = (3, 8, 8)
lite_deprecated = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")
IMAGES = np.random.default_rng(0).random((6, *SHAPE), np.float32)


@functools.cache
def exported(case: str, target: str, sparsity: float = 0.0, form: str = "dense", precision: str = "fp32") -> bytes:
    model, shape = made(case)
    for module in model.modules():
        if sparsity and isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            weight[weight.abs() < weight.abs().quantile(sparsity)] = 0
    options = ExportOptions(sparse_format=form, precision=precision, calibration=torch.rand(6, *shape))
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[target].write(fold_bn(model), shape, Path(folder) / "file", options)
        return (Path(folder) / "file").read_bytes()


def found(
    content: bytes, folder: Path, suffix: str = ".onnx", shape: tuple[int, int, int] | None = SHAPE
) -> list[Finding]:
    (folder / f"model{suffix}").write_bytes(content)
    return findings_of(folder / f"model{suffix}", shape)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize(("target", "suffix"), [("onnx", ".onnx"), ("torchscript-lite", ".ptl")])
def test_exports_are_clean(tmp_path: Path, case: str, sparsity: float, target: str, suffix: str) -> None:
    assert found(exported(case, target, sparsity), tmp_path, suffix, CASES[case][1]) == []


@pytest.mark.parametrize("form", TARGETS["onnx"].forms)
@pytest.mark.parametrize("precision", TARGETS["onnx"].precisions)
def test_every_form_and_precision_is_clean(tmp_path: Path, form: str, precision: str) -> None:
    """Packed weights are bytes and small numbers, scales are tensors beside weights: none of it is a leak."""
    assert found(exported("residual", "onnx", 0.9, form, precision), tmp_path) == []


def model() -> onnx.ModelProto:
    return onnx.load_model_from_string(exported("residual", "onnx"))


def tensor(name: str, values: object) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def add(proto: onnx.ModelProto, *nodes: onnx.NodeProto, **tensors: object) -> None:
    proto.graph.initializer.extend(tensor(name, values) for name, values in tensors.items())
    for node in reversed(nodes):
        proto.graph.node.insert(0, node)


def masked(proto: onnx.ModelProto, kind: type, op: str = "Mul") -> None:
    """The unpruned weight times a mask, in the place of the weight."""
    weight = next(t for t in proto.graph.initializer if t.name == "stem.0.weight")
    weight.name = "w"
    mask = (np.random.default_rng(0).random(tuple(weight.dims)) < 0.1).astype(kind)
    inputs = ["w", "m"] if op == "Mul" else ["m", "w", "zero"]
    add(
        proto,
        helper.make_node(op, inputs, ["stem.0.weight"]),
        m=mask,
        **({} if op == "Mul" else {"zero": np.float32(0)}),
    )


def through_a_cast(proto: onnx.ModelProto) -> None:
    masked(proto, np.float32)
    held = next(t for t in proto.graph.initializer if t.name == "m")
    held.CopyFrom(tensor("bits", numpy_helper.to_array(held).astype(bool)))
    add(proto, helper.make_node("Cast", ["bits"], ["m"], to=1))


def masked_channels(proto: onnx.ModelProto) -> None:
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    mask = helper.make_node("Mul", ["unmasked", "m"], [conv.output[0]])
    at = list(proto.graph.node).index(conv) + 1
    conv.output[0] = "unmasked"
    proto.graph.node.insert(at, mask)
    proto.graph.initializer.append(tensor("m", np.array([1, 0] * 4, np.float32).reshape(8, 1, 1)))


def sparse_mask(proto: onnx.ModelProto) -> None:
    mask = onnx.SparseTensorProto(
        values=tensor("m", np.ones(5, np.float32)), indices=tensor("", np.arange(5)), dims=[8, 3, 3, 3]
    )
    proto.graph.sparse_initializer.append(mask)
    add(proto, helper.make_node("Mul", ["stem.0.weight", "m"], ["w"]))
    next(node for node in proto.graph.node if node.op_type == "Conv").input[1] = "w"


def used_images(proto: onnx.ModelProto, images: object = IMAGES) -> None:
    """With a use that looks like one: the sum over all of them is added to the logits."""
    add(proto, helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), x=images)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Add", ["before", "sum"], ["logits"]))


def in_a_branch(proto: onnx.ModelProto) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = [helper.make_tensor_value_info("b", 1, None)]
        return helper.make_graph(
            [helper.make_node("ReduceSum", ["x"], ["b"], keepdims=0)], name, [], out, initializer=[tensor("x", IMAGES)]
        )

    node = helper.make_node("If", ["t"], ["sum"], then_branch=branch("then"), else_branch=branch("else"))
    add(proto, node, t=True)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Add", ["before", "sum"], ["logits"]))


def constant_node(proto: onnx.ModelProto) -> None:
    used_images(proto)
    proto.graph.initializer.pop()
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["x"], value=tensor("", IMAGES)))


def dead_branch(proto: onnx.ModelProto) -> None:
    add(proto, helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Relu", ["y"], ["z"]), x=np.arange(9.0))


def unused_function(proto: onnx.ModelProto) -> None:
    body = helper.make_node("Constant", [], ["y"], value=tensor("", np.arange(9.0)))
    proto.functions.append(helper.make_function("mobileprune", "F", [], ["y"], [body], [helper.make_opsetid("", 18)]))


def external(proto: onnx.ModelProto) -> None:
    held = proto.graph.initializer[0]
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="weights.bin")


def training(proto: onnx.ModelProto) -> None:
    proto.training_info.add().algorithm.name = "adam"


def renamed(name: str) -> Callable[[onnx.ModelProto], None]:
    def rename(proto: onnx.ModelProto) -> None:
        old, proto.graph.initializer[0].name = proto.graph.initializer[0].name, name
        for node in proto.graph.node:
            node.input[:] = [name if value == old else value for value in node.input]

    return rename


def put(field: str, value: str, where: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        places = {"": proto, "graph": proto.graph, "node": proto.graph.node[0], "tensor": proto.graph.initializer[0]}
        setattr(places[where], field, value)

    return change


def metadata(place: Callable[[onnx.ModelProto], object]) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: place(proto).metadata_props.add(key="pkg.torch.onnx.stack_trace", value="x")  # type: ignore[attr-defined]


def custom(proto: onnx.ModelProto) -> None:
    add(proto, helper.make_node("Secret", ["input"], ["i2"], domain="com.example"))
    next(node for node in proto.graph.node if node.op_type == "Conv").input[0] = "i2"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))


ONNX_LEAKS: dict[str, tuple[str, Callable[[onnx.ModelProto], object]]] = {
    "float mask": ("mask", lambda p: masked(p, np.float32)),
    "integer mask": ("mask", lambda p: masked(p, np.int32)),
    "boolean choice": ("mask", lambda p: masked(p, np.bool_, "Where")),
    "mask behind a cast": ("mask", through_a_cast),
    "masked channels": ("mask", masked_channels),
    "sparse mask": ("mask", sparse_mask),
    "name of a leftover": ("pruning", renamed("fc.weight_orig")),
    "unused initializer": ("unused", lambda p: add(p, x=np.arange(9.0))),
    "unused sparse initializer": (
        "unused",
        lambda p: p.graph.sparse_initializer.add(
            values=tensor("x", np.arange(1.0, 3)), indices=tensor("", np.arange(2)), dims=[4]
        ),
    ),
    "nodes that lead nowhere": ("unused", dead_branch),
    "unused function": ("unused", unused_function),
    "images": ("images", used_images),
    "images, channels last": ("images", lambda p: used_images(p, IMAGES.transpose(0, 2, 3, 1))),
    "pixels": ("images", lambda p: used_images(p, (255 * IMAGES).astype(np.int32))),
    "images in a branch": ("images", in_a_branch),
    "images in a node": ("images", constant_node),
    "optimizer state by name": ("optimizer", renamed("state.0.exp_avg_sq")),
    "training info": ("optimizer", training),
    "external data": ("external", external),
    "doc string of the model": ("metadata", put("doc_string", "for Ada")),
    "doc string of a node": ("metadata", put("doc_string", "for Ada", "node")),
    "doc string of a tensor": ("metadata", put("doc_string", "for Ada", "tensor")),
    "metadata of the model": ("metadata", metadata(lambda p: p)),
    "metadata of the graph": ("metadata", metadata(lambda p: p.graph)),
    "metadata of a node": ("metadata", metadata(lambda p: p.graph.node[0])),
    "producer": ("producer", put("producer_name", "ada's laptop")),
    "producer's version": ("producer", put("producer_version", "built by ada")),
    "domain": ("producer", put("domain", "com.example")),
    "custom operator": ("operator", custom),
    "opset of a stranger": ("operator", lambda p: p.opset_import.append(helper.make_opsetid("com.example", 1))),
    "path in a name": ("path", put("name", "/home/ada/net", "node")),
    "file in a name": ("path", put("name", "birds-final.jpg", "graph")),
    "source in a name": ("source", put("name", 'File "net", line 3', "node")),
}  # fmt: skip


@pytest.mark.parametrize("leak", ONNX_LEAKS)
def test_a_leak_in_an_onnx_file_is_found_and_nothing_else(tmp_path: Path, leak: str) -> None:
    rule, plant = ONNX_LEAKS[leak]
    proto = model()
    plant(proto)
    content = proto.SerializeToString()
    assert {each.rule for each in found(content, tmp_path)} == {rule}
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(MobilepruneError, match=rf"must not leave this machine: {rule}: .*or report this"):
        lint(tmp_path / "model.onnx")


@pytest.mark.parametrize("extra", [b"\x7a\x04ORTM", b"\x12\x04Ada!"], ids=["unknown field", "field said twice"])
def test_bytes_that_no_field_holds_are_found(tmp_path: Path, extra: bytes) -> None:
    content = exported("residual", "onnx")
    assert {each.rule for each in found(extra + content, tmp_path)} == {"hidden"}


def test_what_looks_like_a_leak_and_is_none_is_let_through(tmp_path: Path) -> None:
    """One image, a kernel as large as the image, and a packed weight that a function of the file unpacks."""
    proto = model()
    used_images(proto, IMAGES[:1])
    assert found(proto.SerializeToString(), tmp_path) == []
    kernel = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.Flatten()).eval()
    TARGETS["onnx"].write(kernel, SHAPE, tmp_path / "kernel.onnx", ExportOptions())
    assert findings_of(tmp_path / "kernel.onnx") == []
    proto = model()
    body = [helper.make_node("Cast", ["a"], ["c"], to=1), helper.make_node("Mul", ["c", "s"], ["y"])]
    proto.functions.append(
        helper.make_function("mobileprune", "Unpack", ["a", "s"], ["y"], body, [helper.make_opsetid("", 18)])
    )
    proto.opset_import.append(helper.make_opsetid("mobileprune", 1))
    weight = next(t for t in proto.graph.initializer if t.name == "stem.0.weight")
    weight.CopyFrom(tensor("w.values", (np.random.default_rng(0).random(tuple(weight.dims)) < 0.3).astype(np.uint8)))
    call = helper.make_node("Unpack", ["w.values", "w.scale"], ["stem.0.weight"], domain="mobileprune")
    add(proto, call, **{"w.scale": np.ones((8, 1, 1, 1), np.float32)})
    onnx.checker.check_model(proto)
    assert found(proto.SerializeToString(), tmp_path) == []


class Keeps(nn.Module):
    """Adds something of ``kept`` to the logits."""

    def __init__(self, **kept: torch.Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 5)
        for name, value in kept.items():
            self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)) + sum(value.sum() for value in self.buffers())


def lite(*, whole: bool = False, **kept: torch.Tensor) -> bytes:
    """As somebody else may save it: not frozen; ``whole``: and not stripped."""
    content = bytes(
        torch.jit.trace(Keeps(**kept).eval(), torch.zeros(2, *SHAPE))._save_to_buffer_for_lite_interpreter()
    )
    return (
        content if whole else archive({n: c for n, c in records(content).items() if not re.search("code/|traced", n)})
    )


def records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(kept: dict[str, bytes], **options: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:  # type: ignore[arg-type]
        for name, content in kept.items():
            file.writestr(name, content)
    return buffer.getvalue()


def with_record(name: str, content: bytes = b"x") -> bytes:
    return archive(records(exported("residual", "torchscript-lite")) | {f"archive/{name}": content})


def with_comment() -> bytes:
    buffer = io.BytesIO(exported("residual", "torchscript-lite"))
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = b"from Ada"
    return buffer.getvalue()


def twice() -> bytes:
    kept = records(exported("residual", "torchscript-lite"))
    buffer = io.BytesIO(archive(kept))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/version", b"8\n")
    return buffer.getvalue()


def padded() -> bytes:
    """Something else in the bytes that align records."""
    content = exported("residual", "torchscript-lite")
    at = content.index(b"ZZZZZZZZ")
    return content[:at] + b"from Ada" + content[at + 8 :]


ARCHIVE_LEAKS: dict[str, tuple[set[str], Callable[[], bytes]]] = {
    "images": ({"images"}, lambda: lite(kept=torch.from_numpy(IMAGES))),
    "mask": ({"mask"}, lambda: lite(kept=(torch.rand(5, 192) < 0.1).float())),
    "boolean mask": ({"mask"}, lambda: lite(kept=torch.rand(5, 192) < 0.1)),
    "leftover of pruning": ({"pruning"}, lambda: lite(weight_orig=torch.rand(5, 192))),
    "optimizer state": ({"optimizer"}, lambda: lite(exp_avg=torch.rand(5, 192))),
    "bundled inputs": ({"data"}, lambda: lite(_bundled_inputs_deflated_forward=torch.rand(7))),
    "source": ({"record", "source"}, lambda: with_record("code/net.txt", b"def forward(self):\n")),
    "deflated source": (
        {"source"},
        lambda: archive({"archive/version": b"def forward(self):\n" * 50}, compression=zipfile.ZIP_DEFLATED),
    ),
    "extra file": ({"record"}, lambda: with_record("extra/notes.txt")),
    "debug handles": ({"record"}, lambda: with_record("mobile_debug_handles.pkl", b"N.")),
    "path": ({"path", "record"}, lambda: with_record("extra/log", b"/home/ada/data")),
    "tensor that nothing names": ({"unused"}, lambda: with_record("constants/77.storage", bytes(40))),
    "comment": ({"hidden"}, with_comment),
    "bytes before the archive": ({"hidden"}, lambda: b"from Ada's disk: #7" + exported("residual", "torchscript-lite")),
    "padding": ({"hidden"}, padded),
    "record said twice": ({"record"}, twice),
}  # fmt: skip


@lite_deprecated
@pytest.mark.parametrize("leak", ARCHIVE_LEAKS)
def test_a_leak_in_a_lite_archive_is_found_and_nothing_else(tmp_path: Path, leak: str) -> None:
    rules, plant = ARCHIVE_LEAKS[leak]
    assert {each.rule for each in found(plant(), tmp_path, ".ptl")} == rules
    with pytest.raises(MobilepruneError, match="must not leave this machine"):
        lint(tmp_path / "model.ptl", SHAPE)


@lite_deprecated
def test_weights_in_a_lite_archive_are_no_leak(tmp_path: Path) -> None:
    assert found(lite(kept=torch.rand(5, 192)), tmp_path, ".ptl") == []


@lite_deprecated
def test_the_images_that_a_model_was_traced_with_are_found(tmp_path: Path) -> None:
    """What torch itself stores, unless the module is frozen before it is saved."""
    leaks = found(lite(whole=True), tmp_path, ".ptl")
    assert Finding("images", "traced_inputs.pkl", "tensor of shape (2, 3, 8, 8): 2 images?") in leaks
    assert {"source", "path", "record"} <= {each.rule for each in leaks}


@pytest.mark.parametrize("suffix", [".onnx", ".ptl"])
@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04" + bytes(99), b"\x0a\xff"], ids=repr)
def test_a_file_that_is_none_is_an_artifact_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pytest.raises(ArtifactError, match="cannot be read as"):
        found(content, tmp_path, suffix)


def test_an_archive_that_unpacks_to_very_much_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive({"archive/version": bytes(10)}))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = b"\xff\xff\xff\xfe"
    content = (
        content[: content.index(b"PK\x01\x02")]
        + 2 * content[content.index(b"PK\x01\x02") : content.index(b"PK\x05\x06")]
    )
    with pytest.raises(ArtifactError, match="cannot be read as"):
        found(bytes(content), tmp_path, ".ptl")


def test_of_another_kind_of_file_the_bytes_are_searched(tmp_path: Path) -> None:
    assert found(b"\0/home/ada/net\0", tmp_path, ".tflite") == [Finding("path", "", "/home/ada/net")]
    assert found(b"\0weights\0", tmp_path, ".tflite") == []
    with pytest.raises(ArtifactError, match="is no file"):
        findings_of(tmp_path)
