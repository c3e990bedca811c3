"""How many more examples an inconclusive answer lacks: the interval of a sample of that size ends at the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileprune.attacks import Group
from mobileprune.audit.compare import Comparison
from mobileprune.audit.intervals import Estimate, not_resolvable
from mobileprune.audit.more import More, more_needed, times_needed
from mobileprune.audit.statistics import auc


def interval(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, 0.9, "test")


def compared(value: float, half: float, limit: float = 0.6, group: Group = "all") -> Comparison:
    return Comparison("loss", group, "auc", interval(value, half), limit)


@given(
    value=st.floats(0.4, 0.8),
    half=st.floats(0.01, 0.3),
    limit=st.floats(0.5, 0.7),
    below=st.sampled_from([True, False]),
)
def test_a_half_width_that_falls_with_the_root_ends_at_the_limit(value, half, limit, below) -> None:
    value = limit - abs(value - limit) if below else limit + abs(value - limit)
    times = times_needed(interval(value, half), limit)
    if times == 1:
        assert half <= abs(value - limit) + 1e-6, "it is on one side already"
    elif math.isfinite(times) and times < 1e6:
        assert half / math.sqrt(times) == pytest.approx(abs(value - limit), rel=1e-3)


def test_the_bound_on_the_side_of_the_limit_counts() -> None:
    lopsided = Estimate(0.55, 0.0, 0.65, 0.9, "test")
    assert times_needed(lopsided, 0.60) == pytest.approx(4)
    assert times_needed(Estimate(0.65, 0.55, 1.0, 0.9, "test"), 0.60) == pytest.approx(4)


def test_at_the_limit_no_number_would_do() -> None:
    assert times_needed(interval(0.6, 0.05), 0.6) == math.inf
    assert times_needed(not_resolvable("few", confidence=0.9, method="test"), 0.6) == math.inf
    assert more_needed([compared(0.6, 0.05)]) == More("all", None)


def test_a_hundred_times_the_examples_is_the_most_that_is_named() -> None:
    assert more_needed([compared(0.59, 0.1)]) == More("all", 100)
    assert more_needed([compared(0.59001, 0.1)]) == More("all", None)


def test_a_pass_needs_every_attack_and_a_fail_one() -> None:
    below = [compared(0.55, 0.06), compared(0.58, 0.06, group="canaries")]
    assert more_needed(below) == More("canaries", pytest.approx(9))
    above = [*below, compared(0.63, 0.06), compared(0.62, 0.06)]
    assert more_needed(above) == More("all", pytest.approx(4))


def test_what_is_not_resolvable_hinders_a_pass_and_no_fail() -> None:
    unknown = Comparison("loss", "canaries", "auc", not_resolvable("few", confidence=0.9, method="test"), 0.6)
    assert more_needed([compared(0.55, 0.06), unknown]) == More("canaries", None)
    assert more_needed([unknown, compared(0.63, 0.06)]) == More("all", pytest.approx(4))


@pytest.mark.parametrize("shift", [0.15, 0.55])
def test_a_sample_of_that_size_is_decided_more_often_than_not_if_the_estimate_was_true(shift: float) -> None:
    """Drawn anew at the size that was named: the bound lies around the limit, and with twice as many on its side."""
    rng, limit = np.random.default_rng(0), 0.6

    def measured(size: int) -> Estimate:
        return auc(rng.normal(shift, 1, size), rng.normal(size=size), confidence=0.9)

    while True:  # the first sample that decides nothing and is near the truth
        first = measured(80)
        if first.low < limit < first.high and abs(first.value - 0.5 * math.erfc(-shift / 2)) < 0.01:
            break
    size = round(80 * times_needed(first, limit))

    def decided(found: Estimate) -> bool:
        return found.high < limit or found.low > limit

    assert 0.2 < np.mean([decided(measured(size)) for _ in range(60)]) < 0.8
    assert np.mean([decided(measured(3 * size)) for _ in range(60)]) > 0.8
