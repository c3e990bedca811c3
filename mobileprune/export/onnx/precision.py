"""Fewer bits a number (``PRECISIONS``): float16 storage, and int8 arithmetic. Zeros stay zeros in both.

fp16 keeps float16 values in the file and widens them once, when the file is loaded: arithmetic stays float32, because
on x86 ONNX Runtime has no float16 kernels and would convert back and forth at every operator.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mobileprune.convert.half import halved
from mobileprune.export.onnx.int8 import prepend, quantise, slim
from mobileprune.export.target import ExportOptions


def fp32(proto: onnx.ModelProto, options: ExportOptions) -> onnx.ModelProto:
    return proto


def fp16(proto: onnx.ModelProto, options: ExportOptions) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    casts = []
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        half = halved(values) if values.dtype == np.float32 else values
        if half.dtype == np.float16:
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    prepend(made.graph, casts)
    return made


def int8(proto: onnx.ModelProto, options: ExportOptions) -> onnx.ModelProto:
    """UsageError without images to calibrate on."""
    return slim(quantise(proto, options.images()), proto)


PRECISIONS: dict[str, Callable[[onnx.ModelProto, ExportOptions], onnx.ModelProto]] = {
    "fp32": fp32,
    "fp16": fp16,
    "int8": int8,
}
