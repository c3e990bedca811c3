"""``mobileprune devices``: which devices there are, and whether one works, step by step down to an inference on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobileprune import native
from mobileprune.devices import kind_of, open_device
from mobileprune.devices.adb import STATES, attached
from mobileprune.devices.base import CountingTransport, Transport
from mobileprune.devices.elf import check_fits
from mobileprune.devices.job import Job, Model
from mobileprune.devices.profiles import PROFILES
from mobileprune.devices.qemu_parts import Parts, check_programs, emulator, plugin
from mobileprune.devices.qemu_setup import Say, remove, set_up
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import DeviceError, MobilepruneError, UsageError
from mobileprune.files import sha256

ROOM_MIB = 200
"""What ONNX Runtime, two models and a set of images take."""
TRIAL = ((1.0, -2.0), (0.5, 4.0))


@dataclass(frozen=True)
class Entry:
    """A device, a check or a step of a set-up; ``says``: what it is, or what is wrong and the way out."""

    name: str
    ready: bool
    says: str


@dataclass(frozen=True)
class DevicesResult:
    """``ready`` is False where something that was asked for is not available."""

    action: str
    device: str | None
    ready: bool
    entries: tuple[Entry, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "entries": [asdict(entry) for entry in self.entries]}


def listed() -> DevicesResult:
    """Every device that can be named without being told of."""
    ssh = shutil.which("ssh") is not None
    entries = [Entry("local", True, "this machine"), *_emulated(), *_attached()]
    said = "any host that ssh reaches with a key" if ssh else "ssh is not installed: apt-get install openssh-client"
    return DevicesResult("list", None, True, (*entries, Entry("ssh://USER@HOST", ssh, said)))


def examined(name: str, runtime: Path | None = None) -> DevicesResult:
    """Connects to the device and tries all that a benchmark there needs; the first thing that fails ends it."""
    kind_of(name)
    entries = []
    try:
        with open_device(name) as device:
            entries.append(Entry("connection", True, f"{device.name}, {device.platform}"))
            for check, look in CHECKS.items():
                try:
                    entries.append(Entry(check, True, look(device, runtime)))
                except MobilepruneError as error:
                    entries.append(Entry(check, False, str(error)))
                    break
        entries.append(Entry("clean-up", True, "its working folder is gone"))
    except DeviceError as error:
        entries.append(Entry("clean-up" if entries else "connection", False, str(error)))
    return DevicesResult("doctor", name, all(entry.ready for entry in entries), tuple(entries))


def prepared(name: str, say: Say) -> DevicesResult:
    """``devices setup``; ``say`` is told of each step before it is done."""
    _only_qemu("setup", name)
    done = set_up(say)
    entries = tuple(Entry(step, True, "kept" if kept else "done") for step, kept in done)
    return DevicesResult("setup", "qemu", True, entries)


def removed(name: str) -> DevicesResult:
    """``devices remove``: undoes the set-up."""
    _only_qemu("remove", name)
    folder = remove()
    return DevicesResult("remove", "qemu", True, (Entry("qemu", True, f"{folder} is gone" if folder else "not there"),))


def _only_qemu(action: str, name: str) -> None:
    if kind_of(name) != "qemu":
        raise UsageError(f"devices {action} {name}: only qemu has something to set up")


def _emulated() -> list[Entry]:
    try:
        for check in (emulator, check_programs, Parts.found, plugin):
            check()
    except DeviceError as error:
        return [Entry(f"qemu:{cpu}", False, str(error).removeprefix("qemu: ")) for cpu in PROFILES]
    return [Entry(f"qemu:{cpu}", True, "emulated: counts instructions, takes no times") for cpu in PROFILES]


def _attached() -> list[Entry]:
    try:
        found = attached()
    except DeviceError as error:
        return [Entry("adb", False, str(error).removeprefix("adb: "))]
    if not found:
        return [Entry("adb", False, "no device is attached")]
    said = {"device": "attached", **STATES}
    return [Entry(f"adb:{serial}", state == "device", said.get(state, state)) for serial, state in found.items()]


def _space(device: Transport, runtime: Path | None) -> str:
    if device.emulated or device.name == "local":
        free = shutil.disk_usage(tempfile.gettempdir()).free >> 20
    else:
        done = device.run(["df", "-Pk", "."], timeout_secs=60)
        words = done.stdout.splitlines()[-1].split() if done.stdout.strip() else []
        if done.returncode or len(words) < 4 or not words[3].isdecimal():
            return "unknown: it has no df"
        free = int(words[3]) >> 10
    if free < ROOM_MIB:
        raise DeviceError(f"only {free:,} MiB are free where mobileprune works there, {ROOM_MIB} are needed")
    return f"{free:,} MiB free"


def _files(device: Transport, runtime: Path | None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source, back = Path(folder, "source"), Path(folder, "back")
        source.write_bytes(bytes(range(256)) * 64)
        device.push(source, "doctor.bin")
        device.pull("doctor.bin", back, max_bytes=source.stat().st_size)
        if source.read_bytes() != back.read_bytes():
            raise DeviceError(f"{device.name}: a file came back changed")
    return "one was sent and came back the same"


def _runner(device: Transport, runtime: Path | None) -> str:
    session_runner = native.runner(device.platform)
    if session_runner is None:
        raise DeviceError(f"there is no runner for {device.platform}: export/README.md, 'Devices'")
    check_fits(session_runner, device.platform)
    return f"built for {device.platform}"


def _operators(device: Transport, runtime: Path | None) -> str:
    there = native.library_for(device.platform) is not None
    return f"built for {device.platform}" if there else "not built: files use stock kernels there"


def _inference(device: Transport, runtime: Path | None) -> str:
    """A model of one operator that gives back what it is given."""
    inputs = np.array(TRIAL, np.float32).reshape(2, 2, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial.onnx")
        path.write_bytes(_trial_model())
        session = DeviceSession(device, runtime=runtime)
        job = Job(Model(path, sha256(path)), inputs, num_classes=2)
        answer = session.run(job)
        if not np.array_equal(answer.outputs, inputs.reshape(2, 2)):
            raise DeviceError(f"{device.name}: ONNX Runtime there computes something else")
        if isinstance(device, CountingTransport):
            (count,) = session.count(job)
            return f"ONNX Runtime {answer.result.runtime}; {count:,} instructions were counted"
    return f"ONNX Runtime {answer.result.runtime}"


def _trial_model() -> bytes:
    from onnx import TensorProto, helper

    node = helper.make_node("Flatten", ["input"], ["logits"])
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2, 1, 1])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph([node], "trial", [given], [made])
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


CHECKS: dict[str, Callable[[Transport, Path | None], str]] = {
    "space": _space,
    "files": _files,
    "runner": _runner,
    "native operators": _operators,
    "inference": _inference,
}
