"""ONNX through torch's exporter: one file, dynamic batch, checked, and nothing inside that should not leave."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import onnx
import torch
from google.protobuf.message import Message
from torch import nn

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export.target import ExportOptions

MIN_OPSET, MAX_OPSET = 18, 22  # torch's exporter writes 18 and stays there silently when asked for less


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> None:
    if not MIN_OPSET <= options.opset <= MAX_OPSET:
        raise UsageError(f"--opset {options.opset}: must lie in [{MIN_OPSET}, {MAX_OPSET}]")
    if any(p.layout is not torch.strided for p in model.parameters()):
        raise MobilepruneError(
            "the model has parameters in a sparse layout, which ONNX export aborts on; use .to_dense()"
        )
    example = torch.zeros(2, *input_shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # torch's own deprecations of its own internals
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                external_data=False,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                opset_version=options.opset,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise MobilepruneError(
            "torch cannot export this model to ONNX: " + " ".join(str(error.__cause__ or error).split())[:300]
        ) from error
    assert program is not None
    proto = strip(program.model_proto)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def strip(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what the exporter puts in for debugging, however deep: stack traces, source lines, paths."""
    _strip(proto)
    proto.graph.name = "mobileprune"
    return proto


def _strip(message: Message) -> None:
    for field, value in list(message.ListFields()):
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                _strip(item)
