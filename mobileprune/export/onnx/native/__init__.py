"""``--kernels native``: layers with many zeros as operators of the native library; the file runs without it too."""

from __future__ import annotations

from mobileprune.export.onnx.native.choice import DENSE, NATIVE, Choice, Kernels, choose, is_worth_it, least_zeros

__all__ = ["DENSE", "NATIVE", "Choice", "Kernels", "choose", "is_worth_it", "least_zeros"]
