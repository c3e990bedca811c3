"""Nasr's network on references: a planted signal, none, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, References
from mobileprune.attacks.nasr import NASR, features


def planted(gain: float, n: int, k: int = 4, r: int = 2) -> tuple[Evidence, np.ndarray]:
    rng = np.random.default_rng(0)
    labels, inside = rng.integers(0, k, n), rng.random((r + 1, n)) < 0.5

    def answer(member: np.ndarray) -> np.ndarray:
        logits = rng.normal(0, 1, (n, k))
        logits[np.arange(n), labels] += 1 + gain * member
        return logits

    target, *others = (answer(member) for member in inside)
    return Evidence(target, labels, References(others, inside[1:], [np.zeros((0, k))] * r)), inside[0]


@pytest.mark.parametrize(("gain", "low", "high"), [(2.0, 0.85, 1.0), (0.0, 0.45, 0.55)])
def test_finds_members_and_nothing_where_there_are_none(gain: float, low: float, high: float) -> None:
    evidence, member = planted(gain, 2000)
    assert low < roc_auc_score(member, NASR.score(evidence)) < high, (
        "the bound of no signal is 3.9 standard errors away"
    )


def test_scores_are_probabilities_and_repeat() -> None:
    evidence, _ = planted(1.0, 200)
    scores = NASR.score(evidence)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_array_equal(scores, NASR.score(evidence))


def test_features_are_log_probabilities_and_the_label() -> None:
    got = features(Evidence(np.array([[0.0, 0.0], [1e4, 0.0], [0.0, np.log(3)]]), np.array([1, 0, 0])))
    expected = [[-np.log(2), -np.log(2), 0, 1], [0, -50, 1, 0], [-np.log(4), np.log(3 / 4), 1, 0]]
    np.testing.assert_allclose(got, expected)


def test_no_examples_give_no_scores_and_what_teaches_nothing_is_refused() -> None:
    assert NASR.score(Evidence(np.zeros((0, 3)), np.zeros(0, np.int64))).shape == (0,)
    evidence, _ = planted(0.0, 60)
    nobody = replace(evidence.references, inside=np.zeros((2, 60), bool))
    assert "got 0 on members" in str(NASR.refuses(replace(evidence, references=nobody)))
