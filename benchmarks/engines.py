"""What a task costs on each engine, how well two workers share a sweep, and what 1,000 workers would need.

    python benchmarks/engines.py [--repeats 3]

*Overhead* is the time of many tasks that do nothing, divided by their number. *Busy* is the share of the two workers'
time in which they were at a task while the tasks of a small sweep were done: 1 would be ideal. Other processes slow
down tasks and the sweep alike, so it tells something on a busy machine too; *efficiency* does not.
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

from mobileprune.bench.load import MAX_OTHER_LOAD, LoadWatch
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


def needed(task_secs: float, measured: dict[str, Any]) -> dict[str, float]:
    """What WORKERS workers would ask of the one who schedules and of the shared folder, a second."""
    rate = WORKERS / task_secs
    return {
        "tasks": rate,
        "messages_bytes": rate * (measured["task_bytes"] + measured["result_bytes"]),
        "written_bytes": rate * measured["store_bytes"],
        "files": rate * measured["store_files"],
    }


def page(value: dict[str, Any]) -> str:
    """The result in Markdown."""
    one, load = value["engines"]["one process"]["sweep"], others(value)
    lines = [
        "# Engines",
        "",
        f"A sweep of LeNet-5 on digits, {one[0]['tasks']} tasks, {value['repeats']} times on each engine, on "
        f"{value['machine']['cores']} cores of {value['machine']['cpu']}, {value['date'][:10]}. Median [least, most].",
        "",
        "| | workers ready, s | overhead a task, ms | sweep, s | busy share of the workers | efficiency |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(name, found, one, valid=load <= MAX_OTHER_LOAD) for name, found in value["engines"].items()]
    lines += [
        "",
        "*Busy*: time at tasks over all time of the workers; the rest is overhead, and waiting for a task that others "
        "need and for the last ones. *Efficiency*: time with one process over time with the workers and their number, "
        "pair by pair.",
    ]
    if load > MAX_OTHER_LOAD:
        lines += [
            "",
            f"**The machine was busy**: others used up to {load:.1f} of its {value['machine']['cores']} cores. So "
            "times are too long, overheads too, and efficiency cannot be told; the busy share is what stands for it, "
            "since others slow down tasks and sweep alike.",
        ]
    return "\n".join([*lines, "", *_paper(value)]) + "\n"


def others(value: dict[str, Any]) -> float:
    """The largest load in cores that others put on the machine just before a sweep."""
    return max(each["load_before"] for part in value["engines"].values() for each in part["sweep"])


def _row(name: str, found: dict[str, Any], one: list[dict[str, Any]], *, valid: bool) -> str:
    workers = 1 if name == "one process" else 2
    empty, sweep = found["overhead"], found["sweep"]
    gained = [a["secs"] / b["secs"] / workers for a, b in zip(one, sweep, strict=True)]
    cells = (
        _spread([each["start_secs"] for each in empty], 1),
        _spread([1e3 * each["task_secs"] for each in empty], 2),
        _spread([each["secs"] for each in sweep], 0),
        _spread([each["busy"] for each in sweep], 3),
        _spread(gained, 2) if valid else "not valid",
    )
    return f"| {name} | {' | '.join(cells)} |"


def _spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _paper(value: dict[str, Any]) -> Iterator[str]:
    name = "Ray, two workers" if "Ray, two workers" in value["engines"] else "two processes"
    found = value["engines"][name]
    sweep, empty = found["sweep"][0], median(each["task_secs"] for each in found["overhead"])
    yield f"## {WORKERS:,} workers, on paper"
    yield ""
    yield (
        f"A task is {sweep['task_bytes'] / 1e3:.1f} kB as it is given out, {sweep['result_bytes'] / 1e3:.1f} kB when "
        f"it is back, and leaves {sweep['store_bytes'] / 1e3:.0f} kB in {sweep['store_files']:.1f} files. From that, "
        f"and the overhead of {name} ({1e3 * empty:.2f} ms of the one who schedules, at most: the workers' part is in "
        "it):"
    )
    yield ""
    yield "| a task takes | tasks/s | one scheduler keeps up with | messages, MB/s | shared folder, MB/s | files/s |"
    yield "|---|---|---|---|---|---|"
    for secs in (sweep["task_secs"], 60.0, 600.0):
        n = needed(secs, sweep)
        yield (
            f"| {secs:.0f} s | {n['tasks']:.1f} | {secs / empty:,.0f} workers | {n['messages_bytes'] / 1e6:.2f} | "
            f"{n['written_bytes'] / 1e6:.1f} | {n['files']:.0f} |"
        )
    yield ""
    yield (
        "The first line is the sweep above; larger networks have larger files and longer tasks. What no number here "
        "shows: a real cluster's network, its file system under that many files and locks, and what each worker reads."
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
