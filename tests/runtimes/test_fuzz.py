"""Ten thousand damaged files: each gives a result or an ArtifactError, none a crash or a process that grows.

A driver process imports everything once and forks children that open files without forking again. Where a child dies,
that file is opened as users do it, with a trial in a forked child: it must end as an ArtifactError there; or, where a
file refused before it had damaged the child's memory, all files that were not refused must run in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from support.runtimes import SHAPE
from torch import nn

from mobileprune.export import TARGETS, ExportOptions

COUNTS = {"dense": 4000, "coo": 3000, "packed": 2000, "lite": 1500}
MAX_GROWTH_MIB = 256
MAX_DEATHS = 20
"""A fork and a trial each: many would make the test slow, and say that the checks before the runtime are weak."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)
    ).eval()
    for p in model.parameters():
        p.data[p.abs() < p.abs().quantile(0.95)] = 0
    for form in ("dense", "coo", "packed"):
        TARGETS["onnx"].write(model, SHAPE, folder / form, ExportOptions(sparse_format=form))
    TARGETS["torchscript-lite"].write(model, SHAPE, folder / "lite", ExportOptions())
    assert onnx.load(folder / "coo").graph.sparse_initializer
    assert onnx.load(folder / "packed").functions
    return folder


@pytest.mark.long
@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_files_give_a_result_or_an_artifact_error(seeds: Path, kind: str) -> None:
    argv = [
        sys.executable,
        "-W",
        "ignore",
        Path(__file__).parents[1] / "support" / "fuzz.py",
        seeds,
        kind,
        COUNTS[kind],
    ]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["other"] == {}
    assert said["result"] + said["refused"] + said["died"] == COUNTS[kind]
    assert said["result"] > COUNTS[kind] // 50
    assert said["refused"] > COUNTS[kind] // 10
    assert said["died"] <= MAX_DEATHS
    assert said["growth_mib"] < MAX_GROWTH_MIB
    assert said["files"] == sorted(COUNTS), "a file was written"


def test_ten_thousand() -> None:
    assert sum(COUNTS.values()) >= 10_000
