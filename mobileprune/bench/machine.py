"""The machine a benchmark ran on: what explains its numbers, nothing that identifies its owner."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "onnxruntime", "onnx", "numpy")
SIMD = {"avx2": "avx2", "avx512": "avx512f", "vnni": "avx512_vnni", "neon": "asimd", "dotprod": "asimddp"}
"""Name -> the flag of Linux that tells of it."""


def machine() -> dict[str, str | int]:
    """Processor, cores, system, Python and library versions; never host or user names, nor paths."""
    facts: dict[str, str | int] = {
        "cpu": _cpuinfo("model name") or platform.processor() or "unknown",
        "simd": _simd(),
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


def _simd() -> str:
    """The vector instructions that runtimes choose kernels by; empty where the system does not tell."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return " ".join(name for name, flag in SIMD.items() if flag in flags)


def _cpuinfo(key: str) -> str:
    """Of the first processor in ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    values = (line.split(":", 1)[1].strip() for line in lines if line.split(":", 1)[0].strip() == key and ":" in line)
    return next(values, "")
