"""For which kind of machine a program or library was built, read from its first bytes (ELF specification, gABI 4.1)."""

from __future__ import annotations

from pathlib import Path

from mobileprune.devices.base import cause
from mobileprune.errors import DeviceError

MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
OF_PLATFORM = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7": "arm"}
"""By the last part of a platform's name."""


def machine_of(path: Path) -> str | None:
    """``x86_64``, ``aarch64``, ``arm`` ... of an ELF file; None for other files. DeviceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {cause(error)}") from error
    if len(head) < 20 or head[:4] != b"\x7fELF" or head[5] not in (1, 2):
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return MACHINES.get(number, f"machine {number}")


def check_fits(path: Path, platform: str) -> None:
    """DeviceError for a file of another architecture than the device's; Apple's are not looked into."""
    if platform.startswith("macos"):
        return
    found, wanted = machine_of(path), OF_PLATFORM.get(platform.rpartition("-")[2])
    if found is None:
        raise DeviceError(f"{path}: is no program or library for {platform} (no ELF file)")
    if wanted and found != wanted:
        raise DeviceError(f"{path}: wrong architecture: it was built for {found}, the device is {platform}")
