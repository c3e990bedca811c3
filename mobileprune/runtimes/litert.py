"""LiteRT (TensorFlow Lite) on the CPU, with XNNPACK."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, TargetUnavailableError, one_line
from mobileprune.runtimes.base import RuntimeOptions, Session, checked_size
from mobileprune.runtimes.trial import first_run
from mobileprune.silence import silenced

MAGIC = b"TFL3"


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks size and magic, then a first run in a child: the interpreter itself is not hardened."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as error:
        raise TargetUnavailableError(
            f"target litert needs ai-edge-litert ({one_line(error)}): pip install 'mobileprune[litert]'"
        ) from error
    checked_size(path, "a LiteRT file")
    content = path.read_bytes()
    if content[4:8] != MAGIC:
        raise ArtifactError(f"{path}: not a LiteRT file, or a truncated one; export again")
    first_run(_load, path, hashlib.sha256(content).hexdigest(), options, batches=(1, 2))
    return _load(path, content, options)


def _load(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    return _Interpreter(path, content, options).answer


class _Interpreter:
    """One interpreter, resized when the batch changes; a graph that fixes the batch is asked image by image."""

    def __init__(self, path: Path, content: bytes, options: RuntimeOptions) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path, self._batch, self._fixed = path, 0, False
        try:
            with silenced():
                self._interpreter = Interpreter(model_content=content, num_threads=options.num_threads)
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except Exception as error:  # the interpreter's exceptions have no common base below Exception
            raise ArtifactError(f"{path}: LiteRT refuses this model ({one_line(error)})") from error
        said = [(each["name"], tuple(map(int, each["shape"][1:])), each["dtype"]) for each in inputs]
        expected = (options.input_name, options.input_shape, np.float32)
        if said != [expected] or len(outputs) != 1:  # the interpreter would resize to whatever it is asked for
            shown = ", ".join(f"{name[:80]!r} {shape}" for name, shape, _ in said)
            raise ArtifactError(
                f"{path}: takes {shown or 'nothing'} and gives {len(outputs)} outputs; its manifest says "
                f"{options.input_name!r} {options.input_shape}, float32, and 1"
            )
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._resize((1, *options.input_shape))

    def answer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._fixed or not self._fits(x):
            return np.concatenate([self._run(x[i : i + 1]) for i in range(len(x))])
        return self._run(x)

    def _fits(self, x: NDArray[np.float32]) -> bool:
        """Resized to the batch of ``x``; from the first one that the graph refuses on, its batch counts as fixed."""
        if len(x) == self._batch:
            return True
        try:
            self._resize(x.shape)
        except ArtifactError:
            self._fixed = True
            self._resize((1, *x.shape[1:]))
        return not self._fixed

    def _resize(self, shape: tuple[int, ...]) -> None:
        try:
            with silenced():
                self._interpreter.resize_tensor_input(self._input, shape)
                self._interpreter.allocate_tensors()
        except Exception as error:
            raise ArtifactError(f"{self._path}: LiteRT refuses inputs {shape} ({one_line(error)})") from error
        self._batch = shape[0]

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(x))
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output)
            if output.dtype != np.float32:
                raise TypeError(f"outputs are {output.dtype}")
            return np.asarray(output, np.float32)
        except Exception as error:
            raise ArtifactError(f"{self._path}: inference failed ({one_line(error)})") from error
