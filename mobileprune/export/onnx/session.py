"""ONNX Runtime for what export itself has to ask of a file: one thread, silent, no telemetry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def settings() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
    import onnxruntime

    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads, made.log_severity_level = 1, 4
    return made


def session(content: bytes, options: Any = None, disabled_optimizers: Sequence[str] = ()) -> Any:
    """On the CPU; ``options`` as :func:`settings` makes them."""
    options = options or settings()
    import onnxruntime

    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled_optimizers)
    )
