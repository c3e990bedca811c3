"""What every target has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mobileprune import native
from mobileprune.config import KERNELS
from mobileprune.errors import TargetUnavailableError, UsageError
from mobileprune.export.converter import require

AUTO, DENSE = "auto", "dense"
STOCK, NATIVE, MEASURED = KERNELS


@dataclass(frozen=True)
class ExportOptions:
    """``opset`` for ONNX, ``bytecode_version`` for TorchScript-lite (None: what torch writes).

    ``sparse_format``: a form of the target, or "auto" for the smallest. ``calibration`` (N, C, H, W) float32: inputs
    as the network gets them, from which int8 takes the ranges of activations; none of them is stored. ``kernels``:
    whose compute layers with many zeros.
    """

    opset: int = 18
    bytecode_version: int | None = None
    precision: str = "fp32"
    sparse_format: str = AUTO
    calibration: Tensor | None = None
    kernels: str = STOCK

    def images(self) -> Tensor:
        """What int8 is calibrated on; UsageError where there are none."""
        if self.calibration is None or not len(self.calibration):
            raise UsageError("--precision int8 needs images to find the ranges of activations; there are none")
        return self.calibration


@dataclass(frozen=True)
class Storage:
    """How a file keeps its weights: the ``form``, ``why`` that one, and the ``sizes`` in bytes of all that were tried.

    ``bound_bytes``: what no code of the weights one by one can go below (:mod:`mobileprune.convert.entropy`), and
    ``weight_bytes`` what they take; None where the target cannot tell. ``kernels``: those of each layer, and why
    (:class:`mobileprune.export.onnx.native.Kernels`), None where all are the runtime's own.
    """

    form: str
    why: str
    sizes: dict[str, int]
    bound_bytes: int | None = None
    weight_bytes: int | None = None
    kernels: dict[str, Any] | None = None


def measuring_library() -> Path:
    """The native library; TargetUnavailableError where there is none to be measured."""
    library = native.library()
    if library is None:
        raise TargetUnavailableError(
            f"--kernels measured needs the native library ({native.reason()}); --kernels native chooses without it"
        )
    return library


def only_dense(path: Path) -> Storage:
    """Of the file at ``path``, written by a target that knows no other form."""
    return Storage(DENSE, "this target knows no other form", {DENSE: path.stat().st_size})


@dataclass(frozen=True)
class Target:
    """``write(model, input_shape, path, options)`` exports an eval-mode model with a dynamic batch.

    ``locate(model, path, x, options)`` says where a file starts to differ from the model for inputs x (N, C, H, W).
    ``needs``: modules of the extra of this name.
    """

    name: str
    file: str
    write: Callable[[nn.Module, tuple[int, int, int], Path, ExportOptions], Storage]
    precisions: tuple[str, ...] = ("fp32",)
    forms: tuple[str, ...] = (DENSE,)
    locate: Callable[[nn.Module, Path, Tensor, ExportOptions], str] | None = None
    kernels: tuple[str, ...] = (STOCK,)
    needs: tuple[str, ...] = ()

    def require(self) -> None:
        """TargetUnavailableError unless the packages of its optional extra are installed."""
        require(self.name, *self.needs)

    def check(self, precision: str, sparse_format: str, kernels: str = STOCK) -> None:
        """UsageError unless this target has them, together; TargetUnavailableError for want of the native library."""
        if precision not in self.precisions:
            raise UsageError(f"--precision {precision}: target {self.name} has {', '.join(self.precisions)}")
        if sparse_format not in (AUTO, *self.forms):
            forms = ", ".join((AUTO, *self.forms))
            raise UsageError(f"--sparse-format {sparse_format}: target {self.name} has {forms}")
        if kernels not in self.kernels:
            raise UsageError(
                f"--kernels {kernels}: target {self.name} has {', '.join(self.kernels)}; "
                "the native library is for --target onnx"
            )
        if kernels != STOCK and precision == "int8":
            raise UsageError(
                f"--kernels {kernels} computes in float32, and --precision int8 has the runtime's kernels alone; "
                "choose --precision fp32 or fp16, or --kernels stock"
            )
        if kernels == MEASURED:
            measuring_library()
