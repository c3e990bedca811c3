"""A thousand audits: without a leak nothing is claimed more often than stated, and a planted leak is found.

Each count of a thousand is held against its nominal rate within three binomial standard errors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu, norm

from mobileprune.attacks import Scores
from mobileprune.audit import statistics as s
from mobileprune.audit.accuracy import best_threshold
from mobileprune.audit.power import smallest_detectable_tpr, tpr_p_value
from mobileprune.audit.rates import threshold_at_fpr
from mobileprune.audit.verdict import Policy, judge

AUDITS = 1000


def at_most(count: int, rate: float, repeats: int = AUDITS) -> bool:
    return count <= repeats * rate + 3 * math.sqrt(repeats * rate * (1 - rate))


def at_least(count: int, rate: float, repeats: int = AUDITS) -> bool:
    return at_most(repeats - count, 1 - rate, repeats)


def scores(by_attack: dict[str, np.ndarray], m: int, n: int) -> Scores:
    none = np.zeros(m + n, np.bool_)
    return Scores(
        by_attack, dict.fromkeys(by_attack, "logits"), {}, np.zeros(m + n, np.int64), np.arange(m + n) < m, none
    )


def one_sided_p(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """The level at which the lower bound of the AUC's interval is 1/2: the interval inverted, on its logit scale."""
    got = s.auc(members, nonmembers, confidence=0.9)
    logit = [math.log(v / (1 - v)) for v in (got.value, got.high)]
    return float(norm.sf(logit[0] * norm.ppf(0.95) / (logit[1] - logit[0])))


def mann_whitney_p(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(mannwhitneyu(members, nonmembers, alternative="greater", method="asymptotic").pvalue)


@pytest.mark.slow
@pytest.mark.parametrize("p_value", [one_sided_p, mann_whitney_p])
def test_without_a_leak_p_values_are_uniform(p_value: Callable[[np.ndarray, np.ndarray], float]) -> None:
    rng = np.random.default_rng(0)
    values = np.array([p_value(rng.normal(size=60), rng.normal(size=70)) for _ in range(AUDITS)])
    assert kstest(values, "uniform").pvalue > 0.01
    assert at_most(int((values <= 0.05).sum()), 0.05)


def test_without_a_leak_a_small_p_value_of_the_tpr_is_as_rare_as_stated() -> None:
    rng = np.random.default_rng(1)
    values = np.array([tpr_p_value(rng.normal(size=150), rng.normal(size=200)) for _ in range(AUDITS)])
    for level in (0.01, 0.05, 0.2):
        assert at_most(int((values <= level).sum()), level)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_cover_at_their_rate(shift: float) -> None:
    rng, covered = np.random.default_rng(2), dict.fromkeys(("auc", "tpr", "ppv"), 0)
    for _ in range(AUDITS):
        members, nonmembers = rng.normal(shift, 1, 120), rng.normal(0, 1, 110)
        area = s.auc(members, nonmembers)
        covered["auc"] += area.low <= norm.cdf(shift / math.sqrt(2)) <= area.high
        # What the interval is about: the rate at the threshold that was used.
        rate, edge = s.tpr_at_fpr(members, nonmembers, fpr=0.05), threshold_at_fpr(nonmembers, 0.05)
        covered["tpr"] += rate.low <= norm.sf(edge - shift) <= rate.high
        # What is meant by "found is a member", at the threshold that was used.
        value = s.ppv(members, nonmembers, prior=0.1, fpr=0.05)
        tpr, fpr = norm.sf(edge - shift), norm.sf(edge)
        covered["ppv"] += value.low <= 0.1 * tpr / (0.1 * tpr + 0.9 * fpr) <= value.high
    assert all(at_least(count, 0.95) for count in covered.values()), covered


@pytest.mark.slow
def test_balanced_accuracy_covers_chance_without_a_leak_and_the_fitted_thresholds_with_one() -> None:
    rng, covered = np.random.default_rng(3), [0, 0]
    for _ in range(AUDITS):
        members, nonmembers = rng.normal(size=(2, 60))
        null = s.balanced_accuracy(members, nonmembers)
        covered[0] += null.low <= 0.5 <= null.high
        leaky = s.balanced_accuracy(members + 1, nonmembers)
        edges = [best_threshold(members[fold::2] + 1, nonmembers[fold::2]) for fold in (0, 1)]
        truth = np.mean([(norm.sf(t - 1) + norm.cdf(t)) / 2 for t in edges])
        covered[1] += leaky.low <= truth <= leaky.high
    assert all(at_least(count, 0.95) for count in covered), covered


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_randomised_response_is_not_accused_of_more_than_it_leaks(epsilon: float) -> None:
    rng, q, m = np.random.default_rng(4), math.exp(epsilon) / (1 + math.exp(epsilon)), 150
    above, together = 0, 0
    for _ in range(AUDITS):
        said = rng.random(m) < q  # whether the noisy answer names the member
        correct, guesses = s.pair_guesses(said.astype(float), (~said).astype(float))
        above += s.epsilon_lower_bound(correct, guesses) > epsilon
        # Two attacks, one of which also has noise of its own to choose its surest pairs by.
        strength = rng.random(m) * np.where(said, 1, -1)
        both = {"plain": np.r_[said, ~said].astype(float), "noisy": np.r_[strength, -strength]}
        together += s.one_run(scores(both, m, m), drawn=True).estimate.low > epsilon
    assert at_most(above, 0.05)
    assert at_most(together, 0.05)


@pytest.mark.slow
def test_a_mechanism_with_delta_is_not_accused_of_more_than_it_leaks() -> None:
    rng, epsilon, delta, m = np.random.default_rng(5), 1.0, 1e-3, 200
    q, above, near = math.exp(epsilon) / (1 + math.exp(epsilon)), 0, 0
    bound = functools.cache(functools.partial(s.epsilon_lower_bound, guesses=m, delta=delta))
    for _ in range(AUDITS):
        fails = rng.random(m) < delta  # then it says the coin outright
        correct = int((fails | (rng.random(m) < q)).sum())
        above += bound(correct) > epsilon
        near += bound(correct) > 0.5 * epsilon
    assert at_most(above, 0.05)
    assert near > AUDITS / 2  # and of no less than half, mostly


@pytest.mark.slow
def test_the_epsilon_of_randomised_response_is_nearly_found() -> None:
    rng, epsilon, m = np.random.default_rng(6), 2.0, 1000
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    bounds = [s.epsilon_lower_bound(int(rng.binomial(m, q)), m) for _ in range(AUDITS)]
    assert 1.7 < np.median(bounds) < epsilon
    assert at_most(int((np.array(bounds) > epsilon).sum()), 0.05)


@pytest.mark.long
def test_without_a_leak_the_verdict_fails_as_rarely_as_stated() -> None:
    rng, fails = np.random.default_rng(7), 0
    for _ in range(AUDITS):
        shared = rng.normal(size=120)
        attacks = {str(i): shared + rng.normal(size=120) for i in range(3)}
        fails += judge(scores(attacks, 60, 60), None, Policy(max_auc=0.5)).overall == "fail"
    assert at_most(fails, 0.05)


@pytest.mark.long
def test_at_the_margin_deployment_neither_passes_nor_fails_more_often_than_stated() -> None:
    rng, margin, outcomes = np.random.default_rng(8), 0.1, []
    shift = math.sqrt(2) * norm.ppf(0.5 + margin)
    for _ in range(AUDITS):
        source, artifact = rng.normal(size=(2, 120))
        artifact[:60] += shift
        finding = judge(
            scores({"a": artifact}, 60, 60), scores({"a": source}, 60, 60), Policy(max_auc=1.0, auc_margin=margin)
        ).findings[0]
        outcomes.append(finding.verdict)
    assert at_most(outcomes.count("fail"), 0.05)
    assert at_most(outcomes.count("pass"), 0.05)


@pytest.mark.slow
def test_a_planted_leak_is_found_with_the_stated_power() -> None:
    rng, m, n = np.random.default_rng(9), 100, 100
    shift = math.sqrt(2) * norm.ppf(s.smallest_detectable_auc(m, n))
    rate = smallest_detectable_tpr(m, n)
    # A share of the members stands above everyone, the others are like non-members.
    planted = (rate - 1 / n) / (1 - 1 / n)
    area = tpr = 0
    for _ in range(AUDITS):
        nonmembers, members = rng.normal(size=n), rng.normal(size=m)
        area += s.auc(members + shift, nonmembers, confidence=0.9).low > 0.5
        tpr += tpr_p_value(members + 100 * (rng.random(m) < planted), nonmembers) <= 0.05
    assert abs(area / AUDITS - 0.8) < 0.05
    assert abs(tpr / AUDITS - 0.8) < 0.1  # the false positives at the threshold vary, which the closed form leaves out


@pytest.mark.slow
def test_a_planted_leak_fails_the_verdict() -> None:
    rng, fails = np.random.default_rng(10), 0
    for _ in range(200):
        attacks = {str(i): rng.normal(size=400) for i in range(4)}
        attacks["leaky"] = np.r_[rng.normal(1.0, 1, 200), rng.normal(0, 1, 200)]
        fails += judge(scores(attacks, 200, 200), None, Policy(max_auc=0.6)).overall == "fail"
    assert fails >= 190
