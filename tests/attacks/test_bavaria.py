"""BaVarIA against the chain rule and plain loops, and every attack with references on simulated models."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr, t
from sklearn.metrics import roc_auc_score
from support.attacks import evidence, two_class

from mobileprune.attacks import Attack, Evidence, Population, References
from mobileprune.attacks.base_attack import BASE
from mobileprune.attacks.bavaria import BAVARIA, BAVARIA_OFFLINE, Prior, fit
from mobileprune.attacks.lira import LIRA_OFFLINE, LIRA_OFFLINE_FIXED, LIRA_ONLINE, LIRA_ONLINE_FIXED
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.reference_statistics import Moments, confidences, moments
from mobileprune.attacks.rmia import RMIA, RMIA_ONLINE

BOTH = (BAVARIA, BAVARIA_OFFLINE)


def one(values: list[float]) -> Moments:
    return moments(np.array(values)[:, None], np.ones((len(values), 1), bool))


priors = st.builds(
    Prior,
    mu=st.floats(-3, 3),
    kappa=st.floats(0.05, 5),
    alpha=st.floats(0.6, 20),
    beta=st.floats(0.1, 10),
)


@settings(max_examples=60)
@given(prior=priors, values=st.lists(st.floats(-10, 10), min_size=1, max_size=7))
def test_evidence_is_the_product_of_predictives(prior: Prior, values: list[float]) -> None:
    """p(v_1, ..., v_n) = prod p(v_k | v_1, ..., v_(k-1)): posterior, predictive and evidence agree with each other."""
    chain = 0.0
    for k, value in enumerate(values):
        seen = one(values[:k]) if k else Moments(np.zeros(1, np.int64), np.zeros(1), np.zeros(1))
        df, location, scale = prior.predictive(seen)
        chain += float(t.logpdf(value, df[0], location[0], scale[0]))
    constant = -len(values) / 2 * math.log(2 * math.pi)
    assert prior.log_evidence(one(values)) + constant == pytest.approx(chain, rel=1e-8, abs=1e-8)


@settings(max_examples=40)
@given(prior=priors, values=st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_gradient_is_that_of_the_evidence(prior: Prior, values: list[float]) -> None:
    side, step = one(values), 1e-6
    for k, (name, got) in enumerate(zip(("mu", "kappa", "alpha", "beta"), prior.gradient(side), strict=True)):
        value = getattr(prior, name)
        moved = [value + s * step if k == 0 else value * math.exp(s * step) for s in (1, -1)]
        up, down = (replace(prior, **{name: v}).log_evidence(side) for v in moved)
        assert got == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-6)


def test_predictive_is_what_sampling_gives() -> None:
    prior = Prior(mu=1.0, kappa=0.5, alpha=3.0, beta=2.0)
    rng = np.random.default_rng(0)
    variance = prior.beta / rng.gamma(prior.alpha, size=200_000)
    value = rng.normal(rng.normal(prior.mu, np.sqrt(variance / prior.kappa)), np.sqrt(variance))
    df, location, scale = prior.predictive(Moments(np.zeros(1, np.int64), np.zeros(1), np.zeros(1)))
    for q in (0.01, 0.2, 0.5, 0.9, 0.99):
        assert (value < t.ppf(q, df, location, scale)).mean() == pytest.approx(q, abs=0.005)


def slow_predictive(prior: Prior, kept: list[float]) -> tuple[float, float, float]:
    """Degrees of freedom, location, scale."""
    n, mean = len(kept), statistics.fmean(kept)
    kappa, alpha = prior.kappa + n, prior.alpha + n / 2
    beta = prior.beta + math.fsum((v - mean) ** 2 for v in kept) / 2
    beta += prior.kappa * n * (mean - prior.mu) ** 2 / (2 * kappa)
    location = (prior.kappa * prior.mu + n * mean) / kappa
    return 2 * alpha, location, math.sqrt(beta * (kappa + 1) / (alpha * kappa))


def slow(attack: Attack, phi: np.ndarray, values: np.ndarray, inside: np.ndarray) -> list[float]:
    _, ins, outs = confidences(evidence(phi, values, inside))
    prior_in, prior_out, found = fit(ins), fit(outs), []
    for i, value in enumerate(phi):
        out = slow_predictive(prior_out, [float(v) for v in values[~inside[:, i], i]])
        if attack is BAVARIA_OFFLINE:
            found.append(float(norm.logcdf(value, *out[1:]) - norm.logsf(value, *out[1:])))
        else:
            trained = slow_predictive(prior_in, [float(v) for v in values[inside[:, i], i]])
            found.append(float(t.logpdf(value, *trained) - t.logpdf(value, *out)))
    return found


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
@settings(max_examples=15)
@given(seed=st.integers(0, 999), models=st.integers(2, 7), examples=st.sampled_from([1, 2, 7]))
def test_matches_plain_loops(attack: Attack, seed: int, models: int, examples: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(1, 3, (models + 1, examples)), seed % 3)
    inside = rng.permuted(np.repeat(np.arange(models)[:, None] % 2 == 1, examples, axis=1), axis=0)
    found = evidence(values[0], values[1:], inside)
    assert attack.refuses is not None
    assert attack.refuses(found) is None, "one reference on each side is enough"
    got = attack.score(found)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, slow(attack, values[0], values[1:], inside), rtol=1e-8, atol=1e-8)


def test_fit_finds_the_prior_that_made_the_examples() -> None:
    truth, rng, n = Prior(mu=4.0, kappa=0.2, alpha=3.0, beta=2.0), np.random.default_rng(1), 20_000
    variance = truth.beta / rng.gamma(truth.alpha, size=n)
    mu = rng.normal(truth.mu, np.sqrt(variance / truth.kappa))
    values, mask = rng.normal(mu, np.sqrt(variance), (4, n)), rng.random((4, n)) < 0.8
    side = moments(values, mask)
    got = fit(side)
    for name in ("mu", "kappa", "alpha", "beta"):
        assert getattr(got, name) == pytest.approx(getattr(truth, name), rel=0.08), name
        for factor in (0.9, 1.1):
            other = replace(got, **{name: getattr(got, name) * factor})
            assert other.log_evidence(side) < got.log_evidence(side), "the evidence is largest at the fit"


@pytest.mark.parametrize("seed", range(6))
def test_the_evidence_has_no_slope_at_the_fit(seed: int) -> None:
    """Examples have different numbers of values, so that mu is below the mean of their means, or above it."""
    rng, n = np.random.default_rng(seed), 200
    deviation = 1 / np.sqrt(rng.gamma(2, 1 / 2, n))
    side = moments(rng.normal(rng.normal(1, 2, n), deviation, (5, n)), rng.random((5, n)) < 0.6)
    assert fit(side).gradient(side) / n == pytest.approx(np.zeros(4), abs=1e-4)


def test_fit_follows_the_units() -> None:
    rng = np.random.default_rng(2)
    values, mask = rng.normal(rng.normal(0, 3, 200), 1, (4, 200)), np.ones((4, 200), bool)
    plain, scaled = fit(moments(values, mask)), fit(moments(5 + 100 * values, mask))
    assert scaled.mu == pytest.approx(5 + 100 * plain.mu, abs=0.1)
    assert scaled.beta / scaled.alpha == pytest.approx(1e4 * plain.beta / plain.alpha, rel=1e-3)


def test_with_many_references_it_is_lira() -> None:
    rng = np.random.default_rng(3)
    mu, inside = rng.normal(3, 3, 200), np.repeat(np.arange(400)[:, None] % 2 == 1, 200, axis=1)
    values = rng.normal(mu + 2 * inside, 1)
    found = evidence(rng.normal(mu + 1, 1.5), values, inside)
    for ours, theirs in ((BAVARIA, LIRA_ONLINE), (BAVARIA_OFFLINE, LIRA_OFFLINE)):
        assert spearmanr(ours.score(found), theirs.score(found)).statistic > 0.99


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_saturated_answers_stay_finite(attack: Attack) -> None:
    row = np.array([1e3, -1e3, 0.0, 1e3, -1e3, 1e300, -1e300])
    inside = np.repeat([[True], [False]], len(row), axis=1)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for values in (np.stack([row[::-1], row]), np.full((2, len(row)), 7.0)):
            assert np.isfinite(attack.score(evidence(row, values, inside))).all()


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_no_and_one_example(attack: Attack) -> None:
    for n in (0, 1):
        got = attack.score(evidence(np.zeros(n), np.zeros((2, n)), np.array([[True] * n, [False] * n], bool)))
        assert got.shape == (n,)
        assert np.isfinite(got).all()


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_the_order_of_references_changes_no_bit(attack: Attack) -> None:
    rng = np.random.default_rng(4)
    values, inside = rng.normal(0, 3, (5, 33)), rng.permuted(np.repeat(np.arange(5)[:, None] < 2, 33, axis=1), axis=0)
    order, phi = rng.permutation(5), rng.normal(0, 3, 33)
    assert (
        attack.score(evidence(phi, values, inside)) == attack.score(evidence(phi, values[order], inside[order]))
    ).all()


def test_too_few_references_are_refused() -> None:
    found = evidence(np.zeros(2), np.zeros((1, 2)), np.array([[True, False]]))
    assert BAVARIA.refuses is not None
    assert BAVARIA_OFFLINE.refuses is not None
    ending = "1 of 2 examples have fewer (there are 1 references)"
    assert BAVARIA.refuses(found) == f"needs at least 1 reference trained on each example, and {ending}"
    assert BAVARIA_OFFLINE.refuses(found) == f"needs at least 1 reference not trained on each example, and {ending}"
    all_in = evidence(np.zeros(2), np.zeros((1, 2)), np.array([[True, True]]))
    assert str(BAVARIA.refuses(all_in)).startswith("needs at least 1 reference not trained on each example, and 2 of 2")


@cache
def simulated(models: int) -> tuple[Evidence, np.ndarray]:
    """Confidences of models that make hard examples easy by training on them, and leave easy ones as they are.

    phi ~ N(mu_i, sigma_i^2) outside, N(mu_i + softplus(5 - mu_i) / 2, sigma_i^2) inside; mu ~ N(3, 3^2), 1 / sigma^2 ~
    gamma(4, 1/4). References come in pairs, each of them trained on what the other was not.
    """
    rng, n, p = np.random.default_rng(0), 6000, 3000
    mu, sigma = rng.normal(3, 3, n + p), 1 / np.sqrt(rng.gamma(4, 1 / 4, n + p))
    gain = np.logaddexp(0, 5 - mu) / 2
    first = rng.random((models // 2, n)) < 0.5
    inside, member = np.concatenate([first, ~first]), rng.random(n) < 0.5

    def answers(trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = two_class(rng.normal(mu + gain * np.concatenate([trained, np.zeros(p)]), sigma))
        return logits[:n], logits[n:]

    logits, of_population = answers(member)
    references = References(*(lambda x, z: (x, inside, z))(*zip(*map(answers, inside), strict=True)))
    zeros = np.zeros(n, np.int64)
    return Evidence(logits, zeros, references, Population(of_population, zeros[:p])), member


def strength(attack: Attack, models: int) -> tuple[float, float]:
    """AUC, and TPR at 1 % FPR, from counts of 3,000 on each side."""
    found, member = simulated(models)
    assert attack.refuses is None or attack.refuses(found) is None
    scores = attack.score(found)
    threshold = np.quantile(scores[~member], 0.99, method="higher")
    return float(roc_auc_score(member, scores)), float((scores[member] > threshold).mean())


@pytest.mark.slow
@pytest.mark.parametrize("models", [4, 8, 16])
def test_references_beat_the_loss_by_a_clear_factor(models: int) -> None:
    loss_auc, loss_tpr = strength(LOSS, models)
    for attack in (LIRA_ONLINE_FIXED, LIRA_OFFLINE_FIXED, RMIA, RMIA_ONLINE, BASE, BAVARIA, BAVARIA_OFFLINE):
        auc, tpr = strength(attack, models)
        assert auc > loss_auc + 0.08, attack.name
        assert tpr > 5 * loss_tpr, attack.name


@pytest.mark.slow
def test_the_order_known_from_the_literature() -> None:
    """Variances of each example need many references; a prior makes up for few; in-models help."""
    few = {a.name: strength(a, 4)[1] for a in (LIRA_ONLINE, LIRA_ONLINE_FIXED, BAVARIA)}
    assert 2 * few["lira_online"] < few["lira_online_fixed"]
    assert 2 * few["lira_online"] < few["bavaria"]
    assert strength(LIRA_ONLINE, 16)[1] > 3 * few["lira_online"]
    many = {a.name: strength(a, 16)[0] for a in (LIRA_ONLINE, LIRA_OFFLINE, BAVARIA, BAVARIA_OFFLINE)}
    assert many["lira_online"] > many["lira_offline"]
    assert many["bavaria"] > many["bavaria_offline"]
    assert many["bavaria"] > many["lira_online"]
