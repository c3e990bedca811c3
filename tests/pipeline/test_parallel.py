"""Work in processes: all results, the workers' own errors, and nobody left behind when the caller ends."""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.pipeline.parallel import in_processes

LONG = 3600.0


def test_every_task_is_heard_of_once() -> None:
    heard: dict[int, int] = {}
    in_processes(math.factorial, range(5), 2, lambda task, result: heard.update({task: result}))
    assert heard == {n: math.factorial(n) for n in range(5)}
    assert multiprocessing.active_children() == []


def test_an_interrupted_caller_does_not_wait() -> None:
    def interrupted(task: float, result: None) -> None:
        assert (task, result) == (0.0, None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(time.sleep, [LONG, 0.0, LONG, LONG], 2, interrupted)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_workers_error_is_raised_as_itself(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        in_processes(Artifact.load, [tmp_path], 2, lambda task, result: None)


def test_a_worker_that_dies_is_an_error_with_a_way_out() -> None:
    with pytest.raises(MobilepruneError, match=r"a worker process died.*fewer --jobs"):
        in_processes(os._exit, [3], 1, lambda task, result: None)


SCRIPT = """
import sys, time
from mobileprune.pipeline.parallel import in_processes

def work(task):
    print(task, flush=True)
    time.sleep(3600)

if __name__ == "__main__":
    in_processes(work, [1, 2], 2, print)
"""


@pytest.mark.slow
def test_workers_end_when_their_caller_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    line = [sys.executable, tmp_path / "script.py"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert sorted(process.stdout.readline() for _ in range(2)) == ["1\n", "2\n"]
    finally:
        process.kill()
    out, _ = process.communicate(timeout=60)  # to the end of all that workers could write: they have ended
    assert out == ""
