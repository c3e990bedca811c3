"""One-run epsilon: closed forms, the slow definition, and known mechanisms that the bound must not exceed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.attacks import Scores
from mobileprune.audit.epsilon import FRACTIONS, METHOD, _chance, epsilon_lower_bound, one_run, pair_guesses
from mobileprune.errors import DataError, UsageError

quick = settings(max_examples=60)


def pairs(by_attack: dict[str, np.ndarray], *, canaries: int = 0) -> Scores:
    """Scores (2, m) per attack: members, then non-members."""
    m = next(iter(by_attack.values())).shape[1] if by_attack else 0
    canary = np.arange(m) < canaries
    flat = {name: scores.ravel() for name, scores in by_attack.items()}
    access = dict.fromkeys(flat, "logits")
    return Scores(flat, access, {}, np.zeros(2 * m, np.int64), np.arange(2 * m) < m, np.tile(canary, 2))


def slow_tail(correct: int, guesses: int, epsilon: float) -> float:
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    return sum(math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(correct, guesses + 1))


def slow_chance(correct: int, guesses: int, epsilon: float, weight: float) -> float:
    beta = slow_tail(correct, guesses, epsilon)
    steps = [(slow_tail(correct - i, guesses, epsilon) - beta) / i for i in range(1, correct + 1)]
    return beta + weight * max(steps, default=0.0)


@pytest.mark.parametrize("guesses", [5, 20, 100])
def test_all_right_has_a_closed_form(guesses: int) -> None:
    q = 0.05 ** (1 / guesses)
    expected = max(0.0, math.log(q / (1 - q)))
    assert epsilon_lower_bound(guesses, guesses) == pytest.approx(expected)
    assert epsilon_lower_bound(guesses // 2, guesses) == 0.0


@quick
@given(guesses=st.integers(1, 60), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_the_bound_is_the_edge_of_what_the_guesses_refute(guesses: int, share: float, confidence: float) -> None:
    correct = round(share * guesses)
    bound = epsilon_lower_bound(correct, guesses, confidence=confidence)
    if bound > 0:
        assert slow_tail(correct, guesses, bound) == pytest.approx(1 - confidence, abs=1e-9)
    else:
        assert slow_tail(correct, guesses, 0.0) >= 1 - confidence - 1e-9


@quick
@given(guesses=st.integers(1, 40), share=st.floats(0, 1), weight=st.floats(0, 0.99), epsilon=st.floats(0, 4))
def test_delta_adds_the_theorems_term_and_grows_with_epsilon(guesses, share, weight, epsilon) -> None:
    correct = round(share * guesses)
    got = _chance(correct, guesses, epsilon, weight)
    assert got == pytest.approx(slow_chance(correct, guesses, epsilon, weight), abs=1e-9)
    assert _chance(correct, guesses, epsilon + 0.3, weight) >= got - 1e-12


@quick
@given(guesses=st.integers(1, 60), share=st.floats(0.5, 1), delta=st.sampled_from([1e-6, 1e-4, 1e-3, 4e-3]))
def test_the_bound_with_delta_is_the_edge_and_at_most_that_without(guesses: int, share: float, delta: float) -> None:
    correct, m = round(share * guesses), 100
    bound = epsilon_lower_bound(correct, guesses, delta=delta, pairs=m)
    assert bound <= epsilon_lower_bound(correct, guesses)
    if bound > 1e-8:
        assert slow_chance(correct, guesses, bound, 2 * m * delta) <= 0.05 + 1e-12
        assert slow_chance(correct, guesses, bound + 1e-6, 2 * m * delta) > 0.05
    else:
        assert slow_chance(correct, guesses, 1e-6, 2 * m * delta) >= 0.05 - 1e-6


@quick
@given(guesses=st.integers(1, 60), share=st.floats(0.5, 1), delta=st.sampled_from([0.0, 1e-6, 1e-4, 1e-3, 4e-3]))
def test_adding_or_removing_is_refuted_where_what_it_implies_for_replacing_is(guesses, share, delta) -> None:
    """(e, d) implies (2 e, (1 + exp e) d): so Theorem 5.2 with these two is the edge."""
    correct, m = round(share * guesses), 100
    bound = epsilon_lower_bound(correct, guesses, delta=delta, pairs=m, neighbours="add_remove")
    assert bound <= epsilon_lower_bound(correct, guesses, delta=delta, pairs=m) / 2 + 1e-8

    def weight(epsilon: float) -> float:
        return 2 * m * delta * (1 + math.exp(epsilon))

    def chance(epsilon: float) -> float:
        return slow_chance(correct, guesses, 2 * epsilon, weight(epsilon))

    if bound > 1e-8:
        assert chance(bound) <= 0.05 + 1e-9
        assert chance(bound + 1e-6) > 0.05 or weight(bound + 1e-6) > 1, "beyond it the theorem says nothing"
    else:
        assert chance(1e-6) >= 0.05 - 1e-6 or weight(1e-6) > 1


def test_half_the_bound_for_replacing_is_none_for_removing_with_a_delta() -> None:
    """148 of 150 guesses among 600 pairs: half would say 1.2."""
    level = {"delta": 1e-5, "pairs": 600, "confidence": 1 - 0.025 / 24}
    assert epsilon_lower_bound(148, 150, **level) / 2 == pytest.approx(1.208, abs=1e-3)
    assert epsilon_lower_bound(148, 150, **level, neighbours="add_remove") == pytest.approx(0.73, abs=5e-3)
    assert epsilon_lower_bound(250, 250, delta=1.9e-3, pairs=250, neighbours="add_remove") == 0.0, "no delta is left"


def test_the_pairs_that_differ_most_are_guessed_and_equal_ones_never() -> None:
    members, nonmembers = np.array([3.0, 0.0, 1.0, 5.0, 2.0]), np.array([0.0, 4.0, 1.0, 4.0, 1.0])
    assert pair_guesses(members, nonmembers, 0.4) == (1, 2)  # differences 3, -4, 0, 1, 1
    assert pair_guesses(members, nonmembers) == (3, 4)
    assert pair_guesses(members, nonmembers, 0.01) == (0, 1)
    assert pair_guesses(np.zeros(0), np.zeros(0)) == (0, 0)
    assert pair_guesses(np.ones(3), np.ones(3)) == (0, 0)


@quick
@given(data=st.data(), m=st.integers(1, 15), fraction=st.sampled_from(FRACTIONS))
def test_which_pairs_are_guessed_does_not_depend_on_the_coins(data: st.DataObject, m: int, fraction: float) -> None:
    values = st.lists(st.integers(-3, 3).map(float), min_size=m, max_size=m)
    first, second = np.array(data.draw(values)), np.array(data.draw(values))
    coin = np.array(data.draw(st.lists(st.booleans(), min_size=m, max_size=m)))
    here = pair_guesses(first, second, fraction)
    swapped = pair_guesses(np.where(coin, first, second), np.where(coin, second, first), fraction)
    assert here[1] == swapped[1]
    other = pair_guesses(second, first, fraction)
    assert (other[0], other[1]) == (here[1] - here[0], here[1])


def test_one_run_takes_the_best_at_a_corrected_level() -> None:
    m = 200
    clear, noise = np.stack([np.ones(m), np.zeros(m)]), np.random.default_rng(0).normal(size=(2, m))
    found = one_run(pairs({"noise": noise, "clear": clear}), drawn=True)
    assert (found.attack, found.pairs, found.guesses, found.correct) == ("clear", m, m, m)
    q = (0.05 / 6) ** (1 / m)
    assert found.estimate.low == pytest.approx(math.log(q / (1 - q)))
    assert found.add_remove == found.estimate.low / 2
    assert found.estimate.high is None
    smaller = one_run(pairs({"noise": noise, "clear": clear}), drawn=True, delta=1e-5)
    assert 0 < smaller.estimate.low < found.estimate.low
    assert 0 < smaller.add_remove < smaller.estimate.low / 2
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["add_remove"] == found.add_remove


def test_without_coins_pairs_or_attacks_there_is_no_bound() -> None:
    scores = pairs({"a": np.random.default_rng(0).normal(size=(2, 30))}, canaries=5)
    shorter, moved = np.arange(60) < 59, np.r_[0:4, 5, 4, 6:60]
    unequal = scores.where(shorter)
    crossed = Scores(scores.by_attack, scores.access, {}, scores.labels, scores.member, scores.canary[moved])
    for found, words in (
        (one_run(scores, drawn=False), "stated by the data"),
        (one_run(unequal, drawn=True), "not come in pairs"),
        (one_run(crossed, drawn=True), "not come in pairs"),
        (one_run(pairs({}), drawn=True), "no attack"),
        (one_run(pairs({"a": np.zeros((2, 0))}), drawn=True), "not come in pairs"),
        (one_run(scores, drawn=True, delta=1 / 60), "30 pairs refute nothing at delta 0.0166667"),
    ):
        assert found.estimate.low is None
        assert found.add_remove is None
        assert words in found.estimate.note
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("counts", [(3, 2, 5), (-1, 2, 5), (1, 6, 5)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(DataError):
        epsilon_lower_bound(counts[0], counts[1], pairs=counts[2])


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="delta"):
        epsilon_lower_bound(5, 10, delta=0.05)
    with pytest.raises(UsageError, match="confidence"):
        epsilon_lower_bound(5, 10, confidence=1.0)
    with pytest.raises(UsageError, match="fraction"):
        pair_guesses(np.ones(2), np.ones(2), 0.0)
    with pytest.raises(DataError, match="as many"):
        pair_guesses(np.ones(2), np.ones(3))


def test_without_a_bound_nothing_was_guessed() -> None:
    for found in (one_run(pairs({"a": np.ones((2, 9))}), drawn=False, confidence=0.9), one_run(pairs({}), drawn=True)):
        assert (found.attack, found.pairs, found.guesses, found.correct, found.delta) == (None, 0, 0, 0, 0.0)
        assert found.estimate.method == METHOD
    assert one_run(pairs({}), drawn=True, confidence=0.9).estimate.confidence == 0.9


def test_one_pair_is_enough_to_say_nothing() -> None:
    found = one_run(pairs({"a": np.array([[1.0], [0.0]])}), drawn=True)
    assert (found.attack, found.pairs, found.guesses, found.correct, found.estimate.low) == ("a", 1, 1, 1, 0.0)


@pytest.mark.parametrize("delta", [0.0, 1e-4])
def test_the_surest_pairs_are_judged_with_all_coins_in_mind(delta: float) -> None:
    """5 % of the pairs are certain, half of the others tie, and the rest is noise of which the wrong half is larger."""
    m = 400
    difference = np.r_[np.full(20, 9.0), np.zeros(190), np.linspace(-1, 0.9, 190)]
    found = one_run(pairs({"a": np.stack([difference, np.zeros(m)])}), drawn=True, delta=delta, confidence=0.9)
    each = 1 - 0.1 / 3
    assert (found.pairs, found.guesses, found.correct) == (m, 20, 20)
    assert found.estimate.low == epsilon_lower_bound(20, 20, delta=delta, pairs=m, confidence=each) > 1
    assert (found.estimate.value, found.estimate.confidence) == (found.estimate.low, 0.9)


def test_a_bound_of_0_is_the_best_of_none() -> None:
    small = one_run(pairs({"none": np.zeros((2, 12)), "all": np.stack([np.ones(12), np.zeros(12)])}), drawn=True)
    assert small.attack == "all"
    assert 0 < small.estimate.low < 1


def test_with_delta_the_number_of_guesses_does_not_depend_on_ties() -> None:
    difference = np.r_[np.ones(78), np.zeros(2)]
    scores = pairs({"a": np.stack([difference, np.zeros(80)])})
    assert one_run(scores, drawn=True).guesses == 78
    found = one_run(scores, drawn=True, delta=1e-6)
    assert (found.guesses, found.correct) == (80, 78)


@pytest.mark.parametrize("guesses", [1, 7, 30, 61, 200])
def test_a_delta_below_all_rounding_changes_nothing(guesses: int) -> None:
    """At the bound without delta the chance is 1 - confidence but for rounding, on either side."""
    for correct in range(guesses + 1):
        bound = epsilon_lower_bound(correct, guesses)
        assert epsilon_lower_bound(correct, guesses, delta=1e-19) == pytest.approx(bound, abs=3e-9)


@pytest.mark.parametrize("confidence", [-0.5, 0.0, 1.0, 1.5])
def test_a_confidence_lies_between_0_and_1(confidence: float) -> None:
    with pytest.raises(UsageError, match="confidence"):
        epsilon_lower_bound(5, 10, confidence=confidence)


def test_delta_lies_below_half_of_one_pair() -> None:
    assert epsilon_lower_bound(1, 1, delta=0.49) == 0.0
    assert epsilon_lower_bound(0, 0) == 0.0
    for pairs_thrown, delta in ((1, 0.5), (0, 0.5), (10, -1e-9), (10, 0.05)):
        with pytest.raises(UsageError, match="delta"):
            epsilon_lower_bound(0, 0, delta=delta, pairs=pairs_thrown)


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.01])
def test_fractions_lie_above_0_and_not_above_1(fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        pair_guesses(np.ones(2), np.ones(2), fraction)
