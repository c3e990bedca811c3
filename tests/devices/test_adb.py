"""The adb transport: a real adb with a real adbd (Debian's build of it: no Android around it)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import adbd

from mobileprune.devices import open_device
from mobileprune.devices.adb import attached
from mobileprune.devices.base import ended
from mobileprune.errors import DeviceError, DeviceLostError, UsageError
from mobileprune.native import this_platform

real = pytest.mark.skipif(not adbd.AVAILABLE, reason=adbd.REASON)
AWKWARD = "in/a b'c\"d $HOME;e\\n*é.bin"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[adbd.Phone]:
    with adbd.phone(tmp_path_factory.mktemp("adbd")) as made:
        yield made


@pytest.fixture
def phone(shared: adbd.Phone, monkeypatch: pytest.MonkeyPatch) -> adbd.Phone:
    monkeypatch.setenv("PATH", shared.path)
    shared.attach()
    return shared


@real
def test_push_run_pull_and_nothing_is_left(phone: adbd.Phone, tmp_path: Path) -> None:
    source, program, back = tmp_path / "source", tmp_path / "program", tmp_path / "back"
    source.write_bytes(bytes(range(256)) * 5000)
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\necho bad >&2\nexit 255\n')
    program.chmod(0o755)
    with open_device("adb") as device:
        assert (device.name, device.platform, device.emulated) == ("adb", this_platform(), False)
        device.push(source, AWKWARD)
        device.push(program, "program")
        done = device.run(["./program", "a  b", "", "$(id)", "'", "\n"], timeout_secs=20)
        device.pull(AWKWARD, back, max_bytes=2**21)
        (folder,) = phone.files.iterdir()
        assert sorted(path.name for path in folder.rglob("*")) == sorted(["in", Path(AWKWARD).name, "program"])
    assert (done.returncode, done.stdout, done.stderr) == (255, "a  b||$(id)|'|\n|", "bad\n")
    assert back.read_bytes() == source.read_bytes()
    assert list(phone.files.iterdir()) == []


@real
def test_what_cannot_be_done_is_said(phone: adbd.Phone, tmp_path: Path) -> None:
    with open_device("adb:127.0.0.1:5700") as device:
        killed = device.run(["sh", "-c", "kill -9 $$"], timeout_secs=20)
        assert "was killed by signal 9" in ended(killed)
        assert device.run(["./nothing"], timeout_secs=20).returncode == 127
        with pytest.raises(DeviceError, match=r"cannot read nothing from there: .*[Nn]o such file"):
            device.pull("nothing", tmp_path / "x", max_bytes=2**21)
        with pytest.raises(DeviceError, match="cannot send x: there is no such file here"):
            device.push(tmp_path / "missing", "x")
        with pytest.raises(DeviceError, match=r"sleep did not finish within 0\.5 s"):
            device.run(["sleep", "1000"], timeout_secs=0.5)
        assert "sleep 1000" not in device.run(["ps"], timeout_secs=20).stdout


@real
def test_a_folder_is_no_file_and_is_not_brought_without_bound(phone: adbd.Phone, tmp_path: Path) -> None:
    """adb fetches all that is in it."""
    with open_device("adb") as device:
        many = "mkdir few many; for i in 1 2 3; do head -c 1000000 /dev/zero >many/$i; done"
        assert device.run(["sh", "-c", many], timeout_secs=20).returncode == 0
        for name, says in (("few", "it is no file"), ("many", r"sends more than the 2,097,152 bytes")):
            with pytest.raises(DeviceError, match=says):
                device.pull(name, tmp_path / "x", max_bytes=2**21)
            assert not (tmp_path / "x").exists()


@real
def test_what_a_lost_connection_left_running_ends_before_the_next(phone: adbd.Phone) -> None:
    with open_device("adb") as device:
        orphan = "setsid sleep 1234 >/dev/null 2>&1 </dev/null & echo $! >number"
        assert device.run(["sh", "-c", orphan], timeout_secs=20).returncode == 0
        assert "sleep 1234" in device.run(["ps", "-ef"], timeout_secs=20).stdout
        (folder,) = phone.files.iterdir()
        (folder / "number").rename(folder / ".pid")
        assert device.run(["true"], timeout_secs=20).returncode == 0
        assert "sleep 1234" not in device.run(["ps", "-ef"], timeout_secs=20).stdout


@real
def test_one_of_several_has_to_be_chosen(phone: adbd.Phone) -> None:
    other = phone.attach("127.0.0.2")
    try:
        assert set(attached()) == {"127.0.0.1:5700", other}
        listed = "choose one of adb:127.0.0.1:5700, adb:127.0.0.2:5700"
        with pytest.raises(DeviceError, match=listed), open_device("adb"):
            pass
        with open_device(f"adb:{other}") as device:
            assert device.name == f"adb:{other}"
    finally:
        phone.adb("disconnect", other)


@real
def test_none_is_attached(phone: adbd.Phone) -> None:
    with pytest.raises(DeviceError, match="no such device is attached; there is 127"), open_device("adb:0123"):
        pass
    phone.adb("disconnect")
    with pytest.raises(DeviceError, match="no device is attached: allow USB debugging"), open_device("adb"):
        pass


@real
def test_a_pulled_cable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with adbd.phone(tmp_path) as phone:
        monkeypatch.setenv("PATH", phone.path)
        phone.attach()
        with open_device("adb") as device:
            puller = threading.Thread(target=_stop_when_running, args=(phone,))
            puller.start()
            with pytest.raises(DeviceLostError, match="no connection"):
                device.run(["sleep", "1000"], timeout_secs=60)
            puller.join()
            with pytest.raises(DeviceLostError):
                device.close()


def _stop_when_running(phone: adbd.Phone) -> None:
    until = time.monotonic() + 30
    while not list(phone.files.glob("*/.pid")) and time.monotonic() < until:
        time.sleep(0.02)
    phone.stop()


def test_without_a_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="adb is not installed"), open_device("adb"):
        pass


def test_a_serial_that_is_empty_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="must be adb or adb:SERIAL"), open_device("adb:"):
        pass
