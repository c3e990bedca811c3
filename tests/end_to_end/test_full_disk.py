"""A disk that is full, or may not be written: one line says so, nothing is half-written, and the command goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = "--epochs 1 --prune-epochs 1 --retrain-epochs 1 --members 60 --runs disk/runs -o disk/out --quiet"
EXPORT = f"{shlex.quote(sys.executable)} -m mobileprune export {OPTIONS}"
WHOLE = {"card.html", "manifest.json", "model.onnx", "report.html", "report.json", "report.md"}


def mounted(folder: Path, size: str, *commands: str) -> list[subprocess.CompletedProcess[str]]:
    """What the commands said, one after the other, where ``disk`` is a disk of its own of ``size``."""
    lines = [f"({command}) >{i}.out 2>{i}.err; echo $? >{i}.code" for i, command in enumerate(commands)]
    script = "; ".join([f"mkdir -p disk && mount -t tmpfs -o size={size} tmpfs disk || exit 99", *lines])
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    made = subprocess.run(["unshare", "--mount", "sh", "-c", script], cwd=folder, env=env, check=False, timeout=300)
    if made.returncode == 99:
        pytest.skip("this system lets nobody mount a disk of their own")
    return [
        subprocess.CompletedProcess(
            command,
            int(Path(folder, f"{i}.code").read_text()),
            *(Path(folder, f"{i}.{x}").read_text() for x in ("out", "err")),
        )
        for i, command in enumerate(commands)
    ]


pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare on PATH"),
]


@pytest.mark.parametrize("size", ["100k", "300k", "700k"])  # full in training, in pruning, while the report is written
def test_a_full_disk_is_said_and_the_same_command_continues(tmp_path: Path, size: str) -> None:
    found = "find disk -name '.*'; ls disk/out 2>/dev/null || true"
    full, left, _, again, whole = mounted(
        tmp_path, size, EXPORT, found, "mount -o remount,size=200m disk", EXPORT, found
    )
    assert full.returncode == 1
    assert full.stderr.count("\n") == 1
    assert "No space left on device" in full.stderr
    assert "free some" in full.stderr
    assert set(left.stdout.split()) in (set(), {"manifest.json", "model.onnx"})
    assert again.returncode == 0, again.stderr
    assert set(whole.stdout.split()) == WHOLE


def test_a_disk_that_may_only_be_read_is_said_and_can_be_read(tmp_path: Path) -> None:
    inspect = f"{shlex.quote(sys.executable)} -m mobileprune inspect disk/out"
    read_only = "mount -o remount,ro disk"
    made, _, refused, inspected = mounted(tmp_path, "50m", EXPORT, read_only, f"{EXPORT} --seed 1 --force", inspect)
    assert made.returncode == 0, made.stderr
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert inspected.returncode == 0, inspected.stderr
