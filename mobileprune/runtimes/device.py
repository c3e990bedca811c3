"""A file on a device's own ONNX Runtime: the questions are asked as of any other runtime, and answered there."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune import __version__, native
from mobileprune.artifact import Artifact
from mobileprune.devices import shown_name
from mobileprune.devices.job import Answer, Job, Model
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import TargetUnavailableError
from mobileprune.files import digest, sha256
from mobileprune.lazy import Sliced
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.base import Runtime, normalised
from mobileprune.runtimes.kernels import KernelsUsed, calls_operators

TARGETS = ("onnx", "ort")
BATCH = 256
"""As :meth:`Runtime.predict` has it: other batch sizes may give other last digits."""
BATCH_BYTES, RUN_BYTES = 32 * 2**20, 128 * 2**20
"""Of inputs in one batch, for the memory of a phone, and in one run, for its disk."""


class DeviceRuntime:
    """An artifact on the device of ``session``, with the ``predict`` of :class:`Runtime`.

    ``kernels``: which ones compute the sparse layers there; None for a file without such layers. Raises
    TargetUnavailableError for a target that the runner cannot run.
    """

    def __init__(self, artifact: Artifact, session: DeviceSession, num_threads: int = 1, cpus: str = "") -> None:
        check_file(artifact)
        self._manifest, self._session = artifact.manifest, session
        self._model, self._threads, self._cpus = model_of(artifact), num_threads, cpus
        self.kernels, self._operators = device_kernels(artifact, session.transport.platform)

    def predict(self, pixels: Sliced[np.float32], batch_size: int = BATCH) -> NDArray[np.float32]:
        """Pixels (N, C, H, W) float32 in [0, 1] -> logits (N, K) float32; many batches go in one run."""
        image_bytes = 4 * math.prod(self._manifest.input_shape)
        batch = max(1, min(batch_size, BATCH_BYTES // image_bytes))
        there = Runtime(lambda x: self._run(x, batch).outputs, self._manifest)
        return there.predict(pixels, batch * max(1, RUN_BYTES // (batch * image_bytes)))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """:func:`device_facts`, as the device tells them when it is asked about a black image."""
        black = np.zeros((1, *self._manifest.input_shape), np.float32)
        return device_facts(self._session, self._run(normalised(black, self._manifest), 1))

    def identity(self) -> dict[str, Any]:
        """What its answers depend on beside the file, for the run store."""
        who = digest(self._session.transport.name)  # a host's name is nobody else's business
        return {**self.facts, "who": who, "runtime_sha256": sha256(self._session.runtime)}

    def _run(self, x: NDArray[np.float32], batch: int) -> Answer:
        job = Job(
            self._model,
            x,
            operators=self._operators,
            num_classes=self._manifest.num_classes,
            num_threads=self._threads,
            batch=batch,
            cpus=self._cpus,
        )
        return self._session.run(job)


def check_file(artifact: Artifact) -> None:
    """What an untrusted file has to pass before a device sees it: all that it has to pass here."""
    if (target := artifact.manifest.target) not in TARGETS:
        raise TargetUnavailableError(
            f"{artifact.path}: a file of target {target} is run on this machine alone: devices have ONNX Runtime, "
            f"which takes {' and '.join(TARGETS)}; leave out --device"
        )
    open_runtime(artifact)


def model_of(artifact: Artifact) -> Model:
    return Model(artifact.model_path, artifact.manifest.sha256)


def device_kernels(artifact: Artifact, platform: str) -> tuple[KernelsUsed | None, Path | None]:
    """Whose kernels compute its sparse layers on a device of this platform, and the native library for it."""
    if artifact.manifest.target != "onnx" or not calls_operators(artifact.model_path.read_bytes()):
        return None, None
    library = native.library_for(platform)
    if library is None:
        return KernelsUsed(False, None, f"the native library was not built for {platform}: export/README.md"), None
    return KernelsUsed(True, sha256(library), f"native kernels of mobileprune {__version__}"), library


def device_facts(session: DeviceSession, answer: Answer) -> dict[str, Any]:
    """The device, what runs there and what it is made of; never the name of a host or the number of a phone."""
    transport = session.transport
    return {
        "name": shown_name(transport.name),
        "platform": transport.platform,
        "emulated": transport.emulated,
        "runtime": answer.result.runtime,
        "machine": answer.result.machine,
    }
