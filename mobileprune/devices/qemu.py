"""A processor that QEMU's user emulation stands in for: programs for aarch64 Linux run here, one process each.

``-cpu`` is always given, since the default has features of no processor there is. Times say nothing about the
processor; instructions do, and repeat: a plugin (``export/qemu/count.c``) counts them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobileprune.devices.base import Done, ended
from mobileprune.devices.local import LocalTransport, execute, new_folder
from mobileprune.devices.profiles import PROFILES
from mobileprune.devices.qemu_parts import PLATFORM, Parts, emulator, plugin, runtime_of
from mobileprune.errors import DeviceError, unknown

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C"}
"""Of this machine's nothing is passed on: LD_LIBRARY_PATH would lead the emulated loader to libraries of ours."""


class QemuTransport(LocalTransport):
    emulated = True
    platform = PLATFORM

    def __init__(self, name: str) -> None:
        cpu = name.partition(":")[2]
        if cpu not in PROFILES:
            raise unknown("device", name, (f"qemu:{known}" for known in PROFILES))
        parts = Parts.found()
        self.name, self.runtime = name, runtime_of(parts)
        self._emulate = [emulator(), "-cpu", cpu, "-L", str(parts.prefix(cpu))]
        self._folder = new_folder()

    def run(self, command: Sequence[str], *, timeout_secs: float) -> Done:
        return self._execute([*self._emulate, *command], command, timeout_secs)

    def count_instructions(self, command: Sequence[str], *, timeout_secs: float) -> list[int]:
        with tempfile.TemporaryDirectory(prefix="mobileprune-count-") as work:
            counts = Path(work) / "counts"
            option = f"{_escaped(plugin())},out={_escaped(counts)}"
            done = self._execute([*self._emulate, "-plugin", option, *command], command, timeout_secs)
            if done.returncode:
                raise DeviceError(f"{self.name}: {command[0]} {ended(done)}")
            return [int(line) for line in counts.read_text("ascii").split()]

    def _execute(self, argv: list[str], command: Sequence[str], timeout_secs: float) -> Done:
        if command[0].startswith("./") and not (self._folder / command[0]).is_file():  # of which QEMU says nothing
            raise DeviceError(f"{self.name}: cannot run {command[0]}: no such file")
        return execute(self.name, argv, self._folder, timeout_secs, called=command[0], environment=ENVIRONMENT)


def _escaped(path: Path) -> str:
    """QEMU takes a comma in an option's value for its end, two for one."""
    return str(path).replace(",", ",,")
