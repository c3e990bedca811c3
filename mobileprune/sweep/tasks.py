"""The graph of a sweep's tasks. What several points share is one task, and dense training comes before all else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobileprune import defenses
from mobileprune.config import Config, Effort
from mobileprune.engines import Task
from mobileprune.files import digest
from mobileprune.pipeline.export import as_baseline
from mobileprune.runs import source_digest
from mobileprune.shadows import draws
from mobileprune.sweep.plan import Plan, Point
from mobileprune.sweep.work import KINDS, Job, do

NAME_LENGTH = 16
BEGUN = {kind: rank for rank, kind in enumerate(KINDS)}
CROSSFIT = "crossfit"


@dataclass(frozen=True)
class Graph:
    """``tasks`` in the order in which they are begun; the task of each point and of its baseline, by the point's id."""

    tasks: tuple[Task, ...]
    points: dict[str, str]
    baselines: dict[str, str]


def graph(plan: Plan, root: Path, num_threads: int, effort: Effort) -> Graph:
    """``effort`` is that of one worker: what it says about engines is left out."""
    alone = replace(effort, jobs=1, engine="local", address=None)
    found: dict[str, Task] = {}
    points: dict[str, str] = {}
    baselines: dict[str, str] = {}

    def add(kind: str, config: Config, depends: dict[str, Any], *needs: str, number: int = 0) -> str:
        job = Job(kind, config, root, num_threads, alone, source_digest(), number)
        name = f"{kind} {digest({'depends': depends, 'number': number})[:NAME_LENGTH]}"
        found.setdefault(name, Task(name, do, job, needs))
        return name

    def crossfits(spec: str, config: Config) -> Iterator[str]:
        if folds := defenses.parse(spec).get(CROSSFIT):
            train = {name: v for name, v in asdict(config.train).items() if name not in ("train_defense", "checkpoint")}
            yield add(CROSSFIT, config, {**_data(config), "train": train}, number=int(folds))

    def of_point(point: Point) -> None:
        config, values = point.config, point.config.to_dict()
        dense = {**_data(config), "train": values["train"]}
        train = add("train", config, dense, *crossfits(config.train.train_defense, config))
        pruned = add(
            "prune", config, {**dense, "prune": values["prune"]}, train, *crossfits(config.prune.defense, config)
        )
        same_way = asdict(as_baseline(config.export))
        baselines[point.id] = add("baseline", config, {**dense, "export": same_way}, train)
        others = [
            add("reference", config, values, number=draw) for draw in draws(effort.references, config.data.redraw)
        ]
        points[point.id] = add("point", config, values, pruned, *others)

    for point in plan.points:
        of_point(point)
    tasks = sorted(found.values(), key=lambda task: BEGUN[task.argument.kind])
    return Graph(tuple(tasks), points, baselines)


def _data(config: Config) -> dict[str, Any]:
    return {"data": asdict(config.data), "seed": config.seed}
