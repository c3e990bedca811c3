"""What must not be in an ONNX file beside the model: rules over the parsed graph, all of its branches and functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from mobileprune.export.lint import onnx_weights
from mobileprune.export.lint.onnx_parts import STANDARD, Found, Rule, Shape, label, messages, parts

PRODUCERS = ("", "mobileprune", "onnx.quantize", "onnxruntime.transformers", "pytorch", "tf2onnx")
VERSION = re.compile(r"\d[0-9A-Za-z.+-]{0,40}|")
DOMAINS = (*STANDARD, "ai.onnx.ml", "com.microsoft")
IMPORTS = re.compile(r"|ai\.onnx(\.\w+)*|com\.microsoft(\.\w+)*|org\.pytorch\.aten|mobileprune")  # without an operator
DATA_FILE = re.compile(r"(?<![\w./\\-])[\w./\\-]+\.(?:py|ipynb|npz|npy|csv|jpe?g|png|pth|safetensors)\b", re.ASCII)


def findings(content: bytes, input_shape: Shape | None) -> Iterator[tuple[str, str, str]]:
    """(rule, where, what); ValueError when ``content`` is no model."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    if not model.HasField("graph"):
        raise ValueError("it has no graph")
    if extra := len(content) - model.ByteSize():
        yield "hidden", "", f"{extra:,} bytes that are not part of the model"
    for rule, check in RULES.items():
        for where, what in check(model, input_shape or _input_shape(model)):
            yield rule, where, what


def _input_shape(model: onnx.ModelProto) -> Shape | None:
    sizes = [d.dim_value for i in model.graph.input[:1] for d in i.type.tensor_type.shape.dim]
    return (sizes[1], sizes[2], sizes[3]) if len(sizes) == 4 and min(sizes[1:]) > 0 else None


def _metadata(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Free text beside the graph."""
    for message in messages(model):
        for field, value in message.ListFields():
            if field.name == "doc_string" and value:
                yield label(message), f"doc_string {value[:60]!r}"
            elif field.name == "metadata_props":
                yield from ((label(message), f"metadata {entry.key[:60]!r}") for entry in value)


def _producer(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Another producer than the usual ones may be a person, a company or a machine."""
    if model.producer_name not in PRODUCERS:
        yield "producer_name", repr(model.producer_name[:60])
    if not VERSION.fullmatch(model.producer_version):
        yield "producer_version", repr(model.producer_version[:60])
    if model.domain:
        yield "domain", repr(model.domain[:60])


def _training(model: onnx.ModelProto, _: Shape | None) -> Found:
    """The format's own place for optimizer state."""
    yield from (("training_info", label(info.algorithm)) for info in model.training_info)


def _hidden(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Fields that the format does not have."""
    for message in messages(model):
        if unknown := [field.field_number for field in UnknownFieldSet(message)]:
            yield label(message), f"unknown field {', '.join(map(str, unknown[:5]))}"


def _external(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Tensors in other files."""
    for message in messages(model):
        if message.DESCRIPTOR.name == "TensorProto" and (message.external_data or message.data_location):
            yield label(message), "keeps its values in another file"


def _operators(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Operators that are neither standard nor functions of this file."""
    inside = {(f.domain, f.name) for f in model.functions}
    for part in parts(model):
        for node in part.node:
            if node.domain not in DOMAINS and (node.domain, node.op_type) not in inside:
                yield label(node), f"operator {node.op_type} of domain {node.domain!r}"
    for opset in model.opset_import:
        if not IMPORTS.fullmatch(opset.domain) and opset.domain not in {domain for domain, _ in inside}:
            yield "opset_import", f"domain {opset.domain!r}"


def _texts(model: onnx.ModelProto, _: Shape | None) -> Found:
    """Names of source and data files."""
    for message in messages(model):
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                for text in value if field.is_repeated else [value]:
                    if hit := DATA_FILE.search(text):
                        yield label(message), f"file name {hit[0][-60:]!r}"


RULES: dict[str, Rule] = {
    "metadata": _metadata,
    "producer": _producer,
    "optimizer": _training,
    "hidden": _hidden,
    "external": _external,
    "operator": _operators,
    "path": _texts,
    "unused": onnx_weights.unused,
    "images": onnx_weights.images,
    "mask": onnx_weights.masks,
}
