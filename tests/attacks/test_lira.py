"""LiRA against plain loops, and against the Neyman-Pearson test where that is known."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from support.attacks import evidence, two_class

from mobileprune.attacks import Attack, Evidence, score
from mobileprune.attacks.lira import LIRA_OFFLINE, LIRA_OFFLINE_FIXED, LIRA_ONLINE, LIRA_ONLINE_FIXED
from mobileprune.attacks.outputs import Outputs
from mobileprune.attacks.reference_statistics import SMALLEST_SPREAD, cdf_log_odds, moments, references_of
from mobileprune.errors import DataError

LIRA = (LIRA_ONLINE, LIRA_ONLINE_FIXED, LIRA_OFFLINE, LIRA_OFFLINE_FIXED)


def case(seed: int, models: int, examples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every example about half of the models are inside; ties among quantised confidences are common."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(1, 3, (models + 1, examples)), seed % 3)
    inside = rng.permuted(np.arange(models)[:, None] % 2 == np.zeros((1, examples)), axis=0)
    return values[0], values[1:], inside


def slow_sigmas(sides: list[list[float]], fixed: bool) -> list[float]:
    """One number an example, by the definitions in the docstring of lira."""
    several = [side for side in sides if len(side) > 1]
    if several:
        squares = [math.fsum((v - statistics.fmean(side)) ** 2 for v in side) for side in several]
        pooled = math.fsum(squares) / sum(len(side) - 1 for side in several)
    else:
        means = [side[0] for side in sides if side]
        pooled = statistics.variance(means) if len(means) > 1 else 0.0
    pooled = math.sqrt(pooled) or 1.0
    return [pooled if fixed else max(statistics.stdev(side), SMALLEST_SPREAD * pooled) for side in sides]


def slow(attack: Attack, phi: np.ndarray, values: np.ndarray, inside: np.ndarray) -> list[float]:
    columns = range(len(phi))
    ins, outs = (
        [[float(values[r, i]) for r in range(len(values)) if inside[r, i] == side] for i in columns]
        for side in (True, False)
    )
    fixed, found = attack.name.endswith("fixed"), []
    sigma_out = slow_sigmas(outs, fixed)
    sigma_in = slow_sigmas(ins, fixed) if "online" in attack.name else sigma_out
    for i in columns:
        out = (statistics.fmean(outs[i]), sigma_out[i])
        if "online" in attack.name:
            found.append(norm.logpdf(phi[i], statistics.fmean(ins[i]), sigma_in[i]) - norm.logpdf(phi[i], *out))
        else:
            found.append(norm.logcdf(phi[i], *out) - norm.logsf(phi[i], *out))
    return [float(v) for v in found]


@pytest.mark.parametrize("attack", LIRA, ids=lambda attack: attack.name)
@settings(max_examples=40)
@given(seed=st.integers(0, 999), models=st.integers(1, 9), examples=st.sampled_from([0, 1, 2, 7]))
def test_matches_plain_loops(attack: Attack, seed: int, models: int, examples: int) -> None:
    phi, values, inside = case(seed, models, examples)
    found = evidence(phi, values, inside)
    assert attack.refuses is not None
    if attack.refuses(found) is None:
        got = attack.score(found)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, slow(attack, phi, values, inside), rtol=1e-9, atol=1e-9)
    else:
        least = 1 if attack.name.endswith("fixed") else 2
        assert examples > 0
        assert min((~inside).sum(0).min(), inside.sum(0).min() if "online" in attack.name else 9) < least


def known(
    rng: np.random.Generator, gain: float, spread: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Members, evidence arrays and deviations, where references tell the parameters exactly.

    Confidences are N(mu_i, sigma_i^2) outside and N(mu_i + gain sigma_i, (spread sigma_i)^2) inside.
    """
    n = 20_000
    mu, sigma, member = rng.normal(3, 5, n), rng.uniform(0.2, 3, n), np.arange(n) % 2 == 0
    deviation = np.where(member, spread, 1.0) * sigma
    phi = mu + gain * sigma * member + deviation * rng.normal(size=n)
    half = sigma / math.sqrt(2)  # two values m - h, m + h have the variance 2 h^2
    top = mu + gain * sigma
    values = np.stack([mu - half, mu + half, top - spread * half, top + spread * half])
    return member, phi, values, np.repeat([[False], [False], [True], [True]], n, axis=1), sigma


def test_is_the_neyman_pearson_test_where_a_member_gains() -> None:
    """The log-likelihood ratio is N(-g^2/2, g^2) outside and N(g^2/2, g^2) inside: AUC = Phi(g / sqrt 2)."""
    gain = 1.5
    member, phi, values, inside, sigma = known(np.random.default_rng(0), gain, 1.0)
    got = LIRA_ONLINE.score(evidence(phi, values, inside))
    mu = values[:2].mean(axis=0)
    np.testing.assert_allclose(got, gain * (phi - mu) / sigma - gain**2 / 2, rtol=1e-6, atol=1e-6)
    assert roc_auc_score(member, got) == pytest.approx(norm.cdf(gain / math.sqrt(2)), abs=0.012)
    threshold = np.quantile(got[~member], 0.99)
    assert (got[member] > threshold).mean() == pytest.approx(norm.cdf(gain - norm.ppf(0.99)), abs=0.04)
    assert roc_auc_score(member, phi) < roc_auc_score(member, got) - 0.2, "difficulty hides it from the confidence"
    np.testing.assert_allclose(
        LIRA_OFFLINE.score(evidence(phi, values, inside)), cdf_log_odds((phi - mu) / sigma), rtol=1e-6, atol=1e-6
    )


def test_is_the_neyman_pearson_test_where_members_spread() -> None:
    """Equal means: the ratio orders by |z|, and P(|s X| > |Y|) = 2 / pi arctan s for normal X and Y."""
    member, phi, values, inside, _ = known(np.random.default_rng(1), 0.0, 3.0)
    got = evidence(phi, values, inside)
    assert roc_auc_score(member, LIRA_ONLINE.score(got)) == pytest.approx(2 / math.pi * math.atan(3), abs=0.012)
    assert roc_auc_score(member, LIRA_OFFLINE.score(got)) == pytest.approx(0.5, abs=0.016), "one-sided"


def test_fixed_variance_is_that_within_examples() -> None:
    """Not that of all confidences about one mean: here it is 1, the other about 100."""
    rng = np.random.default_rng(2)
    mu = rng.normal(0, 10, 5000)
    values = mu + rng.normal(size=(4, 5000))
    side = moments(values, np.ones((4, 5000), bool))
    assert side.pooled_variance() == pytest.approx(1.0, abs=0.05)
    assert moments(values[:1], np.ones((1, 5000), bool)).pooled_variance() == pytest.approx(101, rel=0.06)
    some = np.arange(5000) % 3 > 0
    assert moments(values[:1], some[None]).pooled_variance() == pytest.approx(statistics.variance(values[0, some]))


@pytest.mark.parametrize("attack", [LIRA_OFFLINE, LIRA_OFFLINE_FIXED], ids=lambda attack: attack.name)
def test_offline_increases_with_confidence_in_both_tails(attack: Attack) -> None:
    phi = np.concatenate([-np.logspace(3, -3, 50), np.logspace(-3, 3, 50)])
    values = np.repeat([[-1.0], [0.5]], 100, axis=1)
    got = attack.score(evidence(phi, values, np.zeros((2, 100), bool)))
    assert (np.diff(got) > 0).all()
    assert got[0] < -1e5, "the tails do not saturate"
    assert got[-1] > 1e5


@pytest.mark.parametrize("attack", LIRA, ids=lambda attack: attack.name)
def test_saturated_answers_stay_finite(attack: Attack) -> None:
    row = np.array([1e3, -1e3, 0.0, 1e3, -1e3, 1e300, -1e300])
    values = np.stack([row[::-1], row, row, row])
    values[:, 3] = 1e3
    inside = np.repeat([[True], [True], [False], [False]], len(row), axis=1)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(attack.score(evidence(row, values, inside))).all()
        assert np.isfinite(attack.score(evidence(row, np.full_like(values, 7.0), inside))).all()


@pytest.mark.parametrize("attack", LIRA, ids=lambda attack: attack.name)
@pytest.mark.parametrize("models", [4, 5, 7])
def test_the_order_of_references_changes_no_bit(attack: Attack, models: int) -> None:
    phi, values, inside = case(5, models, 33)
    order = np.random.default_rng(6).permutation(models)
    first = attack.score(evidence(phi, values, inside))
    assert (first == attack.score(evidence(phi, values[order], inside[order]))).all()


def test_too_few_references_are_refused() -> None:
    phi, values = np.zeros(3), np.zeros((2, 3))
    inside = np.array([[True, True, False], [False, False, False]])
    member = np.ones(3, bool)
    attacks = {attack.name: attack for attack in LIRA}
    skipped = score(Outputs(evidence(phi, values, inside), member, member), attacks).skipped
    start = "needs at least"
    assert skipped == {
        "lira_online": f"{start} 2 references trained on each example, and 3 of 3 examples have fewer "
        "(there are 2 references)",
        "lira_online_fixed": f"{start} 1 reference trained on each example, and 1 of 3 examples have fewer "
        "(there are 2 references)",
        "lira_offline": f"{start} 2 references not trained on each example, and 2 of 3 examples have fewer "
        "(there are 2 references)",
    }
    nothing = score(Outputs(Evidence(two_class(phi), np.zeros(3, np.int64)), member, member), attacks).skipped
    assert set(nothing.values()) == {"needs references"}
    none = evidence(phi, values[:0], inside[:0])
    assert LIRA_OFFLINE_FIXED.refuses is not None
    for missing in (none, Evidence(two_class(phi), np.zeros(3, np.int64))):
        assert LIRA_OFFLINE_FIXED.refuses(missing) == "there are no reference models"
        with pytest.raises(DataError, match="needs reference models"):
            references_of(missing)


@settings(max_examples=60)
@given(seed=st.integers(0, 999), models=st.integers(1, 6), examples=st.sampled_from([0, 1, 5]))
def test_moments_match_plain_loops(seed: int, models: int, examples: int) -> None:
    rng = np.random.default_rng(seed)
    values, mask = rng.normal(1e6, 2, (models, examples)), rng.random((models, examples)) < 0.5
    got = moments(values, mask)
    for i in range(examples):
        kept = [float(v) for v, inside in zip(values[:, i], mask[:, i], strict=True) if inside]
        mean = statistics.fmean(kept) if kept else 0.0
        assert got.count[i] == len(kept)
        assert got.mean[i] == pytest.approx(mean, rel=1e-15)
        assert got.squares[i] == pytest.approx(math.fsum((v - mean) ** 2 for v in kept), rel=1e-6, abs=1e-6)
    sides = [[float(v) for v in values[mask[:, i], i]] for i in range(examples)]
    assert math.sqrt(got.pooled_variance()) == pytest.approx((slow_sigmas(sides, fixed=True) or [1.0])[0], rel=1e-6)


def test_equal_values_have_exactly_no_spread() -> None:
    got = moments(np.full((7, 2), 0.1), np.ones((7, 2), bool))
    assert (got.mean == 0.1).all()
    assert (got.squares == 0).all()
