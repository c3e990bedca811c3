"""A device behind a shell, reached over ssh or adb: a working folder there, and commands in it.

Words are quoted for the shell here, so any name and argument will do. The exit code comes back as text after the
output: ssh gives its own failures the code 255, which a program can end with too, and adb of old devices gives none.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from mobileprune.devices.base import Done, remote_name
from mobileprune.devices.client import spoken
from mobileprune.devices.local import installed_runtime
from mobileprune.devices.qemu_parts import runtime_for
from mobileprune.errors import DeviceError, DeviceLostError
from mobileprune.native import MACHINES, this_platform

TRANSFER_SECS = 1800.0
"""For one file."""
STEP_SECS = 60.0
"""For what takes a moment there; opening a connection is part of it."""
PID, PART = ".pid", ".part"
"""Of the program that runs, and of the file that is written; no remote name begins with a dot."""


class ShellTransport(ABC):
    emulated = False

    def __init__(self, name: str, parent: str) -> None:
        """``parent``: the folder, as a word for the shell, in which the working folder is made."""
        self.name = name
        self._token = secrets.token_hex(8)
        self._folder: str | None = None
        try:
            self.platform = self._begun(parent)
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.close()
            raise
        alike = self.platform == this_platform()
        self.runtime = installed_runtime() if alike else runtime_for(self.platform)

    def _begun(self, parent: str) -> str:
        """Makes the working folder; the device's platform."""
        said = self._asked(
            f"umask 077; cd {parent} && mkdir mobileprune-{self._token} && cd mobileprune-{self._token} && pwd -P && "
            "uname -s && uname -m && { getconf LONG_BIT 2>/dev/null || echo 64; } && "
            "{ getprop ro.product.cpu.abi 2>/dev/null || echo; }",
            "cannot make a working folder there",
        )
        folder, *facts = [*said.split("\n"), *[""] * 5][:5]
        if not folder.endswith(f"/mobileprune-{self._token}"):
            raise DeviceError(f"{self.name}: does not answer as a shell does: {said[:200]!r}")
        self._folder = folder
        if not _PLATFORM.fullmatch(platform := _platform(*facts)):  # it becomes part of a path here
            raise DeviceError(f"{self.name}: what it is, it does not say: {platform[:80]!r}")
        return platform

    @abstractmethod
    def _client(self, script: str) -> list[str]:
        """The command on the workstation that has ``script`` run by the device's shell."""

    @abstractmethod
    def _failed(self, stderr: str) -> NoReturn:
        """Raises the error for a connection that could not be had, or broke."""

    def run(self, command: Sequence[str], *, timeout_secs: float) -> Done:
        """The program is ended when it takes too long, as far as the device can still be reached; one that a lost
        connection left running is, before the next."""
        words = " ".join(shlex.quote(word) for word in command)
        started = f"sh -c 'echo $$ >{PID}; exec \"$@\"' sh {words} </dev/null"
        try:
            script = f"cd {self._there} && {_END} && {{ {started}; code=$?; rm -f {PID}; (exit $code); }}"
            return self._done(script, timeout_secs)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(DeviceError):
                self._asked(f"cd {self._there} && {_END}", "")
            raise DeviceError(f"{self.name}: {command[0]} did not finish within {timeout_secs:g} s") from None

    def close(self) -> None:
        if self._folder is not None:
            there, self._folder = self._there, None
            script = f"if cd {there} 2>/dev/null; then {_END}; cd / && rm -rf {there}; fi"
            self._asked(script, "cannot remove the working folder there")

    @property
    def _there(self) -> str:
        if self._folder is None:
            raise DeviceError(f"{self.name}: is closed")
        return shlex.quote(self._folder)

    def _path(self, remote: str) -> str:
        """Absolute, not quoted."""
        if self._folder is None:
            raise DeviceError(f"{self.name}: is closed")
        return f"{self._folder}/{remote_name(remote)}"

    def _asked(self, script: str, what: str) -> str:
        """What ``script`` printed; DeviceError beginning with ``what`` when it fails."""
        try:
            done = self._done(script, STEP_SECS)
        except subprocess.TimeoutExpired:
            raise DeviceLostError(f"{self.name}: no answer within {STEP_SECS:g} s") from None
        if done.returncode:
            said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[-300:]
            raise DeviceError(f"{self.name}: {what}: {said or f'exit code {done.returncode}'}")
        return done.stdout

    def _done(self, script: str, timeout_secs: float) -> Done:
        done = self._spoken(f"{{ {script}\n}}; code=$?; echo; echo {self._token} $code", timeout_secs)
        said, mark, code = done.stdout.replace("\r\n", "\n").rpartition(f"\n{self._token} ")
        if not mark or not re.fullmatch(r"[0-9]{1,3}", code := code.strip()):
            self._failed(done.stderr or done.stdout)
        return Done(int(code), said, done.stderr)

    def _spoken(self, script: str, timeout_secs: float) -> Done:
        """The client's own result."""
        done = spoken(self.name, self._client(script), timeout_secs=timeout_secs)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


_PLATFORM = re.compile(r"[a-z0-9]+-[A-Za-z0-9_-]+")
_END = f'if [ -f {PID} ]; then kill -9 "$(cat {PID})" 2>/dev/null; rm -f {PID}; fi'


def parent_of(remote: str) -> str:
    """A command that makes the folder that ``remote`` lies in."""
    return f"mkdir -p ./{shlex.quote(str(PurePosixPath(remote).parent))}"


def mode_of(source: Path) -> str:
    return "755" if os.access(source, os.X_OK) else "644"


def _platform(system: str, machine: str, bits: str, abi: str) -> str:
    """A preset of export/CMakePresets.json, as far as there is one for such a device."""
    if abi or system == "Android":
        return "android-" + {"arm64-v8a": "arm64", "armeabi-v7a": "armv7"}.get(abi, abi or machine)
    name = MACHINES.get(machine.lower(), machine.lower())
    if name == "aarch64" and bits == "32":  # a 32-bit system on a 64-bit kernel
        name = "armv7"
    if system == "Darwin":
        return "macos-arm64" if name == "aarch64" else f"macos-{name}"
    return f"{system.lower()}-{name}"
