"""The strongest attack: chosen on one half, measured on the other, unbiased and covered."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from scipy.stats import norm

from mobileprune.attacks import Scores
from mobileprune.audit.auc import auc
from mobileprune.audit.rates import tpr_at_fpr
from mobileprune.audit.selection import halves, highest_auc, strongest
from mobileprune.errors import UsageError


def scores(by_attack: dict[str, np.ndarray], member: np.ndarray) -> Scores:
    none = np.zeros(len(member), np.bool_)
    return Scores(by_attack, dict.fromkeys(by_attack, "logits"), {}, np.zeros(len(member), np.int64), member, none)


def drawn(rng: np.random.Generator, shifts: list[float], n: int) -> Scores:
    member = np.arange(2 * n) < n
    return scores({f"a{i}": rng.normal(shift * member, 1) for i, shift in enumerate(shifts)}, member)


def test_halves_are_even_and_odd_positions_of_each_side() -> None:
    member = np.array([True, False, True, True, False, False, True])
    even, odd = halves(scores({"a": np.arange(7.0)}, member))
    assert [list(side) for side in even.sides("a")] == [[0, 3], [1, 5]]
    assert [list(side) for side in odd.sides("a")] == [[2, 6], [4]]


def test_each_half_is_judged_by_the_choice_of_the_other() -> None:
    found = drawn(np.random.default_rng(0), [0.0, 0.3, 0.2], 400)
    even, odd = halves(found)
    got = strongest(found)
    assert got.chosen == (highest_auc(even), highest_auc(odd))
    judged = [auc(*odd.sides(got.chosen[0])), auc(*even.sides(got.chosen[1]))]
    assert got.auc.value == pytest.approx((judged[0].value + judged[1].value) / 2)
    assert got.auc.low == pytest.approx((judged[0].low + judged[1].low) / 2)
    assert got.auc.high == pytest.approx((judged[0].high + judged[1].high) / 2)
    rates = [tpr_at_fpr(*odd.sides(got.chosen[0]), fpr=0.01), tpr_at_fpr(*even.sides(got.chosen[1]), fpr=0.01)]
    assert got.tpr_at_1pct_fpr.value == pytest.approx((rates[0].value + rates[1].value) / 2)
    assert got.best_of_all == max(auc(*found.sides(name)).value for name in found.by_attack)


@pytest.mark.slow
def test_the_best_of_many_is_too_high_and_the_cross_fitted_one_is_not() -> None:
    rng = np.random.default_rng(1)
    got = [strongest(drawn(rng, [0.0] * 12, 60)) for _ in range(150)]
    assert np.mean([g.best_of_all for g in got]) > 0.57
    assert abs(np.mean([g.auc.value for g in got]) - 0.5) < 0.012  # standard error 0.004


@pytest.mark.slow
@pytest.mark.parametrize("shifts", [[0.0] * 5, pytest.param([0.0, 0.3, 0.5], marks=pytest.mark.long), [0.4, 0.4]])
def test_the_interval_covers_what_the_chosen_attacks_truly_reach(shifts: list[float]) -> None:
    rng, covered, repeats = np.random.default_rng(2), 0, 400
    for _ in range(repeats):
        got = strongest(drawn(rng, shifts, 80))
        truth = np.mean([norm.cdf(shifts[int(name[1:])] / 2**0.5) for name in got.chosen])
        covered += got.auc.low <= truth <= got.auc.high
    assert covered / repeats >= 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5


@pytest.mark.parametrize("counts", [(0, 0), (1, 1), (0, 5), (2, 1), (3, 2), (120, 199)])
def test_any_size_is_plain_json(counts: tuple[int, int]) -> None:
    m, n = counts
    got = strongest(scores({"a": np.arange(m + n) * 1.0, "b": np.zeros(m + n)}, np.arange(m + n) < m))
    text = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert len(text["chosen"]) == 2
    assert got.tpr_at_1pct_fpr.value is None
    assert (got.auc.value is None) == (min(m, n) < 2)


def test_without_attacks_none_is_the_strongest() -> None:
    nothing = scores({}, np.arange(4) < 2)
    assert strongest(nothing).chosen == ()
    assert strongest(nothing).auc.value is None
    with pytest.raises(UsageError):
        highest_auc(nothing)


def test_every_part_has_the_level_asked_for() -> None:
    found = drawn(np.random.default_rng(3), [0.5, 0.4], 400)
    even, odd = halves(found)
    got = strongest(found, confidence=0.8)
    for estimate, judge in ((got.auc, auc), (got.tpr_at_1pct_fpr, functools.partial(tpr_at_fpr, fpr=0.01))):
        each = [judge(*half.sides(name), confidence=0.8) for name, half in zip(got.chosen, (odd, even), strict=True)]
        assert each[0].value != each[1].value
        for bound in ("value", "low", "high"):
            assert getattr(estimate, bound) == pytest.approx(sum(getattr(e, bound) for e in each) / 2)
        assert estimate.confidence == 0.8
        assert estimate.method == f"cross-fitted choice, mean of {each[0].method}"


def test_of_equal_attacks_the_first_and_an_auc_of_0_is_none_of_the_highest() -> None:
    member = np.arange(8) < 4
    found = scores({"wrong": -1.0 * member, "half": np.zeros(8), "too": np.ones(8)}, member)
    assert highest_auc(found) == "half"
    assert strongest(found).chosen == ("half", "half")
    assert strongest(found).best_of_all == 0.5


def test_what_one_half_cannot_say_is_said_of_it() -> None:
    got = strongest(scores({"a": np.arange(5.0)}, np.arange(5) < 1), confidence=0.9)
    assert got.auc.note == "in one half, not resolvable: 0 members and 2 non-members, at least 1 of each"
    assert (got.auc.confidence, got.auc.method) == (0.9, "cross-fitted choice")
    none = strongest(scores({}, np.arange(4) < 2), confidence=0.9)
    assert (none.auc.confidence, none.best_of_all) == (0.9, None)
    assert none.auc.note == none.tpr_at_1pct_fpr.note == "not resolvable: no attack could be run"
