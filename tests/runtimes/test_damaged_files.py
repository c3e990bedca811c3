"""Damaged files, in a process of their own: a crash there is a failure, not the end of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runtimes import Files

FLIPPED = ("onnx", "torchscript-lite")  # flatbuffers have a test of their own
FLIPS = """
import json, os, random, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError
from mobileprune.runtimes import open_runtime

sys.path.insert(0, sys.argv[2])
from support.runtimes import MANIFEST

del os.fork  # no trial in a further process: what crashes here must be seen
folder = Path(sys.argv[1])
outcomes = {}
for target in ("onnx", "torchscript-lite"):
    good, rng = (folder / target).read_bytes(), random.Random(0)
    bits = [rng.randrange(8 * len(good)) for _ in range(150)]
    if target == "torchscript-lite":  # all bits of one record's two headers and of the archive's end
        central = good.index(b"PK\\x01\\x02")
        bits += [8 * start + i for start, size in ((0, 30), (central, 46)) for i in range(8 * size)]
        bits += range(8 * (len(good) - 98), 8 * len(good))
    counts = outcomes[target] = {"result": 0, "refused": 0, "other": {}}
    for bit in bits:
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / "model").write_bytes(flipped)
        try:
            open_runtime(Artifact(folder, replace(MANIFEST, target=target))).predict(np.ones((2, 3, 4, 4), np.float32))
            counts["result"] += 1
        except ArtifactError:
            counts["refused"] += 1
        except Exception as error:
            counts["other"][f"bit {bit}"] = repr(error)[:100]
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def flipped(files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """What the process printed, and the files it left in its home folder."""
    folder, home = tmp_path_factory.mktemp("flips"), tmp_path_factory.mktemp("home")
    for target in FLIPPED:
        (folder / target).write_bytes(files[target, False])
    kept = {
        key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            FLIPS,
            str(folder),
            str(Path(__file__).parents[1]),
        ],
        env=kept | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("target", FLIPPED)
def test_a_flipped_bit_gives_a_result_or_an_artifact_error(flipped: tuple[str, list[Path]], target: str) -> None:
    counts = json.loads(flipped[0].splitlines()[-1])[target]
    assert counts["other"] == {}
    assert counts["result"] > 20
    assert counts["refused"] > 20


def test_runtimes_print_nothing_themselves(flipped: tuple[str, list[Path]]) -> None:
    assert len(flipped[0].splitlines()) == 1


def test_runtimes_leave_no_trace_in_the_home_folder(flipped: tuple[str, list[Path]]) -> None:
    assert [path.name for path in flipped[1]] == [], "ONNX Runtime collects telemetry unless told not to"
