"""Where what was built with the package is: the library of native sparse operators, and the runner for devices.

``_native/`` holds this machine's, ``_native/<platform>/`` those of others, with the presets of export/CMakePresets.json
as platforms.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

SWITCH = "MOBILEPRUNE_NATIVE"
VERSION = 1
"""Of the operators: what ``mp_version`` of the library has to give. An older build leaves some to stock kernels."""
LIBRARY = "libmobileprune_ops.so"
"""On Linux and Android; elsewhere as in FILES."""
FILES = {"darwin": "libmobileprune_ops.dylib", "win32": "mobileprune_ops.dll"}
_PATH = Path(__file__).parent / "_native" / FILES.get(sys.platform, LIBRARY)
RUNNER = "mobileprune_runner"
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64", "armv7l": "armv7"}
_AGAIN = f"reinstall mobileprune with {SWITCH}=require"


def library() -> Path | None:
    """The library, or None where it was not built, does not fit or is switched off."""
    return None if reason() else _PATH


def reason() -> str:
    """Why there is no library, and the way to one; empty where there is."""
    if os.environ.get(SWITCH) == "off":
        return f"{SWITCH} is off"
    if not _PATH.is_file():
        return f"they were not built: install CMake and a C compiler, then {_AGAIN}"
    return _misfit(_PATH)


def this_platform() -> str:
    """The preset of export/CMakePresets.json that builds for this machine."""
    machine = MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        return "macos-arm64" if machine == "aarch64" else f"macos-{machine}"
    return f"{sys.platform}-{machine}"


def built_for(target: str, name: str) -> Path | None:
    """The file ``name`` for the platform ``target``, where it was built."""
    folders = [_PATH.parent / target, *([_PATH.parent] if target == this_platform() else [])]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def runner(target: str) -> Path | None:
    """The device runner for the platform ``target``, where it was built."""
    return built_for(target, RUNNER)


def library_for(target: str) -> Path | None:
    """The native operators for a device of the platform ``target``; None where they were not built or are switched off.

    :func:`library` for this machine, which can be asked whether it fits.
    """
    if target == this_platform():
        return library()
    return None if os.environ.get(SWITCH) == "off" else built_for(target, LIBRARY)


@lru_cache(maxsize=4)
def _misfit(path: Path) -> str:
    """Loads it: a file of another system, and a build of older sources, are found before a session asks for them."""
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:  # its text holds the path, and reasons end up in reports
        return f"they were built for another kind of machine than this one: {_AGAIN}"
    version = loaded.mp_version() if hasattr(loaded, "mp_version") else 0
    return "" if version == VERSION else f"they are of version {version}, this package needs {VERSION}: {_AGAIN}"
