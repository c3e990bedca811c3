"""ONNX through torch's exporter: one file, dynamic batch, checked, and nothing inside that should not leave."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from onnx import numpy_helper
from torch import nn

from mobileprune.errors import MobilepruneError, UsageError, one_line
from mobileprune.export.onnx.forms import FORMS, store
from mobileprune.export.onnx.native import choose
from mobileprune.export.onnx.precision import PRECISIONS
from mobileprune.export.target import STOCK, ExportOptions, Storage

MIN_OPSET, MAX_OPSET = 18, 22  # torch's exporter writes 18 and stays there silently when asked for less


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    return finish(convert(model, input_shape, options.opset), path, options)


def finish(proto: onnx.ModelProto, path: Path, options: ExportOptions) -> Storage:
    """Write ``proto`` (float32, dense) for the kernels, and in the precision and form, that are asked for."""
    kernels = None
    if options.kernels != STOCK:
        proto, chosen = choose(proto, options.kernels)
        kernels = chosen.to_dict()
    proto = strip(PRECISIONS[options.precision](proto, options))
    onnx.checker.check_model(proto, full_check=True)
    content, storage = store(proto, options.sparse_format)
    onnx.checker.check_model(content, full_check=storage.form != "coo")  # its shape inference knows no sparse tensors
    path.write_bytes(content)
    return replace(storage, kernels=kernels)


def convert(model: nn.Module, input_shape: tuple[int, int, int], opset: int) -> onnx.ModelProto:
    """Float32, with zeros that are all +0: folding and masks leave -0 behind, which not every code can tell from 0."""
    proto = strip(program(model, input_shape, opset).model_proto)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0), tensor.name))
    return proto


def program(model: nn.Module, input_shape: tuple[int, int, int], opset: int) -> torch.onnx.ONNXProgram:
    """What torch's exporter makes: the ONNX model, and the exported program whose names it has."""
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UsageError(f"--opset {opset}: must lie in [{MIN_OPSET}, {MAX_OPSET}]")
    if any(p.layout is not torch.strided for p in model.parameters()):
        raise MobilepruneError(
            "the model has parameters in a sparse layout, which ONNX export aborts on; use .to_dense()"
        )
    example = torch.zeros(2, *input_shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # torch's own deprecations of its own internals
            made = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                external_data=False,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise MobilepruneError(
            f"torch cannot export this model to ONNX: {one_line(error.__cause__ or error)}"
        ) from error
    assert made is not None
    return made


def strip(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what tools put in for debugging: stack traces, source lines, paths, however deep; names and shapes."""
    _strip(proto)
    proto.graph.name = proto.producer_name = "mobileprune"
    proto.producer_version = ""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.name = ""
    return proto


def _strip(message: Message) -> None:
    for field, value in list(message.ListFields()):
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                _strip(item)


__all__ = ["FORMS", "MAX_OPSET", "MIN_OPSET", "PRECISIONS", "convert", "finish", "program", "strip", "write"]
