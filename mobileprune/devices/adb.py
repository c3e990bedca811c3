"""An Android device that adb reaches: ``adb``, or ``adb:SERIAL`` where several are attached."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

from mobileprune.devices.base import Done, cause
from mobileprune.devices.client import Sizes, nothing, spoken
from mobileprune.devices.shell import PART, STEP_SECS, TRANSFER_SECS, ShellTransport, mode_of, parent_of
from mobileprune.errors import DeviceError, DeviceLostError, UsageError, last_line

PARENT = "/data/local/tmp"
"""Where adb's user may write files and run them."""
STATES = {
    "unauthorized": "is attached, but has not allowed this computer: unlock it and accept its question",
    "offline": "is attached, but does not answer: plug it in again, or adb reconnect",
    "no permissions": "is attached, but this user may not open it: see the udev rules of your system's adb package",
}


class AdbTransport(ShellTransport):
    def __init__(self, name: str) -> None:
        self._serial = _chosen(name)
        super().__init__(name, PARENT)

    def push(self, source: Path, remote: str) -> None:
        self._path(remote)
        if not source.is_file():
            raise DeviceError(f"{self.name}: cannot send {remote}: there is no such file here")
        what = f"cannot write {remote} there"
        self._transfer(["push", str(source.resolve()), f"{self._folder}/{PART}"], what)
        placed = f"chmod {mode_of(source)} {PART} && {parent_of(remote)} && mv -f {PART} ./{shlex.quote(remote)}"
        self._asked(f"cd {self._there} && {placed}", what)

    def pull(self, remote: str, target: Path, *, max_bytes: int) -> None:
        with tempfile.TemporaryDirectory(prefix="mobileprune-pull-") as work:
            part = Path(work) / "part"
            words = ["pull", self._path(remote), str(part)]
            self._transfer(words, f"cannot read {remote} from there", lambda: _size(part), max_bytes)
            if part.is_symlink() or not part.is_file():
                raise DeviceError(f"{self.name}: cannot read {remote} from there: it is no file")
            try:
                shutil.move(part, target)
            except OSError as error:
                raise DeviceError(f"{self.name}: cannot fetch {remote}: {cause(error)}") from error

    def _transfer(self, words: list[str], what: str, brought: Sizes = nothing, max_bytes: int = 0) -> None:
        try:
            done = _adb(self.name, ["-s", self._serial, *words], TRANSFER_SECS, brought, max_bytes)
        except subprocess.TimeoutExpired:
            raise DeviceLostError(f"{self.name}: {what} within {TRANSFER_SECS:g} s") from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            if "failed to copy" not in said and "remote" not in said:
                self._failed(said)
            raise DeviceError(f"{self.name}: {what}: {last_line(said)}")

    def _client(self, script: str) -> list[str]:
        return [adb_program(self.name), "-s", self._serial, "shell", script]

    def _failed(self, stderr: str) -> NoReturn:
        said = last_line(stderr) or "the connection broke"
        raise DeviceLostError(f"{self.name}: no connection: {said}")


def attached(name: str = "adb") -> dict[str, str]:
    """Serial -> state of all that adb sees: ``device`` means ready. adb starts its server for it, as it always does."""
    try:
        done = _adb(name, ["devices"], STEP_SECS)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: adb gave no answer within {STEP_SECS:g} s; try adb kill-server") from None
    if done.returncode:
        raise DeviceError(f"{name}: adb cannot list devices: {last_line(done.stderr)}")
    rows = [line.partition("\t") for line in done.stdout.splitlines() if "\t" in line]
    return {serial: state.partition(" (")[0].partition(";")[0].strip() for serial, _, state in rows}


def adb_program(name: str) -> str:
    found = shutil.which("adb")
    if not found:
        raise DeviceError(
            f"{name}: adb is not installed; on Debian and Ubuntu: apt-get install adb (of Android's platform tools)"
        )
    return found


def _chosen(name: str) -> str:
    kind, colon, wanted = name.partition(":")
    if colon and not wanted:
        raise UsageError(f"device {name!r}: must be adb or adb:SERIAL")
    found = attached(name)
    if not found:
        raise DeviceError(f"{name}: no device is attached: allow USB debugging on it, plug it in, and see adb devices")
    if not wanted and len(found) > 1:
        listed = ", ".join(f"{kind}:{serial}" for serial in sorted(found))
        raise DeviceError(f"{name}: several devices are attached: choose one of {listed}")
    serial = wanted or next(iter(found))
    if serial not in found:
        raise DeviceError(f"{name}: no such device is attached; there is {', '.join(sorted(found))}")
    if found[serial] != "device":
        raise DeviceError(f"{name}: {STATES.get(found[serial], 'is in state ' + found[serial])}")
    return serial


def _size(path: Path) -> int:
    """Of a folder with all that is in it: adb brings one where the device says that the name is one."""
    return sum(each.lstat().st_size for each in (path, *path.rglob("*")) if os.path.lexists(each))


def _adb(name: str, words: list[str], timeout_secs: float, brought: Sizes = nothing, max_bytes: int = 0) -> Done:
    command = [adb_program(name), *words]
    done = spoken(name, command, timeout_secs=timeout_secs, brought=brought, max_bytes=max_bytes)
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
