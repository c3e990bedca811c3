"""Bounds to the last digit: the formulas by hand, exact binomial tails, and the level that each estimate states."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from mobileprune.audit import statistics as s
from mobileprune.audit.auc import SMALLEST_DELONG
from mobileprune.audit.intervals import mover_difference, mover_mean, rate, unanimous_bounds
from mobileprune.errors import DataError, UsageError

RNG = np.random.default_rng(0)
MEMBERS, NONMEMBERS = RNG.normal(0.5, 1, 150), RNG.normal(0, 1, 120)
OTHERS = MEMBERS + RNG.normal(0, 0.5, 150), NONMEMBERS + RNG.normal(0, 0.5, 120)
PAIRED = (s.paired_auc_difference, s.paired_tpr_difference)


def exact(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    found = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return found.low, found.high


def test_mover_of_a_difference_by_hand() -> None:
    """0.8 [0.5, 0.85] less 0.6 [0.2, 0.72]: sqrt(0.3^2 + 0.12^2) below 0.2, sqrt(0.05^2 + 0.4^2) above it."""
    found = mover_difference((0.8, 0.5, 0.85), (0.6, 0.2, 0.72))
    assert found == pytest.approx((0.2, 0.2 - 0.3231098884, 0.2 + 0.4031128874))


def test_mover_by_hand() -> None:
    """Low: 0.3 and 0.4 away give 0.5; high: 0.05 and 0.12 give 0.13; halved, about the mean of 0.8 and 0.6."""
    assert mover_mean((0.8, 0.5, 0.85), (0.6, 0.2, 0.72)) == pytest.approx((0.7, 0.45, 0.765))


@pytest.mark.parametrize(("value", "pairs"), [(0.0, 1), (0.25, 20), (-0.6, 3), (1.0, 7), (-1.0, 7)])
def test_unanimous_bounds_are_the_means_that_other_outcomes_could_still_move(value: float, pairs: int) -> None:
    """Were -1 (or 1) to come with chance q, n draws would all miss it with chance alpha: (1 - q)^n = alpha."""
    low, high = unanimous_bounds(value, pairs, alpha_low=0.01, alpha=0.05)
    down, up = (
        (value - low) / (value + 1) if value > -1 else None,
        (high - value) / (1 - value) if value < 1 else None,
    )
    assert down is None or (1 - down) ** pairs == pytest.approx(0.01)
    assert up is None or (1 - up) ** pairs == pytest.approx(0.05)
    assert -1 <= low <= value <= high <= 1


@settings(max_examples=80)
@given(
    members=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=14),
    nonmembers=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=SMALLEST_DELONG - 1),
)
def test_with_few_examples_an_auc_has_the_bounds_of_disjoint_pairs(
    members: list[float], nonmembers: list[float]
) -> None:
    won = sum(Fraction(1 + (x > y) - (x < y), 2) for x, y in itertools.product(members, nonmembers))
    pairs = min(len(members), len(nonmembers))
    successes = won / (len(members) * len(nonmembers)) * pairs
    got = s.auc(np.array(members), np.array(nonmembers), confidence=0.9)
    expected = exact(math.floor(successes), pairs, 0.9)[0], exact(math.ceil(successes), pairs, 0.9)[1]
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-9)
    assert got.method == f"Clopper-Pearson over {pairs} disjoint pairs"


@pytest.mark.parametrize("few", [SMALLEST_DELONG - 1, SMALLEST_DELONG])
def test_delongs_variance_is_used_from_so_many_examples_on(few: int) -> None:
    delong = few == SMALLEST_DELONG
    for m, n in ((few, 60), (60, few)):
        sides = MEMBERS[:m], NONMEMBERS[:n]
        assert (s.auc(*sides).method == "DeLong, logit scale") == delong
        paired = s.paired_auc_difference(*sides, OTHERS[0][:m], OTHERS[1][:n])
        assert (paired.value is not None) == delong
        assert (paired.confidence, paired.method) == (pytest.approx(0.9), "paired DeLong")
        assert delong or f"{m} members and {n} non-members, at least {SMALLEST_DELONG} of each" in paired.note


def test_a_difference_stays_within_what_can_be() -> None:
    better, worse = np.arange(20.0), np.arange(20.0)[::-1].copy()
    better[[9, 10]], worse[[9, 10]] = better[[10, 9]], worse[[10, 9]]
    up = s.paired_auc_difference(better[10:], better[:10], worse[10:], worse[:10])
    down = s.paired_auc_difference(worse[10:], worse[:10], better[10:], better[:10])
    assert (up.value, up.high) == (pytest.approx(0.98), 1.0)
    assert (down.value, down.low) == (pytest.approx(-0.98), -1.0)
    assert 0 < up.low < up.value
    assert up.low == -down.high


@pytest.mark.parametrize("difference", PAIRED)
def test_where_all_agree_the_smaller_side_counts(difference: Callable[..., s.Estimate]) -> None:
    """Separated in both models, in other orders: nothing differs in any resample."""
    for m, n in ((150, 120), (110, 120)):
        members, nonmembers = 1000 + np.arange(m * 1.0), np.arange(n * 1.0)
        got = difference(members, nonmembers, members[::-1], nonmembers, alpha=0.1, alpha_low=0.02)
        assert got.value == 0.0
        assert got.high == pytest.approx(1 - 0.1 ** (1 / min(m, n)))
        assert got.low == pytest.approx(0.02 ** (1 / min(m, n)) - 1)
        assert got.confidence == pytest.approx(0.88)


def test_a_paired_difference_needs_one_example_of_each_side() -> None:
    none, one = np.ones(0), np.ones(1)
    for m, n in ((none, one), (one, none)):
        paired = s.paired_auc_difference(m, n, m, n, alpha=0.1)
        assert paired.note == f"not resolvable: {len(m)} members and {len(n)} non-members"
        assert (paired.confidence, paired.method) == (0.8, "paired DeLong")
        alone = s.auc(m, n, confidence=0.8)
        assert (alone.value, alone.confidence, alone.method) == (None, 0.8, "DeLong, logit scale")
    assert s.paired_auc_difference(one, one, one, one).value == 0.0


@pytest.mark.parametrize("difference", PAIRED)
def test_scores_of_other_examples_are_no_pairs(difference: Callable[..., s.Estimate]) -> None:
    for a, b in ((149, 120), (150, 119)):
        with pytest.raises(DataError, match="same examples"):
            difference(MEMBERS, NONMEMBERS, MEMBERS[:a], NONMEMBERS[:b])


@pytest.mark.parametrize("difference", PAIRED)
def test_each_bound_of_a_difference_has_its_own_level(difference: Callable[..., s.Estimate]) -> None:
    data = MEMBERS, NONMEMBERS, *OTHERS
    both, wide = difference(*data, alpha=0.1), difference(*data, alpha=0.1, alpha_low=0.01)
    assert (both, wide.high) == (difference(*data, alpha=0.1, alpha_low=0.1), both.high)
    assert wide.low < both.low < both.value < both.high
    assert both.method in ("paired DeLong", "paired bootstrap, 2000 resamples")
    assert (both.confidence, wide.confidence) == (pytest.approx(0.8), pytest.approx(0.89))
    same = difference(MEMBERS, NONMEMBERS, MEMBERS, NONMEMBERS, alpha=0.1, alpha_low=0.01)
    assert (same.confidence, same.method) == (pytest.approx(0.89), both.method)
    assert same.note == "both models rank all examples alike"


@pytest.mark.parametrize("confidence", [0.8, 0.99])
def test_intervals_are_exact_at_the_level_asked_for(confidence: float) -> None:
    """Clopper-Pearson of counts without ties; those of the PPV at half of what may fail each."""
    rate = s.tpr_at_fpr(MEMBERS, NONMEMBERS, fpr=0.1, confidence=confidence)
    threshold = np.sort(NONMEMBERS)[-13]
    found, false = (int((side > threshold).sum()) for side in (MEMBERS, NONMEMBERS))
    assert false == 12
    assert (rate.value, rate.low, rate.high) == pytest.approx((found / 150, *exact(found, 150, confidence)))
    value = s.ppv(MEMBERS, NONMEMBERS, prior=0.1, fpr=0.1, confidence=confidence)
    tpr, fpr = (exact(k, of, 1 - (1 - confidence) / 2) for k, of in ((found, 150), (false, 120)))
    expected = [0.1 * t / (0.1 * t + 0.9 * f) for t, f in ((found / 150, 0.1), (tpr[0], fpr[1]), (tpr[1], fpr[0]))]
    assert (value.value, value.low, value.high) == pytest.approx(expected)
    area = s.auc(MEMBERS, NONMEMBERS, confidence=confidence)
    logit = [math.log(v / (1 - v)) for v in (area.low, area.value, area.high)]
    spread = s.delong_covariance(MEMBERS, NONMEMBERS)[1][0, 0] ** 0.5 / (area.value * (1 - area.value))
    assert logit[2] - logit[1] == pytest.approx(norm.ppf((1 + confidence) / 2) * spread)
    assert logit[1] - logit[0] == pytest.approx(logit[2] - logit[1])
    assert {e.confidence for e in (rate, value, area)} == {confidence}
    assert (rate.method, value.method) == ("Clopper-Pearson", "Clopper-Pearson of TPR and FPR")
    none = [
        s.tpr_at_fpr(MEMBERS, NONMEMBERS, fpr=0.001, confidence=confidence),
        s.ppv(MEMBERS, NONMEMBERS, prior=0.1, fpr=0.001, confidence=confidence),
        s.paired_tpr_difference(MEMBERS, NONMEMBERS, *OTHERS, fpr=0.001, alpha=(1 - confidence) / 2),
    ]
    for one, method in zip(none, (rate.method, value.method, "paired bootstrap, 2000 resamples"), strict=True):
        assert one.note == "not resolvable: an FPR of 0.001 needs at least 1000 non-members, there are 120"
        assert (one.confidence, one.method) == (pytest.approx(confidence), method)
    nobody = s.ppv(np.zeros(5), np.zeros(100), prior=0.1, confidence=confidence)
    assert (nobody.confidence, nobody.method) == (confidence, value.method)
    assert nobody.note == "not resolvable: no example lies above the threshold"
    assert s.auc(np.ones(3), np.zeros(3), confidence=confidence).confidence == confidence


def test_a_rate_that_ties_make_a_fraction_has_the_wider_bound_on_each_side() -> None:
    """Of 100 non-members 40 tie at the top: 2 of them are allowed, so each of the 30 members there counts 2 / 40."""
    members, nonmembers = np.repeat([1.0, 0.0], [30, 20]), np.repeat([1.0, 0.0], [40, 60])
    got = s.tpr_at_fpr(members, nonmembers, fpr=0.02)
    assert got.value == pytest.approx(1.5 / 50)
    assert (got.low, got.high) == pytest.approx((exact(1, 50, 0.95)[0], exact(2, 50, 0.95)[1]))
    # A whole number of hits, were it not for rounding: 3 x (1 / 3) counts as 1.
    whole = s.tpr_at_fpr(np.repeat([1.0, 0.0], [3, 47]), np.repeat([1.0, 0.0], [3, 97]), fpr=0.01)
    assert (whole.low, whole.high) == pytest.approx(exact(1, 50, 0.95))


def test_the_bounds_of_a_resampled_difference_are_drawn_values_and_the_outer_ones() -> None:
    """Between two draws the one further out is taken: at alpha 0.0501 rank 100.15 of 2,000, so 100 and 1,899."""
    from mobileprune.audit.bootstrap import resampled_differences

    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(1, 1, 1999), rng.normal(0, 1, 400)
    data = members, nonmembers, members + rng.normal(0, 1, 1999), nonmembers + rng.normal(0, 1, 400)
    drawn = np.sort(resampled_differences(data[:2], data[2:], 40, np.random.default_rng(0), 2000))
    rank = next(k for k in range(100, 300) if drawn[k] < drawn[k + 1] and drawn[-k - 2] < drawn[-k - 1])
    got = s.paired_tpr_difference(*data, fpr=0.1, alpha=(rank + 0.5) / 1999)
    assert (got.low, got.high) == (drawn[rank], drawn[-rank - 1])


def test_covariances_need_two_of_each_side_and_as_many_scorings() -> None:
    for m, n in ((1, 5), (5, 1)):
        with pytest.raises(DataError, match="needs shapes"):
            s.delong_covariance(np.ones((1, m)), np.ones((1, n)))
    with pytest.raises(DataError, match="needs shapes"):
        s.delong_covariance(np.ones((1, 5)), np.ones((2, 5)))
    assert s.delong_covariance(np.array([1.0, 2.0]), np.array([0.0, 3.0]))[0] == 0.5


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.5, 1.5])
def test_rates_and_priors_lie_between_0_and_1(rate: float) -> None:
    with pytest.raises(UsageError, match="fpr must lie"):
        s.tpr_at_fpr(MEMBERS, NONMEMBERS, fpr=rate)
    with pytest.raises(UsageError, match="prior must lie"):
        s.ppv(MEMBERS, NONMEMBERS, prior=rate)


@pytest.mark.parametrize("values", [[np.inf, 1.0], [np.nan, 1.0], [[1.0, 2.0]], 3.0], ids=str)
def test_scores_are_finite_and_in_a_row(values: object) -> None:
    for sides in ((np.array(values), NONMEMBERS), (MEMBERS, np.array(values))):
        with pytest.raises(DataError, match="scores must be finite and 1-d"):
            s.auc(*sides)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (272, 300), (9999, 10_000)])
def test_a_rate_has_the_exact_interval_of_scipy(successes: int, trials: int) -> None:
    found = rate(successes, trials, confidence=0.9)
    assert found.edges == pytest.approx((successes / trials, *exact(successes, trials, 0.9)))
    assert (found.confidence, found.method) == (0.9, "Clopper-Pearson")


def test_a_rate_of_nothing_is_not_resolvable() -> None:
    found = rate(0, 0, confidence=0.9)
    assert (found.edges, found.note) == (None, "not resolvable: nothing was tried")
    assert (found.confidence, found.method) == (0.9, "Clopper-Pearson")


@pytest.mark.parametrize("missing", range(3))
def test_an_estimate_without_one_of_its_edges_has_none(missing: int) -> None:
    edges = (0.6, 0.5, 0.7)
    assert s.Estimate(*edges, 0.9, "test").edges == edges
    known = [None if i == missing else edge for i, edge in enumerate(edges)]
    assert s.Estimate(*known, 0.9, "test").edges is None
