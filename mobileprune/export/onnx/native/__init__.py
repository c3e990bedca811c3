"""``--kernels native``: layers with many zeros as operators of the native library; the file runs without it too."""

from __future__ import annotations

from mobileprune.export.onnx.native.choice import DENSE, MIN_ZEROS, NATIVE, Choice, Kernels, choose

__all__ = ["DENSE", "MIN_ZEROS", "NATIVE", "Choice", "Kernels", "choose"]
