"""The Pareto front against the slow definition, and means against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mobileprune.sweep.clock import Clock, in_words
from mobileprune.sweep.front import ranks, step_of
from mobileprune.sweep.means import mean


def slow(costs: list[list[float]]) -> list[int]:
    """Peel off what nothing left dominates."""
    found = [-1] * len(costs)
    level = 0
    while -1 in found:
        left = [i for i, rank in enumerate(found) if rank == -1]
        for i in left:
            for j in left:
                no_worse = all(a <= b for a, b in zip(costs[j], costs[i], strict=True))
                better = any(a < b for a, b in zip(costs[j], costs[i], strict=True))
                if no_worse and better:
                    break
            else:
                found[i] = level + 1000  # not to be seen by the others of this level
        found = [rank - 1000 if rank >= 1000 else rank for rank in found]
        level += 1
    return found


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(0, 9), st.integers(1, 5)),
        elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, float("inf")]),
    )
)
def test_ranks_are_those_of_the_definition(costs: np.ndarray) -> None:
    assert ranks(costs).tolist() == slow(costs.tolist())


def test_equals_are_all_on_the_front() -> None:
    assert ranks(np.ones((3, 2))).tolist() == [0, 0, 0]
    assert ranks(np.zeros((3, 0))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("ms", [1e-3, 0.07, 1.0, 250.0])
def test_noise_of_a_latency_makes_no_step_and_a_fifth_does(ms: float) -> None:
    centre = 1.1 ** step_of(ms)
    assert step_of(centre * 0.96) == step_of(centre) == step_of(centre * 1.04)
    assert step_of(centre * 0.8) < step_of(centre) < step_of(centre * 1.25)


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.31, 0.35, 0.3, 0.36]
    found = mean(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((np.mean(values), low, high))
    assert found["count"] == 4


def test_time_left_is_judged_by_what_was_computed() -> None:
    clock = Clock(["train", "train", "point", "point"], alone="timing", workers=2)
    assert clock.seconds_left() is None
    clock.finished("train", None)
    assert clock.seconds_left() is None, "a result that was there says nothing"
    clock.finished("train", 10.0)
    assert clock.seconds_left() == (10 + 10) / 2, "points are taken to be like the rest"
    clock.finished("point", 2.0)
    assert clock.seconds_left() == 1.0
    clock.finished("point", 4.0)
    assert clock.seconds_left() == 0
    clock = Clock(["train", "point", "timing", "timing"], alone="timing", workers=2)
    clock.finished("train", 4.0)
    assert clock.seconds_left() == 4 / 2 + 2 * 4, "timings are taken one by one"
    assert [in_words(s) for s in (59, 61, 5400)] == ["59 s", "1 min", "1.5 h"]
