"""What the tests of devices share: tiny models, the runner as a command, and a device on which things go wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mobileprune import native
from mobileprune.devices import Done
from mobileprune.devices.job import Job, Model
from mobileprune.devices.local import NullTransport, installed_runtime
from mobileprune.errors import DeviceLostError

SHAPE, CLASSES = (2, 6, 6), 5
needs_runner = pytest.mark.skipif(
    native.runner(native.this_platform()) is None or installed_runtime() is None,
    reason="no device runner (it needs CMake and a C compiler), or no libonnxruntime in the wheel",
)


def model(path: Path, seed: int = 0) -> Path:
    """Convolution, activation, linear layer; path.suffix .ort gives ONNX Runtime's own format."""
    rng = np.random.default_rng(seed)
    values = {"k": (4, 2, 3, 3), "b": (4,), "w": (64, CLASSES)}
    nodes = [
        helper.make_node("Conv", ["input", "k", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["logits"]),
    ]
    graph(path, nodes, {name: rng.normal(size=size).astype(np.float32) for name, size in values.items()})
    return path


def graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    values: dict[str, NDArray[Any]],
    inputs: Sequence[str] = ("input",),
    output_type: int = 1,
) -> Path:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, 1, ["N", *SHAPE]) for name in inputs],
        [helper.make_tensor_value_info("logits", output_type, None)],
        initializer=[numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def as_model(path: Path) -> Model:
    return Model(path, hashlib.sha256(path.read_bytes()).hexdigest())


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def answers(path: Path, x: NDArray[np.float32], batch: int = 256) -> NDArray[np.float32]:
    """By the Python package of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"input": x[i : i + batch]})[0] for i in range(0, len(x), batch)]
    return np.concatenate(parts)


class Runner:
    """The command line in a folder that holds ``in``; ``call`` overrides arguments, None leaves one out."""

    def __init__(self, folder: Path, path: Path, x: NDArray[np.float32]) -> None:
        self.folder = folder
        x.tofile(folder / "in")
        self.arguments: dict[str, Any] = {
            "runtime": installed_runtime(),
            "model": path,
            "sha256": as_model(path).sha256,
            "inputs": "in",
            "shape": ",".join(map(str, x.shape)),
            "outputs": "out",
            "result": "result.json",
        }

    def call(self, *more: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        given = {
            key.replace("_", "-"): value for key, value in {**self.arguments, **changes}.items() if value is not None
        }
        argv = [native.runner(native.this_platform()), *(w for k, v in given.items() for w in (f"--{k}", v)), *more]
        return subprocess.run(
            [*map(str, argv)], cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def outputs(self) -> NDArray[np.float32]:
        found = json.loads((self.folder / "result.json").read_text())["outputs"]
        content = (self.folder / "out").read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (found["bytes"], found["sha256"])
        return np.frombuffer(content, np.float32).reshape(found["shape"])


def execute(command: Sequence[str], folder: Path) -> Done:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


class Faulty(NullTransport):
    """This machine, on which the connection breaks at the pushes whose numbers are in ``cut``, and ``after`` a run of
    the model something else happens in its folder. ``pushed``: what was pushed wholly."""

    def __init__(
        self,
        cut: Sequence[int] = (),
        after: Callable[[Path], object] | None = None,
        execute: Callable[[Sequence[str], Path], Done] = execute,
        **options: Any,
    ) -> None:
        super().__init__(self._answer, **options)
        self.pushed: list[str] = []
        self._cut, self._after, self._execute, self._tries = cut, after, execute, 0

    @property
    def folder(self) -> Path:
        return self._folder

    def push(self, source: Path, remote: str) -> None:
        self._tries += 1
        if self._tries in self._cut:
            (self._folder / f".{remote}.part").write_bytes(source.read_bytes()[:1000])
            raise DeviceLostError("null: the connection broke while it was pushed to")
        super().push(source, remote)
        self.pushed.append(remote)

    def _answer(self, command: Sequence[str], folder: Path) -> Done:
        if "--hash" in command:
            return execute(command, folder)
        done = self._execute(command, folder)
        if self._after:
            self._after(folder)
        return done


def job(path: Path, count: int = 3, **options: Any) -> Job:
    return Job(as_model(path), images(count), **options)
