"""Data may be larger than memory: what a process holds does not grow with the images of a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 128
IMAGE_BYTES = 3 * SIDE**2
PROGRAM = """
import sys
from torch import nn
import mobileprune
from mobileprune.attacks import quantile_regression
from mobileprune.config import Effort
from mobileprune.pipeline.export import export
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train


def build(num_classes, input_shape):  # layers so small that the images are what counts
    return nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, num_classes))


def whole_way(folder, members, ctx, thorough):
    given = {"dataset": f"folder:{folder}", "model": "program:build"}
    options = {"epochs": 1, "prune_epochs": 1, "retrain_epochs": 1, "train_defense": "early-stopping"}
    config = mobileprune.configure(**given, **options, defense="distill", members=members)
    model = train(config, ctx)
    artifact = export(prune(model, config, ctx) if thorough else model, config, ctx)
    effort = Effort(queries=2, access="file", references=2) if thorough else Effort()
    mobileprune.attack(artifact.path, data=given, ctx=ctx, effort=effort)


if __name__ == "__main__":
    kind, members, *folders = sys.argv[1:]
    if kind == "quick":
        quantile_regression.ROWS = quantile_regression.LEAST
    for folder in folders:
        whole_way(folder, int(members), mobileprune.context("runs"), kind == "thorough")
        print(folder, flush=True)
"""


def folder_of(count: int, root: Path) -> str:
    """``count`` different images of few bytes each, in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = Image.fromarray(rng.integers(0, 8, (8, 8), np.uint8).repeat(SIDE // 8, 0).repeat(SIDE // 8, 1))
        image.putpalette(list(range(0, 240, 10)))
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, compress_level=1)
    return str(root)


def anonymous_peaks(place: Path, *arguments: str, folders: list[str]) -> list[int]:
    """The most bytes of memory that no file lies behind, while a process works on each of the folders in turn."""
    (place / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(place), "TMPDIR": str(place)}
    command, peaks = [sys.executable, "program.py", *arguments, *folders], [0] * len(folders)
    with (place / "out").open("w") as out, (place / "error").open("w") as error:
        child = subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=error)
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        found = [1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")]
        done = min((place / "out").read_text().count("\n"), len(folders) - 1)
        peaks[done] = max(peaks[done], *found, 0)
        time.sleep(0.005)
    assert child.returncode == 0, (place / "error").read_text()
    return peaks


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of anonymous memory, in /proc")
@pytest.mark.parametrize(
    ("kind", "members", "count"),
    [
        pytest.param("quick", 60, 1300, marks=pytest.mark.slow),
        pytest.param("thorough", 300, 2000, marks=pytest.mark.long),
    ],
)
def test_memory_does_not_grow_with_the_folder(kind: str, members: int, count: int, tmp_path: Path) -> None:
    """The small one has full batches of test images, which are all that memory may hold of the large one."""
    folders = [folder_of(each, tmp_path / str(each)) for each in (count, 4 * count)]
    small, large = anonymous_peaks(tmp_path, kind, str(members), folders=folders)
    assert large - small < 3 * count * IMAGE_BYTES / 4, f"{small / 2**20:.0f} and {large / 2**20:.0f} MiB"
