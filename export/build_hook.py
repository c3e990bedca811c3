"""Hatch's build hook: builds the native operators and the device runner into ``mobileprune/_native/`` where CMake and a
C compiler are.

``MOBILEPRUNE_NATIVE`` says what happens where they are not: ``auto`` (default) a pure Python wheel, ``require`` an
error; ``off`` builds nothing. ``MOBILEPRUNE_CROSS`` names presets of CMakePresets.json, with commas between, that are
built into folders of their names too; they need zig on the PATH, and a failure is an error. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODES = ("auto", "require", "off")


class NativeOperators(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        mode = os.environ.get("MOBILEPRUNE_NATIVE", "auto")
        if mode not in MODES:
            raise SystemExit(f"MOBILEPRUNE_NATIVE={mode}: must be one of {', '.join(MODES)}")
        if self.target_name != "wheel":  # an sdist carries sources, and leaves what an editable install uses
            return
        target = Path(self.root) / "mobileprune" / "_native"
        shutil.rmtree(target, ignore_errors=True)  # what an older source built would be taken for this one's
        if mode == "off":
            return
        failed = build(Path(self.root) / "export", target)
        if failed and mode == "require":
            raise SystemExit(f"MOBILEPRUNE_NATIVE=require: {failed}")
        if failed:
            self.app.display_warning(f"mobileprune without native sparse operators and device runner: {failed}")
            return
        for preset in filter(None, os.environ.get("MOBILEPRUNE_CROSS", "").split(",")):
            if failed := build(Path(self.root) / "export", target / preset, f"--preset={preset}"):
                raise SystemExit(f"MOBILEPRUNE_CROSS={preset}: {failed}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append("mobileprune/_native/**")


def build(source: Path, target: Path, *how: str) -> str | None:
    """Why it could not be built, or None; ``how``: more for CMake."""
    cmake = shutil.which("cmake")
    if not cmake:
        return "cmake is not installed"
    with tempfile.TemporaryDirectory() as work:
        for command in (
            [cmake, "-S", str(source), "-B", work, *how],
            [cmake, "--build", work, "--config", "Release", "--parallel", "2"],
            [cmake, "--install", work, "--config", "Release", "--prefix", str(target)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return " ".join((done.stderr or done.stdout).split())[-300:]
    return None
