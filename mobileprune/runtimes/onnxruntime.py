"""Stock ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import RuntimeOptions, Session


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Refuses external data (it could read any file of the machine) before the runtime sees the model."""
    import onnx
    import onnxruntime
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"{path}: corrupt ONNX file ({error}); export again") from error
    if any(uses_external_data(tensor) for tensor in _get_all_tensors(model)):
        raise ArtifactError(f"{path}: keeps weights in other files, which is refused; export it as one file")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.num_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions share the cores
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base below Exception
        raise ArtifactError(f"{path}: ONNX Runtime refuses this model ({_one_line(error)})") from error
    names = [value.name for value in session.get_inputs()]
    if names != [options.input_name]:
        raise ArtifactError(f"{path}: inputs are {names}, its manifest says [{options.input_name!r}]")

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = session.run(None, {options.input_name: x})[0]
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({_one_line(error)})") from error
        return np.asarray(output, np.float32)

    return run


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
