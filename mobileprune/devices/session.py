"""One run of a model file on a device: what it needs is pushed unless it is there, what comes back is checked.

A connection that breaks is tried once more, and finds what was pushed before.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mobileprune import native
from mobileprune.bounds import MOST_CLASSES
from mobileprune.devices import open_device
from mobileprune.devices.base import CountingTransport, Done, Transport, ended
from mobileprune.devices.elf import check_fits
from mobileprune.devices.job import Answer, Job
from mobileprune.devices.result import MAX_RESULT_BYTES, RunResult, read_result
from mobileprune.errors import DeviceError, DeviceLostError, UsageError
from mobileprune.files import sha256

T = TypeVar("T")
START_SECS = 300.0
"""For loading the runtime and the models, beside what is timed."""
IMAGE_SECS, EMULATED_IMAGE_SECS = 2.0, 20.0
HASH_SECS = 300.0
RUNNER, RUNTIME, OPERATORS = "runner", "libonnxruntime", "operators"
INPUTS, OUTPUTS, RESULT = "in", "out", "result.json"
PROFILES = re.compile(r"profile-(model|baseline)[\w.-]*\.json")
MAX_PROFILE_BYTES = 64 * 2**20
MEANINGS = {
    2: "the runner refuses what it was asked",
    3: "a file was damaged on the way",
    4: "ONNX Runtime is missing there, too old, or does not fit the device",
    5: "its ONNX Runtime refuses the model",
    6: "inference failed",
    7: "its disk is full or cannot be read",
    126: "the runner cannot be executed: wrong architecture, or a folder that forbids it",
    127: "the runner or its loader is not there: wrong architecture or C library",
}
"""Of the runner's exit codes, and those of a shell."""


class DeviceSession:
    """Runs jobs on one device. Whoever opened the transport closes it.

    ``runtime``: a libonnxruntime for the device on this machine, where the transport has none of its own.
    Raises DeviceError when there is no runner or no runtime for it, or one of another architecture.
    """

    def __init__(self, transport: Transport, *, runtime: Path | None = None) -> None:
        self.transport, self.runtime = transport, _runtime(transport, runtime)
        self._files = {RUNNER: _runner(transport), RUNTIME: self.runtime}
        self._there: dict[str, str] = {}

    def run(self, job: Job) -> Answer:
        """Answers for all inputs, and what was measured; DeviceError says why there are none."""

        def once() -> Answer:
            command = [*self._command(job, self._pushed(job)), *(["--profile", "profile"] if job.profile else [])]
            self._check(self.transport.run(command, timeout_secs=self._timeout(job)))
            return self._pulled(job)

        return self._again_if_lost(once)

    def count(self, job: Job) -> list[int]:
        """Instructions of one inference: of the model's, then of the baseline's if there is one."""
        transport = self.transport
        if not isinstance(transport, CountingTransport):
            raise DeviceError(f"{transport.name}: counts no instructions; an emulated device does (qemu:cortex-a76)")

        def once() -> list[int]:
            command = [*self._command(job, self._pushed(job)), "--count-markers"]
            return transport.count_instructions(command, timeout_secs=self._timeout(job))

        counts = self._again_if_lost(once)
        expected = 2 if job.baseline else 1
        if len(counts) != expected or not all(count > 0 for count in counts):
            raise DeviceError(f"{transport.name}: counted {counts}, must be {expected} numbers above 0")
        return counts

    def _again_if_lost(self, once: Callable[[], T]) -> T:
        try:
            return once()
        except DeviceLostError:
            self._there.clear()
            return once()

    def _pushed(self, job: Job) -> dict[str, str]:
        """Remote names by what they are for, once all is there."""
        suffix = job.model.path.suffix
        local = {**self._files, f"model{suffix}": job.model.path}
        if job.operators:
            check_fits(job.operators, self.transport.platform)
            local[OPERATORS] = job.operators
        if job.baseline:
            local[f"baseline{job.baseline.path.suffix}"] = job.baseline.path
        with tempfile.TemporaryDirectory() as folder:
            local[INPUTS] = Path(folder, INPUTS)
            np.ascontiguousarray(job.inputs, "<f4").tofile(local[INPUTS])
            self._push(local)
        return {Path(name).stem: name for name in local}

    def _push(self, local: dict[str, Path]) -> None:
        wanted = {name: sha256(path) for name, path in local.items()}
        asked = [name for name in wanted if self._there.get(name) != wanted[name]]
        if RUNNER in asked:  # it is what tells of the others
            self.transport.push(local[RUNNER], RUNNER)
        found = self._hashes(asked)
        missing = [name for name in asked if found[name] != wanted[name]]
        for name in missing:
            self.transport.push(local[name], name)
        found |= self._hashes(missing)
        for name in asked:
            if found[name] != wanted[name]:
                raise DeviceError(f"{self.transport.name}: {name} was damaged on the way; try again")
        self._there |= wanted

    def _hashes(self, names: list[str]) -> dict[str, str]:
        """SHA-256 of the files that are there, ``-`` for the others."""
        if not names:
            return {}
        done = self.transport.run([f"./{RUNNER}", "--hash", *names], timeout_secs=HASH_SECS)
        self._check(done)
        lines = done.stdout.splitlines()
        if len(lines) != len(names):
            raise DeviceError(f"{self.transport.name}: the runner does not say what is there: {done.stdout[:200]!r}")
        return {name: line.partition(" ")[0] for name, line in zip(names, lines, strict=True)}

    def _command(self, job: Job, files: dict[str, str]) -> list[str]:
        command = [f"./{RUNNER}", "--runtime", RUNTIME, "--model", files["model"], "--sha256", job.model.sha256]
        if job.operators:
            command += ["--operators", OPERATORS]
        if job.baseline:
            command += ["--baseline", files["baseline"], "--baseline-sha256", job.baseline.sha256]
        return [*command, "--inputs", INPUTS, "--outputs", OUTPUTS, "--result", RESULT, *job.arguments()]

    def _timeout(self, job: Job) -> float:
        each = EMULATED_IMAGE_SECS if self.transport.emulated else IMAGE_SECS
        return START_SECS + each * len(job.inputs) + 10 * (job.secs + job.warmup_secs) + 2 * job.sustained_secs

    def _check(self, done: Done) -> None:
        if done.returncode:
            meaning = MEANINGS.get(done.returncode, "the runner died")
            raise DeviceError(f"{self.transport.name}: {meaning}: it {ended(done)}")

    def _pulled(self, job: Job) -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            result_file, outputs_file = Path(folder, RESULT), Path(folder, OUTPUTS)
            self.transport.pull(RESULT, result_file, max_bytes=MAX_RESULT_BYTES)
            result = read_result(result_file, self.transport.name, job.model.sha256)
            outputs = self._outputs(result, job, outputs_file)
            return Answer(outputs, result, {each: self._profile(each, Path(folder)) for each in result.profiles})

    def _outputs(self, result: RunResult, job: Job, file: Path) -> NDArray[np.float32]:
        name, (answered, classes), found = self.transport.name, result.output_shape, result.output_bytes
        rows = len(job.inputs)
        if job.num_classes not in (None, classes):  # before they are brought: a device may claim any number
            raise DeviceError(f"{name}: answers with {classes} classes, the model has {job.num_classes}")
        expected = 4 * rows * classes
        whole = found == expected and answered == rows and classes <= MOST_CLASSES
        if whole:
            self.transport.pull(OUTPUTS, file, max_bytes=expected)
            found = file.stat().st_size
        if not whole or found != expected:
            raise DeviceError(
                f"{name}: truncated result: {found:,} bytes of outputs for {rows} images, the runner wrote "
                f"{result.output_bytes:,} of shape {result.output_shape}; try again"
            )
        if sha256(file) != result.output_sha256:
            raise DeviceError(f"{name}: the outputs were damaged on the way back; try again")
        return np.fromfile(file, "<f4").reshape(result.output_shape).astype(np.float32)

    def _profile(self, remote: str, folder: Path) -> bytes:
        if not PROFILES.fullmatch(remote):
            raise DeviceError(f"{self.transport.name}: {remote[:80]!r} is no profile of the runner")
        self.transport.pull(remote, folder / "profile", max_bytes=MAX_PROFILE_BYTES)
        return (folder / "profile").read_bytes()


@dataclass(frozen=True)
class Device:
    """A device as the user gives it: its name, a libonnxruntime for it on this machine, CPUs to keep to (``0,1``)."""

    name: str
    runtime: Path | None = None
    cpus: str = ""

    @classmethod
    def of(cls, given: Device | str) -> Device:
        return given if isinstance(given, Device) else cls(given)

    def __post_init__(self) -> None:
        if self.cpus and not re.fullmatch(r"[0-9]+(,[0-9]+)*", self.cpus):
            raise UsageError(f"--cpus {self.cpus}: must be numbers of CPUs with commas between, such as 0,1")

    @contextmanager
    def session(self) -> Iterator[DeviceSession]:
        """Raises as :func:`open_device` and :class:`DeviceSession`."""
        with open_device(self.name) as transport:
            yield DeviceSession(transport, runtime=self.runtime)


def _runner(transport: Transport) -> Path:
    found = native.runner(transport.platform)
    if found is None:
        raise DeviceError(
            f"{transport.name}: there is no runner for {transport.platform}; build it (CMake and a compiler, for other "
            "platforms zig): export/README.md, 'Run on a device'"
        )
    check_fits(found, transport.platform)
    return found


def _runtime(transport: Transport, given: Path | None) -> Path:
    found = given or transport.runtime
    if found is None:
        raise DeviceError(
            f"{transport.name}: no ONNX Runtime for {transport.platform} on this machine; name its libonnxruntime.so "
            "with --device-runtime"
        )
    check_fits(found, transport.platform)
    return found
