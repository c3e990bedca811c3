"""Where the native sparse operators are: a library for ONNX Runtime, built with the package where a C compiler was."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path

SWITCH = "MOBILEPRUNE_NATIVE"
VERSION = 1
"""Of the operators: what ``mp_version`` of the library has to give. An older build leaves some to stock kernels."""
FILES = {"darwin": "libmobileprune_ops.dylib", "win32": "mobileprune_ops.dll"}
_PATH = Path(__file__).parent / "_native" / FILES.get(sys.platform, "libmobileprune_ops.so")
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


@lru_cache(maxsize=4)
def _misfit(path: Path) -> str:
    """Loads it: a file of another system, and a build of older sources, are found before a session asks for them."""
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:  # its text holds the path, and reasons end up in reports
        return f"they were built for another kind of machine than this one: {_AGAIN}"
    version = loaded.mp_version() if hasattr(loaded, "mp_version") else 0
    return "" if version == VERSION else f"they are of version {version}, this package needs {VERSION}: {_AGAIN}"
