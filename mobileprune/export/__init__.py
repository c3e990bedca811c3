"""Export targets by name: ``TARGETS``. A target writes one file; parity and lint are the caller's next steps."""

from __future__ import annotations

from mobileprune.config import KERNELS
from mobileprune.errors import unknown
from mobileprune.export import executorch, litert, mnn, onnx, ort_format, torchscript_lite
from mobileprune.export.onnx.locate import locate
from mobileprune.export.target import ExportOptions, Target

TARGETS: dict[str, Target] = {
    "executorch": Target(
        "executorch", "model.pte", executorch.write, precisions=executorch.PRECISIONS, needs=executorch.NEEDS
    ),
    "litert": Target("litert", "model.tflite", litert.write, forms=litert.FORMS, needs=litert.NEEDS),
    "mnn": Target("mnn", "model.mnn", mnn.write, precisions=mnn.PRECISIONS, forms=mnn.FORMS, needs=mnn.NEEDS),
    "onnx": Target("onnx", "model.onnx", onnx.write, tuple(onnx.PRECISIONS), tuple(onnx.FORMS), locate, KERNELS),
    "ort": Target("ort", "model.ort", ort_format.write, tuple(onnx.PRECISIONS), ort_format.FORMS),
    "torchscript-lite": Target(
        "torchscript-lite",
        "model.ptl",
        torchscript_lite.write,
        torchscript_lite.PRECISIONS,
        tuple(torchscript_lite.FORMS),
    ),
}


def target(name: str) -> Target:
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name]


__all__ = ["TARGETS", "ExportOptions", "Target", "target"]
