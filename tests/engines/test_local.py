"""Work in processes of this machine: all results, the workers' own errors, and nobody left behind."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mobileprune.artifact import Artifact
from mobileprune.engines import Engine, Task, pool, run
from mobileprune.errors import ArtifactError, MobilepruneError

LONG = 3600.0


def in_processes(work: Callable[[Any], Any], arguments: Sequence[Any], heard: Callable[[Any, Any], None]) -> None:
    tasks = [Task(f"{index}", work, argument) for index, argument in enumerate(arguments)]
    with pool(Engine(jobs=2), 1) as workers:
        run(tasks, workers, lambda task, result: heard(task.argument, result))


def test_every_task_is_heard_of_once() -> None:
    heard: dict[int, int] = {}
    in_processes(math.factorial, range(5), lambda argument, result: heard.update({argument: result}))
    assert heard == {n: math.factorial(n) for n in range(5)}
    assert multiprocessing.active_children() == []


def test_an_interrupted_caller_does_not_wait() -> None:
    def interrupted(argument: float, result: None) -> None:
        assert (argument, result) == (0.0, None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(time.sleep, [LONG, 0.0, LONG, LONG], interrupted)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_workers_error_is_raised_as_itself(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        in_processes(Artifact.load, [tmp_path], lambda argument, result: None)


def test_a_task_that_ends_every_worker_is_an_error_with_a_way_out() -> None:
    with pytest.raises(MobilepruneError, match=r"a worker process died 3 times at 0.*fewer --jobs"):
        in_processes(os._exit, [3], lambda argument, result: None)


def test_a_worker_that_is_killed_costs_what_it_was_at(tmp_path: Path) -> None:
    """The first attempt of the second task ends its worker as a kill would."""
    code = f"import os, pathlib; p = pathlib.Path({str(tmp_path / 'once')!r})\n"
    code += f"if not p.exists(): p.touch(); os.kill(os.getpid(), {int(signal.SIGKILL)})"
    heard: list[str] = []
    in_processes(exec, ["pass", code, "pass"], lambda argument, result: heard.append(argument))
    assert sorted(heard) == sorted(["pass", code, "pass"])
    assert multiprocessing.active_children() == []


SCRIPT = """
import time
from mobileprune.engines import Engine, Task, pool, run

def work(number):
    print(number, flush=True)
    time.sleep(3600)

if __name__ == "__main__":
    with pool(Engine(jobs=2), 1) as workers:
        run([Task("a", work, 1), Task("b", work, 2)], workers, print)
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
