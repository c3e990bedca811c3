"""Attacks against direct formulas in exact or plain arithmetic, at saturation, and on bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.attacks import ACCESS, ATTACKS, Evidence, Outputs, Population, References, score
from mobileprune.attacks.base import log_probabilities, seen
from mobileprune.config import Access
from mobileprune.errors import ArtifactError, DataError

PLAIN = [name for name, attack in ATTACKS.items() if not attack.needs]


def slow(name: str, z: list[float], y: int) -> float:
    """The textbook formula with plain loops; valid for moderate logits only."""
    total = math.fsum(math.exp(v) for v in z)
    p = [math.exp(v) / total for v in z]
    rest = [j for j in range(len(z)) if j != y]
    if name == "gap":
        return float(all(z[y] > z[j] if j < y else z[y] >= z[j] for j in rest))
    if name == "loss":
        return math.log(p[y])
    if name == "confidence":
        return math.log(p[y]) - math.log(math.fsum(p[j] for j in rest))
    if name == "entropy":
        return math.fsum(v * math.log(v) for v in p)
    return (1 - p[y]) * math.log(p[y]) + math.fsum(p[j] * math.log(1 - p[j]) for j in rest)


rows = st.integers(2, 7).flatmap(
    lambda k: st.tuples(
        st.lists(st.lists(st.integers(-24, 24).map(lambda v: v / 4), min_size=k, max_size=k), min_size=1, max_size=5),
        st.integers(0, k - 1),
    )
)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=40)
@given(case=rows)
def test_matches_the_direct_formula(name: str, case: tuple[list[list[float]], int]) -> None:
    logits, y = case
    got = ATTACKS[name].score(Evidence(np.array(logits), np.full(len(logits), y)))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [slow(name, z, y) for z in logits], rtol=1e-9, atol=1e-12)


def test_saturated_logits_stay_finite_and_exact() -> None:
    logits = np.array([[1e3, -1e3, -1e3], [-1e3, 1e3, -1e3], [1e3, 1e3, -1e3], [0.0, 0.0, 0.0], [40.0, 0.0, -1e3]])
    labels = np.zeros(5, np.int64)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = {name: ATTACKS[name].score(Evidence(logits, labels)) for name in PLAIN}
    assert all(np.isfinite(scores).all() for scores in got.values())
    np.testing.assert_allclose(
        got["confidence"], [2000 - math.log(2), -2000, 0, -math.log(2), 40], rtol=1e-13, atol=1e-13
    )
    np.testing.assert_allclose(got["loss"], [0, -2000, -math.log(2), -math.log(3), -math.exp(-40)], rtol=1e-13)
    np.testing.assert_allclose(got["modified_entropy"][:2], [0, math.log(2) - 4000], rtol=1e-13)
    np.testing.assert_allclose(got["entropy"], [0, 0, -math.log(2), -math.log(3), -41 * math.exp(-40)], rtol=1e-13)


def test_log_probabilities_do_not_cancel_next_to_one() -> None:
    log_p, log_not_p = log_probabilities(np.array([[50.0, 0.0]]))
    assert log_p[0, 0] == pytest.approx(-math.exp(-50), rel=1e-13)
    assert log_not_p[0, 0] == pytest.approx(-50, rel=1e-13)
    assert log_not_p[0, 1] == pytest.approx(-math.exp(-50), rel=1e-13)


@pytest.mark.parametrize("name", PLAIN)
def test_permuted_classes_tie_exactly(name: str) -> None:
    rng = np.random.default_rng(0)
    row, order = rng.normal(0, 5, 10), rng.permutation(10)
    y = int(row.argmax())
    first = ATTACKS[name].score(Evidence(row[None], np.array([y])))
    second = ATTACKS[name].score(Evidence(row[order][None], np.array([int(np.flatnonzero(order == y)[0])])))
    assert first[0] == second[0]


def test_registry_is_consistent() -> None:
    assert all(name == attack.name and attack.access in ACCESS and attack.source for name, attack in ATTACKS.items())
    assert ATTACKS["gap"].access == "labels"


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - set(PLAIN)))
def test_no_attack_makes_scores_of_what_is_not_there(name: str) -> None:
    """Scores that are all alike would say that nothing leaks."""
    with pytest.raises((DataError, KeyError, IndexError)):
        ATTACKS[name].score(Evidence(np.zeros((3, 2)), np.zeros(3, np.int64)))


@pytest.mark.parametrize("name", PLAIN)
def test_empty_input_gives_no_scores(name: str) -> None:
    assert ATTACKS[name].score(Evidence(np.zeros((0, 3)), np.zeros(0, np.int64))).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = np.zeros((3, 2))
    logits[1, 0] = bad
    with pytest.raises(ArtifactError, match="1 of 3 examples are not, the first at index 1"):
        Evidence(logits, np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("logits", "labels", "error"),
    [
        (np.zeros(3), np.zeros(3, np.int64), ArtifactError),
        (np.zeros((3, 1)), np.zeros(3, np.int64), ArtifactError),
        (np.zeros((3, 2)), np.zeros(2, np.int64), DataError),
        (np.zeros((3, 2)), np.zeros(3), DataError),
        (np.zeros((3, 2)), np.array([0, 1, 2]), DataError),
        (np.zeros((3, 2)), np.array([0, 1, -1]), DataError),
    ],
)
def test_shapes_and_labels_are_checked(logits: np.ndarray, labels: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        Evidence(logits, labels)


def test_any_numbers_are_held_as_float64_and_int64() -> None:
    logits, labels = np.eye(3, dtype=np.float16), np.arange(3, dtype=np.uint8)
    for found in (Evidence(logits, labels), Population(logits, labels)):
        assert (found.logits.dtype, found.labels.dtype) == (np.float64, np.int64)
        assert found.labels.tolist() == [0, 1, 2]
    assert Evidence(np.zeros((0, 3)), np.array([])).labels.dtype == np.int64, "no label is an integer too"


@pytest.mark.parametrize("shown", ACCESS)
@pytest.mark.parametrize("wanted", ACCESS)
def test_nobody_sees_more_than_is_shown_or_wanted(wanted: Access, shown: Access) -> None:
    assert ACCESS.index(seen(wanted, shown)) == min(ACCESS.index(wanted), ACCESS.index(shown))


def test_scores_know_their_sides_and_groups() -> None:
    member, canary = np.arange(6) < 3, np.array([True, False, True, True, True, False])
    found = score(Outputs(Evidence(np.eye(6), np.arange(6)), member, canary), ATTACKS, "labels")
    assert found.counts() == (3, 3)
    assert found.where(np.arange(6) < 5).counts() == (3, 2)
    assert [len(side) for side in found.where(np.arange(6) < 5).sides("gap")] == [3, 2]
    assert list(found.by_attack) == ["gap"]
    assert found.skipped["loss"] == "needs top-k, and only labels are given"
    canaries = found.groups()["canaries"]
    assert canaries.labels.tolist() == [0, 2, 3, 4]
    assert canaries.member.tolist() == [True, True, False, False]
    assert list(found.where(member).groups()) == ["all"], "no canaries on one side"
    assert canaries.canary.all()
    assert canaries.access == {"gap": "labels"}
    assert [len(side) for side in canaries.sides("gap")] == [2, 2]
    assert list(found.where(np.arange(6) < 5).where(np.arange(5) > 0).groups()) == ["all"], "only one of the members is"


def test_accuracy_is_that_of_one_side() -> None:
    member = np.array([True, True, True, False, False])
    outputs = Outputs(Evidence(np.eye(5), np.array([0, 1, 0, 3, 0])), member, ~member)
    assert (outputs.accuracy(member=True), outputs.accuracy(member=False)) == (pytest.approx(2 / 3), 0.5)


def test_what_does_not_fit_the_answers_is_refused() -> None:
    evidence = Evidence(np.eye(3), np.arange(3))
    with pytest.raises(DataError, match="member must be bool of shape"):
        Outputs(evidence, np.ones(2, bool), np.ones(3, bool))
    with pytest.raises(DataError, match="canary must be bool of shape"):
        Outputs(evidence, np.ones(3, bool), np.ones(3, np.int64))
    with pytest.raises(DataError, match="images: 2 examples, but there are 3"):
        replace(evidence, images=np.zeros((2, 1, 2, 2), np.uint8))
    with pytest.raises(DataError, match="variants noisy: 2 examples, but there are 3"):
        replace(evidence, variants={"noisy": np.zeros((3, 2, 3))})
    with pytest.raises(DataError, match="references: 1 models' logits, 2 rows"):
        References([np.eye(3)], np.ones((2, 3), bool), [])
    for inside in (np.ones((1, 3), np.int64), np.ones(1, bool)):
        with pytest.raises(DataError, match=r"references: membership must be bool \(R, N\)"):
            References([np.eye(3)], inside, [np.eye(3)])
    with pytest.raises(DataError, match=r"2 models' answers on nearby copies; .* each of the 1 models"):
        References([np.eye(3)], np.ones((1, 3), bool), [np.eye(3)], {"nearby": [np.zeros((4, 3, 3))] * 2})


def test_what_is_seen_of_a_reference_is_what_is_seen_of_the_target() -> None:
    rng = np.random.default_rng(0)
    logits, copies, labels = rng.normal(0, 1, (2, 4, 3)), rng.normal(0, 1, (2, 5, 4, 3)), np.array([0, 2, 1, 0])
    references = References([*logits], np.ones((2, 4), bool), [*logits], {"nearby": [*copies]})
    found = references.seen(1, labels, np.array([3, 1]), ["nearby"])
    for i, example in enumerate((3, 1)):
        assert found.labels[i] == labels[example]
        np.testing.assert_array_equal(found.logits[i], logits[1, example])
        np.testing.assert_array_equal(found.variants["nearby"][:, i], copies[1, :, example])
    assert not references.seen(0, labels, np.arange(4)).variants, "what is not wanted is not read"
    others = replace(references, variants={"nearby": [*copies[:, :, :3]]})
    with pytest.raises(
        DataError, match=r"model 1 has answers of shape \(5, 3, 3\) on nearby .* must be \(copies, 4, 3\)"
    ):
        others.seen(1, labels, np.arange(4), ["nearby"])
