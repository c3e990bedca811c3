"""Stock ONNX Runtime on the CPU, without its telemetry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import RuntimeOptions, Session, one_line


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Refuses external data (it could read any file of the machine) before the runtime sees the model."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default in 1.32, read when the library is loaded
    import onnx
    import onnxruntime

    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"{path}: corrupt ONNX file ({error}); export again") from error
    if any(t.external_data or t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model)):
        raise ArtifactError(f"{path}: keeps weights in other files, which is refused; export it as one file")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.num_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions share the cores
    providers = ["CPUExecutionProvider"]
    try:
        # Its fallback to other providers would print to stdout.
        session = onnxruntime.InferenceSession(content, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # the runtime's exceptions have no common base below Exception
        raise ArtifactError(f"{path}: ONNX Runtime refuses this model ({one_line(error)})") from error
    names = [value.name for value in session.get_inputs()]
    if names != [options.input_name]:
        raise ArtifactError(f"{path}: inputs are {names}, its manifest says [{options.input_name!r}]")

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with np.errstate(over="raise"):
                return np.asarray(session.run(None, {options.input_name: x})[0]).astype(np.float32)
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({one_line(error)})") from error

    return run


def _tensors(message: Message) -> Iterator[Message]:
    """Every TensorProto in ``message``, however deep: initializers, sparse ones, attributes, branches, functions."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                if field.message_type.name == "TensorProto":
                    yield item
                else:
                    yield from _tensors(item)
