"""Peak resident memory of loading an artifact and running it once, read in a fresh process.

A fresh process, because a peak can not be told apart from whatever its process did before. On Linux the high-water
mark VmHWM is reset after the imports; ``ru_maxrss``, the fallback, also counts what the parent held when it forked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileprune.errors import MobilepruneError, last_line

TIMEOUT_SECS = 600


@dataclass(frozen=True)
class Memory:
    """The process's peak, and how much of it came on top of the imports; None where ``note`` says why."""

    peak_bytes: int | None
    added_bytes: int | None
    note: str = ""


def probe_command(artifact_dir: Path, num_threads: int) -> list[str]:
    """The command that measures an artifact, for :func:`peak_load_memory`."""
    return [sys.executable, "-P", "-m", "mobileprune.bench.memory_probe", str(artifact_dir), str(num_threads)]


def peak_load_memory(command: Sequence[str]) -> Memory:
    """Run a probe (see :mod:`~mobileprune.bench.memory_probe`), whose last line is JSON.

    When it names ``late_imports``, it is run once more with them appended, so that libraries count as baseline.

    Raises MobilepruneError when the probe fails or prints something else.
    """
    if importlib.util.find_spec("resource") is None:
        return Memory(None, None, f"memory is not measured on {sys.platform}: it has no 'resource' module")
    baseline, peak, late_imports = _probe(command)
    if late_imports:
        baseline, peak, _ = _probe([*command, *late_imports])
    return Memory(1024 * peak, 1024 * max(0, peak - baseline))


def _probe(command: Sequence[str]) -> tuple[int, int, list[str]]:
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # it imports what we import, no more
    env = os.environ | {"PYTHONPATH": path}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=TIMEOUT_SECS)
    except subprocess.TimeoutExpired:
        raise MobilepruneError(f"the memory probe did not finish within {TIMEOUT_SECS} s") from None
    if done.returncode:
        said = last_line(done.stderr) or "it said nothing; a negative code is a signal, -9 out of memory"
        raise MobilepruneError(f"the memory probe died with exit code {done.returncode}: {said}")
    try:
        numbers = json.loads(done.stdout.splitlines()[-1])
        return int(numbers["baseline_kib"]), int(numbers["peak_kib"]), list(numbers.get("late_imports", []))
    except (IndexError, KeyError, TypeError, ValueError):
        raise MobilepruneError(f"the memory probe printed no JSON numbers: {done.stdout[-200:]!r}") from None
