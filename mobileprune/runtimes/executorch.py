"""ExecuTorch's runtime with its XNNPACK backend, as an app links it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, TargetUnavailableError, one_line
from mobileprune.runtimes.base import RuntimeOptions, Session, checked_size
from mobileprune.runtimes.pte_checks import check
from mobileprune.runtimes.trial import first_run
from mobileprune.silence import silenced

FLOAT32 = 6  # of ExecuTorch's ScalarType


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the file and tries it in a child before this process runs any of it.

    The runtime has one pool of threads: ``num_threads`` holds for all sessions of the process. TargetUnavailableError
    without the package.
    """
    library()
    checked_size(path, "a .pte file")
    content = path.read_bytes()
    check(content, path)
    _use_threads(1)  # those of a larger pool would not exist in the child
    first_run(_load, path, hashlib.sha256(content).hexdigest(), options)
    _use_threads(options.num_threads)
    return _load(path, content, options)


def _load(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    return _Method(path, content, options.input_shape)


def library() -> Any:
    """The compiled part alone: its Python wrapper imports the whole exporter, which takes seconds."""
    try:
        import torch  # noqa: F401  (the library is linked against it)
        from executorch.extension.pybindings import _C
    except ImportError as error:
        raise TargetUnavailableError(
            f"target executorch needs a package ({error}): pip install 'mobileprune[executorch]'"
        ) from error
    return _C


class _Method:
    """(N, C, H, W) float32 -> (N, K) float32; batches larger than the file was planned for are cut."""

    def __init__(self, path: Path, content: bytes, input_shape: tuple[int, int, int]) -> None:
        self._path, self._content, self._input_shape = path, content, input_shape
        self.load()
        _open.add(self)

    def load(self) -> None:
        runtime = library()
        try:
            with silenced():
                verification = runtime.Verification.InternalConsistency
                # Its memory is read as long as the method lives.
                self._program = runtime._load_program_from_buffer(self._content, program_verification=verification)
                self._forward = self._program.load_method("forward")
                meta = self._forward.method_meta()
                shapes = [meta.input_tensor_meta(i).sizes() for i in range(meta.num_inputs())]
                kinds = {meta.input_tensor_meta(i).dtype() for i in range(meta.num_inputs())}
        except Exception as error:  # the runtime's exceptions have no common base below Exception
            raise ArtifactError(f"{self._path}: ExecuTorch refuses this model ({one_line(error)})") from error
        if len(shapes) != 1 or tuple(shapes[0][1:]) != self._input_shape or kinds != {FLOAT32} or not shapes[0][0]:
            raise ArtifactError(
                f"{self._path}: inputs are {shapes}, its manifest says (N, {', '.join(map(str, self._input_shape))})"
            )
        self._most: int = shapes[0][0]

    def unload(self) -> None:
        del self._forward, self._program

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([self._run(x[i : i + self._most]) for i in range(0, len(x), self._most)])

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        try:
            output = self._forward([torch.from_numpy(np.ascontiguousarray(x))])[0]
            if not torch.is_floating_point(output):
                raise TypeError(f"outputs are {output.dtype}")
            return np.asarray(output.float().numpy(), np.float32)
        except Exception as error:
            raise ArtifactError(f"{self._path}: inference failed ({one_line(error)})") from error


_open: WeakSet[_Method] = WeakSet()


def _use_threads(count: int) -> None:
    """Methods keep the address of the pool that they were loaded with: those that are open are loaded again."""
    runtime = library()
    with silenced():
        if runtime._threadpool_get_thread_count() == count:
            return
        methods = list(_open)
        for method in methods:
            method.unload()
        runtime._unsafe_reset_threadpool(count)
        for method in methods:
            method.load()
