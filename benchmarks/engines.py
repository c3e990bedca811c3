"""What a task costs on each engine, how well two workers share a sweep, and what 1,000 workers would need.

    python benchmarks/engines.py [--repeats 3]

*Overhead* is the time of many tasks that do nothing, divided by their number. *Busy* is the share of the two workers'
time in which they were at a task while the tasks of a small sweep were done: 1 would be ideal. Other processes slow
down tasks and the sweep alike, so it holds on a busy machine too; the *speed-up* over one worker holds only where the
load of others (cores) is small, and stands beside it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from record import RESULTS, record

from mobileprune.bench.load import LoadWatch
from mobileprune.config import Effort
from mobileprune.engines import Engine, Task, pool, run
from mobileprune.errors import TargetUnavailableError
from mobileprune.sweep.plan import plan
from mobileprune.sweep.tasks import graph
from mobileprune.sweep.work import Finished

ENGINES = {"one process": Engine(), "two processes": Engine(jobs=2), "Ray, two workers": Engine("ray", jobs=2)}
EMPTY = 1000
WORKERS = 1000
PLAN = {
    "base": {"members": 300, "epochs": 20, "prune_epochs": 10, "retrain_epochs": 10},
    "grid": {"method": ["mia", "magnitude"], "sparsity": [0.7, 0.9], "seed": [0, 1]},
}


def nothing(argument: int) -> int:
    return argument


def overhead(engine: Engine) -> dict[str, float]:
    """Seconds until the first task is done, and of each task after it."""
    started = time.perf_counter()
    with pool(engine, 1) as workers:
        run([Task("first", nothing, 0)], workers, lambda *_: None)
        run([Task(f"warm {n}", nothing, n) for n in range(8)], workers, lambda *_: None)
        ready = time.perf_counter()
        run([Task(f"{n}", nothing, n) for n in range(EMPTY)], workers, lambda *_: None)
        return {"start_secs": ready - started, "task_secs": (time.perf_counter() - ready) / EMPTY}


def shared(engine: Engine) -> dict[str, Any]:
    """The tasks of PLAN in a fresh run store, the start of the workers left out."""
    done: list[Finished] = []
    with tempfile.TemporaryDirectory() as folder, pool(engine, 1) as workers:
        tasks = graph(plan(PLAN), Path(folder), 1, Effort()).tasks
        warm = [Task(f"{n}", _import, n) for n in range(4 * engine.jobs)]
        run(warm, workers, lambda *_: None)
        watch, started = LoadWatch(), time.perf_counter()
        run(tasks, workers, lambda task, result: done.append(result))
        took = time.perf_counter() - started
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        written = sum(path.stat().st_size for path in files)
    busy = sum(each.seconds for each in done)
    given, back = ([len(pickle.dumps(value)) for value in values] for values in ([t.argument for t in tasks], done))
    return {
        "secs": took,
        "tasks": len(tasks),
        "task_secs": busy / len(tasks),
        "busy": busy / (engine.jobs * took),
        "task_bytes": sum(given) / len(given),
        "result_bytes": sum(back) / len(back),
        "store_bytes": written / len(tasks),
        "store_files": len(files) / len(tasks),
        "load_of_all": watch.finish()[0],  # the workers are other processes too
    }


def _import(argument: int) -> None:
    import mobileprune.sweep.work  # noqa: F401  torch takes seconds

    time.sleep(0.5)  # so that every worker gets some of these


def needed(task_secs: float, measured: dict[str, Any], empty_secs: float) -> dict[str, float]:
    """What WORKERS workers would ask of the one who schedules and of the shared folder, a second."""
    rate = WORKERS / task_secs
    return {
        "tasks": rate,
        "scheduler_share": rate * empty_secs,
        "messages_bytes": rate * (measured["task_bytes"] + measured["result_bytes"]),
        "written_bytes": rate * measured["store_bytes"],
        "files": rate * measured["store_files"],
    }


def page(value: dict[str, Any]) -> str:
    """The result in Markdown."""
    one = value["engines"]["one process"]["sweep"]
    lines = [
        "# Engines",
        "",
        f"A sweep of LeNet-5 on digits, {one[0]['tasks']} tasks, {value['repeats']} times on each engine, on "
        f"{value['machine']['cores']} cores of {value['machine']['cpu']}, {value['date'][:10]}. Median [least, most].",
        "",
        "| | workers ready, s | overhead a task, ms | sweep, s | busy share of the workers | speed-up | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, found, one) for name, found in value["engines"].items()]
    lines += ["", *_notes(value)]
    return "\n".join(lines) + "\n"


def _row(name: str, found: dict[str, Any], one: list[dict[str, Any]]) -> str:
    workers = 1 if name == "one process" else 2
    empty, sweep = found["overhead"], found["sweep"]
    faster = [a["secs"] / b["secs"] for a, b in zip(one, sweep, strict=True)]
    cells = (
        _spread([each["start_secs"] for each in empty], 1),
        _spread([1e3 * each["task_secs"] for each in empty], 2),
        _spread([each["secs"] for each in sweep], 0),
        _spread([each["busy"] for each in sweep], 2),
        _spread(faster, 2),
        _spread([each / workers for each in faster], 2),
    )
    return f"| {name} | {' | '.join(cells)} |"


def _spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _notes(value: dict[str, Any]) -> Iterator[str]:
    name = "Ray, two workers" if "Ray, two workers" in value["engines"] else "two processes"
    found = value["engines"][name]
    sweep, empty = found["sweep"][0], median(each["task_secs"] for each in found["overhead"])
    others = [each["load_before"] for part in value["engines"].values() for each in part["sweep"]]
    yield (
        "*Busy*: time at tasks over all time of the workers; the rest is waiting for a task that others need, and for "
        "the last ones. *Speed-up* over one process, pair by pair; *efficiency* is speed-up over workers."
    )
    if max(others) > 0.3:
        yield (
            f"Other processes used {min(others):.1f} to {max(others):.1f} of the {value['machine']['cores']} cores "
            "just before each sweep: speed-up and efficiency are those of a busy machine, busy shares are not."
        )
    yield ""
    yield f"## {WORKERS:,} workers, on paper"
    yield ""
    yield (
        f"One task takes {sweep['task_secs']:.1f} s here; it is {sweep['task_bytes'] / 1e3:.1f} kB as it is given out "
        f"and {sweep['result_bytes'] / 1e3:.1f} kB when it is back, and leaves {sweep['store_bytes'] / 1e3:.0f} kB in "
        f"{sweep['store_files']:.1f} files. From that, with the overhead of {name} for the one who schedules:"
    )
    yield ""
    yield "| a task takes | tasks/s | share of the scheduler's time | messages, MB/s | shared folder, MB/s | files/s |"
    yield "|---|---|---|---|---|---|"
    for secs in (sweep["task_secs"], 60.0, 600.0):
        n = needed(secs, sweep, empty)
        yield (
            f"| {secs:.0f} s | {n['tasks']:.1f} | {n['scheduler_share']:.1%} | {n['messages_bytes'] / 1e6:.2f} | "
            f"{n['written_bytes'] / 1e6:.1f} | {n['files']:.0f} |"
        )
    yield ""
    yield (
        "So what limits is not the scheduler but the shared folder, and only for tasks of seconds; bytes grow with the "
        "network (here 61,706 parameters), as does the time of a task. What no number here shows: a real cluster's "
        "network, its file system's locks, and the memory of one scheduler with all tasks in its list."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, Any] = {name: {"overhead": [], "sweep": []} for name in ENGINES}
    for _ in range(args.repeats):
        for name, engine in ENGINES.items():
            if name not in found:
                continue
            try:
                watch = LoadWatch()
                time.sleep(2)
                before = watch.finish()[0] or 0.0
                found[name]["overhead"].append(overhead(engine))
                found[name]["sweep"].append({**shared(engine), "load_before": before})
                print(name, found[name]["overhead"][-1], found[name]["sweep"][-1], flush=True)
            except TargetUnavailableError as error:
                print(error)
                del found[name]
    path = record("engines", {"repeats": args.repeats, "plan": PLAN, "engines": found})
    (RESULTS / "engines.md").write_text(page(json.loads(path.read_text("utf-8"))), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
