"""Which artifact is chosen under limits; the rule is told in :mod:`mobileprune.sweep.limits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mobileprune.report.sweep_tables import options_text
from mobileprune.sweep.limits import PREFERENCES
from mobileprune.sweep.means import OBJECTIVES

WORDS = {
    "max_accuracy_drop": "accuracy drop, points",
    "max_latency_ms": "latency, ms",
    "max_bytes": "bytes",
    "max_auc": "upper bound of the AUC over all members",
    "max_canary_auc": "upper bound of the AUC over the canaries",
}
BEST = {
    "size": "the smallest",
    "latency": "the fastest",
    "auc": "the one with the lowest AUC",
    "canary-auc": "the one with the lowest canary AUC",
    "accuracy": "the most accurate",
}
Values = dict[str, Any]


def held(point: Values) -> dict[str, float | None]:
    """Limit -> the number of the point that it is held against; None where that is not known."""
    latency, canaries = point["latency"], point["canary_auc"]
    return {
        "max_accuracy_drop": point["accuracy_drop"],
        "max_latency_ms": latency["artifact_ms"] if latency and latency["valid"] else None,
        "max_bytes": point["size_bytes"],
        "max_auc": point["auc"]["upper"],
        "max_canary_auc": canaries and canaries["upper"],
    }


def misses(points: Sequence[Values], limits: Mapping[str, float]) -> list[Values]:
    """The limits that the mean over ``points`` does not keep to."""
    found = []
    for name, bound in limits.items():
        values = [held(point)[name] for point in points]
        known = [value for value in values if value is not None]
        value = fmean(known) if len(known) == len(values) else None
        if value is None or value > bound:
            found.append({"limit": name, "value": value, "bound": bound})
    return found


def choose(
    points: Sequence[Values], cases: Sequence[Values], limits: Mapping[str, float], prefer: str
) -> Values | None:
    """The point to ship, or the nearest one if none fits; None without limits or points. ``misses`` are known."""
    if not limits or not points:
        return None
    by_case = {case["id"]: case for case in cases}
    fitting = [point for point in points if not point["misses"] and not by_case[point["case"]]["misses"]]
    if fitting:
        best = min(fitting, key=lambda point: _order(by_case[point["case"]], prefer))
        count = "1 artifact" if len(fitting) == 1 else f"{len(fitting)} artifacts"
        sentence = f"{described(best)}: {BEST[prefer]} of {count} of {len(points)} that keep to every limit."
    else:
        best = min(points, key=lambda point: _distance(point, by_case[point["case"]]))
        wrong = best["misses"] or by_case[best["case"]]["misses"]
        whose = "" if best["misses"] else "on average over seeds "
        reasons = "; ".join(f"{whose}{_told(miss)}" for miss in wrong)
        sentence = f"No artifact of {len(points)} keeps to every limit. The nearest is {described(best)}: {reasons}."
    return {"point": best["id"], "case": best["case"], "fits": bool(fitting), "sentence": sentence, "artifact": None}


def described(point: Values) -> str:
    return f"{point['id']} ({options_text({**point['options'], 'seed': point['seed']})})"


def _order(case: Values, prefer: str) -> tuple[float, ...]:
    """By the preferred mean, then by the others in the order of PREFERENCES; one that is not known comes last."""
    names = [PREFERENCES[prefer], *(name for name in PREFERENCES.values() if name != PREFERENCES[prefer])]
    signs = {name: -1.0 if OBJECTIVES[name] == "higher" else 1.0 for name in names}
    means = case["means"]
    return tuple(signs[name] * means[name]["mean"] if name in means else float("inf") for name in names)


def _distance(point: Values, case: Values) -> tuple[float, ...]:
    """Fewest limits missed, then the smallest of the largest shares by which one is missed."""
    wrong = [*point["misses"], *case["misses"]]
    shares = [
        float("inf") if miss["value"] is None else (miss["value"] - miss["bound"]) / (miss["bound"] or 1.0)
        for miss in wrong
    ]
    return len(point["misses"]), len(case["misses"]), max(shares)


def _told(miss: Values) -> str:
    number = "is not known (validly)" if miss["value"] is None else f"is {miss['value']:.4g}"
    return f"{WORDS[miss['limit']]} {number}, may be at most {miss['bound']:.4g}"
