"""What a transport is: one device, a folder of its own there, and four things to do with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from mobileprune.errors import DeviceError, last_line

MAX_SIGNAL = 64


@dataclass(frozen=True)
class Done:
    """What a command on the device said. A killed one has -N (as ``subprocess``) or 128 + N (as a shell)."""

    returncode: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """One device, and a working folder of its own there that :meth:`close` removes.

    Remote names are relative to that folder, of which :func:`remote_name` checks each. What goes wrong is a
    DeviceError that names the cause; a DeviceLostError where trying again may help.
    """

    name: str
    """As the user gave it: ``local``, ``qemu:cortex-a53``, ``ssh://user@host:22``, ``adb:SERIAL``."""
    platform: str
    """Which runner and library fit: a preset's name in export/CMakePresets.json, such as ``linux-aarch64``."""
    emulated: bool
    """Times mean nothing there: instructions are counted instead."""
    runtime: Path | None
    """A libonnxruntime for this platform on the workstation; None where only the user can name one."""

    def push(self, source: Path, remote: str) -> None:
        """Whole or not at all (a temporary name, then a rename); what may be executed here may be there."""

    def run(self, command: Sequence[str], *, timeout_secs: float) -> Done:
        """In the working folder. ``command`` is an argv, whose first word may be ``./`` and a remote name."""

    def pull(self, remote: str, target: Path, *, max_bytes: int) -> None:
        """Into the file ``target`` on the workstation; DeviceError when there is none of at most ``max_bytes``."""

    def close(self) -> None:
        """Removes the working folder; DeviceError where it cannot be reached. A second call does nothing."""


@runtime_checkable
class CountingTransport(Transport, Protocol):
    """An emulated device that counts."""

    def count_instructions(self, command: Sequence[str], *, timeout_secs: float) -> list[int]:
        """As ``run``; the instructions between each pair of marker system calls of ``command``, in their order.

        A marker is ``getpriority(0x6d70, tag)``, which every system refuses: tag 1 begins and tag 2 ends a region.
        DeviceError when the command fails.
        """


def remote_name(name: str) -> str:
    """The name, if it cannot lead out of the working folder; DeviceError otherwise."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name.startswith(("-", ".")) or "\0" in name:
        raise DeviceError(f"{name!r} is no name of a file in a device's working folder: it must be relative and plain")
    return name


def ended(done: Done) -> str:
    """How a command that failed ended, in words: by which signal or exit code, and the last line that it said."""
    code = done.returncode
    number = -code if code < 0 else code - 128 if 128 < code <= 128 + MAX_SIGNAL else 0
    said = last_line(done.stderr) or last_line(done.stdout)
    last = f" ({said})" if said else ""
    return f"was killed by {_signal(number)}{last}" if number else f"ended with exit code {code}{last}"


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"signal {number}, {name}" + (": often for want of memory" if name == "SIGKILL" else "")


def cause(error: OSError) -> str:
    """What the system says, without the path, which reports would keep."""
    return error.strerror or (os.strerror(error.errno) if error.errno else type(error).__name__)
