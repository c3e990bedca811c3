"""int8 for ONNX: ONNX Runtime's static quantisation (QDQ), made small.

Weights are symmetric per output channel, q = round(w / s) with s = max|w| / 127; activations are unsigned with a zero
point, which is the fast way on x86 and ARM. What can be computed from the rest is left out of the file: zero points
of 0, and int32 biases with their scales, which the graph makes of float32 ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser
from torch import Tensor

from mobileprune.errors import MobilepruneError, one_line
from mobileprune.onnx_runtime import library
from mobileprune.sparse_operators import DOMAIN

CALIBRATION_BATCH = 32
QUANTIZE_BIAS = """
<domain: "{domain}", opset_import: ["": {opset}]>
QuantizeBias (bias, input_scale, weight_scale) => (quantized, scale) {{
    scale = Mul (input_scale, weight_scale)
    steps = Div (bias, scale)
    whole = Round (steps)
    quantized = Cast <to = 6> (whole)
}}"""


def quantise(proto: onnx.ModelProto, calibration: Tensor) -> onnx.ModelProto:
    quantization = library("quantization")
    reader: Any = quantization.CalibrationDataReader

    class Reader(reader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(calibration.split(CALIBRATION_BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {proto.graph.input[0].name: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, path = Path(folder) / "source.onnx", Path(folder) / "int8.onnx"
        onnx.save_model(proto, source)
        try:
            quantization.quantize_static(
                source,
                path,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
        except Exception as error:  # the quantiser's exceptions have no common base
            text = one_line(error)
            raise MobilepruneError(f"ONNX Runtime cannot quantise this model ({text}); use --precision fp16") from error
        return onnx.load(path)


@contextmanager
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a pre-processing that torch's exporter has done
    try:
        yield
    finally:
        root.setLevel(level)


def slim(quantized: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Without zero points of 0 and with the biases of ``source``, from which the graph makes the int32 ones."""
    graph = quantized.graph
    opset = next(o.version for o in quantized.opset_import if not o.domain)
    constants = {t.name: t for t in graph.initializer}
    floats = {t.name: t for t in source.graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    keep = {name for node in graph.node if node.op_type == "Gemm" for name in node.input[1:2]}  # else it is not fused
    biases = list[onnx.NodeProto]()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] not in keep and node.input[2] in constants:
            zero = numpy_helper.to_array(constants[node.input[2]])
            if zero.dtype in (np.int8, np.int32) and not zero.any():
                del node.input[2:]
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        inputs = [makers.get(name) for name in node.input]
        if not all(maker and maker.op_type == "DequantizeLinear" for maker in inputs):
            continue
        x, weight, bias = (maker for maker in inputs if maker)
        name = bias.input[0].removesuffix("_quantized")
        if name not in floats:
            continue
        stored, made = f"{name}.float", [f"{name}.int32", f"{name}.scale"]
        biases.append(helper.make_node("QuantizeBias", [stored, x.input[1], weight.input[1]], made, domain=DOMAIN))
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(floats[name]), stored))
        del bias.input[:]
        bias.input.extend(made)
    if biases:
        quantized.functions.append(parser.parse_function(QUANTIZE_BIAS.format(domain=DOMAIN, opset=opset)))
        quantized.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        prepend(graph, biases)
    wanted = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [t for t in graph.initializer if t.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    _rename(graph, source.graph)
    return quantized


def _rename(graph: onnx.GraphProto, source: onnx.GraphProto) -> None:
    """Short names for what the quantiser has added, but for weights."""
    kept = {name for node in source.node for name in (*node.input, *node.output)} | {v.name for v in source.output}
    kept |= {f"{tensor.name}_quantized" for tensor in source.initializer} | {""}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"q{len(names):x}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        for field in (node.input, node.output):
            new = [short(name) for name in field]
            del field[:]
            field.extend(new)


def prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
