"""The cases of a sweep: what its points reach on average over seeds, and how the averages rank."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student

from mobileprune.sweep.front import ranks, step_of

CONFIDENCE = 0.95
OBJECTIVES = {
    "test_accuracy": "higher",
    "size_bytes": "lower",
    "latency_ms": "lower",
    "auc": "lower",
    "canary_auc": "lower",
}
"""Of the Pareto front: the mean that counts -> what is better."""

Values = dict[str, Any]


def mean(values: Sequence[float]) -> Values:
    """With Student's interval over seeds; without one for a single seed.

    >>> mean([1.0])
    {'mean': 1.0, 'low': None, 'high': None, 'count': 1}
    """
    middle, count = fmean(values), len(values)
    if count == 1:
        return {"mean": middle, "low": None, "high": None, "count": 1}
    half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(values) / count**0.5
    return {"mean": middle, "low": middle - half, "high": middle + half, "count": count}


def numbers(point: Values) -> dict[str, float | None]:
    """What is averaged, of one point."""
    latency = point["latency"] if point["latency"] and point["latency"]["valid"] else None
    canaries = point["canary_auc"]
    return {
        "test_accuracy": point["test_accuracy"],
        "accuracy_drop": point["accuracy_drop"],
        "size_bytes": point["size_bytes"],
        "deflated_bytes": point["deflated_bytes"],
        "latency_ms": latency and latency["artifact_ms"],
        "speedup": latency and latency["speedup"]["value"],
        "auc": point["auc"]["auc"]["value"],
        "canary_auc": canaries and canaries["auc"]["value"],
    }


def cases(points: Sequence[Values]) -> list[Values]:
    """One for all points that differ in nothing but the seed; a number that one of them lacks has no mean."""
    grouped: dict[str, list[Values]] = {}
    for point in points:
        grouped.setdefault(point["case"], []).append(point)
    made = []
    for name, group in sorted(grouped.items()):
        found = [numbers(point) for point in group]
        columns = {key: [row[key] for row in found] for key in found[0]}
        known = {
            key: mean([v for v in column if v is not None]) for key, column in columns.items() if None not in column
        }
        made.append(
            {"id": name, "options": group[0]["options"], "points": [point["id"] for point in group], "means": known}
        )
    return made


def ranked(made: Sequence[Values]) -> tuple[list[Values], list[Values], list[str]]:
    """The cases with their ``rank``, the objectives that it is over, and notes on those that some case lacks."""
    if not made:
        return [], [], []
    used = [name for name in OBJECTIVES if all(name in case["means"] for case in made)]
    left_out = [name for name in OBJECTIVES if name not in used and any(name in case["means"] for case in made)]
    costs = np.array([[_cost(name, case["means"][name]["mean"]) for name in used] for case in made])
    found = ranks(costs.reshape(len(made), len(used)))
    notes = [f"the Pareto front leaves out {name}, which is not known (validly) of every case" for name in left_out]
    return (
        [{**case, "rank": int(rank)} for case, rank in zip(made, found, strict=True)],
        [{"name": name, "better": OBJECTIVES[name]} for name in used],
        notes,
    )


def _cost(name: str, value: float) -> float:
    if name == "latency_ms":
        return step_of(value)
    return -value if OBJECTIVES[name] == "higher" else value
