"""ONNX Runtime on a part of a file, as the file says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.inliner import inline_local_functions

from mobileprune import onnx_runtime
from mobileprune.errors import ArtifactError, one_line
from mobileprune.runtimes.base import Session


def session_to(output: str, content: bytes, path: Path, input_name: str) -> Session:
    """The file's model, checked before, up to ``output``; ArtifactError where ONNX Runtime refuses it.

    Constants are computed once and for all, nothing else is fused: on x86 without VNNI its int8 kernels saturate, which
    phones' do not, and which has no gradient.
    """
    model = onnx.load_model_from_string(content)
    if [value.name for value in model.graph.output] != [output]:
        model = inline_local_functions(model)
        del model.graph.output[:]
        model.graph.output.append(helper.make_empty_tensor_value_info(output))
        content = model.SerializeToString()
    settings = onnx_runtime.settings(level="ENABLE_BASIC", model_format="ONNX", bounded=True)
    try:
        session = onnx_runtime.session(content, settings)
    except Exception as error:  # the runtime's exceptions have no common base
        raise ArtifactError(f"{path}: ONNX Runtime refuses this model ({one_line(error)})") from error

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {input_name: x})[0], np.float32)
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({one_line(error)})") from error

    return run
