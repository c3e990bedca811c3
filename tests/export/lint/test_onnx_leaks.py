"""Every kind of leak, planted in a real ONNX file, is found there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.lint import IMAGES, SHAPE, exported, found

from mobileprune.errors import MobilepruneError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.lint import findings_of, lint


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
