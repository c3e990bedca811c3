"""Sessions on a device: what is pushed, what comes back, and everything that can go wrong in between.

Whatever goes wrong is a DeviceError with its cause, and leaves nothing on the device.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.devices import CLASSES, Faulty, answers, as_model, execute, images, job, model, needs_runner

from mobileprune import native
from mobileprune.devices import Done, open_device, shown_name
from mobileprune.devices.session import Device, DeviceSession
from mobileprune.errors import DeviceError, DeviceLostError

pytestmark = needs_runner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model(tmp_path / "model.onnx")


@pytest.fixture
def opened() -> Iterator[Callable[..., DeviceSession]]:
    """Sessions on faulty devices, closed at the end, when nothing may be left of them."""
    devices = []

    def make(**options: Any) -> DeviceSession:
        devices.append(Faulty(**options))
        return DeviceSession(devices[-1])

    yield make
    for device in devices:
        device.close()
        assert not device.folder.exists()


def test_it_answers_as_this_process_does(path: Path) -> None:
    with open_device("local") as device:
        found = DeviceSession(device).run(job(path, 300))
    assert found.outputs.tobytes() == answers(path, images(300)).tobytes()
    assert found.result.timings is None
    assert found.result.machine["cores"] >= 1


def test_what_is_there_is_not_pushed_again(path: Path, tmp_path: Path, opened: Any) -> None:
    session = opened()
    session.run(job(path))
    assert sorted(session.transport.pushed) == ["in", "libonnxruntime", "model.onnx", "runner"]
    session.run(job(path, 4))
    session.run(job(path, 4))
    assert session.transport.pushed[4:] == ["in"]
    other = model(tmp_path / "other.onnx", seed=1)
    assert session.run(job(other)).outputs.tobytes() == answers(other, images(3)).tobytes()
    assert session.transport.pushed[5:] == ["model.onnx", "in"]


def test_a_profile_of_the_runtime_comes_back(path: Path, opened: Any) -> None:
    found = opened().run(job(path, runs=5, warmup=1, profile=True))
    (content,) = found.profiles.values()
    assert any(event["cat"] == "Node" for event in json.loads(content))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_connection_that_breaks_once_is_tried_again_and_resumes(path: Path, opened: Any, number: int) -> None:
    session = opened(cut=[number])
    assert session.run(job(path)).outputs.tobytes() == answers(path, images(3)).tobytes()
    large = [name for name in session.transport.pushed if name != "runner"]  # of which it is asked what is there
    assert sorted(large) == ["in", "libonnxruntime", "model.onnx"], "nothing twice"


def test_a_connection_that_stays_broken_is_an_error(path: Path, opened: Any) -> None:
    with pytest.raises(DeviceLostError, match="the connection broke while it was pushed to"):
        opened(cut=range(1, 9)).run(job(path))


def killed(command: Sequence[str], folder: Path) -> Done:
    """Is killed once it computes."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return Done(process.returncode, "", "")


def test_a_runner_that_is_killed_is_an_error(path: Path, opened: Any) -> None:
    with pytest.raises(DeviceError, match=r"the runner died: it was killed by signal 9, SIGKILL") as error:
        opened(execute=killed).run(job(path, runs=1, secs=60))
    assert not isinstance(error.value, DeviceLostError), "it is not tried again by itself: it may die of the model"


def test_a_runner_that_is_killed_once_can_be_asked_again(path: Path, opened: Any) -> None:
    session = opened(execute=lambda command, folder: Done(137, "", ""))
    with pytest.raises(DeviceError, match="SIGKILL"):
        session.run(job(path))
    pushed = list(session.transport.pushed)
    session.transport._execute = execute
    session.run(job(path))
    assert session.transport.pushed == pushed


def cut(name: str, count: int = 1) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - count)


def flipped(name: str) -> Callable[[Path], object]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def changed(**values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        value = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(value | values))

    return change


SHORT = {"shape": [3, 1], "bytes": 12, "sha256": "0" * 64}
WIDE = {"shape": [3, 2_000_000], "bytes": 24_000_000, "sha256": "0" * 64}
OTHER = {"shape": [2, CLASSES], "bytes": 40, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (cut("out"), "truncated result"),
        (cut("out", 60), "truncated result"),
        (flipped("out"), "the outputs were damaged on the way back"),
        (cut("result.json", 2), "truncated or damaged result"),
        (lambda folder: (folder / "result.json").write_text(""), "truncated or damaged result"),
        (lambda folder: (folder / "result.json").write_text("[" * 100_000), "truncated or damaged result"),
        (lambda folder: (folder / "result.json").write_text('{"load_ms": NaN}'), "damaged result"),
        (lambda folder: (folder / "result.json").unlink(), "cannot read result.json from there"),
        (lambda folder: (folder / "out").unlink(), "cannot read out from there"),
        (changed(schema="mobileprune.runner/2"), "not one of this version's runner"),
        (changed(model_sha256="0" * 64), "of another model"),
        (changed(outputs=SHORT), "out has 60 bytes, more than the 12 expected"),
        (changed(outputs=WIDE), "truncated result"),
        (lambda folder: os.truncate(folder / "result.json", 2**28), "result.json has 268,435,456 bytes, more than"),
        (changed(outputs=OTHER), "truncated result"),
        (changed(profiles=["../../etc/passwd"]), "is no profile"),
        (changed(profiles=["profile-model/../../x.json"]), "is no profile"),
        (changed(load_ms=-1), "load_ms"),
        (changed(runtime="1.0\u001b[2J"), "runtime"),
        (changed(more=1), "more"),
    ],
)
def test_what_comes_back_is_not_believed(path: Path, opened: Any, after: Any, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        opened(after=after).run(job(path))


def test_a_device_does_not_choose_the_number_of_classes(path: Path, opened: Any) -> None:
    """It would choose how much is brought."""
    assert opened().run(job(path, num_classes=CLASSES)).outputs.shape == (3, CLASSES)
    with pytest.raises(DeviceError, match=f"answers with {CLASSES} classes, the model has {CLASSES + 1}"):
        opened().run(job(path, num_classes=CLASSES + 1))


def elf(path: Path, machine: int) -> Path:
    """The head of a program for another processor."""
    kind = b"".join(number.to_bytes(2, "little") for number in (2, machine))
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + kind + bytes(99))
    path.chmod(0o755)
    return path


AARCH64, X86_64 = 183, 62


def another(platform: str) -> tuple[int, str]:
    return (X86_64, "x86_64") if "aarch64" in platform else (AARCH64, "aarch64")


def test_a_runtime_of_another_architecture_is_not_even_pushed(tmp_path: Path) -> None:
    machine, name = another(native.this_platform())
    device = Device("local", elf(tmp_path / "libonnxruntime.so", machine))
    with pytest.raises(DeviceError, match=f"wrong architecture: it was built for {name}"), device.session():
        pass


def test_a_runner_of_another_architecture_is_found_out_there(
    path: Path, tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its header could not be judged beforehand, the system of the device says so."""
    machine, _ = another(native.this_platform())
    foreign = elf(tmp_path / "runner", machine)
    monkeypatch.setattr(native, "runner", lambda platform: foreign)
    with pytest.raises(DeviceError, match="wrong architecture"):
        opened()
    monkeypatch.setattr("mobileprune.devices.session.check_fits", lambda path, platform: None)
    with open_device("local") as device, pytest.raises(DeviceError, match=r"cannot run \./runner: Exec format error"):
        DeviceSession(device).run(job(path))
    session = opened(execute=lambda command, folder: Done(126, "", "sh: ./runner: cannot execute binary file"))
    monkeypatch.undo()
    session._files["runner"] = native.runner(native.this_platform())
    with pytest.raises(DeviceError, match=r"cannot be executed: wrong architecture.*cannot execute binary file"):
        session.run(job(path))


def test_a_platform_without_a_runner_names_the_way_to_one() -> None:
    device = Faulty(platform="linux-vax")
    with pytest.raises(DeviceError, match=r"there is no runner for linux-vax; build it .*export/README\.md"):
        DeviceSession(device)
    device.close()


def test_no_runtime_for_the_device(path: Path, tmp_path: Path) -> None:
    device = Faulty()
    device.runtime = None
    with pytest.raises(DeviceError, match=r"no ONNX Runtime for .* with --device-runtime"):
        DeviceSession(device)
    device.close()
    library = native.library()
    assert library is not None
    (tmp_path / "text").write_text("no library")
    for runtime, says in (
        (library, r"ONNX Runtime is missing there.*no OrtGetApiBase"),
        (tmp_path / "text", r"text: is no program or library"),
        (tmp_path / "missing", r"cannot read .*missing: No such file"),
    ):
        with pytest.raises(DeviceError, match=says), Device("local", runtime).session() as session:
            session.run(job(path))


def test_a_model_that_the_device_refuses(tmp_path: Path, opened: Any) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model(tmp_path / "whole.onnx").read_bytes()[:300])
    with pytest.raises(DeviceError, match=r"its ONNX Runtime refuses the model: .*runner: model\.onnx"):
        opened().run(job(broken))


class Counting(Faulty):
    def __init__(self, counts: list[int]) -> None:
        super().__init__(emulated=True)
        self.counts, self.commands = counts, []

    def count_instructions(self, command: Sequence[str], *, timeout_secs: float) -> list[int]:
        self.commands.append(list(command))
        return self.counts


def test_instructions_are_counted_where_the_device_counts(path: Path, tmp_path: Path, opened: Any) -> None:
    baseline = as_model(model(tmp_path / "other.onnx", seed=1))
    device = Counting([100, 250])
    session = DeviceSession(device)
    assert session.count(job(path, 1, baseline=baseline)) == [100, 250]
    assert device.commands[0][-1] == "--count-markers"
    for counts in ([], [100], [100, 0], [1, 2, 3]):
        device.counts = counts
        with pytest.raises(DeviceError, match="must be 2 numbers above 0"):
            session.count(job(path, 1, baseline=baseline))
    device.close()
    with pytest.raises(DeviceError, match="counts no instructions; an emulated device does"):
        opened().count(job(path))


def test_inputs_reach_the_device_whole(path: Path, opened: Any) -> None:
    session = opened()
    session.run(job(path, 5))
    sent = np.fromfile(session.transport.folder / "in", "<f4").reshape(images(5).shape)
    assert np.array_equal(sent, images(5))


def test_results_name_no_host_and_no_phone() -> None:
    assert shown_name("ssh://me@my.board:22") == "ssh"
    assert shown_name("adb:R58M12ABC") == "adb"
    assert shown_name("qemu:cortex-a53") == "qemu:cortex-a53"
