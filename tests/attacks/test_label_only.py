"""Label-only attacks against a loop over copies and examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, score
from mobileprune.attacks.label_only import AUGMENTATIONS, NOISE_ROBUSTNESS
from mobileprune.attacks.queries import NOISE_LEVELS
from mobileprune.errors import ArtifactError

VARIANT = {AUGMENTATIONS: "augmented", NOISE_ROBUSTNESS: "noisy"}
BOTH = pytest.mark.parametrize("attack", VARIANT, ids=lambda attack: attack.name)


def evidence(attack, copies: np.ndarray, labels: np.ndarray) -> Evidence:
    return Evidence(np.zeros(copies.shape[1:]), labels, variants={VARIANT[attack]: copies})


def slow(attack, copies: np.ndarray, labels: np.ndarray) -> list[float]:
    scores = []
    for n, y in enumerate(labels):
        right = possible = 0.0
        for v, answers in enumerate(copies):
            weight = NOISE_LEVELS[v % 5] if attack is NOISE_ROBUSTNESS else 1.0
            z = list(answers[n])
            right += weight if z.index(max(z)) == y else 0.0
            possible += weight
        scores.append(right / possible)
    return scores


@BOTH
@settings(max_examples=40)
@given(v=st.integers(1, 12), n=st.integers(0, 5), k=st.integers(2, 4), seed=st.integers(0, 99))
def test_matches_the_loop(attack, v: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    copies, labels = rng.integers(0, 3, (v, n, k)).astype(np.float64), rng.integers(0, k, n)
    got = attack.score(evidence(attack, copies, labels))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, slow(attack, copies, labels), rtol=1e-12)


@BOTH
def test_finds_members_that_stay_right_and_nothing_where_there_are_none(attack) -> None:
    rng = np.random.default_rng(0)
    n = 2000
    member, labels = rng.random(n) < 0.5, rng.integers(0, 5, n)
    for gain, low, high in ((1.5, 0.75, 1.0), (0.0, 0.45, 0.55)):
        copies = rng.normal(0, 1, (10, n, 5))
        copies[:, np.arange(n), labels] += 1 + gain * member
        found = evidence(attack, copies, labels)
        scores = attack.score(found)
        assert low < roc_auc_score(member, scores) < high, "the bound of no signal is 3.9 standard errors away"
        np.testing.assert_array_equal(scores, attack.score(found))


@BOTH
def test_only_the_label_of_an_answer_counts(attack) -> None:
    rng = np.random.default_rng(1)
    copies, labels = rng.normal(0, 1, (6, 30, 4)), rng.integers(0, 4, 30)
    labels_only = np.eye(4)[copies.argmax(axis=2)]
    np.testing.assert_array_equal(
        attack.score(evidence(attack, copies, labels)), attack.score(evidence(attack, labels_only, labels))
    )


def test_being_right_under_more_noise_counts_more() -> None:
    copies = np.zeros((5, 2, 2))
    copies[0, 0, 1] = copies[4, 1, 1] = 1.0
    scores = NOISE_ROBUSTNESS.score(evidence(NOISE_ROBUSTNESS, copies, np.array([1, 1])))
    np.testing.assert_allclose(scores, [0.01 / 0.38, 0.2 / 0.38])


@BOTH
def test_what_is_missing_is_said(attack) -> None:
    none = evidence(attack, np.zeros((0, 4, 2)), np.zeros(4, np.int64))
    mask = np.arange(4) < 2
    found = score(Outputs(none, mask, mask), {attack.name: attack}, "labels")
    assert "needs at least 1" in found.skipped[attack.name]
    one = evidence(attack, np.zeros((1, 4, 2)), np.zeros(4, np.int64))
    assert score(Outputs(one, mask, mask), {attack.name: attack}, "labels").skipped == {}
    bare = Outputs(Evidence(np.zeros((4, 2)), np.zeros(4, np.int64)), mask, mask)
    assert score(bare, {attack.name: attack}).skipped == {attack.name: f"needs {VARIANT[attack]}"}
    with pytest.raises(ArtifactError, match="must be finite"):
        attack.score(evidence(attack, np.full((1, 4, 2), np.nan), np.zeros(4, np.int64)))
