"""The machine a benchmark ran on: what explains its numbers, nothing that identifies its owner."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "onnxruntime", "onnx", "numpy")


def machine() -> dict[str, str | int]:
    """Processor, cores, system, Python and library versions; never host or user names, nor paths."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",  # the rest names who built the kernel
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return next(names, "") or platform.processor() or "unknown"
