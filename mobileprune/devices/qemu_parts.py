"""What ``devices setup qemu`` prepares and a ``qemu:`` device needs, and where it is.

FOLDER/setup.json         what is there: the runtime's version, and each file with its SHA-256
FOLDER/system/            C and C++ libraries of aarch64 Linux
FOLDER/runtime/           libonnxruntime for aarch64
FOLDER/profiles/CPU/      the system again (links), with /proc/cpuinfo of that processor
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune import native
from mobileprune.errors import DeviceError
from mobileprune.files import cache_folder, sha256
from mobileprune.schemas import parse

EMULATOR = "qemu-aarch64"
STEPS = ("system", "runtime", "profiles")
RECORD, FORMAT = "setup.json", 1
SET_UP = "mobileprune devices setup qemu"
PLATFORM, PLUGIN = "linux-aarch64", "libmobileprune_count.so"
CROSS = (
    f"with ziglang and CMake installed, reinstall mobileprune from its sources with MOBILEPRUNE_CROSS={PLATFORM} "
    "(export/README.md, 'Devices')"
)


def devices_root() -> Path:
    """``MOBILEPRUNE_DEVICES``, else beside the run store in the user's cache folder."""
    return cache_folder("mobileprune-devices", "MOBILEPRUNE_DEVICES", "choose one with MOBILEPRUNE_DEVICES")


@dataclass(frozen=True)
class Parts:
    """``record``: of each finished step {"files": {relative path: SHA-256}, ...}; empty before the first."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def look(cls) -> Parts:
        folder = devices_root() / "qemu"
        try:
            value = parse((folder / RECORD).read_bytes())
        except (OSError, ValueError, RecursionError):
            value = None
        steps = value.get("steps") if isinstance(value, dict) and value.get("format") == FORMAT else None
        return cls(folder, steps if isinstance(steps, dict) else {})

    @classmethod
    def found(cls) -> Parts:
        """DeviceError where the set-up was not made, or is damaged."""
        parts = cls.look()
        missing = [step for step in STEPS if not parts.whole(step)]
        if missing:
            raise DeviceError(f"qemu: {', '.join(missing)} missing or damaged in {parts.folder}: {SET_UP}")
        return parts

    def whole(self, step: str) -> bool:
        """Every file that the step made is there as it was made."""
        made = self.record.get(step)
        files = made.get("files") if isinstance(made, dict) else None
        if not isinstance(files, dict) or not files:
            return False
        try:
            return all(sha256(self.folder / name) == expected for name, expected in files.items())
        except OSError:
            return False

    def prefix(self, cpu: str) -> Path:
        return self.folder / "profiles" / cpu


def runtime_of(parts: Parts) -> Path:
    """The shared library of ONNX Runtime for aarch64."""
    return Path(parts.folder, next(iter(parts.record["runtime"]["files"])))


def emulator() -> str:
    """The path of QEMU's user emulator; DeviceError where there is none."""
    found = shutil.which(EMULATOR)
    if not found:
        raise DeviceError(f"qemu: {EMULATOR} is not installed; on Debian and Ubuntu: apt-get install qemu-user")
    return found


def plugin() -> Path:
    """The counting plugin; DeviceError where it was not built, or where the emulator takes none."""
    found = native.built_for(native.this_platform(), PLUGIN)
    if found is None:
        raise DeviceError(
            "qemu: the counting plugin was not built: install CMake and a C compiler, then reinstall mobileprune with "
            f"{native.SWITCH}=require"
        )
    helped = subprocess.run([emulator(), "-h"], capture_output=True, text=True, errors="replace", check=False)
    if "-plugin" not in helped.stdout:
        raise DeviceError(
            f"qemu: this {EMULATOR} takes no plugins, so it can answer but not count: it needs a QEMU that was built "
            "with --enable-plugins, such as Debian 12's qemu-user (Debian 13's is not)"
        )
    return found


def check_programs() -> None:
    """DeviceError where the runner and the native operators for the emulated system were not built."""
    if native.runner(PLATFORM) is None or native.built_for(PLATFORM, native.LIBRARY) is None:
        raise DeviceError(f"qemu: the runner for {PLATFORM} was not built: {CROSS}")


def runtime_for(platform: str) -> Path | None:
    """A libonnxruntime that was prepared for an emulated device fits real ones too."""
    parts = Parts.look()
    return runtime_of(parts) if platform == PLATFORM and parts.whole("runtime") else None
