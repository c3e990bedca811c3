"""The BASE attack against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.attacks import Evidence, References
from mobileprune.attacks.base_attack import BASE, S


def case(seed: int, models: int, examples: int) -> Evidence:
    rng = np.random.default_rng(seed)
    inside = rng.random((models, examples)) < 0.5
    inside[rng.integers(models, size=examples), np.arange(examples)] = False
    logits = [rng.normal(0, 4, (examples, 5)) for _ in range(models + 1)]
    references = References(logits[1:], inside, [np.zeros((0, 5))] * models)
    return Evidence(logits[0], rng.integers(0, 5, examples), references)


def log_p(row: np.ndarray, label: int) -> float:
    return float(row[label]) - math.log(math.fsum(math.exp(v) for v in row))


def test_a_third_of_the_references_confidence_is_taken_off() -> None:
    """Of p_y = 1/4 where a reference has 1/8: log(1/4) - log(1/8) / 3 = -log 2."""
    target, other = (np.array([[0.0, math.log(odds)]]) for odds in (3, 7))
    references = References([other], np.array([[False]]), [np.zeros((0, 2))])
    assert BASE.score(Evidence(target, np.array([0]), references)) == pytest.approx([-math.log(2)])


@settings(max_examples=60)
@given(seed=st.integers(0, 999), models=st.integers(1, 7), examples=st.sampled_from([0, 1, 2, 9]))
def test_matches_plain_loops(seed: int, models: int, examples: int) -> None:
    evidence = case(seed, models, examples)
    references = evidence.references
    assert references is not None
    assert BASE.refuses is not None
    assert BASE.refuses(evidence) is None
    expected = []
    for i, y in enumerate(evidence.labels):
        outs = [log_p(references.logits[r][i], y) for r in range(models) if not references.inside[r, i]]
        expected.append(log_p(evidence.logits[i], y) - S * math.fsum(outs) / len(outs))
    got = BASE.score(evidence)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_references_trained_on_the_example_do_not_count() -> None:
    evidence = case(2, 4, 20)
    references = evidence.references
    assert references is not None
    changed = [
        np.where(row[:, None], 7.0 * r, logits)
        for r, (row, logits) in enumerate(zip(references.inside, references.logits, strict=True))
    ]
    other = Evidence(evidence.logits, evidence.labels, References(changed, references.inside, references.population))
    assert any((a != b).any() for a, b in zip(changed, references.logits, strict=True))
    assert (BASE.score(evidence) == BASE.score(other)).all()


@pytest.mark.parametrize("models", [2, 5])
def test_the_order_of_references_changes_no_bit(models: int) -> None:
    evidence = case(3, models, 33)
    references = evidence.references
    assert references is not None
    order = np.random.default_rng(0).permutation(models)
    shuffled = References([references.logits[r] for r in order], references.inside[order], references.population)
    assert (BASE.score(evidence) == BASE.score(Evidence(evidence.logits, evidence.labels, shuffled))).all()


def test_saturated_answers_stay_finite_and_exact() -> None:
    logits = np.array([[1e3, -1e3], [-1e3, 1e3], [1e300, -1e300], [-1e300, 1e300]])
    references = References([logits[[1, 1, 2, 2]]], np.zeros((1, 4), bool), [np.zeros((0, 2))])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = BASE.score(Evidence(logits, np.zeros(4, np.int64), references))
    np.testing.assert_allclose(got, [2000 * S, -2000 * (1 - S), 0, -2e300], rtol=1e-14)


def test_an_example_that_every_reference_was_trained_on_is_refused() -> None:
    evidence = case(4, 2, 3)
    references = evidence.references
    assert references is not None
    inside = np.array([[True, True, False], [True, False, True]])
    seen = Evidence(evidence.logits, evidence.labels, References(references.logits, inside, references.population))
    assert BASE.refuses is not None
    assert BASE.refuses(seen) == (
        "needs at least 1 reference not trained on each example, and 1 of 3 examples have fewer "
        "(there are 2 references)"
    )
