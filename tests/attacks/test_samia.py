"""SAMIA against loops and a classifier fitted by hand: what only sensitivity tells, nothing, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from mobileprune.attacks import Evidence, Outputs, References, score
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.samia import SAMIA, features
from mobileprune.attacks.sensitivity import SENSITIVITY
from mobileprune.attacks.shadow_classifier import SHADOW_CLASSIFIER

N, K, R, V = 2000, 5, 4, 6


def planted(steeper: float, seed: int = 0, n: int = N) -> tuple[Evidence, np.ndarray]:
    """Logits are drawn alike for all; those of copies of non-members differ ``steeper`` times as much from them."""
    rng = np.random.default_rng(seed)
    labels, inside = rng.integers(0, K, n), rng.random((R + 1, n)) < 0.5

    def model(member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = rng.normal(0, 2, (n, K))
        logits[np.arange(n), labels] += 2
        slope = 0.02 * np.where(member, 1.0, steeper)[:, None]
        return logits, logits + slope * rng.normal(0, 1, (V, n, K))

    (plain, copies), *others = (model(member) for member in inside)
    logits, of_copies = zip(*others, strict=True)
    references = References(logits, inside[1:], [np.zeros((0, K))] * R, {"nearby": of_copies})
    return Evidence(plain, labels, references, variants={"nearby": copies}), inside[0]


def slow_features(plain: np.ndarray, y: int, copies: np.ndarray) -> list[float]:
    """Of one example: logits (K,), and (V, K) on its copies."""

    def softmax(z: np.ndarray) -> list[float]:
        return [math.exp(v) / math.fsum(map(math.exp, z)) for v in z]

    p = softmax(plain)
    sensitivity = math.fsum(math.dist(softmax(copy), p) for copy in copies) / len(copies) * 255
    ordered = [math.log(value) for value in sorted(p, reverse=True)[:10]]
    one_hot = [float(j == y) for j in range(len(p))]
    return [*ordered, math.log(p[y]), math.log(1 - p[y]), *one_hot, math.log(max(sensitivity, 1e-9))]


@settings(max_examples=40)
@given(v=st.integers(1, 5), n=st.integers(0, 4), k=st.integers(2, 13), seed=st.integers(0, 99))
def test_features_against_a_loop(v: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain, copies, labels = rng.normal(0, 2, (n, k)), rng.normal(0, 2, (v, n, k)), rng.integers(0, k, n)
    got = features(Evidence(plain, labels, variants={"nearby": copies}))
    assert got.shape == (n, min(k, 10) + 2 + k + 1)
    for i in range(n):
        np.testing.assert_allclose(got[i], slow_features(plain[i], labels[i], copies[:, i]), rtol=1e-8, atol=1e-12)


def test_features_of_a_model_that_answers_all_copies_alike_are_finite() -> None:
    plain = np.array([[1e4, 0.0], [0.0, 0.0]])
    got = features(Evidence(plain, np.array([1, 0]), variants={"nearby": plain[None]}))
    np.testing.assert_allclose(got[:, -1], math.log(1e-9))


def test_scores_order_as_those_of_a_classifier_fitted_by_hand() -> None:
    """Other draws of weights and batches give other probabilities, and nearly the same order."""
    evidence, _ = planted(2.0, n=500)
    references = evidence.references
    assert references
    sides = [(references.logits[r], references.variants["nearby"][r]) for r in range(R)]
    fitted, target = (
        np.array([slow_features(z[i], evidence.labels[i], c[:, i]) for z, c in models for i in range(500)])
        for models in (sides, [(evidence.logits, evidence.variants["nearby"])])
    )
    centre, spread = fitted.mean(axis=0), fitted.std(axis=0)
    network = MLPClassifier((64,), random_state=1, max_iter=10, n_iter_no_change=10)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        network.fit((fitted - centre) / spread, references.inside.ravel())
    expected = network.predict_proba((target - centre) / spread)[:, 1]
    assert spearmanr(SAMIA.score(evidence), expected).statistic > 0.9


def test_finds_what_only_sensitivity_tells_and_more_than_it_alone() -> None:
    """Next to p = 1 all copies are answered alike; what is flat for its p, the network has to learn."""
    evidence, member = planted(2.0)
    found = {a.name: roc_auc_score(member, a.score(evidence)) for a in (LOSS, SHADOW_CLASSIFIER, SENSITIVITY, SAMIA)}
    assert abs(found["loss"] - 0.5) < 0.05, "3.9 standard errors"
    assert abs(found["shadow_classifier"] - 0.5) < 0.05
    assert 0.7 < found["sensitivity"] < 0.85
    assert found["samia"] > 0.93


@pytest.mark.parametrize("seed", range(3))
def test_finds_nothing_where_nothing_is(seed: int) -> None:
    evidence, member = planted(1.0, seed)
    assert abs(roc_auc_score(member, SAMIA.score(evidence)) - 0.5) < 0.05, "3.9 standard errors"


def test_scores_are_probabilities_and_repeat() -> None:
    evidence, _ = planted(2.0, n=300)
    scores = SAMIA.score(evidence)
    assert (scores.dtype, scores.shape) == (np.float64, (300,))
    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_array_equal(scores, SAMIA.score(evidence))


def skipped(evidence: Evidence) -> str | None:
    mask = np.arange(len(evidence)) < 1
    return score(Outputs(evidence, mask, mask), {"samia": SAMIA}).skipped.get("samia")


def test_what_is_missing_is_said() -> None:
    evidence, _ = planted(1.0, n=100)
    references, copies = evidence.references, evidence.variants["nearby"]
    assert references
    assert skipped(evidence) is None
    assert skipped(replace(evidence, references=None)) == "needs references"
    assert skipped(replace(evidence, variants={})) == "needs nearby"
    assert skipped(replace(evidence, references=None, variants={})) == "needs references, nearby"
    assert "1 nearby copy" in str(skipped(replace(evidence, variants={"nearby": copies[:0]})))
    nobody = replace(references, inside=np.zeros((R, 100), bool))
    assert "got 0 on members" in str(skipped(replace(evidence, references=nobody)))
    unasked = str(skipped(replace(evidence, references=replace(references, variants={}))))
    assert "the same 6 nearby copies as the target's, got them on 0" in unasked
    fewer = [answers[:2] for answers in references.variants["nearby"][:-1]] + [references.variants["nearby"][-1]]
    assert "got them on 2 or 6" in str(
        skipped(replace(evidence, references=replace(references, variants={"nearby": fewer})))
    )
