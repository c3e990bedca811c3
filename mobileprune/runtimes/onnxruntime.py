"""ONNX Runtime on the CPU, without its telemetry; with the native library for files that have layers for it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune import onnx_runtime
from mobileprune.errors import ArtifactError, one_line
from mobileprune.runtimes.base import RuntimeOptions, Session, checked_size
from mobileprune.runtimes.kernels import register
from mobileprune.runtimes.trial import first_run, physical_bytes


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the file and tries it in a child before this process lets the runtime see it.

    Its memory is bounded here too, since shapes can depend on the image: half of the machine's for all sessions.
    """
    checked_size(path, "an ONNX file")
    content = path.read_bytes()
    bound_memory()
    first_run(_checked, path, hashlib.sha256(content).hexdigest(), options)
    return load(path, content, options)


def _checked(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    """Parsing and checking are the child's work too: they may take much memory."""
    from mobileprune.runtimes import onnx_checks

    onnx_checks.read(content, path)
    return load(path, content, options)


@lru_cache(maxsize=1)
def bound_memory() -> None:
    """One arena for all sessions of this process, which refuses to grow beyond half of the machine's memory."""
    ort = onnx_runtime.library()
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    default = dict.fromkeys(("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk"), -1)
    try:
        ort.create_and_register_allocator(kind, ort.OrtArenaCfg({"max_mem": physical_bytes() // 2, **default}))
    except Exception as error:  # the runtime's exceptions have no common base below Exception
        if "already" not in str(error):  # another user of the library in this process has bounded it
            raise


def load(path: Path, content: bytes, options: RuntimeOptions, model_format: str = "ONNX") -> Session:
    """A session for ``content``, which has been checked; it is read as ``model_format``, whatever it looks like."""
    settings = onnx_runtime.settings(num_threads=options.num_threads, model_format=model_format, bounded=True)
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions share the cores
    if options.native and model_format == "ONNX":
        register(settings, content)
    try:
        session = onnx_runtime.session(content, settings)
    except Exception as error:
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
