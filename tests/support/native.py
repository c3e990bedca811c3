"""What the tests of native kernels share: whether the library is here, and ONNX Runtime with and without it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from mobileprune import native

needs_library = pytest.mark.skipif(native.library() is None, reason=f"no native library: {native.reason()}")


def answers(
    content: bytes, x: NDArray[np.float32], library: Path | None = None, optimised: str = ""
) -> NDArray[np.float32]:
    """Stock ONNX Runtime, or with ``library``; ``optimised``: where it writes what it made of the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.optimized_model_filepath = optimised
    if library:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": x})[0])


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def parsed(text: str, opset: int = 18) -> onnx.ModelProto:
    """The model of a graph in ONNX's text format."""
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
