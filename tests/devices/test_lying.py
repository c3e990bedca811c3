"""A device that lies about what it sends: this machine, behind programs that stand for ssh and adb."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobileprune.devices import Transport, adb, client, open_device, ssh
from mobileprune.errors import DeviceError, DeviceLostError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="what stands for ssh and adb are shell scripts")
SSH = """#!/bin/sh
for script; do :; done
script=${script#exec sh -c }
case "$script" in *"&& cat"*) FETCH;; esac
eval exec sh -c "$script"
"""
FETCH = {
    "more than it announced": "echo 10; exec cat /dev/zero",
    "a size without end": "exec cat /dev/zero",
    "what it announced": "echo 3000000000; exec cat /dev/zero",
    "nothing more": "echo 10; exec sleep 1000",
    "nothing, and its child has our pipe": "echo 10; sleep 60 & wait",
    "less than it announced": "echo 10; echo 123; exit 0",
    "one byte more": "echo 2; echo 12; exit 0",
    "no number": "echo -2; exit 0",
    "a long number": f"echo {'1' * 60}; exit 0",
}


def installed(name: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / name
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
    installed("ssh", SSH.replace("FETCH", FETCH[request.param]), tmp_path, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with open_device("ssh://liar") as made:
        yield made


@pytest.mark.parametrize("device", ["more than it announced", "a size without end", "what it announced"], indirect=True)
def test_a_flood_is_stopped(device: Transport, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"ssh://liar: sends more than the 1,064 bytes that are expected") as refused:
        device.pull("result.json", tmp_path / "back", max_bytes=1000)
    assert not isinstance(refused.value, DeviceLostError), "it is not tried again"
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("device", ["nothing more", "nothing, and its child has our pipe"], indirect=True)
def test_a_file_that_does_not_come_is_not_waited_for(
    device: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "TRANSFER_SECS", 0.3)
    began = time.monotonic()
    with pytest.raises(DeviceLostError, match=r"result\.json did not come within 0\.3 s"):
        device.pull("result.json", tmp_path / "back", max_bytes=1000)
    assert time.monotonic() - began < 30


SHORT = ["less than it announced", "one byte more", "no number", "a long number"]


@pytest.mark.parametrize("device", SHORT, indirect=True)
def test_a_size_that_is_not_what_came_is_refused(device: Transport, tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match=r"result\.json came back incomplete"):
        device.pull("result.json", tmp_path / "back", max_bytes=1000)


ADB = """#!/bin/sh
case "$1 $3" in
"devices ") printf 'List of devices attached\\nliar\\tdevice\\n';;
*" shell") exec sh -c "$4";;
*" pull") exec cat /dev/zero >"$5";;
esac
"""


def test_a_flood_into_a_file_of_adb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("adb", ADB, tmp_path, monkeypatch)
    monkeypatch.setattr(adb, "PARENT", str(tmp_path))
    refused = pytest.raises(DeviceError, match="adb:liar: sends more than the 1,000 bytes that are expected")
    with open_device("adb:liar") as device, refused:
        device.pull("result.json", tmp_path / "back", max_bytes=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_text_has_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_SAID_BYTES", 10)
    assert client.spoken("x", ["echo", "12345678"], timeout_secs=20).stdout == b"12345678\n"
    with pytest.raises(DeviceError, match="x: sends more than the 10 bytes"):
        client.spoken("x", ["echo", "1234567890"], timeout_secs=20)
