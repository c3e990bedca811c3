"""The document of a sweep (``#/$defs/sweep``) from what its tasks gave, whether all of them are done or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileprune.config import OWNERS
from mobileprune.errors import MobilepruneError
from mobileprune.sweep.choice import choose, misses
from mobileprune.sweep.means import cases, ranked
from mobileprune.sweep.plan import Plan
from mobileprune.sweep.tasks import Graph
from mobileprune.sweep.work import Finished

Values = dict[str, Any]
OF_BASELINE = ("artifact_sha256", "test_accuracy", "size_bytes", "deflated_bytes", "auc", "canary_auc")
DENSE = ("data", "train")
CANARIES = "members carry a wrong label on purpose (canaries): train with canaries = 0 what you ship"


def document(
    plan: Plan,
    graph: Graph,
    results: Mapping[str, Finished],
    failed: Mapping[str, MobilepruneError],
    latencies: Mapping[str, Values],
    limits: Mapping[str, float],
    prefer: str,
    **more: Any,
) -> Values:
    """``results`` and ``failed`` by task, ``latencies`` by point; ``more``: created, effort, machine, progress."""
    baselines = _baselines(plan, graph, results)
    points = []
    for point in plan.points:
        task, dense = graph.points[point.id], graph.baselines[point.id]
        if task not in results or dense not in results:
            continue
        value, before = results[task].value, results[dense].value["test_accuracy"]
        after, known = value["test_accuracy"], {"latency": latencies.get(point.id), **value}
        drop = None if before is None or after is None else 100 * (before - after)
        named = {"id": point.id, "case": point.case, "baseline": baselines[dense]["id"]}
        own = {**named, "seed": point.seed, "options": point.options, **known, "accuracy_drop": drop}
        points.append({**own, "misses": misses([own], limits)})
    made, objectives, notes = ranked(cases(points))
    of_case = {case["id"]: [point for point in points if point["case"] == case["id"]] for case in made}
    made = [{**case, "misses": misses(of_case[case["id"]], limits)} for case in made]
    front = sorted((case for case in made if case["rank"] == 0), key=_accuracy)
    if any(point["canary_auc"] for point in points):
        notes.append(CANARIES)
    return {
        "schema": "mobileprune.sweep/1",
        **plan.to_dict(),
        **more,
        "limits": dict(limits),
        "prefer": prefer,
        "objectives": objectives,
        "baselines": list(baselines.values()),
        "points": points,
        "cases": made,
        "front": [case["id"] for case in front],
        "chosen": choose(points, made, limits, prefer),
        "failed": _failed(plan, graph, failed),
        "notes": notes,
    }


def _accuracy(case: Values) -> float:
    accuracy: float = case["means"].get("test_accuracy", {"mean": 0.0})["mean"]
    return -accuracy


def _baselines(plan: Plan, graph: Graph, results: Mapping[str, Finished]) -> dict[str, Values]:
    """By task; several points have the same."""
    found: dict[str, Values] = {}
    for point in plan.points:
        task = graph.baselines[point.id]
        if task in found or task not in results:
            continue
        options = {name: value for name, value in point.options.items() if OWNERS[name] in DENSE}
        measured = {name: results[task].value[name] for name in OF_BASELINE}
        found[task] = {"id": f"b{len(found):03d}", "seed": point.seed, "options": options, **measured}
    return found


def _failed(plan: Plan, graph: Graph, failed: Mapping[str, MobilepruneError]) -> list[Values]:
    found = []
    for point in plan.points:
        error = failed.get(graph.points[point.id]) or failed.get(graph.baselines[point.id])
        if error:
            found.append({"options": {**point.options, "seed": point.seed}, "error": str(error)})
    return found
