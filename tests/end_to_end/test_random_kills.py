"""SIGKILL at random moments of the command of ``make demo`` and of a sweep: both end with the same bytes.

Five times each; MOBILEPRUNE_TEST_KILLS asks for more.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobileprune.files import sha256

pytestmark = pytest.mark.long
KILLS = int(os.environ.get("MOBILEPRUNE_TEST_KILLS", "5"))
LEARNING = "members = 60\nepochs = 6\nprune_epochs = 4\nretrain_epochs = 2\n"
SWEEP = f'[base]\n{LEARNING}[grid]\nmethod = ["mia", "magnitude"]\nsparsity = [0.5, 0.9]\n'
FLAGS = [word for line in LEARNING.splitlines() for word in f"--{line.replace('_', '-')}".split(" = ")]
TIMING = ["--num-runs", "5", "--min-secs", "0", "--warmup-runs", "1"]
COMMANDS = {
    "demo": ["export", "--sparsity", "0.9", "--target", "onnx", "--force", *FLAGS],
    "sweep": ["sweep", "sweep.toml", "--force", *TIMING],
}


def started(command: str, folder: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "mobileprune", *COMMANDS[command], "-o", "out", "--runs", "runs", "--quiet"]
    env = os.environ | {"MOBILEPRUNE_CHECKPOINT_SECS": "0"}
    return subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(command: str, folder: Path) -> dict[str, str]:
    """Run to its end; the hash of every model file of the output and of the run store, by place."""
    process = started(command, folder)
    _, error = process.communicate()
    assert process.returncode == 0, error.decode()
    left = [path for path in folder.rglob("*") if path.name.startswith(".") or path.parent.name == "partial"]
    assert left == []
    models = [*folder.rglob("*.onnx"), *folder.rglob("*.safetensors")]
    return {str(path.relative_to(folder)): sha256(path) for path in models}


@pytest.mark.parametrize("command", COMMANDS)
def test_whenever_it_is_killed_it_ends_with_the_same_bytes(command: str, tmp_path: Path) -> None:
    rng, kills, rounds = random.Random(0), 0, 0
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "sweep.toml").write_text(SWEEP)
    before = time.monotonic()
    expected, seconds = finished(command, whole), time.monotonic() - before
    while kills < KILLS:
        folder = tmp_path / f"round-{(rounds := rounds + 1)}"
        folder.mkdir()
        (folder / "sweep.toml").write_text(SWEEP)
        for _ in range(rng.randint(2, 6)):  # then let it end, and begin anew: late moments are met too
            process = started(command, folder)
            try:
                process.wait(timeout=rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            process.communicate()
        assert finished(command, folder) == expected, f"after {kills} kills"
