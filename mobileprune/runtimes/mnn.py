"""MNN on the CPU, in float32 throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, TargetUnavailableError, one_line
from mobileprune.files import sha256
from mobileprune.runtimes.base import RuntimeOptions, Session, checked_size
from mobileprune.runtimes.trial import first_run
from mobileprune.silence import silenced

MIN_FILE_BYTES = 64
OUTPUT = "logits"


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the size and the flatbuffer's root, then a first run in a child: MNN itself is not hardened."""
    try:
        with silenced():
            import MNN  # noqa: F401
    except ImportError as error:
        raise TargetUnavailableError(
            f"target mnn needs MNN ({one_line(error)}): pip install 'mobileprune[mnn]'"
        ) from error
    _check(path)
    first_run(_load, path, sha256(path), options, batches=(1, 2))
    return _load(path, b"", options)


def _check(path: Path) -> None:
    """MNN's format has no magic: the offset of the root table, and what that says of itself, must lie in the file."""
    size = checked_size(path, "an MNN file")
    if size < MIN_FILE_BYTES:
        raise ArtifactError(f"{path}: {size:,} bytes are fewer than an MNN file has ({MIN_FILE_BYTES}); export again")
    with path.open("rb") as file:
        root = int.from_bytes(file.read(4), "little")
        file.seek(min(root, size))
        table = root - int.from_bytes(file.read(4), "little", signed=True)
    if not (4 <= root <= size - 4 and 4 <= table <= size - 4):
        raise ArtifactError(f"{path}: not an MNN file, or a truncated one; export again")


def _load(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    """MNN reads the file itself."""
    import MNN

    settings = {"backend": "CPU", "numThread": options.num_threads, "precision": "high"}  # its default may use bf16
    try:
        with silenced():
            manager = MNN.nn.create_runtime_manager((settings,))
            module = MNN.nn.load_module_from_file(str(path), [options.input_name], [OUTPUT], runtime_manager=manager)
    except Exception as error:  # the engine's exceptions have no common base below Exception
        raise ArtifactError(f"{path}: MNN refuses this model ({one_line(error)})") from error
    if module is None:
        raise ArtifactError(f"{path}: MNN refuses this model")
    placeholders: dict[tuple[int, ...], Any] = {}

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        if x.shape not in placeholders:
            placeholders.clear()  # one at a time: each holds its batch
            placeholders[x.shape] = MNN.expr.placeholder(list(x.shape), MNN.expr.NCHW, MNN.expr.float)
        given = placeholders[x.shape]
        try:
            given.write(np.ascontiguousarray(x))
            (taken,) = module.forward([given])
            output = np.array(taken.read())  # a copy: the engine's memory is overwritten by the next run
            if output.dtype != np.float32:
                raise TypeError(f"outputs are {output.dtype}")
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({one_line(error)})") from error
        return output

    return run
