"""Power: closed forms, exact tails, and the promised rates found again by simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom, norm

from mobileprune.attacks import Scores
from mobileprune.audit.auc import paired_auc_difference
from mobileprune.audit.intervals import smallest_detectable_auc
from mobileprune.audit.power import (
    pairs_needed,
    power_of,
    smallest_detectable_tpr,
    tpr_p_value,
)
from mobileprune.errors import UsageError


def sized(m: int, n: int, attacks: int) -> Scores:
    by_attack = {str(i): np.zeros(m + n) for i in range(attacks)}
    member = np.arange(m + n) < m
    return Scores(by_attack, dict.fromkeys(by_attack, "logits"), {}, np.zeros(m + n, np.int64), member, ~member)


def test_the_null_of_the_tpr_is_beta_binomial() -> None:
    rng, k = np.random.default_rng(0), 2
    scores = rng.normal(size=(20_000, 90))
    threshold = np.sort(scores[:, 30:], axis=1)[:, -1 - k]
    counts = (scores[:, :30] > threshold[:, None]).sum(axis=1)
    for at_least in range(5):
        share = (counts >= at_least).mean()
        assert share == pytest.approx(betabinom.sf(at_least - 1, 30, k + 1, 60 - k), abs=0.013)
    members, nonmembers = np.array([5.0, 4.0, 3.0, 0.0]), np.arange(5.0)  # the one at the threshold does not count
    assert tpr_p_value(members, nonmembers, fpr=0.2) == pytest.approx(betabinom.sf(1, 4, 2, 4))
    assert tpr_p_value(members, nonmembers, fpr=0.01) is None


@pytest.mark.parametrize(
    ("m", "n", "fpr", "alpha"), [(500, 500, 0.01, 0.05), (50, 100, 0.01, 0.01), (7, 20, 0.1, 0.05)]
)
def test_the_smallest_tpr_is_found_with_the_power(m: int, n: int, fpr: float, alpha: float) -> None:
    rate, allowed = smallest_detectable_tpr(m, n, fpr=fpr, alpha=alpha), math.floor(fpr * n + 1e-9)
    count = next(c for c in range(m + 1) if betabinom.sf(c - 1, m, allowed + 1, n - allowed) <= alpha)
    assert binom.sf(count - 1, m, rate) == pytest.approx(0.8)
    assert fpr < rate < 1


def test_a_sample_that_cannot_reject_or_resolve_has_no_smallest_tpr() -> None:
    assert smallest_detectable_tpr(500, 99) is None
    assert smallest_detectable_tpr(0, 100) is None
    assert smallest_detectable_tpr(1, 100, alpha=0.001) is None


def test_power_of_a_sample_is_corrected_for_the_attacks() -> None:
    got = power_of(sized(300, 400, 5), alpha=0.05)
    assert got.smallest_auc == smallest_detectable_auc(300, 400, alpha=0.01)
    assert got.smallest_tpr == smallest_detectable_tpr(300, 400, alpha=0.01)
    assert (got.attacks, got.pairs_for_margin) == (5, 5153)
    assert power_of(sized(0, 5, 2)).smallest_auc is None
    assert power_of(sized(3, 5, 0)).attacks == 1
    json.dumps([power_of(sized(m, n, a)).to_dict() for m, n, a in ((0, 0, 0), (1, 1, 1), (3, 5, 2))], allow_nan=False)


@pytest.mark.slow
def test_so_many_pairs_show_that_nothing_was_added_as_often_as_stated() -> None:
    margin, correlation = 0.06, 0.5
    n, rng = pairs_needed(margin, correlation=correlation), np.random.default_rng(1)
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    shown = 0
    for _ in range(600):
        x, y = rng.normal(size=(2, n))
        a_x, b_x, a_y, b_y = (shared * v + own * rng.normal(size=n) for v in (x, x, y, y))
        shown += paired_auc_difference(a_x, a_y, b_x, b_y).high < margin
    assert abs(shown / 600 - 0.8) < 0.06  # standard deviation 0.016; ranks correlate a little less than scores


@pytest.mark.parametrize(
    "call",
    [
        lambda: pairs_needed(0.0),
        lambda: pairs_needed(0.1, correlation=2),
        lambda: pairs_needed(0.1, alpha=0.5),
        lambda: smallest_detectable_tpr(5, 500, power=1.0),
    ],
)
def test_options_are_checked(call) -> None:
    with pytest.raises(UsageError):
        call()


def test_power_of_a_sample_has_each_of_its_options() -> None:
    got = power_of(sized(300, 3000, 4), auc_margin=0.05, alpha=0.08, power=0.9)
    assert (got.attacks, got.alpha, got.power, got.auc_margin) == (4, 0.08, 0.9, 0.05)
    assert got.smallest_auc == smallest_detectable_auc(300, 3000, alpha=0.02, power=0.9)
    assert got.smallest_tpr == smallest_detectable_tpr(300, 3000, fpr=0.01, alpha=0.02, power=0.9)
    assert got.pairs_for_margin == pairs_needed(0.05, alpha=0.08, power=0.9)
    default = power_of(sized(300, 1500, 4))
    assert (default.alpha, default.power, default.auc_margin) == (0.05, 0.8, 0.02)


@pytest.mark.parametrize(("m", "n", "fpr", "alpha"), [(40, 30, 0.4, 0.05), (12, 10, 0.7, 0.2), (9, 200, 0.015, 0.01)])
@pytest.mark.parametrize("power", [0.5, 0.9])
def test_the_smallest_tpr_is_that_of_a_search_over_every_count(m, n, fpr, alpha, power) -> None:
    """The null by counting: of M + N in random order, how many members come before the (k + 1)-th non-member."""
    k = math.floor(fpr * n + 1e-9)

    def chance(c: int) -> float:
        ways = (math.comb(k + i, k) * math.comb(n - 1 - k + m - i, m - i) for i in range(c, m + 1))
        return sum(ways) / math.comb(m + n, m)

    count = next(c for c in range(m + 1) if chance(c) <= alpha)
    rate = smallest_detectable_tpr(m, n, fpr=fpr, alpha=alpha, power=power)
    assert binom.sf(count - 1, m, rate) == pytest.approx(power)


def test_a_single_member_can_be_enough() -> None:
    """1 of 100 above everyone but one: 2 / 101. With that power it must be found in 8 of 10 samples."""
    assert smallest_detectable_tpr(1, 100) == pytest.approx(0.8)


def test_pairs_that_are_needed_have_each_of_their_options() -> None:
    z = norm.ppf([0.99, 0.9]).sum()
    assert pairs_needed(0.02, correlation=1.0) == 1
    assert pairs_needed(0.05, correlation=0.25, alpha=0.01, power=0.9) == math.ceil(0.75 * z**2 / (3 * 0.05**2))
    assert pairs_needed(0.1, correlation=-1.0) == math.ceil(2 * norm.ppf([0.95, 0.8]).sum() ** 2 / (3 * 0.1**2))


@pytest.mark.parametrize(
    "call",
    [
        *(lambda m=m: pairs_needed(m) for m in (-0.1, 1.0, 1.5)),
        *(lambda c=c: pairs_needed(0.1, correlation=c) for c in (-1.1, 1.1)),
        *(lambda a=a: smallest_detectable_tpr(5, 500, alpha=a) for a in (-0.1, 0.0, 0.5)),
        *(lambda p=p: smallest_detectable_tpr(5, 500, power=p) for p in (0.49, 1.0)),
    ],
)
def test_options_at_the_edge_of_what_they_may_be_are_refused(call) -> None:
    with pytest.raises(UsageError):
        call()
