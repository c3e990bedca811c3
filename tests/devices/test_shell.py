"""What an ssh or adb device says of itself is not believed; and which runner it needs."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from mobileprune.devices.shell import ShellTransport, _platform
from mobileprune.errors import DeviceError, DeviceLostError


class Liar(ShellTransport):
    """This machine's shell, after a few words of its own."""

    def __init__(self, parent: Path, words: str) -> None:
        self.words = words
        super().__init__("liar", str(parent))

    def push(self, source: Path, remote: str) -> None: ...

    def pull(self, remote: str, target: Path, *, max_bytes: int) -> None: ...

    def _client(self, script: str) -> list[str]:
        return ["sh", "-c", f"{self.words}\n{script}"]

    def _failed(self, stderr: str) -> NoReturn:
        raise DeviceLostError(stderr)


@pytest.mark.parametrize("uname", ["echo ../../etc", "echo 'a b'", "echo"])
def test_a_platform_is_no_path_and_its_folder_goes(tmp_path: Path, uname: str) -> None:
    with pytest.raises(DeviceError, match="what it is, it does not say"):
        Liar(tmp_path, f"uname() {{ {uname}; }}")
    assert list(tmp_path.iterdir()) == []


def test_a_shell_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot make a working folder there"):
        Liar(tmp_path / "missing", "")
    with pytest.raises(DeviceError, match="does not answer as a shell does"):
        Liar(tmp_path, "pwd() { echo somewhere; }")
    with pytest.raises(DeviceLostError):
        Liar(tmp_path, "exit 3")


@pytest.mark.parametrize("flood", ["cat /dev/zero", "cat /dev/zero >&2"])
def test_a_device_that_does_not_stop_talking_is_stopped(tmp_path: Path, flood: str) -> None:
    with pytest.raises(DeviceError, match="sends more than the 16,777,216 bytes that are expected; do not trust it"):
        Liar(tmp_path, f"exec {flood}")


def test_an_exit_code_is_a_short_number(tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError):
        Liar(tmp_path, f"echo() {{ [ $# = 2 ] && command echo $1 {'1' * 5000}; }}")


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        (("Linux", "x86_64", "64", ""), "linux-x86_64"),
        (("Linux", "aarch64", "64", ""), "linux-aarch64"),
        (("Linux", "aarch64", "32", ""), "linux-armv7"),
        (("Linux", "armv7l", "32", ""), "linux-armv7"),
        (("Linux", "aarch64", "64", "arm64-v8a"), "android-arm64"),
        (("Linux", "x86_64", "64", "x86_64"), "android-x86_64"),
        (("Darwin", "arm64", "64", ""), "macos-arm64"),
    ],
)
def test_the_preset_for_a_device(facts: tuple[str, str, str, str], platform: str) -> None:
    assert _platform(*facts) == platform
