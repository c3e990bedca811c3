"""The classifier fitted on references: planted signals of two kinds, none, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, References, score
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.shadow_classifier import SHADOW_CLASSIFIER, _examples, features

N, K, R = 2000, 5, 4


def planted(signal: str, seed: int = 0, n: int = N, k: int = K) -> tuple[Evidence, np.ndarray]:
    """A target and references; members differ by a higher logit of y, by flatter other logits, or not at all."""
    rng = np.random.default_rng(seed)
    labels, inside = rng.integers(0, k, n), rng.random((R + 1, n)) < 0.5

    def answer(member: np.ndarray) -> np.ndarray:
        flat = np.where(member & (signal == "shape"), 0.2, 1.5)[:, None]
        logits = rng.normal(0, 1, (n, k)) * flat
        logits[np.arange(n), labels] = np.log(np.exp(logits).sum(1) - np.exp(logits[np.arange(n), labels]))
        logits[np.arange(n), labels] += rng.normal(1, 1, n) + member * (signal == "confidence")
        return logits

    target, *others = (answer(member) for member in inside)
    references = References(others, inside[1:], [np.zeros((0, k))] * R)
    return Evidence(target, labels, references=references), inside[0]


def test_finds_what_the_loss_finds() -> None:
    evidence, member = planted("confidence")
    found, best = (roc_auc_score(member, attack.score(evidence)) for attack in (SHADOW_CLASSIFIER, LOSS))
    assert best > 0.72
    assert found > best - 0.03


def test_finds_what_the_loss_cannot_see() -> None:
    """The confidence in y has the same distribution on both sides; only the rest of the answer differs."""
    evidence, member = planted("shape")
    assert abs(roc_auc_score(member, LOSS.score(evidence)) - 0.5) < 0.06
    assert roc_auc_score(member, SHADOW_CLASSIFIER.score(evidence)) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_finds_nothing_where_nothing_is(seed: int) -> None:
    evidence, member = planted("none", seed)
    scores = SHADOW_CLASSIFIER.score(evidence)
    assert abs(roc_auc_score(member, scores) - 0.5) < 0.05, "3.9 standard errors"


def test_scores_are_probabilities_and_repeat() -> None:
    evidence, _ = planted("confidence", n=300)
    scores = SHADOW_CLASSIFIER.score(evidence)
    assert scores.dtype == np.float64
    assert scores.shape == (300,)
    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_array_equal(scores, SHADOW_CLASSIFIER.score(evidence))


def test_features_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 3, 13):
        logits, labels = rng.normal(0, 2, (4, k)), rng.integers(0, k, 4)
        for row, z, y in zip(features(Evidence(logits, labels)), logits, labels, strict=True):
            p = np.exp(z) / np.exp(z).sum()
            first = [*np.log(sorted(p, reverse=True)[:10]), np.log(p[y]), np.log(1 - p[y])]
            np.testing.assert_allclose(row, [*first, *(float(j == y) for j in range(k))], rtol=1e-9)
    assert features(Evidence(np.array([[1e4, 0.0]]), np.array([1]))).min() == -50
    assert features(Evidence(np.zeros((0, 3)), np.zeros(0, np.int64))).shape == (0, 8)


def test_no_examples_give_no_scores() -> None:
    empty = References([np.zeros((0, 3))], np.zeros((1, 0), bool), [np.zeros((0, 3))])
    evidence = Evidence(np.zeros((0, 3)), np.zeros(0, np.int64), references=empty)
    assert SHADOW_CLASSIFIER.score(evidence).shape == (0,)


def test_few_examples_among_many_are_enough() -> None:
    """Only 60 answers are on members: all of them are fitted on, whatever the sample."""
    evidence, _ = planted("confidence")
    inside = np.zeros((R, N), bool)
    inside[:, :15] = True
    few = replace(evidence, references=replace(evidence.references, inside=inside))
    assert SHADOW_CLASSIFIER.refuses(few) is None
    assert np.isfinite(SHADOW_CLASSIFIER.score(few)).all()


@pytest.mark.parametrize(
    ("inside", "reason"), [(False, "got 0 on members"), (True, "got 0 on non-members")], ids=["none", "all"]
)
def test_references_that_teach_nothing_are_refused(inside: bool, reason: str) -> None:
    evidence, member = planted("none", n=100)
    one_sided = replace(evidence, references=replace(evidence.references, inside=np.full((R, 100), inside)))
    skipped = score(Outputs(one_sided, member, member), {"shadow_classifier": SHADOW_CLASSIFIER}).skipped
    assert reason in skipped["shadow_classifier"]


@pytest.mark.parametrize(("most", "share"), [(1, 1), (47, 5), (48, 6), (8000, 100)])
def test_as_many_members_as_others_are_learned_from_and_no_more_than_wanted(most: int, share: int) -> None:
    """Of 4 references on 200 examples, each trained on a half."""
    evidence, _ = planted("none", n=200)
    inside = np.tile([True, False], (R, 100))
    references = replace(evidence.references, inside=inside)
    rows, found = _examples(references, evidence.labels, features, most, ())
    assert (len(rows), len(found), found.sum()) == (2 * R * share, 2 * R * share, R * share)
    of_each = [features(Evidence(logits, evidence.labels)) for logits in references.logits]
    for index, part in enumerate(np.split(np.arange(len(rows)), R)):
        for row, member in zip(rows[part], found[part], strict=True):
            assert (of_each[index][inside[index] == member] == row).all(axis=1).any()


@pytest.mark.parametrize("side", [False, True])
def test_fifty_answers_on_each_side_are_enough(side: bool) -> None:
    evidence, _ = planted("none", n=100)
    for count in (49, 50):
        inside = np.full((R, 100), not side)
        inside[0, :count] = side
        found = replace(evidence, references=replace(evidence.references, inside=inside))
        reason = f"got 49 on {'members' if side else 'non-members'}"
        expected = f"needs 50 answers of the references on each side to learn from, {reason}" if count < 50 else None
        assert SHADOW_CLASSIFIER.refuses(found) == expected


def test_without_references_it_is_skipped() -> None:
    evidence, member = planted("none", n=100)
    outputs = Outputs(replace(evidence, references=None), member, member)
    assert score(outputs, {"shadow_classifier": SHADOW_CLASSIFIER}).skipped == {"shadow_classifier": "needs references"}
