"""Export targets by name: ``TARGETS``. A target writes one file; parity and lint are the caller's next steps."""

from __future__ import annotations

from mobileprune.errors import unknown
from mobileprune.export import onnx, torchscript_lite
from mobileprune.export.target import ExportOptions, Target

TARGETS: dict[str, Target] = {
    "onnx": Target("onnx", "model.onnx", onnx.write),
    "torchscript-lite": Target("torchscript-lite", "model.ptl", torchscript_lite.write),
}


def target(name: str) -> Target:
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name]


__all__ = ["TARGETS", "ExportOptions", "Target", "target"]
