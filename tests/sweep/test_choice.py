"""Which artifact is chosen: by itself and on average over seeds it keeps to every limit; else the nearest is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mobileprune.errors import ConfigError, UsageError
from mobileprune.sweep.choice import choose, held, misses
from mobileprune.sweep.limits import PREFERENCES, Limits
from mobileprune.sweep.means import OBJECTIVES, cases, numbers, ranked
from mobileprune.sweep.run import SweepOptions

Values = dict[str, Any]


def leak(value: float, upper: float | None = None) -> Values:
    return {"auc": {"value": value, "low": value, "high": value}, "attacks": ["loss"], "upper": upper or value + 0.02}


def point(name: str, case: str, *, ms: float = 1.0, valid: bool = True, **changes: Any) -> Values:
    latency = {"artifact_ms": ms, "baseline_ms": 1.0, "speedup": {"value": 1 / ms}, "valid": valid}
    plain = {"id": name, "case": case, "seed": 0, "options": {"case": case}, "latency": latency, "test_accuracy": 0.9}
    sizes = {"accuracy_drop": 1.0, "size_bytes": 1000, "deflated_bytes": 900}
    return {**plain, **sizes, "auc": leak(0.55), "canary_auc": leak(0.6), **changes}


def chosen(points: list[Values], limits: Mapping[str, float], prefer: str = "size") -> Values | None:
    points = [{**p, "misses": misses([p], limits)} for p in points]
    made, _, _ = ranked(cases(points))
    made = [{**c, "misses": misses([p for p in points if p["case"] == c["id"]], limits)} for c in made]
    return choose(points, made, limits, prefer)


def test_without_limits_nothing_is_chosen() -> None:
    assert chosen([point("p0", "c0")], {}) is None
    assert chosen([], {"max_auc": 0.6}) is None


@pytest.mark.parametrize(
    ("limit", "bound", "change"),
    [
        ("max_accuracy_drop", 1.0, {"accuracy_drop": 1.1}),
        ("max_bytes", 1000, {"size_bytes": 1001}),
        ("max_latency_ms", 1.0, {"ms": 1.01}),
        ("max_auc", 0.575, {"auc": leak(0.55, 0.576)}),
        ("max_canary_auc", 0.625, {"canary_auc": leak(0.6, 0.626)}),
    ],
)
def test_each_limit_keeps_out_what_is_above_it(limit: str, bound: float, change: Values) -> None:
    good, bad = point("p0", "c0"), point("p1", "c1", **change)
    assert misses([good], {limit: bound}) == []
    (miss,) = misses([bad], {limit: bound})
    assert (miss["limit"], miss["bound"]) == (limit, bound)
    assert miss["value"] == held(bad)[limit] > bound
    found = chosen([bad, good], {limit: bound})
    assert found
    assert (found["point"], found["fits"]) == ("p0", True)


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        ("max_latency_ms", {"valid": False}),
        ("max_latency_ms", {"latency": None}),
        ("max_canary_auc", {"canary_auc": None}),
        ("max_accuracy_drop", {"accuracy_drop": None}),
        ("max_auc", {"auc": {**leak(0.5), "upper": None}}),
    ],
)
def test_what_is_not_known_does_not_count(limit: str, change: Values) -> None:
    unknown = point("p0", "c0", **change)
    assert misses([unknown], {limit: 100.0}) == [{"limit": limit, "value": None, "bound": 100.0}]
    found = chosen([unknown], {limit: 100.0})
    assert found
    assert not found["fits"]
    assert "is not known (validly)" in found["sentence"]


def test_a_lucky_seed_is_not_picked() -> None:
    lucky = [point("p0", "c0", accuracy_drop=0.5, size_bytes=10), point("p1", "c0", accuracy_drop=4.0, size_bytes=10)]
    found = chosen([*lucky, point("p2", "c1")], {"max_accuracy_drop": 1.0})
    assert found
    assert found["point"] == "p2"
    only = chosen(lucky, {"max_accuracy_drop": 1.0})
    assert only
    assert (only["fits"], only["point"]) == (False, "p0")
    assert "on average over seeds accuracy drop, points is 2.25, may be at most 1" in only["sentence"]


def test_what_is_preferred_decides_and_then_the_others() -> None:
    points = [
        point("p0", "c0", size_bytes=10, ms=3.0, auc=leak(0.58), canary_auc=leak(0.5), test_accuracy=0.8),
        point("p1", "c1", size_bytes=20, ms=1.0, auc=leak(0.57), canary_auc=leak(0.6), test_accuracy=0.8),
        point("p2", "c2", size_bytes=20, ms=2.0, auc=leak(0.51), canary_auc=leak(0.6), test_accuracy=0.9),
    ]
    expected = {"size": "p0", "latency": "p1", "auc": "p2", "canary-auc": "p0", "accuracy": "p2"}
    assert expected.keys() == PREFERENCES.keys()
    for prefer, name in expected.items():
        found = chosen(points, {"max_auc": 1.0}, prefer)
        assert found
        assert found["point"] == name, prefer
    same_size = chosen(points[1:], {"max_auc": 1.0})
    assert same_size
    assert same_size["point"] == "p1", "of equal size the faster one"


def test_the_nearest_misses_fewest_limits_and_then_by_least() -> None:
    limits = {"max_bytes": 100.0, "max_auc": 0.55}
    far = point("p0", "c0", size_bytes=400, auc=leak(0.5))
    near = point("p1", "c1", size_bytes=150, auc=leak(0.5))
    both = point("p2", "c2", size_bytes=101, auc=leak(0.56))
    found = chosen([far, both, near], limits)
    assert found
    assert (found["point"], found["fits"], found["case"]) == ("p1", False, "c1")
    assert found["sentence"].startswith("No artifact of 3 keeps to every limit. The nearest is p1 (case c1, seed 0): ")
    assert "bytes is 150, may be at most 100" in found["sentence"]


def test_an_objective_that_is_not_known_of_all_is_left_out_of_the_front() -> None:
    slow = point("p0", "c0", ms=2.0)
    busy = point("p1", "c1", ms=1.0, valid=False)
    made, objectives, notes = ranked(cases([slow, point("p2", "c2", ms=1.0)]))
    assert [each["name"] for each in objectives] == list(OBJECTIVES)
    assert [case["rank"] for case in made] == [1, 0]
    made, objectives, notes = ranked(cases([slow, busy]))
    assert "latency_ms" not in [each["name"] for each in objectives]
    assert [case["rank"] for case in made] == [0, 0]
    assert notes == ["the Pareto front leaves out latency_ms, which is not known (validly) of every case"]
    assert ranked([]) == ([], [], [])


def test_means_are_over_the_seeds_of_a_case() -> None:
    (case,) = cases([point("p0", "c0", test_accuracy=0.8), point("p1", "c0", test_accuracy=0.9, canary_auc=None)])
    assert case["points"] == ["p0", "p1"]
    assert case["means"]["test_accuracy"]["mean"] == pytest.approx(0.85)
    assert "canary_auc" not in case["means"]
    assert numbers(point("p", "c", valid=False))["latency_ms"] is None


def test_a_preference_that_is_none_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="unknown preference 'sise': did you mean 'size'"):
        SweepOptions(prefer="sise")


def test_limits_that_are_given_win_over_those_of_the_plan() -> None:
    assert Limits.of({"max_auc": 0.6, "max_bytes": 5}, max_auc=0.7).to_dict() == {"max_auc": 0.7, "max_bytes": 5}
    with pytest.raises(ConfigError) as info:
        Limits(max_bytes=True, max_accuracy_drop=float("nan"), max_latency_ms=-1)
    assert info.value.problems == [
        "max_accuracy_drop nan: must be in [0, 100]",
        "max_latency_ms -1: must be at least 0",
        "max_bytes: True is not a float",
    ]
    with pytest.raises(ConfigError, match="max_latency_ms inf: must be at least 0"):
        Limits(max_latency_ms=float("inf"))
