"""The ssh transport against a real sshd on loopback: names of any kind, exit codes, faults, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import sshd

from mobileprune.devices import Transport, open_device
from mobileprune.devices.base import ended
from mobileprune.devices.ssh import _target
from mobileprune.errors import DeviceError, DeviceLostError, UsageError
from mobileprune.native import this_platform

real = pytest.mark.skipif(not sshd.AVAILABLE, reason=sshd.REASON)
AWKWARD = "in/a b'c\"d $HOME;e\\n*é.bin"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    with sshd.server(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def server(shared: sshd.Server, monkeypatch: pytest.MonkeyPatch) -> sshd.Server:
    monkeypatch.setenv("PATH", shared.path)
    shared.know(shared.folder / "host.pub")
    return shared


def folder_of(device: Transport) -> Path:
    return Path(device.run(["pwd"], timeout_secs=20).stdout.strip())


@real
def test_push_run_pull_and_nothing_is_left(server: sshd.Server, tmp_path: Path) -> None:
    source, program, back = tmp_path / "source", tmp_path / "program", tmp_path / "back"
    source.write_bytes(bytes(range(256)) * 5000)
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\necho bad >&2\nexit 255\n')
    program.chmod(0o755)
    with open_device(server.name) as device:
        assert (device.name, device.platform, device.emulated) == (server.name, this_platform(), False)
        device.push(source, AWKWARD)
        device.push(program, "program")
        done = device.run(["./program", "a  b", "", "$(id)", "'", "\n"], timeout_secs=20)
        device.pull(AWKWARD, back, max_bytes=2**21)
        folder = folder_of(device)
        assert sorted(path.name for path in folder.rglob("*")) == sorted(["in", Path(AWKWARD).name, "program"])
        assert folder.stat().st_mode & 0o77 == 0
    assert (done.returncode, done.stdout, done.stderr) == (255, "a  b||$(id)|'|\n|", "bad\n")
    assert back.read_bytes() == source.read_bytes()
    assert not folder.exists()


@real
def test_what_cannot_be_done_is_said(server: sshd.Server, tmp_path: Path) -> None:
    with open_device(server.name) as device:
        killed = device.run(["sh", "-c", "kill -9 $$"], timeout_secs=20)
        assert "was killed by signal 9" in ended(killed)
        assert device.run(["./nothing"], timeout_secs=20).returncode == 127
        with pytest.raises(DeviceError, match=r"cannot read nothing from there: .*[Nn]o such file"):
            device.pull("nothing", tmp_path / "x", max_bytes=2**21)
        with pytest.raises(DeviceError, match="cannot send x: No such file"):
            device.push(tmp_path / "missing", "x")
        with pytest.raises(DeviceError, match=r"sleep did not finish within 0\.5 s"):
            device.run(["sleep", "1000"], timeout_secs=0.5)
        assert not (tmp_path / "x").exists()
        assert "sleep 1000" not in device.run(["ps", "-eo", "args"], timeout_secs=20).stdout


@real
def test_a_cut_connection_is_told_and_the_next_one_cleans_up(server: sshd.Server) -> None:
    with open_device(server.name) as device:
        folder = folder_of(device)
        cutter = threading.Thread(target=_cut_when_running, args=(server, folder))
        cutter.start()
        with pytest.raises(DeviceLostError, match="no connection"):
            device.run(["sleep", "1000"], timeout_secs=60)
        cutter.join()
    assert not folder.exists()


def _cut_when_running(server: sshd.Server, folder: Path) -> None:
    until = time.monotonic() + 30
    while not (folder / ".pid").exists() and time.monotonic() < until:
        time.sleep(0.02)
    server.cut()


@real
def test_a_connection_cut_mid_push_leaves_no_file(server: sshd.Server, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(4 << 30)
    with open_device(server.name) as device:
        folder = folder_of(device)

        def cut() -> None:
            until = time.monotonic() + 30
            while time.monotonic() < until and not ((folder / ".part").exists() and (folder / ".part").stat().st_size):
                time.sleep(0.002)
            server.cut()

        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(DeviceLostError, match="no connection"):
            device.push(source, "model.onnx")
        cutter.join()
        assert not (folder / "model.onnx").exists()
    assert not folder.exists()


@real
def test_an_unknown_or_changed_host_key_is_never_accepted(server: sshd.Server) -> None:
    known = server.folder / "known"
    known.write_text("")
    with pytest.raises(DeviceError, match=r"not in your known_hosts\. Connect once by hand"), open_device(server.name):
        pass
    assert known.read_text() == ""
    server.know(server.folder / "other.pub")
    with pytest.raises(DeviceError, match="key is not the one in your known_hosts"), open_device(server.name):
        pass


@real
def test_a_key_that_is_not_accepted(server: sshd.Server) -> None:
    authorized = server.folder / "user.pub"
    kept = authorized.read_text()
    authorized.write_text((server.folder / "other.pub").read_text())
    try:
        with pytest.raises(DeviceError, match=r"Permission denied.*ssh-copy-id"), open_device(server.name):
            pass
    finally:
        authorized.write_text(kept)


@real
def test_nobody_listens(server: sshd.Server) -> None:
    with pytest.raises(DeviceLostError, match="refused"), open_device("ssh://127.0.0.1:9"):
        pass


def test_without_a_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="ssh is not installed"), open_device("ssh://host"):
        pass


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ssh://pi@raspberry.local", ["-l", "pi", "--", "raspberry.local"]),
        ("ssh://MyPhone", ["--", "MyPhone"]),
        ("ssh://u_1@10.0.0.1:2222", ["-p", "2222", "-l", "u_1", "--", "10.0.0.1"]),
        ("ssh://[fe80::1%eth0]:22/", ["-p", "22", "--", "fe80::1%eth0"]),
    ],
)
def test_names(name: str, words: list[str]) -> None:
    assert _target(name) == words


@pytest.mark.parametrize(
    "name",
    [
        "ssh://",
        "ssh:host",
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://a b",
        "ssh://h/x",
        "ssh://u:pw@h",
        "ssh://h:0x",
    ],
)
def test_names_that_are_no_host(name: str) -> None:
    with pytest.raises(UsageError, match="must be ssh://user@host:port"), open_device(name):
        pass
