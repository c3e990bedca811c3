"""The local device and its null twin, and what every transport shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mobileprune.devices import DEVICES, Done, open_device
from mobileprune.devices.base import ended, remote_name
from mobileprune.devices.local import NullTransport
from mobileprune.errors import DeviceError, UsageError


def test_push_run_pull_and_nothing_is_left(tmp_path: Path) -> None:
    source, back = tmp_path / "a b'c.bin", tmp_path / "back"
    source.write_bytes(b"\0\1")
    with open_device("local") as device:
        device.push(source, "in/a b'c.bin")
        done = device.run(["cp", "in/a b'c.bin", "out $x;"], timeout_secs=10)
        device.pull("out $x;", back, max_bytes=2**21)
        folder = Path(device.run(["pwd"], timeout_secs=10).stdout.strip())
        assert folder.is_dir()
        device.close()
    assert (done.returncode, back.read_bytes(), folder.exists()) == (0, b"\0\1", False)


def test_what_may_be_executed_here_may_be_there(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho $1; echo bad >&2; exit 7\n")
    program.chmod(0o755)
    with open_device("local") as device:
        device.push(program, "program")
        done = device.run(["./program", "a  b"], timeout_secs=10)
    assert done == Done(7, "a b\n", "bad\n")
    assert ended(done) == "ended with exit code 7 (bad)"


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt()])
def test_its_folder_goes_after_errors_too(failure: BaseException) -> None:
    folders = []

    def fail() -> None:
        with open_device("local") as device:
            folders.append(Path(device.run(["pwd"], timeout_secs=10).stdout.strip()))
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert not folders[0].exists()


def test_what_cannot_be_done_is_said() -> None:
    with open_device("local") as device:
        with pytest.raises(DeviceError, match=r"local: cannot run \./nothing: No such file"):
            device.run(["./nothing"], timeout_secs=10)
        with pytest.raises(DeviceError, match=r"sleep did not finish within 0\.1 s"):
            device.run(["sleep", "10"], timeout_secs=0.1)
        with pytest.raises(DeviceError, match="cannot read nothing from there: No such file"):
            device.pull("nothing", Path(os.devnull), max_bytes=2**21)
        killed = device.run(["sh", "-c", "kill -9 $$"], timeout_secs=10)
    assert ended(killed) == "was killed by signal 9, SIGKILL: often for want of memory"
    assert ended(Done(139, "", "")) == "was killed by signal 11, SIGSEGV"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "-rf", ".hidden", "a//b", "a\0b"])
def test_names_stay_in_the_working_folder(name: str) -> None:
    with pytest.raises(DeviceError, match="no name of a file"):
        remote_name(name)


@pytest.mark.parametrize("name", ["locla", "", "telnet://host"])
def test_unknown_devices_are_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=f"choose from .*{next(iter(DEVICES))}"), open_device(name):
        pass


def test_the_null_twin_runs_what_it_is_given(tmp_path: Path) -> None:
    device = NullTransport(lambda command, folder: Done(0, " ".join(sorted(x.name for x in folder.iterdir())), ""))
    (tmp_path / "x").write_bytes(b"1")
    device.push(tmp_path / "x", "model.onnx")
    assert device.run(["any"], timeout_secs=1).stdout == "model.onnx"
    with pytest.raises(DeviceError, match="cannot write"):
        device.push(tmp_path / "missing", "x")
    device.close()
