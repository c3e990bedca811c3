"""The graph: what points share is one task, dense training comes first; cross-fitting and references are tasks too."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobileprune.config import Effort
from mobileprune.sweep.plan import plan
from mobileprune.sweep.tasks import Graph, graph
from mobileprune.sweep.work import KINDS


def made(effort: Effort | None = None, **grid: list[Any]) -> Graph:
    return graph(plan({"base": {"members": 60}, "grid": grid}), Path("runs"), 1, effort or Effort())


def kinds(found: Graph) -> Counter[str]:
    return Counter(task.argument.kind for task in found.tasks)


def test_what_points_share_is_one_task() -> None:
    found = made(method=["mia", "magnitude"], sparsity=[0.5, 0.9], precision=["fp32", "int8"], seed=[0, 1, 2])
    assert kinds(found) == {"train": 3, "baseline": 3, "prune": 12, "point": 24}
    assert len(set(found.points.values())) == 24
    assert len(set(found.baselines.values())) == 3


def test_all_that_a_training_depends_on_makes_another_one() -> None:
    found = made(epochs=[1, 2], model=["lenet5", "resnet8"], canaries=[0.1, 0.2], seed=[0, 1])
    assert kinds(found)["train"] == 16
    assert kinds(made(target=["onnx", "torchscript-lite"])) == {"train": 1, "prune": 1, "baseline": 2, "point": 2}
    assert kinds(made(harden=["none", "round:2"])) == {"train": 1, "prune": 1, "baseline": 1, "point": 2}


def test_dense_training_is_begun_first_and_everything_after_what_it_needs() -> None:
    found = made(method=["mia", "magnitude"], defense=["none", "crossfit:3"], seed=[0, 1])
    order = [task.argument.kind for task in found.tasks]
    assert order == sorted(order, key=list(KINDS).index)
    names = [task.name for task in found.tasks]
    assert len(set(names)) == len(names)
    for task in found.tasks:
        assert all(names.index(need) < names.index(task.name) for need in task.needs)


def test_cross_fitting_is_one_task_for_training_and_pruning() -> None:
    found = made(
        defense=["crossfit:3"], train_defense=["none", "crossfit:3", "crossfit:4"], method=["mia", "magnitude"]
    )
    assert kinds(found)["crossfit"] == 2
    by_name = {task.name: task for task in found.tasks}
    pruned = [task for task in found.tasks if task.argument.kind == "prune"]
    assert {by_name[need].argument.kind for task in pruned for need in task.needs} == {"train", "crossfit"}


def test_reference_models_are_tasks_that_points_need() -> None:
    found = made(Effort(references=4, jobs=1), sparsity=[0.5, 0.9])
    assert kinds(found)["reference"] == 8
    by_name = {task.name: task for task in found.tasks}
    for name in found.points.values():
        assert sum(by_name[need].argument.kind == "reference" for need in by_name[name].needs) == 4
    draws = {task.argument.number for task in found.tasks if task.argument.kind == "reference"}
    assert draws == {0, 1, 2, 3}
