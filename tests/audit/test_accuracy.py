"""Thresholds and balanced accuracy against loops over every candidate and every example."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mobileprune.audit.accuracy import SMALLEST_CLASS, balanced_accuracy, best_threshold
from mobileprune.errors import UsageError

quick = settings(max_examples=80)
values = st.integers(-6, 6).map(lambda v: v / 2)


def slow_threshold(members: list[float], nonmembers: list[float]) -> float:
    """Of the candidates in ascending order the first that is best; then half way to the next score."""
    ordered = sorted({*members, *nonmembers})

    def accuracy(t: float) -> Fraction:
        found, rejected = sum(x > t for x in members), sum(y <= t for y in nonmembers)
        return Fraction(found, len(members)) + Fraction(rejected, len(nonmembers))

    best = max([-math.inf, *ordered], key=accuracy)
    return best if best == -math.inf else (best + min(x for x in ordered if x > best)) / 2


@quick
@given(members=st.lists(values, min_size=1, max_size=12), nonmembers=st.lists(values, min_size=1, max_size=12))
def test_the_threshold_is_the_lowest_of_the_best_and_half_way_to_the_next_score(
    members: list[float], nonmembers: list[float]
) -> None:
    assert best_threshold(np.array(members), np.array(nonmembers)) == slow_threshold(members, nonmembers)


def test_where_no_threshold_helps_everyone_is_a_member() -> None:
    assert best_threshold(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == -np.inf
    assert best_threshold(np.array([1.0]), np.array([1.0])) == -np.inf


@pytest.mark.parametrize("lower", [1.0, np.nextafter(1.0, 2.0)])
def test_a_threshold_between_neighbouring_floats_separates_them(lower: float) -> None:
    """There is nothing half way: the sum is rounded down for the one and up for the other."""
    assert best_threshold(np.array([np.nextafter(lower, 2.0)]), np.array([lower])) == lower


def slow_accuracy(
    members: list[float], nonmembers: list[float], inside: list[int], outside: list[int], confidence: float
) -> tuple[float, float, float]:
    """Example by example; the interval by the formula of MOVER on scipy's Clopper-Pearson intervals."""
    right = [0, 0]
    for fold in (0, 1):

        def threshold(label: int, fold: int = fold) -> float:
            own = [x for x, k in zip(members[fold::2], inside[fold::2], strict=True) if k == label]
            other = [y for y, k in zip(nonmembers[fold::2], outside[fold::2], strict=True) if k == label]
            if min(len(own), len(other)) < SMALLEST_CLASS:
                return slow_threshold(members[fold::2], nonmembers[fold::2])
            return slow_threshold(own, other)

        for x, label in zip(members[1 - fold :: 2], inside[1 - fold :: 2], strict=True):
            right[0] += x > threshold(label)
        for y, label in zip(nonmembers[1 - fold :: 2], outside[1 - fold :: 2], strict=True):
            right[1] += y <= threshold(label)
    parts = []
    for count, side in zip(right, (members, nonmembers), strict=True):
        exact = binomtest(int(count), len(side)).proportion_ci(confidence, method="exact")
        parts.append((count / len(side), exact.low, exact.high))
    (a, a_low, a_high), (b, b_low, b_high) = parts
    below, above = math.hypot(a - a_low, b - b_low) / 2, math.hypot(a_high - a, b_high - b) / 2
    return (a + b) / 2, (a + b) / 2 - below, (a + b) / 2 + above


@quick
@given(data=st.data(), m=st.integers(2, 40), n=st.integers(2, 40), classes=st.sampled_from([0, 1, 2]))
def test_balanced_accuracy_is_that_of_a_loop(data: st.DataObject, m: int, n: int, classes: int) -> None:
    """0 classes: without labels."""
    members, nonmembers = (data.draw(st.lists(values, min_size=size, max_size=size)) for size in (m, n))
    inside, outside = (data.draw(st.lists(st.integers(0, max(classes - 1, 0)), min_size=s, max_size=s)) for s in (m, n))
    labels = {"member_labels": np.array(inside), "nonmember_labels": np.array(outside)}
    options = {"class_thresholds": True, **labels} if classes else {}
    got = balanced_accuracy(np.array(members), np.array(nonmembers), confidence=0.9, **options)
    expected = slow_accuracy(members, nonmembers, inside, outside, 0.9)
    assert (got.value, got.low, got.high) == pytest.approx(expected, abs=1e-9)
    assert got.confidence == 0.9
    assert ("per class" in got.method) == bool(classes)


@pytest.mark.parametrize("fewest", [SMALLEST_CLASS - 1, SMALLEST_CLASS])
def test_a_class_needs_its_fewest_examples_in_the_fitting_fold(fewest: int) -> None:
    """Class 1 has ``fewest`` in each fold; its scores lie 10 higher, so the common threshold finds nothing in it."""
    labels = np.repeat([0, 1], [40, 2 * fewest])
    members, nonmembers = 10.0 * labels + 1, 10.0 * labels
    got = balanced_accuracy(members, nonmembers, class_thresholds=True, member_labels=labels, nonmember_labels=labels)
    assert (got.value == 1.0) == (fewest == SMALLEST_CLASS)


def test_labels_are_not_looked_at_where_classes_do_not_count() -> None:
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(0.5, 1, 60), rng.normal(0, 1, 50)
    labels = {"member_labels": np.arange(60) % 2, "nonmember_labels": np.arange(50) % 2}
    assert balanced_accuracy(members, nonmembers, **labels) == balanced_accuracy(members, nonmembers)
    for one in labels:
        with pytest.raises(UsageError, match="needs member_labels and nonmember_labels"):
            balanced_accuracy(members, nonmembers, class_thresholds=True, **{one: labels[one]})


def test_two_examples_of_each_side_are_enough_and_one_is_not() -> None:
    assert balanced_accuracy(np.array([1.0, 1.0]), np.array([0.0, 0.0])).value == 1.0
    for few in ((1, 2), (2, 1)):
        got = balanced_accuracy(np.ones(few[0]), np.zeros(few[1]))
        assert got.value is None
        assert f"{few[0]} members and {few[1]} non-members" in got.note
