"""Files with one bit flipped, opened and run in a process of their own: a crash there is a failure, not the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FLIPS = """
import json, random, sys
from pathlib import Path
import numpy as np
from mobileprune.errors import ArtifactError
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

target, folder = sys.argv[1], Path(sys.argv[2])
good, rng = (folder / "good").read_bytes(), random.Random(0)
counts = {"result": 0, "refused": 0, "other": {}}
shape = tuple(map(int, sys.argv[3:]))
for bit in [*range(8 * 60), *rng.sample(range(8 * len(good)), 200)]:
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    (folder / "bad").write_bytes(flipped)
    try:
        run = RUNTIMES[target](folder / "bad", RuntimeOptions(1, "input", shape))
        for batch in (1, 2, 17):
            run(np.ones((batch, *shape), np.float32))
        counts["result"] += 1
    except ArtifactError:
        counts["refused"] += 1
    except Exception as error:
        counts["other"][f"bit {bit}"] = repr(error)[:100]
print(json.dumps(counts))
"""


def flips(target: str, content: bytes, folder: Path, shape: tuple[int, ...] = (3, 4, 4)) -> dict[str, Any]:
    """Outcomes of files with one bit flipped, of the head all, tried in a process of its own."""
    (folder / "good").write_bytes(content)
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FLIPS, target, str(folder)]
    command += map(str, shape)
    home = folder / "home"
    home.mkdir()
    env = os.environ | {"HOME": str(home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 1, "the runtime printed something itself"
    assert not list(home.rglob("*")), "the runtime left something in the home folder"
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts
