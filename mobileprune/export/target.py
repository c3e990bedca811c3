"""What every target has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class ExportOptions:
    """``opset`` for ONNX, ``bytecode_version`` for TorchScript-lite (None: what torch writes)."""

    opset: int = 18
    bytecode_version: int | None = None


@dataclass(frozen=True)
class Target:
    """``write(model, input_shape, path, options)`` exports an eval-mode model with a dynamic batch."""

    name: str
    file: str
    write: Callable[[nn.Module, tuple[int, int, int], Path, ExportOptions], None]
